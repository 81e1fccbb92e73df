"""Certificates that are wrong in ways nobody thinks of: of peers, and in our own files."""

from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256

from OpenSSL import SSL
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from harakatls.connection import TLSSummary
from harakatls.service.command_tls import lines
from harakatls.service.tls_report import tls_report
from harakatls.tls.client import ClientTLS
from harakatls.tls.files import PEMFile
from harakatls.tls.mutual import MutualTLS
from harakatls.tls.pem import read_pem
from harakatls.tls.policy import Decision, SecurityLevel
from harakatls.tls.server import ServerTLS
from harakatls.tls.settings import InboundTLS, OutboundTLS
from tests.config.files import write_config
from tests.tls.oddities import NAME, REFUSED, in_pem, odd_certificates, odd_context, odd_key
from tests.tls.peers import (
    TLS_1_2,
    VERSIONS,
    Transport,
    authority,
    chain_octets,
    client_on,
    from_us,
    issued,
    key_octets,
    key_pem,
    peer_of,
    pem_files,
    plain_client,
    plain_server,
    reasons,
    to_us,
)

ME = "mx.example"
OURS = issued(ME)
ANCHOR = PEMFile("ca.pem", authority().cert_pem.bytes())
MAY = Decision(SecurityLevel.MAY, (), NAME, NAME)
VERIFY = Decision(SecurityLevel.VERIFY, (), NAME, NAME, authenticated=True)


def of_peers() -> Iterator[tuple[str, bytes, int]]:
    """Each that a peer can show, in each version of TLS."""
    for what, der in odd_certificates().items():
        if what not in REFUSED:
            for version in VERSIONS:
                yield what, der, version


class PeerTests(SynchronousTestCase):
    """A peer with such a certificate is served as one that is not verified."""

    def look_at(self, what: str, der: bytes, summary: TLSSummary) -> None:
        self.assertFalse(summary.verified, what)
        self.assertTrue(summary.verify_error, what)
        self.assertEqual(summary.fingerprint, sha256(der).hexdigest(), what)
        self.assertTrue(all(name.isascii() and name.isprintable() for name in summary.peer_names))

    def quiet(self, events: object) -> None:
        """Nobody fills the log with tracebacks."""
        assert isinstance(events, list)
        self.assertEqual([e for e in events if e["log_level"] >= LogLevel.warn], [])

    def test_clients(self) -> None:
        """A client is not cut off for a certificate that nobody had to see."""
        tls = ServerTLS(InboundTLS(**pem_files(OURS), anchors=(ANCHOR,)), ME)
        for what, der, version in of_peers():
            context = odd_context(SSL.TLS_CLIENT_METHOD, der)
            context.set_max_proto_version(version)
            with capturedLogs() as events:
                outcome = to_us(tls, client_on(context))
                self.assertTrue(outcome.succeeded, (what, outcome))
                self.look_at(what, der, tls.summary(Transport(outcome.server)))
            self.quiet(events)

    def test_resumed(self) -> None:
        """Nor when it comes again."""
        tls = ServerTLS(InboundTLS(**pem_files(OURS), anchors=(ANCHOR,)), ME)
        for what, der, version in of_peers():
            context = odd_context(SSL.TLS_CLIENT_METHOD, der)
            context.set_max_proto_version(version)
            first = to_us(tls, client_on(context))
            again = client_on(context)
            session = first.client.get_session()
            assert session is not None
            again.set_session(session)
            outcome = to_us(tls, again)
            self.assertTrue(outcome.succeeded, (what, outcome))
            self.look_at(what, der, tls.summary(Transport(outcome.server)))

    def test_clients_that_must_have_a_good_one(self) -> None:
        """It gets nobody in where a valid certificate is required."""
        settings = InboundTLS(**pem_files(OURS), anchors=(ANCHOR,), reject_unauthorized=True)
        tls = ServerTLS(settings, ME)
        for what, der, version in of_peers():
            context = odd_context(SSL.TLS_CLIENT_METHOD, der)
            context.set_max_proto_version(version)
            with capturedLogs() as events:
                outcome = to_us(tls, client_on(context))
            self.assertIsInstance(outcome.server_error, SSL.Error, what)
            self.quiet(events)

    def test_servers(self) -> None:
        """A host with such a certificate gets its mail where any certificate will do."""
        tls = ClientTLS(OutboundTLS(anchors=(ANCHOR,)))
        for what, der, version in of_peers():
            context = odd_context(SSL.TLS_SERVER_METHOD, der)
            context.set_max_proto_version(version)
            with capturedLogs() as events:
                outcome = from_us(tls, MAY, SSL.Connection(context, None))
                if version == TLS_1_2 and "no shared cipher" in reasons(outcome.server_error):
                    continue  # the other side's OpenSSL has no use for it itself
                self.assertTrue(outcome.succeeded, (what, outcome))
                self.look_at(what, der, tls.summary(Transport(outcome.client), MAY))
            self.quiet(events)

    def test_forced_servers(self) -> None:
        """And none where it has to be a valid one, even if it is a trust anchor."""
        for what, der, version in of_peers():
            context = odd_context(SSL.TLS_SERVER_METHOD, der)
            context.set_max_proto_version(version)
            for anchor in (ANCHOR, PEMFile("odd.pem", in_pem(der))):
                tls = ClientTLS(OutboundTLS(anchors=(anchor,)))
                with capturedLogs() as events:
                    outcome = from_us(tls, VERIFY, SSL.Connection(context, None))
                self.assertIsInstance(outcome.client_error, SSL.Error, what)
                self.quiet(events)


