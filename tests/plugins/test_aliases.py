"""Tests for harakatls.plugins.aliases."""

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from harakatls.config.errors import ConfigError
from harakatls.interfaces import IRcptHook
from harakatls.plugins.aliases import load
from harakatls.verdict import CONTINUE, Accept
from tests.inbound.support import DATA, EHLO, END, MAIL, MESSAGE, Talk, queued
from tests.plugins.support import (
    connection_from,
    recipient,
    result_of,
    site_of,
    transaction_for,
)

DROP = {"action": "drop"}


def to(*names: str) -> dict[str, Any]:
    return {"action": "alias", "to": names[0] if len(names) == 1 else list(names)}


class AliasesTests(SynchronousTestCase):
    def instead(self, aliases: dict[str, Any], address: str, relaying: bool = False) -> Any:
        """@return: the addresses that the mail goes to; None where it goes on."""
        plugin = load(
            site_of(self, {"aliases": json.dumps(aliases), "host_list": "a.example\nb.example\n"})
        )
        verifyObject(IRcptHook, plugin)
        self.transaction = transaction_for(relaying=relaying)
        asked = plugin.rcpt(connection_from(), self.transaction, recipient(address))
        verdict = result_of(self, asked)
        if verdict is CONTINUE:
            return None
        assert isinstance(verdict, Accept) and verdict.becomes is not None
        return [str(one.address) for one in verdict.becomes]

    def test_none(self) -> None:
        """Without a file, and for all who are not named, nothing changes."""
        plugin = load(site_of(self, {}))
        asked = plugin.rcpt(connection_from(), transaction_for(), recipient("bob@a.example"))
        self.assertIs(result_of(self, asked), CONTINUE)
        self.assertIsNone(self.instead({"eve": DROP}, "bob@a.example"))

    def test_order(self) -> None:
        """The most exact key wins, whatever the order of the file."""
        keys = ["*", "@a.example", "bob", "bob@a.example", "bob-x", "bob-x@a.example"]
        for address, key in (
            ("Bob-X@A.example", "bob-x@a.example"),
            ("bob-x@b.example", "bob-x"),
            ("bob+y@a.example", "bob@a.example"),
            ("bob-y-z@b.example", "bob"),
            ("eve@a.example", "@a.example"),
            ("eve@b.example", "*"),
            ("-eve@b.example", "*"),
        ):
            aliases = {name: to(f"n{number}") for number, name in enumerate(keys)}
            found = self.instead(aliases, address)
            self.assertEqual(found, [f"n{keys.index(key)}@{address[-9:].lower()}"], address)

    def test_drop(self) -> None:
        """Nobody gets it, and the sender hears nothing of that."""
        self.assertEqual(self.instead({"bob": DROP}, "bob@a.example"), [])

    def test_several(self) -> None:
        """Local parts keep the domain; whole addresses do not, and then the queue has it."""
        found = self.instead({"bob": to("amy", "eve@else.example")}, "bob@a.example")
        self.assertEqual(found, ["amy@a.example", "eve@else.example"])
        self.assertEqual(self.transaction.notes, {"queue.wants": "outbound"})
        self.assertEqual(self.instead({"bob": to("amy")}, "bob@a.example"), ["amy@a.example"])
        self.assertEqual(self.transaction.notes, {})

    def test_foreign_domains(self) -> None:
        """What clients send elsewhere is theirs; and a name is no leave to relay."""
        for aliases in ({"bob": to("x")}, {"*": to("bob@a.example")}):
            for relaying in (False, True):
                self.assertIsNone(self.instead(aliases, "bob@world.example", relaying))
        named = {"bob@world.example": to("bob@a.example")}
        self.assertEqual(self.instead(named, "bob@world.example"), ["bob@a.example"])

    def test_not_looked_up_again(self) -> None:
        """Two aliases that name each other are no loop."""
        self.assertEqual(
            self.instead({"bob": to("amy"), "amy": to("bob")}, "bob@a.example"), ["amy@a.example"]
        )

    def test_mistakes(self) -> None:
        """Each is told with the file and the key."""
        for text, words in (
            ("{", ("aliases", "is not JSON")),
            ("[1]", ("aliases", "not a JSON object")),
            ("[" * 100000, ("aliases", "is not JSON")),
            ('{"bob": 1}', ("aliases", "bob", "'1'", "expected")),
            ('{"bob": {"action": "move"}}', ("aliases", "bob", "move", "expected")),
            ('{"bob": {"action": "alias"}}', ("aliases", "bob", "names nobody")),
            ('{"bob": {"action": "alias", "to": []}}', ("aliases", "bob", "names nobody")),
            ('{"bob": {"action": "alias", "to": [3]}}', ("aliases", "bob", "'3'")),
            ('{"bob": {"action": "alias", "to": "a b"}}', ("aliases", "bob", "a b")),
            ('{"bob@..": {"action": "drop"}}', ("aliases", "bob@..", "not a domain")),
            (
                '{"bob": {"action": "drop"}, "Bob": {"action": "alias", "to": "amy"}}',
                ("aliases", "Bob", "is there twice"),
            ),
            (
                '{"bob": {"action": "drop"}, "bob": {"action": "alias", "to": "amy"}}',
                ("aliases", "bob", "is there twice"),
            ),
        ):
            with self.assertRaises(ConfigError) as caught:
                load(site_of(self, {"aliases": text}))
            for word in words:
                self.assertIn(word, str(caught.exception))

    def test_comments(self) -> None:
        """The sample explains itself, and an operator can do so as well."""
        text = '# mine\n{"bob": {"action": "drop"},\n  # hers\n"amy": {"action": "drop"}}\n'
        self.assertEqual(list(load(site_of(self, {"aliases": text})).aliases), ["bob", "amy"])

    def test_two_files(self) -> None:
        """One of them counts, and the operator is told which."""
        site = site_of(self, {"aliases": "{}", "aliases.json": '{"bob": {"action": "drop"}}'})
        self.assertEqual(load(site).aliases, {})
        self.assertIn("aliases.json", site.config.warnings[0])
        alone = site_of(self, {"aliases.json": '{"bob": {"action": "drop"}}'})
        self.assertEqual(list(load(alone).aliases), ["bob"])


class ConversationTests(SynchronousTestCase):
    def test_whole_way(self) -> None:
        """The message is queued for those in the place of the one who was named, or for nobody."""
        aliases = json.dumps({"bob": to("amy@b.example", "cleo"), "eve": DROP})
        talk = Talk(load(site_of(self, {"aliases": aliases, "host_list": "a.example\n"})))
        for name, recipients in (
            ("bob", ["amy@b.example", "cleo@a.example"]),
            ("eve", []),
        ):
            rcpt = b"RCPT TO:<%b@a.example>\r\n" % name.encode()
            codes = talk.codes(EHLO, MAIL, rcpt, DATA)
            self.assertEqual(codes, ["250", "250", "250", "354"])
            self.assertEqual(talk.say(MESSAGE + END)[:3], "250")
            found = sorted(one for _, to, _ in queued(talk.spool) for one in to)
            self.assertEqual(found, recipients)
