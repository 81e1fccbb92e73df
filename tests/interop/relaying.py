"""Our server between a client on this machine and a mail server of somebody else's."""

import json
import smtplib
from collections.abc import Mapping

from twisted.trial.unittest import SynchronousTestCase

from tests.support import Instance

SENDER = "sender@client.test"
RECIPIENT = "recipient@dest.test"


class RelayCase(SynchronousTestCase):
    """Mail from this machine may go to any domain."""

    instance: Instance

    def start_instance(
        self, routes: Mapping[str, object], files: Mapping[str, str] | None = None
    ) -> None:
        """
        @param routes: the next hop for each domain, as in relay_dest_domains.ini.
        @param files: of the config directory, by name.
        """
        lines = (
            f"{domain}={json.dumps({'action': 'accept', 'nexthop': hop})}\n"
            for domain, hop in routes.items()
        )
        self.instance = Instance.make(
            "mx.test",
            files={
                "relay_acl_allow": "127.0.0.1/32\n",
                "relay_dest_domains.ini": f"[domains]\n{''.join(lines)}",
                "outbound.ini": "temp_fail_intervals=5s\n",
                "tls.ini": "",
                **(files or {}),
            },
        )
        self.addCleanup(self.instance.remove)
        self.instance.start()

    def client(self) -> smtplib.SMTP:
        """Connected to our server."""
        return smtplib.SMTP("127.0.0.1", self.instance.port, "client.test", timeout=20)

    def send(self, subject: str) -> None:
        """Give our server a message that it has to hand on."""
        text = f"From: {SENDER}\r\nTo: {RECIPIENT}\r\nSubject: {subject}\r\n\r\nA line.\r\n"
        with self.client() as client:
            client.sendmail(SENDER, [RECIPIENT], text)
