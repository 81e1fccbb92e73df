"""Ten thousand handshakes while certificates are replaced every second, or broken."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import ClassVar

import trustme
from attrs import define, field
from cryptography.x509 import load_pem_x509_certificate
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.shaking import Shake
from tests.support import (
    REPOSITORY,
    Certificates,
    Instance,
    environment,
    temporary_directory,
    wait_until,
)

HANDSHAKES = 10_000
CLIENTS = 4
LIMIT = 300.0  # seconds; it takes about 60
PERIOD = 1.0

DEFAULT, BUNDLE, KUBERNETES = "mx.test", "bundle.test", "kubernetes.test"
TLS_INI = """
key[]=tls_key.pem
cert[]=tls_cert.pem
key[]=live/privkey.pem
cert[]=live/fullchain.pem
"""
OTHER = "no certificate in it belongs to the key in"
REFUSED = "is not used, all goes on as before: "


@define
class Pair:
    """A key and a certificate, whose issuer is new as well: it is not in the clients' files."""

    name: str
    kind: str
    key: bytes
    chain: bytes
    serial: int

    @classmethod
    def make(cls, root: trustme.CA, name: str, kind: str) -> "Pair":
        leaf = root.create_child_ca().issue_cert(
            name, key_type=trustme.KeyType.RSA if kind == "RSA" else trustme.KeyType.ECDSA
        )
        pems = [pem.bytes() for pem in leaf.cert_chain_pems]
        assert len(pems) == 2  # with the new issuer's
        serial = load_pem_x509_certificate(pems[0]).serial_number
        return cls(name, kind, leaf.private_key_pem.bytes(), b"".join(pems), serial)


def put(path: Path, content: bytes) -> None:
    """As a careful tool does it: there is never half a file."""
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    os.replace(new, path)


def turn(link: Path, target: str) -> None:
    """The link leads elsewhere from one moment to the next."""
    new = link.with_name(f".{link.name}.new")
    new.symlink_to(target)
    os.replace(new, link)


@define
class Operator:
    """
    Replaces certificates as the tools do it.

    @ivar serials: those of all that were ever there, by name and kind.
    """

    config: Path
    root: trustme.CA
    number: int = 0
    current: dict[tuple[str, str], Pair] = field(factory=dict)
    serials: dict[tuple[str, str], set[int]] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        for name in ("live", "archive", f"tls/{KUBERNETES}/EC", f"tls/{KUBERNETES}/RSA"):
            (self.config / name).mkdir(parents=True)
        for kind in ("EC", "RSA"):
            for file in ("tls.key", "tls.crt"):
                (self.config / "tls" / KUBERNETES / kind / file).symlink_to(f"..data/{file}")

    def make(self, name: str, kind: str) -> Pair:
        pair = Pair.make(self.root, name, kind)
        self.current[name, kind] = pair
        self.serials.setdefault((name, kind), set()).add(pair.serial)
        return pair

    def replace(self) -> None:
        """All with EC keys, and one of those with RSA keys, which are slow to make."""
        names = (DEFAULT, BUNDLE, KUBERNETES)
        whose = names if not self.number else (names[self.number % 3],)
        self.number += 1
        pairs = [self.make(name, "EC") for name in names]
        pairs += [self.make(name, "RSA") for name in whose]
        for pair in pairs:
            self.write[pair.name](self, pair)

    def default(self, pair: Pair) -> None:
        """One pair as a script that copies files, the other as certbot: links beside each other."""
        if pair.kind == "RSA":
            put(self.config / "tls_key.pem", pair.key)
            put(self.config / "tls_cert.pem", pair.chain)
            return
        for name, content in (("privkey", pair.key), ("fullchain", pair.chain)):
            (self.config / "archive" / f"{name}{self.number}.pem").write_bytes(content)
        for name in ("privkey", "fullchain"):
            turn(self.config / "live" / f"{name}.pem", f"../archive/{name}{self.number}.pem")

    def bundle(self, pair: Pair) -> None:
        """One file."""
        put(self.config / "tls" / f"{pair.kind}.pem", pair.key + pair.chain)

    def kubernetes(self, pair: Pair) -> None:
        """One link for all files of a volume, and the directory it led to goes."""
        volume = self.config / "tls" / KUBERNETES / pair.kind
        new = volume / f"..{self.number}"
        new.mkdir()
        (new / "tls.key").write_bytes(pair.key)
        (new / "tls.crt").write_bytes(pair.chain)
        old = volume / "..data"
        before = old.resolve() if old.is_symlink() else None
        turn(old, new.name)
        if before is not None:
            for file in before.iterdir():
                file.unlink()
            before.rmdir()

    write: ClassVar = {DEFAULT: default, BUNDLE: bundle, KUBERNETES: kubernetes}

    def mend(self) -> None:
        """What is right is there again, for what is not replaced by `replace` each time."""
        for pair in self.current.values():
            if pair.name != KUBERNETES:
                self.write[pair.name](self, pair)

    def ways_to_break(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """What is told of each, and how it is done to one file; without end."""
        config = self.config

        def half_a_file() -> None:  # as of a tool that is interrupted
            path = config / "tls" / "RSA.pem"
            path.write_bytes(path.read_bytes()[:-400])

        def other_key() -> None:
            put(config / "tls_key.pem", Pair.make(self.root, DEFAULT, "EC").key)

        def other_pair() -> None:
            put(config / "live" / "fullchain.pem", Pair.make(self.root, DEFAULT, "EC").chain)

        return cycle(
            (
                ("tls_cert.pem", lambda: (config / "tls_cert.pem").write_bytes(b"\0garbage\xff")),
                ("tls/RSA.pem", half_a_file),
                (f"tls_cert.pem: {OTHER} tls_key.pem", other_key),
                (f"live/fullchain.pem: {OTHER} live/privkey.pem", other_pair),
                ("tls/EC.pem", lambda: (config / "tls" / "EC.pem").write_bytes(b"")),
            )
        )


@define
class Client:
    """A process that shakes hands."""

    file: Path
    process: subprocess.Popen[str]

    @classmethod
    def start(cls, instance: Instance, file: Path) -> "Client":
        ports = (str(instance.port), str(instance.smtps_port))
        names = ",".join((DEFAULT, BUNDLE, KUBERNETES))
        count = str(HANDSHAKES // CLIENTS)
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.interop.shaking", *ports, str(instance.authority)),
                *(names, count, str(file)),
            ],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env=environment(),
        )
        return cls(file, process)

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()

    def shakes(self) -> list[Shake]:
        """@raise AssertionError: one has failed."""
        _, told = self.process.communicate(timeout=10)
        assert self.process.returncode == 0, told
        return [Shake(**shake) for shake in json.loads(self.file.read_text())]


