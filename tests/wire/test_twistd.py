"""How the server starts and stops, as a process of twistd."""

import json
import os
import re
import resource
import signal
import smtplib
import socket
import subprocess
import time
from pathlib import Path
from typing import BinaryIO

from tests.support import (
    TWISTD,
    Certificates,
    Instance,
    environment,
    wait_until,
)
from tests.wire.server_case import DIRECT_ROUTE, TEXT, ServerTestCase, run_daemon, send
from tests.wire.sink import Sink


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


class StartAndStopTests(ServerTestCase):
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
        self.sender(instance)
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
        self.sender(instance)
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
        client = self.sender(instance)
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
        done = run_daemon(instance, pidfile, log)
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
