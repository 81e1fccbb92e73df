"""A stage for measurements: certificates, directories, servers that run, and loads put on them."""

import argparse
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

from peers.preparing import Place
from processes import Running, free_port, settle, wait_for_banner
from servers import Server


class Stage:
    """
    Starts servers and loads.

    Every server is pinned to one CPU and the load generator to another.
    """

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.work: Path = options.work
        self.work.mkdir(parents=True, exist_ok=True)
        self.work.chmod(0o755)
        self.certificates = {kind: self.make_certificate(kind) for kind in ("rsa", "ecdsa")}
        self.started = 0

    def make_certificate(self, kind: str) -> tuple[Path, Path]:
        """A self-signed pair for mx.test, made once."""
        cert, key = self.work / f"{kind}.crt", self.work / f"{kind}.key"
        if not cert.exists():
            algorithm = {
                "rsa": ["rsa:2048"],
                "ecdsa": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
            }[kind]
            command = ["openssl", "req", "-x509", "-nodes", "-newkey", *algorithm]
            command += ["-keyout", str(key), "-out", str(cert), "-days", "3650"]
            command += ["-subj", "/CN=mx.test", "-addext", "subjectAltName=DNS:mx.test"]
            subprocess.run(command, check=True, capture_output=True)
        return cert, key

    def dh_parameters(self) -> Path:
        """Diffie-Hellman parameters, made once."""
        path = self.work / "dhparams.pem"
        if not path.exists():
            command = ["openssl", "dhparam", "-dsaparam", "-out", str(path), "2048"]
            subprocess.run(command, check=True, capture_output=True)
        return path

    def place(self, cert_kind: str, sink_port: int) -> Place:
        """An empty directory and a free port for the next server."""
        self.started += 1
        directory = self.work / f"server{self.started}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        cert, key = self.certificates[cert_kind]
        dh_parameters = self.dh_parameters()
        return Place(free_port(), cert, key, directory, sink_port, dh_parameters, self.options)

    def start(self, server: Server, cert_kind: str = "rsa", sink_port: int = 0) -> Running:
        """Configure a server and start it; it has greeted when this returns."""
        place = self.place(cert_kind, sink_port)
        pin = ["taskset", "-c", self.options.server_cpu]
        with open(place.directory / "server.log", "w") as log:
            process = subprocess.Popen(
                [*pin, *server.prepare(place)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=place.directory,
                env={**os.environ, **server.env},
            )
        running = Running(process, place.port)
        try:
            wait_for_banner(place.port, process)
        except RuntimeError as error:
            running.stop()
            told = f"{server.name}: {error}; see {place.directory}/server.log"
            raise RuntimeError(told) from None
        settle(process.pid)
        return running

    def load_command(self, *args: str) -> list[str]:
        """smtpload on its CPU, reporting JSON."""
        pin = ["taskset", "-c", self.options.load_cpu]
        return [*pin, str(self.options.tools / "smtpload"), "--json", "--tolerate", *args]

    def load(self, port: int, args: str, count: int) -> dict:
        """Run smtpload once and give what it reports."""
        command = self.load_command("--timeout", "30", "--messages", str(count))
        if "--connections" not in args:
            command += ["--connections", "20"]
        command += [*shlex.split(args), f"127.0.0.1:{port}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise RuntimeError(f"smtpload failed: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def start_sink(self, port: int, total: int, *more: str) -> subprocess.Popen:
        """smtpsink on the load's CPU; it ends two seconds after the last message."""
        cert, key = self.certificates["rsa"]
        command = ["taskset", "-c", self.options.load_cpu, str(self.options.tools / "smtpsink")]
        command += ["--cert", str(cert), "--key", str(key), "--count", str(total)]
        command += ["--linger", "2", *more, f"127.0.0.1:{port}"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