class LoadTests(SynchronousTestCase):
    def setUp(self) -> None:
        certificates = Certificates()
        self.instance = Instance.make(files={"tls.ini": TLS_INI}, certificates=certificates)
        self.addCleanup(self.instance.remove)
        self.operator = Operator(self.instance.config, certificates.authority)
        self.operator.replace()
        self.at_start = {pair.serial for pair in self.operator.current.values()}
        self.quiet: list[tuple[float, float, dict[tuple[str, str], Pair]]] = []

    def hang_up(self, claim: Callable[[str], bool], what: str) -> None:
        """Let the server reload, and wait for what it says."""
        os.kill(self.instance.pid, signal.SIGHUP)
        wait_until(lambda: claim(self.instance.log()), f"{what} in the log")

    def wait_for_newest(self) -> None:
        """All that is there is shown."""
        newest = {pair.serial for pair in self.operator.current.values()} - self.at_start
        lines = [f"serial {serial:02X}, valid" for serial in newest]
        self.hang_up(lambda log: all(line in log for line in lines), "new certificates")

    def test_all(self) -> None:
        """
        None fails; none sees a certificate with the key or the issuer of another; and a file that
        is broken is named, and changes nothing.
        """
        self.instance.start()
        directory = temporary_directory()
        clients = [Client.start(self.instance, directory / f"{n}.json") for n in range(CLIENTS)]
        for client in clients:
            self.addCleanup(client.stop)
        deadline = time.monotonic() + LIMIT
        ways = self.operator.ways_to_break()
        while any(client.process.poll() is None for client in clients):
            self.assertLess(time.monotonic(), deadline, "not done in time")
            began = time.monotonic()
            if self.operator.number % 2:
                self.break_one(*next(ways))
                self.operator.mend()
            self.operator.replace()
            if self.operator.number % 3 == 0:  # else it is noticed without
                self.wait_for_newest()
            time.sleep(max(0.0, began + PERIOD - time.monotonic()))
        self.check([shake for client in clients for shake in client.shakes()])

    def break_one(self, words: str, do: Callable[[], object]) -> None:
        """After it is told, and until it is mended, what was shown before is shown."""
        self.wait_for_newest()
        told = f"{REFUSED}{words}"
        before = self.instance.log().count(told)
        do()
        self.hang_up(lambda log: log.count(told) > before, repr(told))
        shown, begin = dict(self.operator.current), time.monotonic()
        time.sleep(PERIOD / 2)
        self.quiet.append((begin, time.monotonic(), shown))

    def check(self, shakes: list[Shake]) -> None:
        """The clients have verified names and chains."""
        self.assertEqual(len(shakes), HANDSHAKES)
        serials = self.operator.serials
        for shake in shakes:
            kinds = [shake.kind] if shake.kind else ["RSA", "EC"]
            known = set().union(*(serials[shake.name, kind] for kind in kinds))
            self.assertIn(shake.serial, known)
        undisturbed = 0
        for begin, end, shown in self.quiet:
            now = {pair.serial for pair in shown.values()}
            during = [s for s in shakes if begin <= s.begun and s.ended <= end]
            self.assertEqual({s.serial for s in during} - now, set())
            undisturbed += len(during)
        self.assertGreater(undisturbed, 100)
        seen = {shake.serial for shake in shakes}
        self.assertGreater(len(seen), 3 * 5)
        log = self.instance.log()
        self.assertNotIn("Traceback", log)
        self.assertNotIn("TLS handshake failed", log)
