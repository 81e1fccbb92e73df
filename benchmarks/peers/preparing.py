"""What a server's configuration is made of in a measurement."""

import argparse
from dataclasses import dataclass
from pathlib import Path

PEERS = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Place:
    """Where one server runs: its port, its pair and an empty directory of its own."""

    port: int
    cert: Path
    key: Path
    directory: Path
    sink_port: int  # where a relay delivers to; 0 for the others
    dh_parameters: Path
    options: argparse.Namespace

    def fill(self, text: str) -> str:
        """The placeholders of --server and --relay, replaced."""
        return text.format(
            port=self.port,
            cert=self.cert,
            key=self.key,
            dir=self.directory,
            sink_port=self.sink_port,
        )
