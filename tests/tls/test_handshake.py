"""Tests for harakatls.tls.handshake."""

from collections.abc import Callable

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from harakatls.tls.handshake import connection_of, describe_failure, verify
from tests.tls.peers import (
    TLS_1_2,
    TLS_1_3,
    Outcome,
    Transport,
    authority,
    issued,
    plain_client,
    plain_server,
    shake_hands,
)

HOST = "mx.example.net"
Configure = Callable[[SSL.Context], object]


def shaken(
    client: Configure | None = None,
    server: Configure | None = None,
    versions: tuple[int | None, int | None] = (None, None),
) -> Outcome:
    """A handshake between two others."""
    one = plain_client(versions[0], configure=client)
    other = plain_server(issued(HOST), versions[1], server)
    one.set_connect_state()
    other.set_accept_state()
    return shake_hands(one, other)


def ciphers(names: bytes) -> Configure:
    return lambda context: context.set_cipher_list(names)


def demand(context: SSL.Context) -> None:
    """A certificate of the peer that is trusted."""
    context.set_verify(
        SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *args: bool(args[4])
    )


class DescribeFailureTests(SynchronousTestCase):
    """An operator reads what a failure means, with OpenSSL's own words behind it."""

    def assert_told(self, error: BaseException | None, meaning: str) -> None:
        assert error is not None
        told = describe_failure(error)
        self.assertTrue(told.startswith(f"{meaning} ("), told)
        self.assertTrue(told.isprintable())

    def test_versions(self) -> None:
        """No version in common, seen from both sides."""
        outcome = shaken(versions=(TLS_1_2, TLS_1_3))
        self.assert_told(outcome.server_error, "no TLS version in common")
        self.assert_told(outcome.client_error, "no TLS version in common")

    def test_ciphers(self) -> None:
        """No cipher in common, seen from both sides (a mere time-out in Haraka, #921)."""
        outcome = shaken(
            ciphers(b"ECDHE-ECDSA-AES128-GCM-SHA256"),
            ciphers(b"ECDHE-ECDSA-AES256-GCM-SHA384"),
            (TLS_1_2, None),
        )
        self.assert_told(outcome.server_error, "no cipher in common that suits our certificate")
        self.assert_told(outcome.client_error, "the peer found no parameters in common")

    def test_distrust(self) -> None:
        """A client that does not trust our certificate."""
        outcome = shaken(client=demand)
        self.assert_told(
            outcome.server_error, "the peer does not trust the issuer of our certificate"
        )
        self.assert_told(outcome.client_error, "the peer's certificate is not valid")

    def test_client_certificate(self) -> None:
        """A client that has no certificate where one is demanded."""
        for version in (TLS_1_2, TLS_1_3):
            outcome = shaken(server=demand, versions=(version, None))
            self.assert_told(outcome.server_error, "the client showed no certificate")
        self.assert_told(outcome.client_error, "the peer wants a certificate from us")

    def test_no_tls(self) -> None:
        """A peer that does not speak TLS at all, on either side."""
        server = self.failed(plain_server(issued(HOST)), True, b"EHLO client.example\r\n")
        self.assert_told(server, "the peer does not speak TLS")
        client = self.failed(plain_client(), False, b"220 mx.example.net ESMTP\r\n")
        self.assert_told(client, "the peer does not speak TLS")
        web = self.failed(plain_server(issued(HOST)), True, b"GET / HTTP/1.1\r\n\r\n")
        self.assert_told(web, "the peer speaks HTTP")

    def failed(self, side: SSL.Connection, is_server: bool, octets: bytes) -> SSL.Error:
        """What comes of such first octets of the peer."""
        if is_server:
            side.set_accept_state()
        else:
            side.set_connect_state()
            with self.assertRaises(SSL.WantReadError):
                side.do_handshake()
        side.bio_write(octets)
        with self.assertRaises(SSL.Error) as caught:
            side.do_handshake()
        error: SSL.Error = caught.exception
        return error

    def test_broken_off(self) -> None:
        """A peer that goes away in the middle."""
        client = plain_client()
        client.set_connect_state()
        with self.assertRaises(SSL.WantReadError):
            client.do_handshake()
        client.bio_shutdown()
        with self.assertRaises(SSL.Error) as caught:
            client.do_handshake()
        self.assertIn("the peer broke off", describe_failure(caught.exception))

    def test_others(self) -> None:
        """Whatever else ends a connection is told in its own words, and never at length."""
        self.assertIn("cleanly", describe_failure(ConnectionDone()))
        self.assertIn("non-clean", describe_failure(ConnectionLost()))
        self.assertEqual(describe_failure(ValueError()), "ValueError")
        self.assertLess(len(describe_failure(ValueError("x" * 9999))), 300)
        self.assertIn("without a reason", describe_failure(SSL.Error([])))
        self.assertIn("without a reason", describe_failure(SSL.Error()))
        self.assertEqual(describe_failure(SSL.Error([("a", "b", "odd thing")])), "odd thing")
        self.assertEqual(describe_failure(SSL.SysCallError()), "the connection broke")


class VerifyTests(SynchronousTestCase):
    def test_foreign_connection(self) -> None:
        """Who is no connection of ours is not trusted by mistake."""

        def configure(context: SSL.Context) -> None:
            context.set_verify(SSL.VERIFY_PEER, verify)
            authority().configure_trust(context)

        self.assertFalse(shaken(client=configure).succeeded)


class ConnectionOfTests(SynchronousTestCase):
    def test_no_tls(self) -> None:
        """To ask a connection without TLS for its TLS is a mistake of ours, told as one."""
        with self.assertRaises(AssertionError):
            connection_of(Transport(None))  # type: ignore[arg-type]
