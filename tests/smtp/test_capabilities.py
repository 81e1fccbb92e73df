"""What EHLO offers."""

from twisted.trial.unittest import SynchronousTestCase

from harakatls.smtp.capabilities import Capabilities, Limits
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


class LimitsTests(SynchronousTestCase):
    def test_limits(self) -> None:
        """What a server allows (RFC 9422), in any case and order; what is not known counts not."""
        for text, limits in (
            ("RCPTMAX=20 MAILMAX=5 RCPTDOMAINMAX=1", Limits(20, 5, 1)),
            ("mailmax=5", Limits(0, 5, 0)),
            ("X-NEW=much RCPTMAX=999999", Limits(999999, 0, 0)),
        ):
            self.assertEqual(Capabilities.of(f"LIMITS {text}").limits, limits, text)
        self.assertEqual(Capabilities.of("PIPELINING").limits, Limits())

    def test_malformed(self) -> None:
        """What cannot be read is as if it were not there, with all that stands beside it."""
        for text in (
            "",
            "RCPTMAX",
            "RCPTMAX=",
            "RCPTMAX=0",
            "RCPTMAX=-1",
            "RCPTMAX=1000000",
            "RCPTMAX=01",
            "RCPTMAX=\u0661",
            "RCPTMAX=2 RCPTMAX=3",
            "MAILMAX=2 =3",
            "MAILMAX=2 RCPTMAX = 3",
        ):
            self.assertEqual(Capabilities.of(f"LIMITS {text}").limits, Limits(), text)
