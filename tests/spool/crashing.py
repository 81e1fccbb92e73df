"""
A process that is killed: fills and empties a queue, and says what it has done.

``C id`` is written when a message was committed, ``S id`` before a queued one is settled, ``B id
report`` before one is settled in the transaction that queues the report about it.
"""

import os
import random
import sys
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from harakatls.mail.envelope import Envelope
from harakatls.queued import QueuedMessage
from harakatls.spool.sqlite import SQLiteSpool, open_spool
from tests.contracts.spool import envelope

SENDERS = 8


def content(message_id: str) -> bytes:
    """The body of a message: every sixth is large."""
    choice = random.Random(message_id)
    size = choice.randrange(262_000, 600_000) if choice.random() < 1 / 6 else choice.randrange(9000)
    return choice.randbytes(size)


def recipients(message_id: str) -> Envelope:
    """For one to three domains."""
    count = random.Random(f"to {message_id}").randrange(1, 4)
    return envelope(*[f"a@{number}.example" for number in range(count)])


def say(verb: str, message_id: str) -> None:
    """At once: nothing must be left in a buffer."""
    os.write(1, f"{verb} {message_id}\n".encode())


async def send(spool: SQLiteSpool, name: str) -> None:
    number = 0
    while True:
        number += 1
        message_id = f"{name}-{number}.1"
        body = content(message_id)
        staged = await spool.stage(message_id)
        for start in range(0, len(body), 65536):
            await staged.write(body[start : start + 65536])
        await staged.commit(recipients(message_id))
        say("C", message_id)


def report(queued: QueuedMessage) -> str:
    """The id of the report about a message, which is like any other."""
    return f"R{queued.id.replace('.', '-')}.1"


async def give_up(spool: SQLiteSpool, queued: QueuedMessage) -> None:
    """Done, and whoever sent it is told."""
    message_id = report(queued)
    staged = await spool.stage(message_id)
    await staged.write(content(message_id))
    say("B", f"{queued.id} {message_id}")
    await staged.commit(recipients(message_id), settling=evolve(queued, pending=()))
    say("C", message_id)


async def deliver(spool: SQLiteSpool) -> None:
    """Of what is claimed a half is done, with a report or without; the other half is delayed."""
    while True:
        for queued in await spool.claim(1e11, 5):
            body = spool.open_body(queued)
            while await body.read(262_144):
                pass
            chance = random.random()
            if chance < 0.25 and not queued.id.startswith("R"):
                await give_up(spool, queued)
            elif chance < 0.5:
                say("S", queued.id)
                await spool.settle(evolve(queued, pending=()))
            else:
                await spool.settle(evolve(queued, due=queued.due + 1, attempts=1))


async def in_thread(*call: Any) -> Any:
    return await deferToThread(*call)


def main() -> None:
    run, directory = sys.argv[1:]
    real: Any = reactor
    spool = open_spool(Path(directory), real, real.callFromThread, in_thread, reserve=0)

    def failed(reason: Any) -> None:
        reason.printTraceback(sys.stderr)
        os._exit(1)

    def start() -> None:
        for number in range(SENDERS):
            Deferred.fromCoroutine(send(spool, f"{run}-{number}")).addErrback(failed)
        Deferred.fromCoroutine(deliver(spool)).addErrback(failed)

    real.callWhenRunning(start)
    real.run()


if __name__ == "__main__":
    main()
