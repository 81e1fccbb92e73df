"""How the server starts and stops, as a process of twistd; and what the command line tells."""

import json
import os
import re
import resource
import signal
import smtplib
import socket
import sqlite3
import ssl
import subprocess
import time
from pathlib import Path
from typing import BinaryIO

from twisted.trial.unittest import SynchronousTestCase

from tests.support import (
    REPOSITORY,
    TWISTD,
    Certificates,
    Instance,
    environment,
    run_harakatls,
    temporary_directory,
    wait_until,
)
from tests.wire.sink import Sink

TEXT = "Message-ID: <{0}@mx.test>\r\nSubject: {0}\r\n\r\nHello\r\n"
DIRECT_ROUTE = '[domains]\nany={{"nexthop":"127.0.0.1:{}"}}\n'


def send(instance: Instance, subject: str, to: str = "me@mx.test", starttls: bool = True) -> None:
    """One message, the certificate checked."""
    with smtplib.SMTP("127.0.0.1", instance.port, timeout=20) as client:
        if starttls:
            client.starttls(context=ssl.create_default_context(cafile=str(instance.authority)))
        client.sendmail("you@example.org", [to], TEXT.format(subject))


def run_twistd(instance: Instance, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A server that ends by itself, since it cannot start."""
    return subprocess.run(
        [*TWISTD, "-n", "--pidfile=", *arguments, "harakatls", "--config", str(instance.config)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=instance.directory,
        env=environment(),
        stdin=subprocess.DEVNULL,
    )


def _take_one_of_two(connection: socket.socket, lines: BinaryIO) -> None:
    """A host that takes the first message, and is silent behind the second."""
    connection.sendall(b"220 there.test\r\n")
    taken = 0
    for line in lines:
        verb = line.strip().upper()
        if verb == b".":
            taken += 1
            if taken == 2:
                return
            connection.sendall(b"250 taken\r\n")
        elif verb == b"DATA":
            connection.sendall(b"354 go\r\n")
        elif verb[:4] in (b"EHLO", b"MAIL", b"RCPT", b"RSET"):
            connection.sendall(b"250 ok\r\n")


class ServerTests(SynchronousTestCase):
    def instance(self, **files: str) -> Instance:
        """Files by name, with _ini for .ini."""
        named = {name.replace("_ini", ".ini"): text for name, text in files.items()}
        instance = Instance.make(files=named)
        self.addCleanup(instance.remove)
        return instance


class StartAndStopTests(ServerTests):
    def test_plain_and_starttls(self) -> None:
        """Mail in the clear and over STARTTLS ends in the Maildir."""
        instance = self.instance()
        instance.start()
        send(instance, "plain", starttls=False)
        send(instance, "secured")
        self.assertIn("with ESMTP id", instance.wait_for_mail("plain").replace("\n", " "))
        self.assertIn("with ESMTPS id", instance.wait_for_mail("secured").replace("\n", " "))

    def test_log(self) -> None:
        """The log says where the server listens, and has a line for each message."""
        instance = self.instance()
        instance.start()
        send(instance, "one")
        instance.stop()
        log = instance.log()
        self.assertIn(f"listening on 127.0.0.1:{instance.port} for SMTP\n", log)
        self.assertIn(f"listening on 127.0.0.1:{instance.smtps_port} for SMTP over TLS\n", log)
        self.assertEqual(len(re.findall(r"for me@mx\.test is in .*/mail/new/", log)), 1, log)
        self.assertNotIn("Traceback", log)
        for line in log.splitlines():
            self.assertRegex(line, r"^\d{4}-\d\d-\d\dT[\d:.]+Z \[[A-Z]+\] \[\S+\] ")

    def test_json_log(self) -> None:
        """With format=json every line is an object that a program can read."""
        instance = self.instance(log_ini="format=json\n")
        instance.start()
        send(instance, "one")
        instance.stop()
        events = [json.loads(line) for line in instance.log().splitlines()]
        addresses = {event.get("address") for event in events}
        self.assertIn(f"127.0.0.1:{instance.port}", addresses)
        for event in events:
            self.assertLessEqual({"time", "level", "logger", "message"}, event.keys())

    def test_quiet_log(self) -> None:
        """With level=error a server that is well says nothing at all."""
        instance = self.instance(log_ini="level=error\n")
        instance.start()
        send(instance, "one")
        instance.wait_for_mail("one")
        instance.stop()
        self.assertEqual(instance.log(), "")

    def test_clean_stop(self) -> None:
        """SIGTERM ends the server soon, although a client has an idle connection open."""
        instance = self.instance()
        instance.start()
        with socket.create_connection(("127.0.0.1", instance.port), timeout=20) as idle:
            self.assertTrue(idle.recv(1000).startswith(b"220 "))
            os.kill(instance.pid, signal.SIGTERM)
            said = b"".join(iter(lambda: idle.recv(1000), b""))
        self.assertTrue(said.startswith(b"421 4.3.2 "), said)
        began = time.monotonic()
        instance.stop()
        self.assertLess(time.monotonic() - began, 5)
        self.assertNotIn("Traceback", instance.log())

    def test_descriptors(self) -> None:
        """Connections are limited by the operator's hard limit, not by the usual 1024."""
        instance = self.instance()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        instance.start()
        limits = Path(f"/proc/{instance.pid}/limits").read_text()
        self.assertRegex(limits, rf"(?m)^Max open files +{hard} +{hard} ")

    def test_told_twice(self) -> None:
        """Who presses Ctrl-C a second time does not wait for a client that is in no hurry."""
        instance = self.instance()
        instance.start()
        client = smtplib.SMTP("127.0.0.1", instance.port, timeout=20)
        self.addCleanup(client.close)
        client.ehlo("client.test")
        client.mail("you@example.org")
        client.rcpt("me@mx.test")
        self.assertEqual(client.docmd("DATA")[0], 354)
        os.kill(instance.pid, signal.SIGINT)
        wait_until(lambda: "stopping" in instance.log(), "stop")
        os.kill(instance.pid, signal.SIGINT)
        began = time.monotonic()
        instance.stop()
        self.assertLess(time.monotonic() - began, 5)
        self.assertIn("told to stop again", instance.log())
        self.assertNotIn("Traceback", instance.log())

    def test_told_twice_while_delivering(self) -> None:
        """Nor for a host that is in none; who has the message does not get it again."""
        with socket.create_server(("127.0.0.1", 0)) as host:
            instance = self.instance(
                plugins="relay\n",
                relay_acl_allow="127.0.0.1\n",
                relay_dest_domains_ini=DIRECT_ROUTE.format(host.getsockname()[1]),
                outbound_ini="always_split=true\n",
            )
            instance.start()
            with smtplib.SMTP("127.0.0.1", instance.port, timeout=20) as client:
                recipients = ["ann@there.test", "bob@there.test"]
                client.sendmail("you@example.org", recipients, TEXT.format("split"))
            host.settimeout(20)
            connection, _ = host.accept()
        with connection, connection.makefile("rb") as lines:
            connection.settimeout(20)
            _take_one_of_two(connection, lines)
            for _ in range(2):
                os.kill(instance.pid, signal.SIGTERM)
                wait_until(lambda: "stopping" in instance.log(), "stop")
            began = time.monotonic()
            instance.stop()
            self.assertLess(time.monotonic() - began, 5)
        self.assertNotIn("Traceback", instance.log())
        listed = instance.queue_list()
        self.assertIn("<bob@there.test>", listed)
        self.assertNotIn("<ann@there.test>", listed)

    def test_limit_of_a_stop(self) -> None:
        """A client that never ends holds the stop up, within force_shutdown_timeout."""
        instance = self.instance()
        with open(instance.config / "smtp.ini", "a") as settings:
            settings.write("force_shutdown_timeout=1\n")
        instance.start()
        client = smtplib.SMTP("127.0.0.1", instance.port, timeout=20)
        self.addCleanup(client.close)
        client.ehlo("client.test")
        client.mail("you@example.org")
        client.rcpt("me@mx.test")
        self.assertEqual(client.docmd("DATA")[0], 354)
        began = time.monotonic()
        instance.stop()
        took = time.monotonic() - began
        self.assertTrue(0.45 < took < 8, took)  # the other half is for what cannot be broken off
        self.assertNotIn("Traceback", instance.log())

    def test_stop_under_way(self) -> None:
        """A message that is being sent when the server is told to stop is taken to its end."""
        instance = self.instance()
        instance.start()
        pid = instance.pid
        client = smtplib.SMTP("127.0.0.1", instance.port, timeout=20)
        self.addCleanup(client.close)
        client.ehlo("client.test")
        client.mail("you@example.org")
        client.rcpt("me@mx.test")
        self.assertEqual(client.docmd("DATA")[0], 354)
        client.send(b"Subject: late\r\n\r\n")
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: "stopping" in instance.log(), "stop")
        client.send(b"Hello\r\n.\r\n")
        self.assertEqual(client.getreply()[0], 250)
        client.close()
        instance.stop()
        instance.wait_for_mail("late")

    def test_restart_with_queue(self) -> None:
        """What is queued when the server stops is delivered by the next one."""
        sink = Sink()
        port = sink.port
        sink.close()
        instance = self.instance(
            relay_acl_allow="127.0.0.1\n",
            relay_dest_domains_ini=DIRECT_ROUTE.format(port),
            outbound_ini="temp_fail_intervals=5s*20\nlocal_mx_ok=true\n",
        )
        instance.start()
        send(instance, "waits", to="you@elsewhere.test")
        wait_until(lambda: "elsewhere.test" in instance.queue_list(), "message in the queue")
        instance.stop()
        listed = instance.queue_list()
        self.assertIn("you@elsewhere.test", listed)
        sink = Sink(port=port)
        self.addCleanup(sink.close)
        instance.start()
        wait_until(lambda: sink.messages, "message at the sink")
        self.assertEqual(list(sink.messages), ["<waits@mx.test>"])
        wait_until(lambda: "0 messages" in instance.queue_list(), "empty queue")

    def test_daemon(self) -> None:
        """Without -n the server goes into the background, logs to its file, and can be stopped."""
        instance = self.instance()
        pidfile, log = instance.directory / "pid", instance.directory / "server.log"
        done = subprocess.run(
            [
                *TWISTD,
                "--pidfile",
                str(pidfile),
                "--logfile",
                str(log),
                "harakatls",
                "--config",
                str(instance.config),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=instance.directory,
            env=environment(),
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        pid = int(pidfile.read_text())
        self.addCleanup(self.end, pid)
        send(instance, "background")
        instance.wait_for_mail("background")
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not pidfile.exists(), "end of the daemon")
        self.assertIn(f"listening on 127.0.0.1:{instance.port}", log.read_text())

    def test_hangup_of_a_daemon(self) -> None:
        """A daemon that is told to reload (SIGHUP) does, and goes on."""
        certificates = Certificates()
        instance = Instance.make(certificates=certificates)
        self.addCleanup(instance.remove)
        pidfile, log = instance.directory / "pid", instance.directory / "server.log"
        subprocess.run(
            [
                *(*TWISTD, "--pidfile", str(pidfile), "--logfile", str(log)),
                *("harakatls", "--config", str(instance.config)),
            ],
            check=True,
            timeout=60,
            cwd=instance.directory,
            env=environment(),
        )
        pid = int(pidfile.read_text())
        self.addCleanup(self.end, pid)
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: "SIGHUP: nothing has changed" in log.read_text(), "line in the log")
        certificates.write_pair(instance.config, "mx.test", "second.test", "127.0.0.1")
        os.kill(pid, signal.SIGHUP)
        wait_until(lambda: "mx.test, second.test, serial" in log.read_text(), "second certificate")
        send(instance, "still here")
        instance.wait_for_mail("still here")
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not pidfile.exists(), "end of the daemon")

    def end(self, pid: int) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class RefusedStartTests(ServerTests):
    def refused(self, instance: Instance, told: str) -> str:
        done = run_twistd(instance)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        self.assertNotIn("Traceback", done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("harakatls: "), done.stderr)
        self.assertIn(told, done.stderr)
        return done.stderr

    def test_unknown_plugin(self) -> None:
        """A misspelt plugin keeps the server from starting, with the likely meant one."""
        self.refused(
            self.instance(plugins="tls\nqueue/maildri\n"),
            "plugins: there is no plugin 'queue/maildri'; did you mean queue/maildir",
        )

    def test_broken_plugin(self) -> None:
        """A plugin of the operator's that cannot be imported is named with file and line."""
        instance = self.instance(plugins="mine\n")
        (instance.directory / "plugins" / "mine.py").write_text("import this_is_not_there\n")
        self.refused(instance, "mine.py: cannot be imported: ModuleNotFoundError")

    def test_wrong_value(self) -> None:
        """A wrong value is told with file, key, what was found and what was expected."""
        self.refused(
            self.instance(log_ini="level=chatty\n"), "log.ini level: 'chatty' is not one of "
        )

    def test_plugin_file(self) -> None:
        """A plugin's own file with a mistake in it keeps the server from starting as well."""
        self.refused(
            self.instance(relay_dest_domains_ini="[domains]\na.example=nowhere\n"),
            "relay_dest_domains.ini [domains] a.example: 'nowhere' is not JSON",
        )

    def test_unreadable_file(self) -> None:
        """A file that cannot be read is named."""
        instance = self.instance()
        (instance.config / "outbound.ini").mkdir()
        self.refused(instance, "outbound.ini: cannot be read: ")

    def test_no_directory(self) -> None:
        """A config directory that is not there is named."""
        instance = self.instance()
        instance.config = instance.directory / "nowhere"
        self.refused(instance, "nowhere")

    def test_unknown_account(self) -> None:
        """An account that is not there is told before anything is opened."""
        instance = self.instance()
        with open(instance.config / "smtp.ini", "a") as settings:
            settings.write("user=no-such-account\n")
        self.refused(instance, "smtp.ini user: there is no account 'no-such-account'")

    def test_port_in_use(self) -> None:
        """A port that is taken is told with its address and setting."""
        instance = self.instance()
        with socket.create_server(("127.0.0.1", instance.port)):
            self.refused(
                instance,
                f"smtp.ini listen: cannot bind 127.0.0.1:{instance.port}: Address already in use",
            )

    def test_second_server(self) -> None:
        """A second server on the same queue does not start, and the first goes on."""
        first = self.instance()
        first.start()
        second = self.instance(queue_dir=f"{first.directory / 'queue'}\n")
        told = self.refused(second, "is in use by another server")
        self.assertIn(f"process {first.pid}", told)
        send(first, "still here")
        first.wait_for_mail("still here")

    def test_as_daemon(self) -> None:
        """A daemon that cannot start says so to who started it, and leaves no pidfile."""
        instance = self.instance()
        pidfile = instance.directory / "pid"
        with socket.create_server(("127.0.0.1", instance.port)):
            done = subprocess.run(
                [
                    *TWISTD,
                    "--pidfile",
                    str(pidfile),
                    "--logfile",
                    "server.log",
                    "harakatls",
                    "--config",
                    str(instance.config),
                ],
                capture_output=True,
                text=True,
                timeout=60,
                cwd=instance.directory,
                env=environment(),
            )
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("smtp.ini listen: cannot bind", done.stderr)
        wait_until(lambda: not pidfile.exists(), "removed pidfile")
        log = (instance.directory / "server.log").read_text()
        self.assertIn("not started: smtp.ini listen: cannot bind", log)

    def test_without_certificate(self) -> None:
        """A missing certificate closes the TLS port alone: mail still comes in over the other."""
        instance = self.instance()
        (instance.config / "tls_cert.pem").unlink()
        instance.start()
        send(instance, "plain", starttls=False)
        instance.wait_for_mail("plain")
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", instance.smtps_port), timeout=5)
        self.assertRegex(instance.log(), r"\[ERROR\] .*tls_cert\.pem")
        self.assertIn(f"127.0.0.1:{instance.smtps_port} is not opened", instance.log())


