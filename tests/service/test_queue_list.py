"""Tests for ``harakatls queue list|stat|verify|export``, and for the filters."""

import json
import os
import zlib
from pathlib import Path

from attrs import evolve
from twisted.internet.defer import Deferred

from harakatls.spool import listing, reading
from tests.contracts.spool import ARRIVED, BODY, LARGE, delivered, envelope
from tests.service.queue_case import QueueCase


class FilterTests(QueueCase):
    def setUp(self) -> None:
        super().setUp()
        self.add("A.1", "a@one.example", "b@two.example", sender="Me@Sender.example")
        self.add("B.1", "c@sub.one.example", sender=None)
        self.add("C.1", "d@xn--bcher-kva.example", sender="you@other.example")

    def bad(self, *arguments: str) -> str:
        done = self.command("list", *arguments)
        self.assertEqual((done.status, done.text), (2, ""))
        return done.err

    def test_ids(self) -> None:
        """The id of the 250 names all rows of a message; so do wildcards, in any case."""
        self.assertEqual(self.ids("A.1"), ["A.1.1", "A.1.2"])
        self.assertEqual(self.ids("a.1.2", "--id", "B.1.1"), ["A.1.2", "B.1.1"])
        self.assertEqual(self.ids("?.1.1"), ["A.1.1", "B.1.1", "C.1.1"])
        self.assertEqual(self.ids("Z*"), [])
        self.assertEqual(self.ids("A.1", "--domain", "two.example"), ["A.1.2"])

    def test_addresses(self) -> None:
        """By a whole address, by its domain, with wildcards, and reports by their empty sender."""
        self.assertEqual(self.ids("--sender", "me@sender.EXAMPLE"), ["A.1.1", "A.1.2"])
        self.assertEqual(self.ids("--sender", "<me@sender.example>"), ["A.1.1", "A.1.2"])
        self.assertEqual(self.ids("--sender", "other.example"), ["C.1.1"])
        self.assertEqual(self.ids("--sender", "example"), [])
        self.assertEqual(self.ids("--sender", "*@*.example"), ["A.1.1", "A.1.2", "C.1.1"])
        self.assertEqual(self.ids("--sender", "<>"), ["B.1.1"])
        self.assertEqual(self.ids("--recipient", "b@two.example"), ["A.1.2"])
        self.assertEqual(self.ids("--recipient", "?@*one.example"), ["A.1.1", "B.1.1"])
        self.assertEqual(self.ids("--recipient", "d@bücher.example"), ["C.1.1"])

    def test_recipients_that_have_it(self) -> None:
        """Who has got the message waits for it no more."""
        self.add("D.1", "x@three.example", "y@three.example")
        [queued] = self.claim(domains=["three.example"])
        self.settle(evolve(queued, pending=queued.pending[1:]))
        self.assertEqual(self.ids("--recipient", "x@three.example"), [])
        self.assertEqual(self.ids("--recipient", "y@three.example"), ["D.1.1"])

    def test_domains(self) -> None:
        """By name, in Unicode as well, and with wildcards."""
        self.assertEqual(self.ids("--domain", "ONE.example"), ["A.1.1"])
        self.assertEqual(self.ids("--domain", "*.one.example"), ["B.1.1"])
        self.assertEqual(self.ids("--domain", "bücher.example"), ["C.1.1"])
        self.add("E.1", "a@[192.0.2.1]")
        self.assertEqual(self.ids("--domain", "[192.0.2.1]"), ["E.1.1"])

    def test_ages(self) -> None:
        """The clock of the test stands in 1970, so all is older than a week."""
        self.assertEqual(len(self.ids("--older-than", "1w")), 4)
        self.assertEqual(len(self.ids("--age", "90")), 4)
        self.assertEqual(self.ids("--newer-than", "3d"), [])
        with self.by_hand() as connection:
            connection.execute("UPDATE message SET arrived = 4e9 WHERE id = 'B.1.1'")
        self.assertEqual(self.ids("--newer-than", "3d"), ["B.1.1"])
        self.assertEqual(len(self.ids("--older-than", "1w", "--domain", "one.example")), 1)

    def test_states(self) -> None:
        """What is tried now, later, or not at all."""
        one, two, three, _ = self.claim()
        self.settle(evolve(two, due=5e9))
        self.run_to_end(self.spool.set_aside(three, "broken"))
        self.add("F.1", "f@four.example")
        self.assertEqual(self.ids("--state", "in-hand"), [one.id, "C.1.1"])
        self.assertEqual(self.ids("--state", "waiting"), [two.id, "F.1.1"])
        self.assertEqual(self.ids("--state", "delayed"), [two.id])
        self.assertEqual(self.ids("--state", "due"), ["F.1.1"])
        self.assertEqual(self.ids("--state", "set-aside"), [three.id])
        self.assertEqual(self.ids("--state", "held"), [])

    def test_bad(self) -> None:
        """What cannot be meant is told, with an example of what can."""
        self.assertIn("'../x' is not the id of a message", self.bad("../x"))
        self.assertIn("there is no message Z.1 in the queue", self.bad_id("Z.1"))
        self.assertIn("'5y' is not a time; expected one such as", self.bad("--older-than", "5y"))
        self.assertIn("is not an address; expected", self.bad("--sender", "a b@c"))
        self.assertIn("expected an address", self.bad("--sender", ""))
        self.assertIn("is not a domain; expected", self.bad("--domain", "a@b"))
        self.assertIn("to use wildcards", self.bad("--domain", "*.bücher.example"))
        self.assertIn("invalid choice: 'odd'", self.bad("--state", "odd"))
        self.assertIn("'0' is not a number of 1 or more", self.bad("--limit", "0"))

    def bad_id(self, message_id: str) -> str:
        done = self.command("list", message_id, "A.1")
        self.assertEqual(done.status, 2)
        return done.err

    def test_undecodable(self) -> None:
        """What cannot be read is chosen by what is known of it."""
        with self.by_hand() as connection:
            connection.execute("UPDATE message SET message = '' WHERE id = 'B.1.1'")
        self.assertEqual(self.ids("B.1"), ["B.1.1"])
        self.assertEqual(self.ids("--domain", "sub.one.example"), ["B.1.1"])
        self.assertEqual(self.ids("--sender", "<>"), [])


