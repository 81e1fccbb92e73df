"""The table of checks is whole, and what it names is there."""

import inspect
from importlib import import_module

from twisted.trial.unittest import SynchronousTestCase

from tests.haraka.checks import Check
from tests.haraka.others import OTHERS
from tests.haraka.tls import TLS

CHECKS: tuple[Check, ...] = (*TLS, *OTHERS)


def named(name: str) -> object:
    """
    The test, or the class of tests, of this name.

    @raise ImportError, AttributeError: there is none.
    """
    *module, owner, test = name.split(".")
    if test[:1].isupper():
        return getattr(import_module(".".join(["tests", *module, owner])), test)
    return getattr(getattr(import_module(".".join(["tests", *module])), owner), test)


class CheckTests(SynchronousTestCase):
    def test_numbers(self) -> None:
        """Each check has its place: 1 to 70, in order, each once."""
        self.assertEqual([check.number for check in CHECKS], list(range(1, 71)))

    def test_named(self) -> None:
        """Each test that is named can be run."""
        for check in CHECKS:
            self.assertEqual(len(set(check.shown_by)), len(check.shown_by), check.number)
            for name in check.shown_by:
                found = named(name)
                if inspect.isclass(found):
                    tests = [each for each in vars(found) if each.startswith("test_")]
                    self.assertTrue(tests, name)
                else:
                    self.assertTrue(inspect.isfunction(found), name)
                    self.assertTrue(name.rpartition(".")[2].startswith("test_"), name)

    def test_no_such_test(self) -> None:
        """A test that was renamed or removed is missed here."""
        for name in (
            "haraka.test_checks.CheckTests.test_that_is_not_there",
            "haraka.test_checks.NoTests.test_numbers",
            "haraka.test_nothing.CheckTests.test_numbers",
        ):
            self.assertRaises((ImportError, AttributeError), named, name)

    def test_answered(self) -> None:
        """Each is shown, or it is said what it waits for; of TLS, all is shown."""
        for check in CHECKS:
            self.assertTrue(check.shown_by or check.missing, check.number)
        for check in TLS:
            self.assertFalse(check.missing, check.number)
