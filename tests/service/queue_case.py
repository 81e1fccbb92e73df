"""A queue for tests of ``harakatls queue``, and the command run on it."""

import io
import json
import sys
from typing import Any

from attrs import evolve, frozen

from harakatls.mail.address import parse_address
from harakatls.mail.envelope import Envelope, Recipient
from harakatls.queued import Attempt, Delayed, QueuedMessage, Trial
from harakatls.service.command import main
from harakatls.smtp.reply import Reply
from tests.contracts.spool import BODY
from tests.spool.support import SQLiteCase


@frozen
class Done:
    """What a command came to."""

    status: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def json(self) -> list[Any]:
        """One for each line."""
        return [json.loads(line) for line in self.out.splitlines()]


class QueueCase(SQLiteCase):
    """The server's queue stands open beside the commands."""

    def setUp(self) -> None:
        super().setUp()
        self.config = self.directory.parent / "config"
        self.config.mkdir()
        with self.by_hand() as connection:  # the clock of this server stands in 1970
            connection.execute("UPDATE worker SET until = 9e9")

    def command(self, *arguments: object, answer: str | None = None) -> Done:
        """@param answer: what is typed at a terminal; None without one."""
        out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
        typed = io.StringIO(answer or "")
        if answer is not None:
            self.patch(typed, "isatty", lambda: True)
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        self.patch(sys, "stdin", typed)
        try:
            words = [str(a) for a in arguments]
            status = main(["queue", words[0], "--config", f"{self.config}", *words[1:]])
        except SystemExit as ended:
            assert isinstance(ended.code, int)
            status = ended.code
        finally:
            sys.stdout, sys.stderr, sys.stdin = sys.__stdout__, sys.__stderr__, sys.__stdin__
        out.flush()
        buffer = out.buffer
        assert isinstance(buffer, io.BytesIO)
        return Done(status, buffer.getvalue(), err.getvalue())

    def ids(self, *filters: str) -> list[str]:
        """Of the messages that a list shows."""
        done = self.command("list", "--json", *filters)
        assert done.status == 0, done.err
        return [found["id"] for found in done.json]

    def add(
        self,
        message_id: str,
        *recipients: str,
        sender: str | None = "from@sender.example",
        body: bytes = BODY,
    ) -> None:
        """Queue a message."""
        path = None if sender is None else parse_address(sender)
        sent = Envelope(path, tuple(Recipient(parse_address(text)) for text in recipients))
        self.run_to_end(self.stage(message_id, body).commit(sent))

    def delay(self, queued: QueuedMessage, trial: Trial, due: float) -> QueuedMessage:
        """As after an attempt that came to nothing."""
        outcomes = [Delayed(r, Reply.of(451, "4.7.5", "later")) for r in queued.pending]
        after = queued.after_attempt(outcomes, Attempt(self.clock.seconds(), (trial,)), due)
        self.settle(after)
        return evolve(after)