class FileTests(SynchronousTestCase):
    """Such a certificate in a file of ours."""

    def test_read(self) -> None:
        """Reading never raises; what cannot be read is told by line."""
        for what, der in odd_certificates().items():
            contents = read_pem(in_pem(der))
            self.assertEqual(len(contents.certificates) + len(contents.problems), 1, what)

    def test_default_pair(self) -> None:
        """It is shown, or told by its file; the server starts in any case."""
        key = PEMFile("odd.key", key_pem(odd_key()))
        for what, der in odd_certificates().items():
            cert = PEMFile("odd.crt", in_pem(der))
            tls = ServerTLS(InboundTLS(keys=(key,), certs=(cert,), staples=True), ME)
            self.assertEqual(len(tls.certified()) + len(tls.problems), 1, (what, tls.problems))
            if tls.ready():
                self.assertTrue(to_us(tls, plain_client()).succeeded, what)
            else:
                self.assertIn("odd.crt", tls.problems[0], what)

    def test_directory(self) -> None:
        """In config/tls it takes no other file with it."""
        good = PEMFile("tls/good.pem", key_octets(OURS) + chain_octets(OURS))
        key = PEMFile("tls/odd.key", key_pem(odd_key()))
        odd = [
            PEMFile(f"tls/{number}.pem", in_pem(der))
            for number, der in enumerate(odd_certificates().values())
        ]
        for files in ((good, key, *odd), (key, *odd, good), *((file, good) for file in odd)):
            tls = ServerTLS(InboundTLS(directory=files), ME)
            outcome = to_us(tls, plain_client(server_name=ME))
            self.assertTrue(outcome.succeeded)
            self.assertEqual(outcome.shown.get_subject().CN, None)
            self.assertIn(ME, tls.snapshot.store.named)

    def test_refused_by_openssl(self) -> None:
        """The first file is shown to those who ask for no name, unless OpenSSL refuses it."""
        key = PEMFile("tls/a.key", key_pem(odd_key()))
        good = PEMFile("tls/good.pem", key_octets(OURS) + chain_octets(OURS))
        for what in REFUSED:
            odd = PEMFile("tls/a.pem", in_pem(odd_certificates()[what]))
            tls = ServerTLS(InboundTLS(directory=(key, odd, good)), "other.example")
            self.assertIn("tls/a.pem", tls.problems[0])
            self.assertTrue(tls.ready(), what)
            self.assertTrue(to_us(tls, plain_client()).succeeded)

    def test_in_a_chain(self) -> None:
        """Behind a good certificate it is left out of the chain."""
        more = b"".join(map(in_pem, odd_certificates().values()))
        keys, certs = pem_files(OURS)["keys"], (PEMFile("c.pem", chain_octets(OURS) + more),)
        tls = ServerTLS(InboundTLS(keys=keys, certs=certs), ME)
        self.assertTrue(to_us(tls, plain_client()).succeeded)
        self.assertEqual([len(pair.chain) for pair in tls.snapshot.pairs], [1])

    def test_anchors(self) -> None:
        """As a trust anchor it is used or told, and the others are used."""
        for what, der in odd_certificates().items():
            files = (PEMFile("odd.pem", in_pem(der)), ANCHOR)
            server = ServerTLS(InboundTLS(**pem_files(OURS), anchors=files), ME)
            client = ClientTLS(OutboundTLS(anchors=files))
            for problems in (server.problems, client.problems):
                self.assertLessEqual(len(problems), 1, what)
                if what in REFUSED:
                    self.assertIn("OpenSSL", problems[0], what)
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            issued("client.example").configure_cert(context)
            outcome = to_us(server, client_on(context), peer_of())
            self.assertTrue(server.summary(Transport(outcome.server)).verified, what)

    def test_shown_to_next_hops(self) -> None:
        """So it is where it is to be shown to other servers: shown or told, and mail goes out."""
        key = PEMFile("odd.key", key_pem(odd_key()))
        for what, der in odd_certificates().items():
            certs = (PEMFile("odd.crt", in_pem(der)),)
            shown = MutualTLS(everywhere=True)
            tls = ClientTLS(OutboundTLS(mutual=shown, keys=(key,), certs=certs))
            self.assertEqual(len(tls.certificates.all()) + len(tls.problems), 1, what)
            self.assertTrue(from_us(tls, MAY, plain_server(OURS)).succeeded, what)

    def test_report(self) -> None:
        """`harakatls tls` reports it as all others, and nothing in it disturbs the terminal."""
        files: dict[str, str | bytes] = {
            "me": ME,
            "smtp.ini": "listen=192.0.2.1:25\n",
            "plugins": "tls\n",
            "tls.ini": "requestOCSP=true\nca=odd.crt\n[outbound]\nca=odd.crt\n",
            "tls/good.pem": key_octets(OURS) + chain_octets(OURS),
            "tls/odd.key": key_pem(odd_key()),
        }
        for what, der in odd_certificates().items():
            odd = {"tls/odd.crt": in_pem(der), "odd.crt": in_pem(der)}
            report = tls_report(write_config(self, {**files, **odd}), datetime.now(UTC))
            self.assertTrue(report.certificates, what)
            self.assertTrue(all(line.isprintable() for line in lines(report)), what)
