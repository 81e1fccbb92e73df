"""
`QueuedMessage` as JSON, as it stands in the queue.

Nothing but what `QueuedMessage` holds is written: never a password or a key.
"""

import json
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any

from harakatls.mail.address import Address
from harakatls.mail.envelope import NO_PARAMETERS, Envelope, MailParameters, Recipient
from harakatls.queued import Attempt, QueuedMessage, Trial
from harakatls.smtp.reply import EnhancedStatus, Reply

FORMAT = 1

# Plain ASCII, so that neither SQLite nor a terminal can trip over what a peer sent.
_to_text: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


class UndecodableMessage(ValueError):
    """What is stored is not a message, or one that this version cannot read; says why."""


def encode(queued: QueuedMessage) -> str:
    """One line of ASCII; what has its default value is left out."""
    envelope = queued.envelope
    # Every message passes here while its sender waits, so the part that all have is put together
    # by hand: half of the time.
    parts = [
        f'{{"format":{FORMAT},"id":{_quoted(queued.id)},"domain":{_quoted(queued.domain)}'
        f',"arrived":{queued.arrived!r},"due":{queued.due!r},"size":{queued.size!r}'
        f',"from":{_address(envelope.reverse_path)},"to":{_recipients(envelope.recipients)}'
    ]
    if envelope.parameters != NO_PARAMETERS:
        parts.append(f'"parameters":{_to_text(_parameters(envelope.parameters))}')
    if envelope.route:
        parts.append(f'"route":{_quoted(envelope.route)}')
    if envelope.tls_optional:
        parts.append('"tls_optional":true')
    if queued.pending != envelope.recipients:
        parts.append(f'"pending":{_recipients(queued.pending)}')
    if queued.attempts:
        parts.append(f'"attempts":{queued.attempts!r}')
    if queued.last_replies:
        replies = {address: _reply(reply) for address, reply in queued.last_replies.items()}
        parts.append(f'"replies":{_to_text(replies)}')
    if queued.history:
        history = [
            [attempt.at, [_of_trial(trial) for trial in attempt.trials]]
            for attempt in queued.history
        ]
        parts.append(f'"history":{_to_text(history)}')
    if queued.warned:
        parts.append('"warned":true')
    if queued.removed:
        parts.append(f'"removed":{_to_text(queued.removed)}')
    return ",".join(parts) + "}"


def _of_trial(trial: Trial) -> list[Any]:
    facts = [trial.host, trial.result, trial.tls, trial.reasons]
    return [*facts, trial.earlier] if trial.earlier else facts


def decode(text: str | bytes) -> QueuedMessage:
    """@raise UndecodableMessage: *text* is not what `encode` wrote."""
    try:
        document = json.loads(text if isinstance(text, str) else str(text, "ascii"))
        written = document["format"]
        if written != FORMAT:
            raise UndecodableMessage(
                f"it is in format {written!r}; this version of harakatls reads format {FORMAT}"
            )
        return _queued(document)
    except UndecodableMessage:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        # The text itself is not told: it may be of any size and hold anything.
        raise UndecodableMessage(
            f"what is stored of it is not a queued message ({type(error).__name__})"
        ) from None


def _queued(document: dict[str, Any]) -> QueuedMessage:
    reverse_path = document["from"]
    recipients = tuple(_to_recipient(item) for item in document["to"])
    parameters = document.get("parameters")
    pending = document.get("pending")
    return QueuedMessage(
        id=_text(document["id"]),
        envelope=Envelope(
            None if reverse_path is None else _to_address(*reverse_path),
            recipients,
            NO_PARAMETERS if parameters is None else _to_parameters(parameters),
            _text(document.get("route", "")),
            _truth(document.get("tls_optional", False)),
        ),
        domain=_text(document["domain"]),
        arrived=_number(document["arrived"]),
        due=_number(document["due"]),
        size=_whole(document["size"]),
        pending=recipients if pending is None else tuple(_to_recipient(item) for item in pending),
        attempts=_whole(document.get("attempts", 0)),
        last_replies={
            address: _to_reply(*reply) for address, reply in document.get("replies", {}).items()
        },
        history=tuple(_to_attempt(*attempt) for attempt in document.get("history", ())),
        warned=_truth(document.get("warned", False)),
        removed={to: _number(at) for to, at in document.get("removed", {}).items()},
    )


# ------------------------------------------------------------------------------------- parts


def _address(address: Address | None) -> str:
    if address is None:
        return "null"
    return f"[{_quoted(address.local_part)},{_quoted(address.domain)}]"


def _to_address(local_part: Any, domain: Any) -> Address:
    return Address(_text(local_part), _text(domain))


def _recipients(recipients: tuple[Recipient, ...]) -> str:
    return f"[{','.join([_recipient(recipient) for recipient in recipients])}]"


def _recipient(recipient: Recipient) -> str:
    if recipient.original is None and not recipient.notify:
        return _address(recipient.address)
    address = recipient.address
    return _to_text(
        [address.local_part, address.domain, recipient.original, sorted(recipient.notify)]
    )


def _to_recipient(item: Any) -> Recipient:
    if len(item) == 2:
        return Recipient(_to_address(*item))
    local_part, domain, original, notify = item
    return Recipient(
        _to_address(local_part, domain),
        _text_or_none(original),
        frozenset(_text(word) for word in notify),
    )


def _parameters(parameters: MailParameters) -> dict[str, Any]:
    return {
        name: value
        for name in ("size", "body", "smtputf8", "ret", "envid", "requiretls")
        if (value := getattr(parameters, name)) != getattr(NO_PARAMETERS, name)
    }


def _to_parameters(document: dict[str, Any]) -> MailParameters:
    size = document.get("size")
    return MailParameters(
        size=None if size is None else _whole(size),
        body=_text_or_none(document.get("body")),
        smtputf8=_truth(document.get("smtputf8", False)),
        ret=_text_or_none(document.get("ret")),
        envid=_text_or_none(document.get("envid")),
        requiretls=_truth(document.get("requiretls", False)),
    )


def _reply(reply: Reply) -> list[Any]:
    return [reply.code, reply.enhanced, reply.lines]


def _to_reply(code: Any, enhanced: Any, lines: Any) -> Reply:
    status = None
    if enhanced is not None:
        severity, subject, detail = enhanced
        status = EnhancedStatus(_whole(severity), _whole(subject), _whole(detail))
    return Reply(_whole(code), status, _texts(lines))


def _to_attempt(at: Any, trials: Any) -> Attempt:
    return Attempt(
        _number(at),
        tuple(
            Trial(_text(host), _text(result), _text(tls), _texts(reasons), *map(_whole, earlier))
            for host, result, tls, reasons, *earlier in trials
        ),
    )


# ------------------------------------------------------------------ what JSON may have instead


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise TypeError


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError
    return tuple(_text(value) for value in values)


def _whole(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise TypeError


def _number(value: Any) -> float:
    if isinstance(value, float):
        return value
    return float(_whole(value))


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise TypeError
