"""The part of a report that people read, where the operator has not written another; pure."""

import textwrap
from collections.abc import Iterator, Sequence
from email.utils import formatdate

from harakatls.outbound.notices import Action, Notice
from harakatls.queued import QueuedMessage, Trial

MOST_TOLD = 100  # recipients in the part for people
_WIDTH = 76
_LONGEST = 900

_SUBJECTS = {
    Action.FAILED: "failure notice",
    Action.DELAYED: "delay notice",
    Action.RELAYED: "success notice",
    Action.DELIVERED: "success notice",
}
_INTRODUCTIONS = {
    Action.FAILED: (
        "I am sorry that I could not deliver your message to everybody. I shall not try again for"
        " the addresses below. With each stands what was said about it last."
    ),
    Action.DELAYED: (
        "Your message has not yet been delivered to the addresses below. THIS IS ONLY A WARNING:"
        " YOU DO NOT NEED TO SEND YOUR MESSAGE AGAIN. I keep trying{until}, and shall tell you if"
        " it is in vain. With each address stands what was said about it last."
    ),
    Action.RELAYED: (
        "As you asked to be told: your message for the addresses below was passed on to a server"
        " that sends no such reports itself. Nothing more will be heard of it unless it fails."
    ),
    Action.DELIVERED: (
        "As you asked to be told: your message was delivered to the addresses below."
    ),
}


def subject(told: Sequence[Notice]) -> str:
    """After the worst that is told."""
    return next(text for action, text in _SUBJECTS.items() if any(n.action is action for n in told))


def words(
    queued: QueuedMessage, told: Sequence[Notice], me: str, until: float | None, whole: bool
) -> str:
    """
    All of the text.

    @param until: when a delayed message is tried for the last time, if that is known.
    @param whole: the message itself is returned, not its header alone.
    """
    lines = [f"This is the mail server at {me}.", "", *_groups(told, until)]
    if any(notice.action in (Action.FAILED, Action.DELAYED) for notice in told):
        lines.extend(last_attempt(queued))
    lines.append("Your message stands below." if whole else "Its header stands below.")
    return "\n".join(lines) + "\n"


def further_words(told: Sequence[Notice], until: float | None) -> str:
    """What a text about failures says nothing of; "" where there is nothing else to be told."""
    others = [notice for notice in told if notice.action is not Action.FAILED]
    return "\n".join(_groups(others, until))


def _groups(told: Sequence[Notice], until: float | None) -> Iterator[str]:
    for action, introduction in _INTRODUCTIONS.items():
        some = [notice for notice in told if notice.action is action]
        if not some:
            continue
        date = f" until {formatdate(until)}" if until is not None else ""
        yield from wrapped(introduction.format(until=date), "")
        yield ""
        for notice in some[:MOST_TOLD]:
            yield f"<{notice.recipient.address}>:"
            yield from wrapped(str(notice.reply), "    ")
            hop = notice.next_hop
            if hop is not None:
                yield f"    (at {_host(hop.mx_name, hop.host)})"
            yield ""
        if len(some) > MOST_TOLD:
            yield f"And {len(some) - MOST_TOLD} more, which the second part of this report names."
            yield ""


def last_attempt(queued: QueuedMessage) -> Iterator[str]:
    """The hosts of the last attempt, each with its own reason and the facts about its TLS."""
    if not queued.history or not queued.history[-1].trials:
        return
    last = queued.history[-1]
    yield (
        f"What happened at the last attempt, number {queued.attempts}, on {formatdate(last.at)};"
    )
    yield f"the message arrived on {formatdate(queued.arrived)}:"
    yield ""
    for trial in last.trials:
        yield f"  {trial.host}"
        yield from wrapped(trial.result, "    ")
        tls = _tls_facts(trial)
        if tls:
            yield from wrapped(tls, "    ")
        yield ""


def _tls_facts(trial: Trial) -> str:
    facts = [trial.tls] if trial.tls else []
    facts.extend(f"({reason})" for reason in trial.reasons)
    return f"TLS: {' '.join(facts)}" if facts else ""


def wrapped(text: str, indent: str) -> list[str]:
    """Lines of a width that is easily read."""
    return textwrap.wrap(
        text[:_LONGEST],
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _host(name: str | None, address: str) -> str:
    return address if name is None or name == address else f"{name} [{address}]"
