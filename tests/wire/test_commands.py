"""The commands for the operator, beside a running server and without one."""

import json
import re
import sqlite3

from tests.support import (
    run_harakatls,
    temporary_directory,
    wait_until,
)
from tests.wire.server_case import DIRECT_ROUTE, ServerTestCase, run_twistd, send
from tests.wire.sink import Sink


class CommandTests(ServerTestCase):
    def test_plugins(self) -> None:
        """The operator sees which plugin is asked at which hook, in order, and its time."""
        instance = self.instance(
            relay_ini="[relay]\ndest_domains=true\n", **{"relay.timeout": "5\n"}
        )
        done = run_harakatls("plugins", "--config", instance.config)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
        self.assertIn(["capabilities", "tls", "30 s"], lines)
        rcpt = lines.index(["rcpt", "relay", "5 s"])
        self.assertEqual(lines[rcpt + 1], ["rcpt_to.in_host_list", "30", "s"])
        self.assertEqual(lines[rcpt + 2], ["relay", "5", "s"])
        queue = lines.index(["queue", "queue/maildir", "30 s"])
        self.assertEqual(lines[queue + 1], ["queue/spool", "no", "limit"])

    def test_plugins_refused(self) -> None:
        """What would keep the server from starting is told here as well, in one line."""
        instance = self.instance(plugins="nothing_such\n")
        done = run_harakatls("plugins", "--config", instance.config)
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stderr.startswith("harakatls: plugins: there is no plugin"))
        self.assertEqual(done.stderr.count("\n"), 1)

    def test_plugins_that_cannot_be_loaded(self) -> None:
        """A broken plugin of the operator's is one line here too; its traceback is in the log."""
        instance = self.instance(plugins="mine\n")
        (instance.directory / "plugins" / "mine.py").write_text("import this_is_not_there\n")
        done = run_harakatls("plugins", "--config", instance.config)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("mine.py: cannot be imported: ModuleNotFoundError", done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def test_plugins_warn(self) -> None:
        """What the server would warn of at its start is told, apart from the list."""
        instance = self.instance(host_list="", relay_ini="[relay]\nacll=true\n")
        done = run_harakatls("plugins", "--config", instance.config)
        self.assertEqual(done.returncode, 0)
        self.assertNotIn("warning", done.stdout)
        warnings = done.stderr.splitlines()
        self.assertEqual(len(warnings), 2, done.stderr)
        self.assertTrue(warnings[0].startswith("harakatls: warning: host_list names no domain"))
        self.assertTrue(warnings[1].startswith("harakatls: warning: relay.ini [relay] acll: "))

    def test_queue_list(self) -> None:
        """Beside the running server, the listing tells who waits, since when, and why."""
        sink = Sink()
        sink.answer("RCPT", "450 4.2.1 come back later")
        self.addCleanup(sink.close)
        instance = self.instance(
            relay_acl_allow="127.0.0.1\n",
            relay_dest_domains_ini=DIRECT_ROUTE.format(sink.port),
        )
        instance.start()
        send(instance, "waits", to="you@elsewhere.test")
        listed = wait_until(
            lambda: text if "come back later" in (text := instance.queue_list()) else "",
            "reason in the listing",
        )
        self.assertIn("from <you@example.org>", listed)
        self.assertIn("to <you@elsewhere.test>", listed)
        self.assertIn("1 attempt, next try", listed)
        self.assertTrue(listed.endswith("octets\n"))
        done = run_harakatls("queue", "list", "--json", "--config", instance.config)
        (entry,) = map(json.loads, done.stdout.splitlines())
        self.assertEqual(entry["recipients"], ["you@elsewhere.test"])
        self.assertEqual(entry["attempts"], 1)
        self.assertIn("450 4.2.1 come back later", entry["last_replies"]["you@elsewhere.test"])
        self.assertGreater(entry["next_try"], entry["arrived"])

    def test_salvage(self) -> None:
        """A damaged queue is told at the start, and one command saves what can be read of it."""
        instance = self.instance(relay_acl_allow="127.0.0.1\n", outbound_ini="disabled=true\n")
        instance.start()
        for number in range(30):
            send(instance, str(number), to="you@elsewhere.test", starttls=False)
        running = run_harakatls("queue", "salvage", "--config", instance.config)
        self.assertEqual(running.returncode, 1)
        self.assertIn("in use by another server", running.stderr)
        instance.stop()
        database = instance.directory / "queue" / "queue.db"
        tables = sqlite3.connect(database)
        query = "SELECT rootpage FROM sqlite_schema WHERE name = 'message_due'"
        ((page,),) = tables.execute(query)
        (size,) = tables.execute("PRAGMA page_size").fetchone()
        tables.close()
        with open(database, "r+b") as file:
            file.seek((page - 1) * size)
            file.write(b"damage" * 100)
        done = run_twistd(instance)
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done.stderr)
        self.assertIn("salvage", done.stderr)
        done = run_harakatls("queue", "salvage", "--config", instance.config)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        saved = re.match(r"(\d+) messages are in the queue again\n", done.stdout)
        assert saved is not None, done.stdout
        instance.start()
        self.assertEqual(int(saved[1]), 30)
        self.assertEqual(instance.queue_list().count("you@elsewhere.test"), 30)

    def test_no_queue(self) -> None:
        """A config directory that was mistyped is no empty queue."""
        done = run_harakatls("queue", "list", "--config", temporary_directory())
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stderr.startswith("harakatls: "), done.stderr)

    def test_init_refuses(self) -> None:
        """init never overwrites what is there."""
        instance = self.instance()
        done = run_harakatls("init", instance.directory)
        self.assertEqual(done.returncode, 1)
        self.assertIn("exists already; nothing was changed", done.stderr)