class ListTests(QueueCase):
    def test_hostile_text(self) -> None:
        """What a peer has said cannot upset the terminal of the operator."""
        self.add("A.1", "a@one.example")
        [queued] = self.claim()
        self.run_to_end(self.spool.set_aside(queued, "\x1b[2Jgone\nB.1.1 delivered"))
        for verb in ("list", "show"):
            text = self.command(verb, "A.1").text
            self.assertNotIn("\x1b", text)
            self.assertIn("gone\\nB.1.1", text)

    def test_limit(self) -> None:
        """The first few, of a queue of any length."""
        for number in range(5):
            self.add(f"{number}.1", "a@one.example")
        self.assertEqual(self.ids("--limit", "2"), ["0.1.1", "1.1.1"])
        self.assertIn(
            "2 messages, 40 octets; there are more", self.command("list", "--limit=2").text
        )
        self.assertNotIn("more", self.command("list", "--limit=5").text)

    def test_dead_server(self) -> None:
        """What a server had in hand when it died is not said to be in hand."""
        self.add("A.1", "a@one.example")
        self.claim()
        with self.by_hand() as connection:
            connection.execute("UPDATE worker SET until = 1")
        self.assertIn("when its server died", self.command("list").text)

    def test_older_format(self) -> None:
        """Before the new version was started, the operator reads what is to be done."""
        with self.by_hand() as connection:
            connection.execute("PRAGMA user_version = 1")
        for verb in (["list"], ["flush", "--all"]):
            done = self.command(*verb)
            self.assertEqual(done.status, 1)
            self.assertIn("written by an older version of harakatls (format 1); start", done.err)
        with self.by_hand() as connection:
            connection.execute("PRAGMA user_version = 3")
        self.assertIn("by a newer version of harakatls (format 3)", self.command("stat").err)

    def test_no_queue(self) -> None:
        """A config directory that was mistyped is no empty queue."""
        (self.config / "queue_dir").write_text("nowhere\n")
        for verb in (["list"], ["stat"], ["verify"], ["hold", "--all"], ["export", "--all"]):
            done = self.command(*verb)
            self.assertEqual(done.status, 1)
            self.assertIn("there is no queue in", done.err)


