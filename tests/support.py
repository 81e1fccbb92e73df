"""
What the tests on the wire share: certificates, instances of the server, peers that may be missing.

Nothing here needs a reactor: the server is a process of its own, on loopback ports that were free,
and whatever is waited for has a limit.
"""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NoReturn, TypeVar
from unittest import SkipTest

import trustme

REPOSITORY = Path(__file__).resolve().parent.parent
START_LIMIT = 30.0  # seconds
STOP_LIMIT = 15.0

DEFAULT_PLUGINS = "tls\nrelay\nrcpt_to.in_host_list\nqueue/maildir\n"

T = TypeVar("T")


def need(*programs: str) -> None:
    """
    Skip a test for which a peer is missing; where CI runs, that is a failure.

    @raise SkipTest: naming what is missing.
    """
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [program for program in programs if shutil.which(program, path=path) is None]
    if not missing:
        return
    lacking(", ".join(missing))


def lacking(what: str) -> NoReturn:
    """
    Skip a test for which something is not installed; where CI runs, that is a failure.

    @raise SkipTest: naming it.
    """
    text = f"not installed: {what}"
    raise AssertionError(text) if os.environ.get("CI") else SkipTest(text)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(claim: Callable[[], T], what: str, seconds: float = 20.0) -> T:
    """
    Ask until the answer is true.

    @raise AssertionError: it did not become true in time; naming *what* was waited for.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = claim()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds:g} seconds still no {what}")
        time.sleep(0.05)


@cache
def directory_of_this_run() -> Path:
    """Below it are all others; it goes when the run is over."""
    directory = Path(tempfile.mkdtemp(prefix="harakatls-tests-"))
    directory.chmod(0o755)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def temporary_directory() -> Path:
    """A new directory that users other than ours may enter, as Postfix's daemons must."""
    directory = Path(tempfile.mkdtemp(dir=directory_of_this_run()))
    directory.chmod(0o755)
    return directory


class Certificates:
    """A certificate authority for one test, and pairs that it issued."""

    def __init__(self) -> None:
        self.authority = trustme.CA()

    def write_authority(self, path: Path) -> Path:
        """The authority's certificate as a PEM file."""
        self.authority.cert_pem.write_to_path(path)
        return path

    def write_pair(self, directory: Path, *names: str) -> tuple[Path, Path]:
        """
        A new pair, valid for *names*, which may be host names or IP addresses.

        @return: the files of the certificate (with its chain) and of the key.
        """
        pair = self.authority.issue_cert(*names)
        cert, key = directory / "tls_cert.pem", directory / "tls_key.pem"
        cert.write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
        pair.private_key_pem.write_to_path(key)
        key.chmod(0o600)
        return cert, key


def program(name: str, main: str) -> list[str]:
    """
    The command of one of our programs, from this folder even where nothing is installed.

    @param main: "module:function" behind the console script.
    """
    module, _, function = main.partition(":")
    lines = (
        f"import sys; from {module} import {function} as main",
        f"sys.argv[0] = {name!r}; sys.exit(main())",
    )
    return [sys.executable, "-c", "\n".join(lines)]


TWISTD = program("twistd", "twisted.scripts.twistd:run")
HARAKATLS = program("harakatls", "harakatls.service.command:main")


def environment() -> dict[str, str]:
    """With this folder on the path, so that twisted.plugin finds the server."""
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


