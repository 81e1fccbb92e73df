"""What EHLO offers."""

from twisted.trial.unittest import SynchronousTestCase

from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.reply import Reply


class CapabilitiesTests(SynchronousTestCase):
    def test_parse(self) -> None:
        """Extensions are known whatever their case; the first of two counts."""
        offered = Capabilities.parse(["pipelining", "SIZE 1000", "", "Size 2", "AUTH=LOGIN PLAIN"])
        self.assertEqual(list(offered), ["PIPELINING", "SIZE", "AUTH"])
        self.assertEqual(offered.parameters("AUTH"), "LOGIN PLAIN")
        self.assertEqual(offered.parameters("STARTTLS"), "")
        self.assertIn("PIPELINING", offered)
        self.assertNotIn("STARTTLS", offered)

    def test_size(self) -> None:
        """A message that is too large is not sent in vain; a senseless limit is none."""
        for line, limit in (
            ("SIZE 1000", 1000),
            ("SIZE 0", None),
            ("SIZE", None),
            ("SIZE -1", None),
            ("SIZE \u0661", None),
            ("SIZE " + "9" * 40, None),
            ("X", None),
        ):
            self.assertEqual(Capabilities.of(line).size_limit, limit, line)

    def test_changes(self) -> None:
        """A plugin can offer more or less; what others hold stays as it is."""
        offered = Capabilities.of("PIPELINING", "SIZE 10")
        more = offered.adding("starttls").adding("SIZE", "20").without("pipelining")
        self.assertEqual(more, Capabilities.of("SIZE 20", "STARTTLS"))
        self.assertEqual(offered, Capabilities.of("PIPELINING", "SIZE 10"))

    def test_reply(self) -> None:
        """A client reads what is offered, line by line."""
        reply = Capabilities.of("PIPELINING", "SIZE 10").to_reply("mx.example hello")
        self.assertEqual(reply, Reply.of(250, None, "mx.example hello", "PIPELINING", "SIZE 10"))
        self.assertEqual(
            Capabilities.parse(reply.lines[1:]), Capabilities.of("PIPELINING", "SIZE 10")
        )
