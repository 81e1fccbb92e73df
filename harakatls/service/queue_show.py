"""``harakatls queue show``: all that is known of a message, and what happens next."""

from collections.abc import Iterator
from typing import Any

from attrs import frozen

from harakatls.mail.envelope import Envelope, Recipient
from harakatls.outbound.retry import last_attempt
from harakatls.queued import QueuedMessage
from harakatls.service.queue_advice import Advice, Rules, advice
from harakatls.service.queue_view import facts, span, trial_facts, what_next, when
from harakatls.spool.codec import UndecodableMessage
from harakatls.spool.listing import Entry, State


@frozen
class Shown:
    """
    A message, with what the configuration makes of it.

    @ivar queued: None where it cannot be read.
    @ivar rules: None where the configuration cannot be read.
    """

    entry: Entry
    queued: QueuedMessage | None
    rules: Rules | None
    now: float

    @classmethod
    def of(cls, entry: Entry, rules: Rules | None, now: float) -> "Shown":
        """@param now: seconds since the epoch."""
        try:
            return cls(entry, entry.queued(), rules, now)
        except UndecodableMessage:
            return cls(entry, None, rules, now)

    @property
    def given_up_at(self) -> float | None:
        """If all attempts to come fail; None where that is not known."""
        if self.queued is None or self.rules is None:
            return None
        intervals = self.rules.outbound.temp_fail_intervals
        return last_attempt(self.queued.attempts, intervals, self.entry.due)

    @property
    def advice(self) -> tuple[Advice, ...]:
        """What to do about TLS."""
        if self.queued is None or self.rules is None:
            return ()
        return tuple(advice(self.queued, self.rules))

    @property
    def is_tried_again(self) -> bool:
        """By itself."""
        return self.queued is not None and self.entry.state is State.WAITING


def shown_facts(shown: Shown) -> dict[str, Any]:
    """For --json: what a list has, and the rest; times are seconds since the epoch."""
    known = facts(shown.entry)
    del known["next_try"]
    known.pop("last_trials", None)
    known["next"] = {
        "what": what_next(shown.entry),
        "at": shown.entry.due if shown.is_tried_again else None,
        "gives_up_at": shown.given_up_at if shown.is_tried_again else None,
    }
    queued = shown.queued
    if queued is None:
        return known
    known["recipients"] = [
        {
            "address": str(recipient.address),
            "state": _recipient_state(queued, recipient),
            "reply": str(queued.last_replies.get(str(recipient.address), "")),
            "removed_at": queued.removed.get(str(recipient.address)),
        }
        for recipient in queued.envelope.recipients
    ]
    known["history"] = [
        {"at": attempt.at, "trials": [trial_facts(trial) for trial in attempt.trials]}
        for attempt in queued.history
    ]
    known["tls_holds_it_back"] = [
        {
            "host": one.host,
            "problem": one.problem,
            "reasons": list(one.reasons),
            "would_change_it": list(one.remedies),
        }
        for one in shown.advice
    ]
    return known


def shown_lines(shown: Shown) -> Iterator[str]:
    """For people; to be made printable."""
    entry, queued = shown.entry, shown.queued
    yield entry.id
    if queued is not None:
        yield f"  from      <{queued.envelope.reverse_path or ''}>"
        parameters = _parameters(queued.envelope)
        if parameters:
            yield f"  with      {parameters}"
    yield f"  domain    {entry.domain or '(postmaster)'}"
    yield f"  arrived   {when(entry.arrived)} ({span(shown.now - entry.arrived)} ago)"
    yield f"  size      {entry.size:,} octets"
    yield from _next_lines(shown)
    if queued is None:
        yield "  what is stored of it cannot be read"
        return
    for recipient in queued.envelope.recipients:
        reply = queued.last_replies.get(str(recipient.address))
        removed = queued.removed.get(str(recipient.address))
        by_whom = f" by the operator {when(removed)}" if removed is not None else ""
        yield f"  to        <{recipient.address}>  {_recipient_state(queued, recipient)}{by_whom}"
        if reply is not None:
            yield f"              last reply: {reply}"
    yield from _history_lines(queued)
    for one in shown.advice:
        yield from _advice_lines(one)


def _next_lines(shown: Shown) -> Iterator[str]:
    entry = shown.entry
    if not shown.is_tried_again:
        yield f"  now       {what_next(entry)}"
        return
    wait = span(entry.due - shown.now)
    soon = f"{when(entry.due)} (in {wait})" if entry.due > shown.now else "due now"
    yield f"  next      {soon}"
    if shown.given_up_at is not None:
        at = shown.given_up_at
        yield f"  gives up  {when(at)} (in {span(at - shown.now)}), if all attempts fail"


def _recipient_state(queued: QueuedMessage, recipient: Recipient) -> str:
    if recipient in queued.pending:
        return "waits"
    if str(recipient.address) in queued.removed:
        return "removed"
    reply = queued.last_replies.get(str(recipient.address))
    if reply is None:
        return "done"
    return "delivered" if reply.is_positive else "failed"


def _parameters(envelope: Envelope) -> str:
    words, parameters = [], envelope.parameters
    if parameters.body is not None:
        words.append(f"BODY={parameters.body}")
    if parameters.smtputf8:
        words.append("SMTPUTF8")
    if parameters.ret is not None:
        words.append(f"RET={parameters.ret}")
    if parameters.envid is not None:
        words.append(f"ENVID={parameters.envid}")
    if parameters.requiretls:
        words.append("REQUIRETLS")
    if envelope.tls_optional:
        words.append("TLS-Required: No")
    return " ".join(words)


def _history_lines(queued: QueuedMessage) -> Iterator[str]:
    first = queued.attempts - len(queued.history) + 1
    tries = "attempt" if queued.attempts == 1 else "attempts"
    yield f"  {queued.attempts} {tries}"
    for number, attempt in enumerate(queued.history, first):
        # After a requeue the count begins anew, the history does not.
        yield f"    {f'{number}. ' if first > 0 else ''}{when(attempt.at)}"
        if not attempt.trials:
            yield "       no host was tried"
        for trial in attempt.trials:
            yield f"       {trial.host or '(no host)'}"
            yield f"         {trial.result}"
            yield f"         TLS: {trial.tls or 'none'}"
            for number_of_reason, reason in enumerate(trial.reasons):
                yield f"         {'why: ' if number_of_reason == 0 else '     '}{reason}"


def _advice_lines(one: Advice) -> Iterator[str]:
    yield f"  TLS holds it back: {one.host}"
    yield f"    found     {one.problem}"
    for reason in one.reasons:
        yield f"    because   {reason}"
    for number, remedy in enumerate(one.remedies):
        yield f"    {'goes if   ' if number == 0 else 'or if     '}{remedy}"