def run_harakatls(*args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line program to its end."""
    return subprocess.run(
        [*HARAKATLS, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        stdin=subprocess.DEVNULL,
    )


class Instance:
    """
    An instance directory, and the server that runs on it while it is started.

    @ivar port: where STARTTLS is offered; @ivar smtps_port: where TLS comes first.
    @ivar twistd: what starts the server.
    """

    twistd: Sequence[str] = TWISTD

    def __init__(self, directory: Path, port: int, smtps_port: int, authority: Path) -> None:
        self.directory = directory
        self.config = directory / "config"
        self.port = port
        self.smtps_port = smtps_port
        self.authority = authority
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def make(
        cls,
        domain: str = "mx.test",
        files: Mapping[str, str] | None = None,
        names: tuple[str, ...] = (),
        certificates: Certificates | None = None,
    ) -> "Instance":
        """
        Write a new instance that takes mail for *domain* into its Maildir.

        @param files: files of the config directory, by name, instead of or besides the usual ones.
        @param names: whom the certificate is for; *domain*, localhost and 127.0.0.1 if not given.
        @param certificates: who issues it; else an authority that nobody trusts.
        """
        directory = temporary_directory()
        config = directory / "config"
        for name in ("config", "queue", "plugins", "mail"):
            (directory / name).mkdir()
        port, smtps_port = free_port(), free_port()
        issuer = certificates or Certificates()
        issuer.write_pair(config, *(names or (domain, "localhost", "127.0.0.1")))
        written = {
            "smtp.ini": f"listen=127.0.0.1:{port},127.0.0.1:{smtps_port}\n"
            f"smtps_port={smtps_port}\n",
            "me": f"{domain}\n",
            "host_list": f"{domain}\n",
            "plugins": DEFAULT_PLUGINS,
            "log.ini": "[main]\nlevel=info\n",
            **(files or {}),
        }
        for name, text in written.items():
            path = config / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        authority = issuer.write_authority(directory / "authority.pem")
        return cls(directory, port, smtps_port, authority)

    # -- the process

    def environment(self) -> dict[str, str]:
        """The variables of the server."""
        return environment()

    def start(self) -> None:
        """
        Start the server.

        @raise AssertionError: it ended, or did not greet in time; with what it said.
        """
        assert self._process is None, "already started"
        directory_of_this_run()
        atexit.register(self.kill)  # before the directory goes, should a test forget it
        with open(self.directory / "log", "ab") as log:
            self._process = subprocess.Popen(
                [*self.twistd, "-n", "--pidfile=", "harakatls", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env=self.environment(),
            )
        deadline = time.monotonic() + START_LIMIT
        while not self._greets():
            status = self._process.poll()
            if status is not None or time.monotonic() > deadline:
                self.kill()
                ended = "did not greet" if status is None else f"ended with {status}"
                raise AssertionError(f"the server {ended}:\n{self.log()}")
            time.sleep(0.05)

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as peer:
                if not peer.recv(1000).startswith(b"220"):
                    return False
                peer.sendall(b"QUIT\r\n")
                peer.recv(1000)
                return True
        except OSError:
            return False

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None, "not started"
        return self._process.pid

    def stop(self) -> None:
        """
        Let the server end in order (SIGTERM), if it runs, and remove nothing.

        @raise AssertionError: it did not end in time, and was killed.
        """
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not stop:\n{self.log()}") from None
        self._process = None

    def kill(self) -> None:
        """End the server at once (SIGKILL), as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """Stop the server and delete the instance."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def memory_kb(self) -> int:
        """The resident memory of the running server."""
        return self._status_kb("VmRSS")

    def peak_memory_kb(self) -> int:
        """The most resident memory since `forget_peak_memory`."""
        return self._status_kb("VmHWM")

    def forget_peak_memory(self) -> None:
        """From now on `peak_memory_kb` counts anew (proc(5), clear_refs)."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _status_kb(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
        raise AssertionError(f"the server has no {name} any more")

    # -- what it did

    def log(self) -> str:
        """All that its processes have printed so far."""
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def mail(self) -> list[str]:
        """The messages in the Maildir, the oldest first."""
        files = [*(self.directory / "mail").glob("new/*"), *(self.directory / "mail").glob("cur/*")]
        files.sort(key=lambda path: path.stat().st_mtime_ns)
        return [path.read_text(errors="surrogateescape") for path in files]

    def maildir_subjects(self, subject: str) -> int:
        """How many messages in the Maildir have this subject."""
        return sum(f"\nSubject: {subject}\n" in f"\n{text}" for text in self.mail())

    def wait_for_mail(self, subject: str, seconds: float = 20.0) -> str:
        """The one message with this subject, as soon as it is in the Maildir."""

        def found() -> list[str]:
            return [text for text in self.mail() if f"\nSubject: {subject}\n" in f"\n{text}"]

        messages = wait_until(found, f"message {subject!r} in the Maildir", seconds)
        assert len(messages) == 1, f"{len(messages)} messages {subject!r}"
        return messages[0]

    def queue_list(self) -> str:
        """What `harakatls queue list` prints."""
        done = run_harakatls("queue", "list", "--config", self.config)
        assert done.returncode == 0, f"harakatls queue list: {done.returncode}: {done.stderr}"
        return done.stdout