class StatTests(QueueCase):
    def test_numbers(self) -> None:
        """Each message is counted once, under what happens next with it."""
        for number in range(6):
            self.add(f"{number}.1", "a@one.example" if number else "b@two.example")
        first, second, third, fourth, *_ = self.claim()
        self.settle(evolve(second, due=5e9))
        self.settle(evolve(third, due=6e9))
        self.run_to_end(self.spool.set_aside(fourth, "broken"))
        self.add("H.1", "h@three.example")
        self.add("I.1", "h@three.example")
        self.command("hold", "H.1", first.id)
        expected = {
            "messages": 8,
            "octets": 8 * len(BODY),
            "oldest": ARRIVED,
            "due": 1,
            "delayed": 2,
            "next_due": 5e9,
            "in_hand": 3,
            "held": 1,
            "set_aside": 1,
        }
        found, one, three, two = self.command("stat", "--json").json
        self.assertEqual(found, expected)
        self.assertEqual([one["domain"], one["messages"], one["in_hand"]], ["one.example", 5, 2])
        self.assertEqual([three["domain"], three["held"], three["due"]], ["three.example", 1, 1])
        self.assertEqual(
            [two["domain"], two["messages"], two["next_due"]], ["two.example", 1, None]
        )
        text = self.command("stat", "--limit", "1").text
        self.assertTrue(text.startswith("8 messages, 160 octets\n"), text)
        self.assertIn("\n  set aside   1\n", text)
        self.assertEqual(text.count(".example"), 1)

    def test_empty(self) -> None:
        """Nothing is nothing."""
        self.assertEqual(self.command("stat").text, "0 messages, 0 octets\n")
        self.assertEqual(len(self.command("stat", "--json").json), 1)


class VerifyTests(QueueCase):
    def setUp(self) -> None:
        super().setUp()
        self.add("A.1", "a@one.example", "b@two.example")
        self.add("L.1", "a@one.example", body=LARGE)

    def flaws(self) -> dict[str, str]:
        done = self.command("verify", "--json")
        found = {flaw["about"]: flaw["problem"] for flaw in done.json}
        self.assertEqual(done.status, 1 if found else 0)
        return found

    def by_hand_once(self, statement: str, *values: object) -> None:
        with self.by_hand() as connection:
            connection.execute(statement, values)

    def test_whole(self) -> None:
        """A queue in order is found so, in use or not."""
        self.claim(1)
        self.assertEqual(self.flaws(), {})
        self.assertEqual(self.command("verify").text, "3 messages read, no problems\n")

    def test_bodies(self) -> None:
        """Octets that were changed on the disk are found before they are delivered."""
        self.by_hand_once("UPDATE body SET content = x'00' WHERE file IS NULL")
        file = self.directory / "body" / "L.1.eml"
        octets = bytearray(file.read_bytes())
        octets[-1] ^= 1
        file.write_bytes(octets)
        self.assertEqual(
            self.flaws(),
            {
                "A.1.1": "the checksum of the body is wrong",
                "A.1.2": "the checksum of the body is wrong",
                "L.1.1": f"the checksum of {file} is wrong",
            },
        )
        for change in (octets + b"x", octets[:-1]):
            file.write_bytes(change)
            self.assertIn("has not the 1048576 octets", self.flaws()["L.1.1"])
        file.unlink()
        self.assertIn("No such file", self.flaws()["L.1.1"])

    def test_rows(self) -> None:
        """So are rows that cannot be read, have lost their body, or have another's."""
        self.by_hand_once("UPDATE message SET message = '{}' WHERE id = 'A.1.1'")
        self.by_hand_once("UPDATE message SET id = 'Z.1.1' WHERE id = 'A.1.2'")
        self.by_hand_once("UPDATE message SET body = 99 WHERE id = 'L.1.1'")
        found = self.flaws()
        self.assertIn("not a queued message", found["A.1.1"])
        self.assertIn("another message, A.1.2", found["Z.1.1"])
        self.assertEqual(found["L.1.1"], "its body is gone")
        self.assertEqual(len([about for about in found if about.startswith("body ")]), 1)

    def test_another_body(self) -> None:
        """A body with a good checksum, yet of another length than was received."""
        self.by_hand_once(
            "UPDATE body SET content = ?, crc = ? WHERE file IS NULL", b"xy", zlib.crc32(b"xy")
        )
        self.assertIn("it has 2 octets; 20 were received", self.flaws()["A.1.1"])

    def test_files_of_nobody(self) -> None:
        """A file without a message is told, unless its message may still be coming in."""
        file = self.directory / "body" / "N.1.eml"
        file.write_bytes(b"x")
        self.assertEqual(self.flaws(), {})
        os.utime(file, (1, 1))
        self.assertIn("no message refers to this file", self.flaws()["N.1.eml"])

    def test_delivered_meanwhile(self) -> None:
        """What is delivered while it is being read is no flaw."""
        blocks = reading.body_blocks

        def slowly(*arguments: object) -> object:
            for queued in self.claim():
                self.settle(delivered(queued))
            return blocks(*arguments)  # type: ignore[arg-type]

        self.patch(reading, "body_blocks", slowly)
        self.assertEqual(self.flaws(), {})
        self.assertEqual(self.ids(), [])


