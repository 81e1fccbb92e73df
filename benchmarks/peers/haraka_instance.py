"""Haraka: an instance directory of its own, made by `haraka -i`."""

import shutil
import subprocess
from pathlib import Path

from peers.preparing import PEERS, Place

DISCARD = ("tls", "rcpt_to.in_host_list", "queue/discard")


def make_instance(place: Place, plugins: tuple[str, ...], log_level: str) -> list[str]:
    """Write an instance and give the command that starts it."""
    home = Path(place.options.haraka)
    directory = place.directory / "haraka"
    program = ["node", str(home / "bin/haraka")]
    subprocess.run([*program, "-i", str(directory)], check=True, capture_output=True)
    config = directory / "config"
    shutil.copy(place.cert, config / "tls_cert.pem")
    shutil.copy(place.key, config / "tls_key.pem")
    # Haraka would make new ones at every start: seconds of CPU.
    shutil.copy(place.dh_parameters, config / "dhparams.pem")
    (config / "smtp.ini").write_text(f"listen=127.0.0.1:{place.port}\n")
    (config / "plugins").write_text("\n".join(plugins) + "\n")
    (config / "host_list").write_text("sink.test\n")
    (config / "log.ini").write_text(f"[main]\nlevel={log_level}\n")
    (config / "outbound.ini").write_text(f"concurrency_max={place.options.relay_concurrency}\n")
    (config / "haraka_bench.port").write_text(f"{place.sink_port}\n")
    shutil.copy(PEERS / "haraka_bench.js", directory / "plugins/haraka_bench.js")
    return [*program, "-c", str(directory)]


def discard(place: Place) -> list[str]:
    """Accept mail for sink.test and forget it; say little."""
    return make_instance(place, DISCARD, "warn")


def discard_logging(place: Place) -> list[str]:
    """The same with the log level that Haraka ships."""
    return make_instance(place, DISCARD, "info")


def relay(place: Place) -> list[str]:
    """Take mail from anyone, queue it, and deliver it to the sink over STARTTLS."""
    return make_instance(place, ("tls", "haraka_bench"), "warn")
