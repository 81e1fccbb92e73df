"""How messages of the queue are printed: a list, and the numbers of all."""

import time
from collections.abc import Iterator
from typing import Any

from harakatls.queued import QueuedMessage, Trial
from harakatls.service.logs import printable
from harakatls.spool.codec import UndecodableMessage
from harakatls.spool.listing import Entry, State
from harakatls.spool.statistics import Counts


def facts(entry: Entry) -> dict[str, Any]:
    """What --json prints of a message; times are seconds since the epoch."""
    known: dict[str, Any] = {
        "id": entry.id,
        "domain": entry.domain,
        "state": entry.state.value,
        "held": entry.held,
        "to_be_removed": entry.doomed,
        "arrived": entry.arrived,
        "size": entry.size,
        "next_try": entry.due,
    }
    if entry.problem is not None:
        known["problem"] = entry.problem
    try:
        queued = entry.queued()
    except UndecodableMessage as error:
        return {**known, "problem": entry.problem or str(error)}
    last = queued.history[-1] if queued.history else None
    return {
        **known,
        "from": str(queued.envelope.reverse_path or ""),
        "recipients": [str(recipient.address) for recipient in queued.pending],
        "attempts": queued.attempts,
        "last_replies": {to: str(reply) for to, reply in queued.last_replies.items()},
        "last_trials": [trial_facts(trial) for trial in (last.trials if last else ())],
    }


def trial_facts(trial: Trial) -> dict[str, Any]:
    """One host of one attempt."""
    return {
        "host": trial.host,
        "result": trial.result,
        "tls": trial.tls,
        "reasons": list(trial.reasons),
        "reused": trial.earlier > 0,
    }


def lines(entry: Entry) -> Iterator[str]:
    """What is printed of a message for people."""
    try:
        queued = entry.queued()
    except UndecodableMessage as error:
        yield f"{entry.id}  set aside, will not be tried: {printable(entry.problem or str(error))}"
        return
    yield from message_lines(queued, what_next(entry))


def message_lines(queued: QueuedMessage, follows: str) -> Iterator[str]:
    """@param follows: what happens next, in a few words."""
    sender = f"<{queued.envelope.reverse_path or ''}>"
    yield printable(
        f"{queued.id}  arrived {when(queued.arrived)}  {queued.size} octets  from {sender}"
    )
    for recipient in queued.pending:
        yield printable(f"    to <{recipient.address}>")
    tries = "attempt" if queued.attempts == 1 else "attempts"
    yield f"    {queued.attempts} {tries}, {printable(follows)}"
    yield from map(printable, _last_words(queued))


def what_next(entry: Entry) -> str:
    """In a few words."""
    if entry.doomed:
        return "in hand now, then removed" if entry.state is State.IN_HAND else "to be removed"
    match entry.state:
        case State.IN_HAND:
            return "in hand now, then held" if entry.held else "in hand now"
        case State.LEFT:
            return "in hand when its server died; free again at the next start"
        case State.SET_ASIDE:
            return f"set aside, will not be tried: {entry.problem}"
        case State.HELD:
            return "held until it is released"
    return f"next try {when(entry.due)}"


def _last_words(queued: QueuedMessage) -> Iterator[str]:
    replies = {str(queued.last_replies.get(str(r.address), "")): None for r in queued.pending}
    for reply in replies:
        if reply:
            yield f"    last reply: {reply}"
    for trial in queued.history[-1].trials if queued.history else ():
        yield f"    tried {trial.host}{_connection(trial)}: {trial.result}"
        if trial.reasons:
            yield f"        TLS: {'; '.join(trial.reasons)}"


def _connection(trial: Trial) -> str:
    facts = [trial.tls, f"message {trial.earlier + 1} on it" if trial.earlier else ""]
    told = "; ".join(filter(None, facts))
    return f" ({told})" if told else ""


def count_facts(counts: Counts) -> dict[str, Any]:
    """For --json; times are seconds since the epoch."""
    return {
        "messages": counts.messages,
        "octets": counts.octets,
        "oldest": counts.oldest,
        "due": counts.due,
        "delayed": counts.delayed,
        "next_due": counts.next_due,
        "in_hand": counts.in_hand,
        "held": counts.held,
        "set_aside": counts.set_aside,
    }


def count_lines(counts: Counts, domains: list[tuple[str, Counts]], now: float) -> Iterator[str]:
    """The numbers, then a table by domain."""
    yield f"{number(counts.messages)}, {counts.octets:,} octets"
    if not counts.messages:
        return
    if counts.oldest is not None:
        yield f"  oldest      {when(counts.oldest)} ({span(now - counts.oldest)} ago)"
    yield f"  due now     {counts.due:,}"
    first = f", the first {when(counts.next_due)}" if counts.next_due is not None else ""
    yield f"  delayed     {counts.delayed:,}{first}"
    yield f"  in hand     {counts.in_hand:,}"
    yield f"  held        {counts.held:,}"
    yield f"  set aside   {counts.set_aside:,}"
    yield ""
    yield "messages      octets       due  oldest    domain"
    for domain, one in domains:
        age = span(now - one.oldest) if one.oldest is not None else ""
        yield printable(
            f"{one.messages:8}{one.octets:12}{one.due:10}  {age:8}  {domain or '(postmaster)'}"
        )


def number(messages: int) -> str:
    """ "1 message" or "2 messages"."""
    return f"{messages:,} message{'' if messages == 1 else 's'}"


def when(seconds: float) -> str:
    """A moment, in the time of this place."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g} seconds after 1970"


def span(seconds: float) -> str:
    """How long, in its largest two units."""
    left = max(0, int(seconds))
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