class CommandTests(ServerTests):
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


class PrintedPluginTests(ServerTests):
    """The plugin in docs/plugins.rst, word for word."""

    def blocks(self) -> dict[str, str]:
        """The text of each code block with a name, by its name."""
        text = (REPOSITORY / "docs" / "plugins.rst").read_text()
        found = re.findall(
            r"^\.\. code-block:: \w+\n   :name: (\S+)\n((?:\n|   .*\n)+)", text, re.MULTILINE
        )
        return {
            name: "".join(line[3:] or "\n" for line in block.splitlines(keepends=True))
            for name, block in found
        }

    def test_as_printed(self) -> None:
        """Who copies the page's files into an instance gets what the page says."""
        blocks = self.blocks()
        self.assertEqual(
            list(blocks),
            ["plugins/blocked_senders.py", "config/plugins", "config/blocked_senders"],
        )
        instance = self.instance()
        for name, text in blocks.items():
            (instance.directory / name).write_text(text)
        instance.start()
        with smtplib.SMTP("127.0.0.1", instance.port, timeout=20) as client:
            client.ehlo("client.test")
            refusal = client.mail("spammer@example.net")
        self.assertEqual(refusal, (550, b"5.7.1 You are not welcome here"))
        send(instance, "marked")
        self.assertIn("\nX-Checked-By: mx.test\n", instance.wait_for_mail("marked"))
        self.assertIn("spammer@example.net is blocked", instance.log())
        listed = run_harakatls("plugins", "--config", instance.config).stdout
        self.assertRegex(listed, r"(?m)^mail +blocked_senders +30 s$")

    def test_mistake(self) -> None:
        """The printed plugin tells the operator's mistakes as the shipped ones do."""
        instance = self.instance()
        for name, text in self.blocks().items():
            (instance.directory / name).write_text(text)
        (instance.config / "blocked_senders").write_text("nobody\n")
        done = run_twistd(instance)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stderr, "harakatls: blocked_senders: 'nobody' has no domain\n")
