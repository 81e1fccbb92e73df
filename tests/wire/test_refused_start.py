"""Why a server does not start: one line that tells the operator."""

import socket

from tests.support import (
    Instance,
    wait_until,
)
from tests.wire.server_case import ServerTestCase, run_daemon, run_twistd, send


class RefusedStartTests(ServerTestCase):
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
        pidfile, log = instance.directory / "pid", instance.directory / "server.log"
        with socket.create_server(("127.0.0.1", instance.port)):
            done = run_daemon(instance, pidfile, log)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("smtp.ini listen: cannot bind", done.stderr)
        wait_until(lambda: not pidfile.exists(), "removed pidfile")
        self.assertIn("not started: smtp.ini listen: cannot bind", log.read_text())

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
