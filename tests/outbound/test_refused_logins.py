"""Logins that were refused are not repeated by every message that waits."""

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from harakatls.mail.route import Credentials, NextHop
from harakatls.outbound.connector import Connector, Opened, Unusable
from harakatls.outbound.refused_logins import FIRST_WAIT, LONGEST_WAIT, MOST_LOGINS, RefusedLogins
from harakatls.outbound.settings import OutboundSettings
from harakatls.testing.network import PretendedTLS
from harakatls.testing.peers import SILENCE
from tests.outbound.support import DOMAIN, FIRST, SECOND, SUMMARY, DeliveryTestCase
from tests.outbound.test_login import BOB, HOP, LoginPeer

NO = "535 5.7.8 No such luck"
NOT_NOW = "454 4.7.0 Database is down"
DID = "refused our login with PLAIN: 535"


class RefusedTests(DeliveryTestCase):
    """Connections are not kept, so each message would log in anew."""

    def setUp(self) -> None:
        super().setUp()
        self.one = self.connector(settings=OutboundSettings(pool_timeout=0.0))

    def begin_open(self, hop: NextHop = HOP) -> "Deferred[Opened | Unusable]":
        running = Deferred.fromCoroutine(self.one.open(hop, 0))
        self.network.flush()
        return running

    def open(self, hop: NextHop = HOP, connector: Connector | None = None) -> str:
        """What it came to: "" where mail may be sent."""
        self.one = connector or self.one
        opened = self.successResultOf(self.begin_open(hop))
        if isinstance(opened, Opened):
            self.one.leave(opened)
            return ""
        return str(opened.reply)

    def refused(self, times: int = 1) -> None:
        for _ in range(times):
            self.network.serve(FIRST, LoginPeer(login=(NO,)))
            self.assertIn(f"451 4.7.8 mx1.example {DID}", self.open())

    @property
    def connections(self) -> int:
        return len(self.network.attempts)

    def test_not_asked_again(self) -> None:
        """The next message waits with the reason; there is no connection, and no bad password."""
        self.refused()
        self.network.serve(FIRST, LoginPeer())
        told = self.open()
        self.assertEqual(self.connections, 1)
        self.assertIn(
            "451 4.7.8 mx1.example: not asked: it refused our login with PLAIN: 535", told
        )
        self.assertRegex(told, r"at \d\d:\d\d:\d\d UTC; asked again from \d\d:\d\d:\d\d UTC")
        self.assertNotIn(BOB.password, told)

    def test_the_history_tells(self) -> None:
        """Why nothing was tried is kept with the message."""
        self.hops = (HOP,)
        delivery = self.delivery()
        self.network.serve(FIRST, LoginPeer(login=(NO,)))
        self.attempt(delivery=delivery)
        result = self.attempt(delivery=delivery)
        (trial,) = result.trials
        self.assertIn("not asked: it refused our login", trial.result)
        self.assertIn("delayed 451 4.7.8", self.only(result))
        self.assertEqual(self.connections, 1)

    def test_longer_and_longer(self) -> None:
        """A minute, then twice as long each time, up to an hour."""
        waits = []
        for _ in range(9):
            self.refused()
            waited = 0
            while self.one.logins.problem(HOP) is not None:
                self.pass_time(30)
                waited += 30
            waits.append(waited)
        self.assertEqual(waits, [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600])

    def test_a_login_that_works(self) -> None:
        """It is forgotten then: the next refusal counts as the first."""
        self.refused()
        self.pass_time(60)
        self.refused()
        self.pass_time(120)
        self.network.serve(FIRST, LoginPeer())
        self.assertEqual(self.open(), "")
        self.refused()
        self.pass_time(59)
        self.assertIn("not asked", self.open())
        self.pass_time(1)
        self.refused()

    def test_another_password(self) -> None:
        """What the operator has corrected is tried at once; so is another user or mechanism."""
        self.refused()
        for changed in (
            evolve(BOB, password="right"),
            evolve(BOB, user="ann"),
            evolve(BOB, mechanism="PLAIN"),
        ):
            self.network.serve(FIRST, LoginPeer())
            self.assertEqual(self.open(evolve(HOP, credentials=changed)), "")
        self.assertIn("not asked", self.open())

    def test_other_mail_to_the_host(self) -> None:
        """Without a login, or to another port, it is none of it. An address of the same host is."""
        self.refused()
        for other in (evolve(HOP, credentials=None), evolve(HOP, port=587)):
            self.network.serve(FIRST, LoginPeer())
            self.assertEqual(self.open(other), "")
        self.network.serve(SECOND, LoginPeer())
        self.assertIn("not asked", self.open(evolve(HOP, host=SECOND)))

    def test_a_flush_forgets(self) -> None:
        """SIGHUP and ``harakatls queue flush`` mean now."""
        self.refused()
        self.one.forget_failures()
        self.refused()

    def test_a_passing_failure(self) -> None:
        """Nor does a server count what it could not look up."""
        for _ in range(2):
            self.network.serve(FIRST, LoginPeer(login=(NOT_NOW,)))
            self.assertIn("does not take our login now", self.open())
        self.assertEqual(self.connections, 2)

    def test_any_5yz(self) -> None:
        """Whatever the server calls it."""
        for code in ("500 5.5.2", "504 5.5.4", "534 5.7.9", "538 5.7.11", "554 5.7.1"):
            self.network.serve(FIRST, LoginPeer(login=(f"{code} No",)))
            self.assertIn("4.7.8 mx1.example refused our login", self.open())
            self.assertIn("not asked", self.open())
            self.one.forget_failures()

    def test_many_at_once(self) -> None:
        """The first tries the login; the others, already connected, learn from it, and leave."""
        peers = [LoginPeer(login=(SILENCE,)), *(LoginPeer(login=(NO,)) for _ in range(4))]
        self.network.serve(FIRST, *peers)
        running = [self.begin_open() for _ in peers]
        self.assertEqual(sum("AUTH" in line for peer in peers for line in peer.commands), 1)
        peers[0].output += f"{NO}\r\n".encode()
        self.network.flush()
        for each in running:
            unusable = self.successResultOf(each)
            assert isinstance(unusable, Unusable)
            self.assertIn(DID, str(unusable.reply))
        self.assertEqual(sum("AUTH" in line for peer in peers for line in peer.commands), 1)

    def test_at_once_where_it_works(self) -> None:
        """A login that is known to be good is nothing to wait in line for."""
        self.network.serve(FIRST, LoginPeer(), LoginPeer(login=(SILENCE,)), LoginPeer())
        self.assertEqual(self.open(), "")
        self.assertNoResult(self.begin_open())
        self.assertEqual(self.open(), "")


