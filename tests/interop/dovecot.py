"""A Dovecot of our own, for LMTP: its own port, socket and directories, ended with the test."""

import shutil

from tests.interop.mail_server import MailServer

SETTINGS = """\
protocols = lmtp
listen = 127.0.0.1
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/log
ssl = no
mail_location = maildir:{directory}/mail/%n
default_internal_user = nobody
default_login_user = nobody
default_internal_group = nogroup
first_valid_uid = 1
mail_uid = nobody
mail_gid = nogroup
service lmtp {{
  user = nobody
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
  unix_listener {directory}/lmtp {{
    mode = 0666
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
passdb {{
  driver = passwd-file
  args = {directory}/users
}}
userdb {{
  driver = passwd-file
  args = {directory}/users
}}
"""


class Dovecot(MailServer):
    """
    One with a Maildir for each of `users`, named without their domain.

    @ivar socket: the path of its Unix socket for LMTP.
    """

    program = "dovecot"

    def __init__(self, *users: str, settings: str = "") -> None:
        """
        @param users: addresses.
        @param settings: more of dovecot.conf.
        """
        super().__init__()
        self.socket = self.directory / "lmtp"
        self.said = self.directory / "stderr"
        (self.directory / "users").write_text(
            "".join(f"{user}:{{PLAIN}}x::::::\n" for user in users)
        )
        mail = self.directory / "mail"
        mail.mkdir()
        shutil.chown(mail, "nobody")
        text = SETTINGS.format(directory=self.directory, port=self.port) + settings
        (self.directory / "dovecot.conf").write_text(text)

    def arguments(self) -> list[str]:
        """See `MailServer.arguments`."""
        return ["-F", "-c", str(self.directory / "dovecot.conf")]

    def log(self) -> str:
        """All that it has said and logged so far."""
        logged = self.directory / "log"
        return super().log() + (logged.read_text(errors="replace") if logged.exists() else "")

    def mailbox(self, user: str) -> list[str]:
        """The messages of *user*, without domain."""
        files = (self.directory / "mail" / user).glob("new/*")
        return [file.read_text(errors="replace") for file in files]
