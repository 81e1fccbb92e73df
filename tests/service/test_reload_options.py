"""Tests for harakatls.service.reload: options of tls.ini that change."""

import trustme

from harakatls.mail.route import NextHop
from harakatls.tls.dhparams import write_group
from harakatls.tls.handshake import fingerprint
from harakatls.tls.policy import Decision, SecurityLevel
from tests.service.reload_case import FIRST, ME, SECOND, ReloadTestCase, ask
from tests.tls.dh_groups import OF_DSA, OWN
from tests.tls.peers import (
    TLS_1_2,
    chain_octets,
    fingerprint_of,
    from_us,
    issued,
    key_octets,
    peer_of,
    plain_client,
    plain_server,
    serial,
    to_us,
)


class OptionTests(ReloadTestCase):
    def test_options(self) -> None:
        """tls.ini counts too, and those who send mail are told."""
        self.begin()
        self.write({"tls.ini": b"minVersion=TLSv1.3\n[outbound]\nforce_tls_hosts[]=a.example\n"})
        self.rounds()
        self.assertFalse(to_us(self.server, plain_client(TLS_1_2)).succeeded)
        (settings,) = self.taken_on
        self.assertIn("a.example", settings.outbound.force_tls_hosts)
        self.assertIs(self.client.settings, settings.outbound)

    def test_requirement(self) -> None:
        """Required TLS holds for those who come after the change."""
        self.begin()
        self.assertFalse(self.server.requires(peer_of(587)))
        self.write({"tls.ini": b"[inbound]\nrequire_tls_ports[]=587\n"})
        self.rounds()
        self.assertTrue(self.server.requires(peer_of(587)))

    def test_own_authorities(self) -> None:
        """Those trusted about next hops are exchanged with the contexts that know them."""
        self.begin({"ca.pem": b""}, "[outbound]\nca=ca.pem\n")
        self.assertEqual(len(self.client.problems), 1)
        self.write({"ca.pem": trustme.CA().cert_pem.bytes()})
        self.rounds()
        self.assertEqual(self.client.problems, ())

    def test_certificates_for_next_hops(self) -> None:
        """A new rule, and a new certificate in a file that a rule speaks of."""
        self.begin({"tls/c.pem": key_octets(SECOND) + chain_octets(SECOND)})
        hop = NextHop("192.0.2.7", "a.example")
        may = Decision(SecurityLevel.MAY, ())
        self.assertEqual(self.client.identified(hop, may), may)
        self.write({"tls.ini": b"[mutual_auth_hosts]\na.example=second.example\n"})
        self.rounds()
        decision = self.client.identified(hop, may)
        self.assertEqual(decision.identity, (fingerprint_of(SECOND),))
        renewed = issued("second.example", kind="RSA")
        self.write({"tls/c.pem": key_octets(renewed) + chain_octets(renewed)})
        self.rounds()
        again = self.client.identified(hop, may)
        self.assertEqual(again.identity, (fingerprint_of(renewed),))
        outcome = from_us(self.client, again, plain_server(FIRST, configure=ask))
        shown = outcome.server.get_peer_certificate()
        assert shown is not None
        self.assertEqual(fingerprint(shown), again.identity[0])
        # Who has decided before the change shows none rather than another.
        outcome = from_us(self.client, decision, plain_server(FIRST, configure=ask))
        self.assertIsNone(outcome.server.get_peer_certificate())

    def test_wrong_certificate_for_next_hops(self) -> None:
        """A rule without its certificate is refused as a whole; what was there is still shown."""
        ini = "[mutual_auth_hosts]\na.example=second.example\n"
        self.begin({"tls/c.pem": key_octets(SECOND) + chain_octets(SECOND)}, ini)
        (self.path / "tls/c.pem").unlink()
        log = self.rounds()
        self.assertIn("there is no certificate second.example", " ".join(log))
        decision = Decision(SecurityLevel.MAY, ())
        found = self.client.identified(NextHop("192.0.2.7", "a.example"), decision)
        self.assertEqual(found.identity, (fingerprint_of(SECOND),))

    def test_warning(self) -> None:
        """A key that was mistyped in the change is named, once."""
        self.begin(ini="unheard_of=1\n")
        self.write({"tls.ini": b"unheard_of=1\nminversion=TLSv1.3\n"})
        warned = [line for line in self.rounds() if line.startswith("warn")]
        self.assertEqual(
            warned, ["warn: tls.ini minversion: unknown key; did you mean minVersion?"]
        )
        self.write({"tls.ini": b"unheard_of=1\nminversion=TLSv1.3\n;\n"})
        self.assertEqual(self.rounds(), [])


class GroupTests(ReloadTestCase):
    """dhparam: what is made in the background, and what an operator puts there."""

    def test_made(self) -> None:
        """The group that is made was in use before: no context is made anew for it."""
        self.begin()
        before = self.server.snapshot
        self.assertTrue(write_group(self.path / "dhparams.pem"))
        self.assertEqual(self.rounds(), [])
        self.assertIs(self.server.snapshot, before)

    def test_gone(self) -> None:
        """A file that is no longer there is to be made again, though the group stays as it was."""
        self.begin()
        write_group(self.path / "dhparams.pem")
        self.rounds()
        self.assertEqual(self.missing, [[False]])
        (self.path / "dhparams.pem").unlink()
        self.rounds()
        self.assertEqual(self.missing, [[False], [True]])
        self.assertEqual(self.taken_on, [])

    def test_own(self) -> None:
        """Another group counts for new connections; a broken one changes nothing."""
        self.begin(ini="minVersion=TLSv1.2\n")
        self.write({"dhparams.pem": OF_DSA})
        (line,) = self.rounds()
        self.assertIn("new connections", line)
        self.assertEqual(self.server.snapshot.settings.parameters.dh_group, OWN)
        self.write({"dhparams.pem": b"garbage"})
        (line,) = self.rounds()
        self.assertIn("error: TLS: what has changed is not used", line)
        self.assertIn("dhparam: dhparams.pem: there are no DH PARAMETERS in it", line)
        self.assertEqual(self.server.snapshot.settings.parameters.dh_group, OWN)


class NamedSectionTests(ReloadTestCase):
    """Sections named after certificates come and go as all else does."""

    def test_section(self) -> None:
        """Its rules hold after the change, and not before."""
        self.begin()
        self.assertEqual(self.shown("first.example", TLS_1_2), serial(FIRST))
        self.write({"tls.ini": b"[first.example]\nminVersion=TLSv1.3\n"})
        self.assertEqual(len(self.rounds()), 1)
        outcome = to_us(self.server, plain_client(TLS_1_2, "first.example"))
        self.assertFalse(outcome.succeeded)
        self.assertEqual(self.shown(ME, TLS_1_2), serial(FIRST))

    def test_section_for_nobody(self) -> None:
        """One that no certificate belongs to is not taken on."""
        self.begin()
        self.write({"tls.ini": b"[second.example]\nminVersion=TLSv1.3\n"})
        (line,) = self.rounds()
        self.assertIn("tls.ini [second.example]: no certificate has this name", line)
        self.unchanged()
