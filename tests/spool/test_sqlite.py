"""The durable queue."""

from twisted.internet.task import Clock

from harakatls.spool.sqlite import SQLiteSpool
from tests.contracts import spool as contract
from tests.spool.support import new_directory, open_here


class SQLiteSpoolTests(contract.SpoolContract):
    """The contract, done in one thread."""

    def make_spool(self, clock: Clock, full: bool = False) -> SQLiteSpool:
        spool = open_here(new_directory(self.addCleanup), clock, reserve=1 << 62 if full else 0)
        self.addCleanup(lambda: self.run_to_end(spool.close()))
        return spool