class ExportTests(QueueCase):
    def setUp(self) -> None:
        super().setUp()
        self.out = self.directory.parent / "out"
        self.add("A.1", "a@one.example")
        self.add("L.1", "a@one.example", "b@two.example", sender=None, body=LARGE)

    def test_to_standard_output(self) -> None:
        """The octets of the message and nothing else."""
        self.assertEqual(self.command("export", "A.1").out, BODY)
        self.assertEqual(self.command("export", "L.1.2").out, LARGE)

    def test_to_a_file(self) -> None:
        """For the eyes of its owner, with the envelope beside it; nothing is overwritten."""
        self.assertEqual(self.command("export", "A.1", "-o", self.out).status, 0)
        self.assertEqual(self.out.read_bytes(), BODY)
        self.assertEqual(self.out.stat().st_mode & 0o777, 0o600)
        told = json.loads(Path(f"{self.out}.json").read_text())
        self.assertEqual((told["id"], told["from"]), ("A.1.1", "from@sender.example"))
        self.assertEqual(told["recipients"], ["a@one.example"])
        again = self.command("export", "L.1.1", "-o", self.out)
        self.assertEqual(again.status, 1)
        self.assertIn(f"{self.out}: File exists", again.err)
        self.assertEqual(self.out.read_bytes(), BODY)

    def test_to_a_directory(self) -> None:
        """All messages, and all of them stay in the queue."""
        self.out.mkdir()
        done = self.command("export", "--all", "--output", self.out)
        self.assertEqual((done.status, done.text), (0, f"3 messages written to {self.out}\n"))
        names = sorted(path.name for path in self.out.iterdir())
        self.assertEqual(
            names,
            [f"{name}.{end}" for name in ("A.1.1", "L.1.1", "L.1.2") for end in ("eml", "json")],
        )
        self.assertEqual((self.out / "L.1.2.eml").read_bytes(), LARGE)
        self.assertEqual(len(self.claim()), 3)

    def test_damaged(self) -> None:
        """Half a message is not left behind as if it were one; the others are written."""
        self.out.mkdir()
        file = self.directory / "body" / "L.1.eml"
        file.write_bytes(LARGE[:-1] + b"?")
        done = self.command("export", "--all", "-o", self.out)
        self.assertEqual(done.status, 1)
        self.assertIn("L.1.1: the checksum of", done.err)
        self.assertEqual(sorted(p.name for p in self.out.iterdir()), ["A.1.1.eml", "A.1.1.json"])

    def test_misuse(self) -> None:
        """Several messages do not fit into one file; which ones has to be said."""
        for arguments in ([], ["L.1"], ["L.1", "-o", f"{self.out}"], ["Z.1"]):
            done = self.command("export", *arguments)
            self.assertEqual((done.status, done.out), (2, b""))
        self.assertIn("2 messages fit; only one", self.command("export", "L.1").err)
        self.assertFalse(self.out.exists())


class LargeTests(QueueCase):
    def test_first_line_at_once(self) -> None:
        """The first line of a long list does not wait for the last."""
        with self.held():
            for number in range(1200):
                staged = self.stage(f"{number}.1")
                Deferred.fromCoroutine(staged.commit(envelope()))
        slices: list[int] = []
        with listing.opened(self.directory) as connection:
            connection.set_trace_callback(lambda _: slices.append(1))
            found = listing.entries(connection)
            self.assertEqual(next(found).id, "0.1.1")
            self.assertEqual(len(slices), 1)
            self.assertEqual(sum(1 for _ in found), 1199)
