"""A Postfix of our own: loopback only, its own directories, ended with the test."""

import os
import shutil
import signal
import subprocess

from tests.interop.mail_server import MailServer
from tests.support import wait_until

MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
tlsproxy unix - - n - 0 tlsproxy
scache unix - - n - 1 scache
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix(MailServer):
    """It puts mail for its `domain` into a Maildir, and takes any mail from loopback."""

    program = "postfix"

    def __init__(self, domain: str, settings: dict[str, str]) -> None:
        """@param settings: of main.cf, besides the usual ones or instead of them."""
        super().__init__()
        self.config = self.directory / "etc"
        self.said = self.directory / "log"
        data, mail = self.directory / "data", self.directory / "mail"
        for path in (self.config, self.directory / "spool", data, mail):
            path.mkdir()
            path.chmod(0o755)
        shutil.chown(data, "postfix")
        shutil.chown(mail, "nobody")
        owner = mail.stat()
        main = {
            "compatibility_level": "3.6",
            "queue_directory": str(self.directory / "spool"),
            "data_directory": str(data),
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "myhostname": f"postfix.{domain}",
            "mynetworks": "127.0.0.0/8",
            "mydestination": "",
            "local_transport": "error:no local mail",
            "alias_maps": "",
            "alias_database": "",
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "virtual_mailbox_domains": domain,
            "virtual_mailbox_base": str(mail),
            "virtual_mailbox_maps": "static:all/",
            "virtual_uid_maps": f"static:{owner.st_uid}",
            "virtual_gid_maps": f"static:{max(owner.st_gid, 1)}",
            "maillog_file": "/dev/stdout",
            "smtp_tls_loglevel": "1",
            "smtpd_tls_loglevel": "1",
            "smtpd_tls_received_header": "yes",
            # A host name in the tests is one of this machine's, whatever DNS there is.
            "smtp_host_lookup": "native",
            "smtp_dns_support_level": "disabled",
            "minimal_backoff_time": "5s",
            "maximal_backoff_time": "5s",
            "queue_run_delay": "5s",
            **settings,
        }
        lines = "".join(f"{name} = {value}\n" for name, value in main.items())
        (self.config / "main.cf").write_text(lines)
        (self.config / "master.cf").write_text(MASTER.format(port=self.port))

    def arguments(self) -> list[str]:
        """See `MailServer.arguments`."""
        return ["-c", str(self.config), "start-fg"]

    def end(self, process: "subprocess.Popen[bytes]") -> None:
        """See `MailServer.end`."""
        # The master has a session of its own; it ends its children when it is asked to end.
        for number in (signal.SIGTERM, signal.SIGKILL):
            self._signal_master(number)
            try:
                process.wait(10)
                return
            except subprocess.TimeoutExpired:
                pass
        process.kill()
        process.wait()

    def _signal_master(self, number: int) -> None:
        try:
            pid = int((self.directory / "spool/pid/master.pid").read_text())
            os.killpg(pid, number)
        except (OSError, ValueError):
            pass

    def wait_for_log(self, text: str, seconds: float = 20.0) -> str:
        """The first line of the log that holds *text*, as soon as it is there."""

        def line() -> str:
            return next((line for line in self.log().splitlines() if text in line), "")

        try:
            return wait_until(line, f"{text!r} in Postfix's log", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.log()}") from None

    def wait_for_mail(self, subject: str, seconds: float = 20.0) -> str:
        """The one message with this subject, as soon as it is in the Maildir."""

        def found() -> list[str]:
            files = (self.directory / "mail").glob("all/new/*")
            texts = [path.read_text(errors="surrogateescape") for path in files]
            return [text for text in texts if f"\nSubject: {subject}\n" in text]

        try:
            messages = wait_until(found, f"message {subject!r} at Postfix", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.log()}") from None
        assert len(messages) == 1, f"{len(messages)} messages {subject!r}"
        return messages[0]
