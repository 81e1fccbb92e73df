"""What is known of a connection."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from harakatls.connection import Connection, Endpoint, Hello, TLSSummary

ALL_KNOWN = Connection(
    "0A",
    Endpoint("192.0.2.1", 4000),
    Endpoint("198.51.100.1", 25),
    True,
    Hello("client.example", True),
    TLSSummary("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256", 128),
    "bob",
    True,
    {"karma": 1},
    2,
    "secret",
    True,
    "client.example",
    Endpoint("10.0.0.5", 50000),
    Endpoint("10.0.0.6", 50001),
)


class FactTests(SynchronousTestCase):
    def test_after_hello(self) -> None:
        """A new HELO changes nothing else, and plugins keep their notes."""
        hello = Hello("other.example", False)
        connection = ALL_KNOWN.after_hello(hello)
        self.assertEqual(connection, evolve(ALL_KNOWN, hello=hello))
        self.assertIs(connection.notes, ALL_KNOWN.notes)

    def test_after_handshake(self) -> None:
        """Nothing that was said in the clear is known after the handshake."""
        summary = TLSSummary("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
        connection = ALL_KNOWN.after_handshake(summary)
        expected = evolve(
            ALL_KNOWN,
            hello=None,
            secured=summary,
            authenticated_as=None,
            password=None,
            relaying=False,
        )
        self.assertEqual(connection, expected)
        self.assertIs(connection.notes, ALL_KNOWN.notes)
        known = evolve(ALL_KNOWN, authenticated_as=None)
        self.assertTrue(known.after_handshake(summary).relaying)
