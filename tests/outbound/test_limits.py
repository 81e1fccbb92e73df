"""What outbound.ini says about destinations."""

from twisted.trial.unittest import SynchronousTestCase

from harakatls.config.errors import ConfigError
from harakatls.config.ini import Ini
from harakatls.outbound.limits import Limits, Rate


def load(text: str) -> Limits:
    return Limits.load(Ini.parse("outbound.ini", text))


class LimitsTests(SynchronousTestCase):
    """`Limits.load`."""

    def test_nothing(self) -> None:
        """Ten to each."""
        self.assertEqual(load(""), Limits(10, {}, {}))

    def test_all(self) -> None:
        """Names in their one spelling."""
        limits = load(
            "pool_concurrency_max=20\n"
            "[destination_concurrency]\nMX.Example.COM.=3\n[2001:DB8::1]=2 ; ours\n"
            "[destination_rate]\nslow.example=60/1m\nxn--bcher-kva.example=5 / 2 h ; slowly\n"
        )
        self.assertEqual(limits.usual, 20)
        self.assertEqual(limits.concurrency, {"mx.example.com": 3, "2001:db8::1": 2})
        self.assertEqual(
            limits.rates,
            {"slow.example": Rate(60, 60.0), "xn--bcher-kva.example": Rate(5, 7200.0)},
        )
        self.assertTrue(limits.names("slow.example"))
        self.assertFalse(limits.names("example"))

    def test_mistakes(self) -> None:
        """Each is told with its place, what was found, and what was expected."""
        rate = "expected messages and a time, such as 60/1m (s, m, h or d)"
        for text, told in {
            "pool_concurrency_max=0": "'0' is not a whole number from 1 to 100000",
            "[destination_concurrency]\na.example=many": "'many' is not a whole number",
            "[destination_concurrency]\n*.example=1": "is no host, domain or address; expected one",
            "[destination_rate]\na.example=60": f"'60' is not a rate; {rate}",
            "[destination_rate]\na.example=0/1m": f"'0/1m' is not a rate; {rate}",
            "[destination_rate]\na.example=1/0s": f"'1/0s' is not a rate; {rate}",
            "[destination_rate]\na.example=1/999999d": f"'1/999999d' is not a rate; {rate}",
            "[destination_rate]\na..b=1/1m": "is no host, domain or address",
        }.items():
            problem = str(self.assertRaises(ConfigError, load, text))
            self.assertIn("outbound.ini", problem)
            self.assertIn(told, problem)