class UnverifiedTests(DeliveryTestCase):
    """A password over TLS, to a host of which nobody knows whether it is the right one."""

    def warnings(self, *hops: NextHop, verified: bool = False) -> list[str]:
        problem = None if verified else "self-signed"
        self.tls = PretendedTLS(evolve(SUMMARY, verified=verified, verify_error=problem))
        connector = self.connector(settings=OutboundSettings(pool_timeout=0.0))
        with capturedLogs() as events:
            for hop in hops:
                self.network.serve(hop.host, LoginPeer())
                running = Deferred.fromCoroutine(connector.open(hop, 0))
                self.network.flush()
                self.assertIsInstance(self.successResultOf(running), Opened)
        told = [str(formatEvent(event)) for event in events]
        return [line for line in told if "is told logins" in line]

    def test_told_once(self) -> None:
        """The mail goes, as the configuration says; the operator hears what that means."""
        other = evolve(HOP, host=SECOND, mx_name="mx2.example")
        first, second = self.warnings(HOP, HOP, other, HOP)
        self.assertIn("mx1.example is told logins", first)
        self.assertIn("not verified (self-signed)", first)
        self.assertIn("force_tls_hosts[]=mx1.example in tls.ini", first)
        self.assertIn("mx2.example", second)
        for secret in (BOB.user, BOB.password):
            self.assertNotIn(secret, first + second)

    def test_nothing_to_tell(self) -> None:
        """Of a certificate that is right."""
        self.assertEqual(self.warnings(HOP, verified=True), [])


class MemoryTests(SynchronousTestCase):
    def test_bounded(self) -> None:
        """However many logins a plugin makes up."""
        clock = Clock()
        logins = RefusedLogins(clock.seconds)
        hops = [
            NextHop(FIRST, DOMAIN, credentials=Credentials(f"u{number}", "p"))
            for number in range(MOST_LOGINS + 1)
        ]
        for hop in hops:
            assert hop.credentials is not None
            logins.refused(hop, hop.credentials, "refused")
        self.assertEqual(len(logins._logins), MOST_LOGINS)
        self.assertIsNone(logins.problem(hops[0]))
        self.assertIsNotNone(logins.problem(hops[-1]))

    def test_no_password_in_it(self) -> None:
        """Nor anything that could be compared with a guess: another process has other digests."""
        one, other = (RefusedLogins(Clock().seconds) for _ in range(2))
        for logins in (one, other):
            logins.refused(HOP, BOB, "refused")
        self.assertNotIn(BOB.password, repr(one._logins))
        self.assertNotIn(BOB.user, repr(one._logins))
        self.assertNotEqual(list(one._logins), list(other._logins))

    def test_the_waits(self) -> None:
        """A minute at first and an hour at last, as the manual says."""
        self.assertEqual((FIRST_WAIT, LONGEST_WAIT), (60, 3600))
