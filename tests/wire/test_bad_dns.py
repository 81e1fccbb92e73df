"""Real questions to name servers that lie, over UDP and TCP."""

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.names import dns
from twisted.trial.unittest import TestCase

from harakatls.interfaces import NoSuchDomain, ResolutionFailed
from harakatls.mail.route import MailExchanger
from harakatls.outbound import resolver
from harakatls.outbound.resolver import DNSClient, DNSResolver
from harakatls.plugins.lookup_rdns import ReverseLookup
from harakatls.testing.values import connection
from tests.wire.dns_server import Answers, LyingServer, reply

DOMAIN = "recipient.example"
RIGHT = (DOMAIN, dns.Record_MX(10, "mx.example"))
WRONG = (DOMAIN, dns.Record_MX(1, "thief.example"))
FOUND = (MailExchanger(10, "mx.example"),)
_reactor: Any = reactor


class BadDNSTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        self.patch(resolver, "RETRY_AFTER", (0.2, 0.2))
        self.patch(resolver, "TIME_LIMIT", 3.0)

    def serve(self, answers: Answers) -> tuple[LyingServer, DNSResolver]:
        """@return: the server, and a resolver that asks it."""
        server = LyingServer(answers)
        client: Any = DNSClient(servers=[("127.0.0.1", server.port)], reactor=_reactor)
        self.addCleanup(lambda: Deferred.fromCoroutine(_stop(server, client)))
        return server, DNSResolver(client, _reactor)

    async def fails(self, answers: Answers, kind: type[Exception] = ResolutionFailed) -> str:
        """@return: the reason."""
        _, asking = self.serve(answers)
        try:
            found = await asking.mx(DOMAIN)
        except kind as problem:
            return str(problem)
        raise AssertionError(f"{found} was found")

    async def test_codes_are_told_apart(self) -> None:
        """What does not exist, what nobody knows just now, and what exists without MX."""
        await self.fails(lambda q, _: [reply(q, rCode=dns.ENAME)], NoSuchDomain)
        for code in (dns.ESERVER, dns.EREFUSED, dns.EFORMAT, dns.ENOTIMP, 9, 15):
            await self.fails(lambda q, _, code=code: [reply(q, rCode=code)])  # type: ignore[misc]
        _, asking = self.serve(lambda q, _: [reply(q)])
        self.assertEqual(await asking.mx(DOMAIN), ())

    async def test_silence(self) -> None:
        """A server that says nothing, or nothing that can be read, is a passing failure."""
        for octets in ([], [b""], [b"\0" * 5], [b"\xff" * 600]):
            reason = await self.fails(lambda q, _, octets=octets: octets)  # type: ignore[misc]
            self.assertIn(f"{DOMAIN}: no answer from the DNS", reason)

    async def test_another_id(self) -> None:
        """What answers no question of ours is not believed; the right answer is waited for."""

        def guessing(question: dns.Message, _: bool) -> list[bytes]:
            lies = [reply(question, WRONG, id=(question.id + n) % 65536) for n in range(1, 50)]
            return [*lies, reply(question, RIGHT)]

        _, asking = self.serve(guessing)
        self.assertEqual(await asking.mx(DOMAIN), FOUND)
        await self.fails(lambda q, _: [reply(q, WRONG, id=q.id ^ 1)])

    async def test_truncated(self) -> None:
        """The whole answer comes over TCP."""

        def honest(question: dns.Message, over_tcp: bool) -> list[bytes]:
            if over_tcp:
                return [reply(question, RIGHT)]
            return [reply(question, WRONG, trunc=1)]

        server, asking = self.serve(honest)
        self.assertEqual(await asking.mx(DOMAIN), FOUND)
        self.assertEqual([over_tcp for _, _, over_tcp in server.asked], [False, True])

    async def test_truncated_without_an_end(self) -> None:
        """An answer that stays truncated is not asked for over and over."""
        server, asking = self.serve(lambda q, _: [reply(q, WRONG, trunc=1)])
        with self.assertRaises(ResolutionFailed):
            await asking.mx(DOMAIN)
        self.assertEqual(len(server.asked), 2)

    async def test_truncated_and_gone(self) -> None:
        """A server that hangs up over TCP costs its time, and no more."""
        await self.fails(lambda q, over_tcp: [] if over_tcp else [reply(q, trunc=1)])
        self.flushLoggedErrors()

    async def test_many_records(self) -> None:
        """More than a datagram holds come over TCP."""
        crowd = [(DOMAIN, dns.Record_MX(n, f"m{n}.example")) for n in range(500)]

        def crowded(question: dns.Message, over_tcp: bool) -> list[bytes]:
            return [reply(question, *crowd) if over_tcp else reply(question, trunc=1)]

        _, asking = self.serve(crowded)
        self.assertEqual(len(await asking.mx(DOMAIN)), 500)

    async def test_aliases_without_an_end(self) -> None:
        """Each name an alias of a longer one."""

        def chain(question: dns.Message, _: bool) -> list[bytes]:
            name = str(question.queries[0].name)
            return [reply(question, (name, dns.Record_CNAME(f"x{name}")))]

        server, asking = self.serve(chain)
        with self.assertRaises(ResolutionFailed):
            await asking.mx(DOMAIN)
        self.assertLess(len(server.asked), 10)

    async def test_names_that_were_not_asked_for(self) -> None:
        """They are not believed."""
        other = ("other.example", dns.Record_MX(1, "thief.example"))
        _, asking = self.serve(lambda q, _: [reply(q, other, RIGHT)])
        self.assertEqual(await asking.mx(DOMAIN), FOUND)

    async def test_null_mx(self) -> None:
        """The root comes as the empty name."""
        _, asking = self.serve(lambda q, _: [reply(q, (DOMAIN, dns.Record_MX(10, b".")))])
        self.assertEqual(await asking.mx(DOMAIN), (MailExchanger(10, ""),))

    async def test_one_family_is_silent(self) -> None:
        """Servers that drop questions for AAAA do not make a host unreachable."""

        def half(question: dns.Message, _: bool) -> list[bytes]:
            if question.queries[0].type == dns.AAAA:
                return []
            return [reply(question, ("mx.example", dns.Record_A("192.0.2.1")))]

        _, asking = self.serve(half)
        self.assertEqual(await asking.addresses("mx.example"), ("192.0.2.1",))

    async def test_names_of_peers(self) -> None:
        """Of all that a hostile zone calls an address, a host name that leads back is believed."""
        reverse = "10.2.0.192.in-addr.arpa"
        lies: tuple[bytes, ...] = (
            b"a\r\nX-Evil: 1",
            b"\xff.example",
            b"localhost",
            b"[192.0.2.10]",
        )

        def hostile(question: dns.Message, _: bool) -> list[bytes]:
            (query,) = question.queries
            if query.type == dns.PTR:
                called = (*lies, b"mx.bank.example", b"Host.Example.")
                return [reply(question, *((reverse, dns.Record_PTR(name)) for name in called))]
            if query.type == dns.A and query.name.name == b"host.example":
                return [reply(question, ("host.example", dns.Record_A("192.0.2.10")))]
            return [reply(question)]

        server, asking = self.serve(hostile)
        plugin = ReverseLookup(asking, _reactor, 3.0)
        self.assertEqual(await plugin.peer_name(connection()), "host.example")
        names = {name for name, _, _ in server.asked}
        self.assertEqual(names, {reverse, "mx.bank.example", "host.example"})

    async def test_names_of_silent_zones(self) -> None:
        """A crowd of names, aliases in a circle, and silence, cost little time."""
        crowd = [dns.Record_PTR(f"n{number}.example") for number in range(1500)]
        circle = [("x.example", dns.Record_CNAME("10.2.0.192.in-addr.arpa"))]

        def answer(question: dns.Message, over_tcp: bool, first: Any) -> list[bytes]:
            name = str(question.queries[0].name)
            if name.endswith(".arpa"):
                if not over_tcp:
                    return [reply(question, trunc=1)]
                return [reply(question, *((name, payload) for payload in first), *circle)]
            return []

        for first in (crowd, [dns.Record_CNAME("x.example")]):
            _, asking = self.serve(lambda q, tcp, first=first: answer(q, tcp, first))  # type: ignore
            plugin = ReverseLookup(asking, _reactor, 0.5)
            began = _reactor.seconds()
            self.assertIsNone(await plugin.peer_name(connection()))
            self.assertLess(_reactor.seconds() - began, 5)


async def _stop(server: LyingServer, client: Any) -> None:
    for each in tuple(client.connections):
        each.transport.abortConnection()
    for call in _reactor.getDelayedCalls():
        if call.active():  # of questions over TCP that nobody waits for
            call.cancel()
    await server.stop()
