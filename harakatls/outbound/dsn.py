"""
Builds the report to the sender of a message that could not be delivered; pure.

A multipart/report (RFC 6522) with a part for people, a message/delivery-status (RFC 3464) and the
header of the message. Everything but the field To is 7-bit, so that any host on the way back
takes it: other addresses and header fields with UTF-8 are encoded as RFC 6533 says. Only a report
to an address that is not ASCII itself needs SMTPUTF8.
"""

import quopri
import textwrap
from base64 import encodebytes
from collections.abc import Iterable, Iterator, Sequence
from email.utils import formatdate

from attrs import frozen

from harakatls.mail.address import Address
from harakatls.mail.envelope import Envelope, MailParameters, Recipient
from harakatls.mail.header import field, first_value, header_length
from harakatls.queued import Failed, QueuedMessage, Trial
from harakatls.smtp.reply import EnhancedStatus, Reply

HEADER_OCTETS = 32768  # of the original; what is longer is cut off at a line's end
_WIDTH = 76
_LONGEST_VALUE = 900  # RFC 5322 section 2.1.1: no line beyond 998
_MOST_TOLD = 100  # recipients in the part for people
_SHORT_VALUE = 500  # where there are more: a report must not become too large to arrive


@frozen
class Undelivered:
    """
    One recipient of a report.

    @ivar failed: why it is given up.
    @ivar words: the last reply about it; another one than the failure's where that came of many
        delays.
    """

    failed: Failed
    words: Reply


def wanted(queued: QueuedMessage, failures: Iterable[Undelivered]) -> tuple[Undelivered, ...]:
    """
    The failures that the sender is told.

    None for a null reverse-path: no report about a report (RFC 5321 section 4.5.5). None about a
    recipient for whom the sender wants no failure told (RFC 3461 section 4.1).
    """
    if queued.envelope.reverse_path is None:
        return ()
    return tuple(
        failure
        for failure in failures
        if not failure.failed.recipient.notify or "FAILURE" in failure.failed.recipient.notify
    )


def report_envelope(queued: QueuedMessage) -> Envelope:
    """From nobody to the sender. The message must have one."""
    sender = queued.envelope.reverse_path
    assert sender is not None, "a message without a sender is never reported"
    parameters = MailParameters(smtputf8=not sender.is_ascii)
    return Envelope(None, (Recipient(sender),), parameters)


def original_header(start: bytes) -> bytes:
    """
    The header to be sent back.

    @param start: the first octets of the message, `HEADER_OCTETS` or all of it.
    """
    length = header_length(start)
    if length is not None and length <= HEADER_OCTETS:
        return start[:length]
    cut = start.rfind(b"\r\n", 0, HEADER_OCTETS)
    return start[: cut + 2] if cut >= 0 else b""


def report(
    queued: QueuedMessage,
    failures: Sequence[Undelivered],
    header: bytes,
    me: str,
    now: float,
    token: str,
) -> bytes:
    """
    The whole message, header and all, in wire form.

    @param queued: with the last attempt in its history.
    @param header: of the original message, from `original_header`.
    @param me: our host name.
    @param token: unique and not to be guessed; for Message-Id and the boundary.
    """
    boundary = f"=_{token}"
    sender = queued.envelope.reverse_path
    top = [
        field("From", f"Mail Delivery System <MAILER-DAEMON@{me}>"),
        f"To: <{sender}>\r\n".encode(),
        field("Subject", "failure notice"),
        field("Date", formatdate(now)),
        f"Message-Id: <{token}@{me}>\r\n".encode("ascii", "replace"),
        *_references(header),
        field("Auto-Submitted", "auto-replied"),  # RFC 3834 section 5
        b"MIME-Version: 1.0\r\n",
        b"Content-Type: multipart/report; report-type=delivery-status;\r\n"
        b'\tboundary="' + boundary.encode() + b'"\r\n\r\n',
        b"This is a report in several parts, as RFC 3464 describes it.\r\n",
    ]
    parts = (
        _text_part(_words(queued, failures, me)),
        b"Content-Type: message/delivery-status\r\n"
        b"Content-Description: Delivery report\r\n\r\n" + _status(queued, failures, me, now),
        _header_part(header),
    )
    between = b"\r\n--" + boundary.encode()
    body = b"".join(between + b"\r\n" + part for part in parts)
    return b"".join(top) + body + between + b"--\r\n"


def _references(header: bytes) -> Iterator[bytes]:
    original = first_value(header, b"Message-Id")
    if original and original.isascii() and original[:1] == b"<" and len(original) < _LONGEST_VALUE:
        yield field("References", original.decode("ascii"))


# -- the part for people --------------------------------------------------------------------------


def _text_part(text: str) -> bytes:
    kind = b'Content-Type: text/plain; charset="'
    description = b"Content-Description: Notification\r\n"
    if text.isascii():
        return kind + b'us-ascii"\r\n' + description + b"\r\n" + text.replace("\n", "\r\n").encode()
    encoded = quopri.encodestring(text.encode("utf-8", "replace")).replace(b"\n", b"\r\n")
    return (
        kind
        + b'utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n'
        + description
        + b"\r\n"
        + encoded
    )


def _words(queued: QueuedMessage, failures: Sequence[Undelivered], me: str) -> str:
    lines = [
        f"This is the mail server at {me}.",
        "",
        *_wrapped(
            "I am sorry that I could not deliver your message to everybody. I shall not try "
            "again for the addresses below. With each stands what was said about it last.",
            "",
        ),
        "",
    ]
    for failure in failures[:_MOST_TOLD]:
        lines.append(f"<{failure.failed.recipient.address}>:")
        lines.extend(_wrapped(str(failure.failed.reply), "    "))
        hop = failure.failed.next_hop
        if hop is not None:
            lines.append(f"    (at {_host(hop.mx_name, hop.host)})")
        lines.append("")
    if len(failures) > _MOST_TOLD:
        more = f"And {len(failures) - _MOST_TOLD} more, which the second part of this report names."
        lines.extend((more, ""))
    lines.extend(_last_attempt(queued))
    lines.append("The header of your message stands below.")
    return "\n".join(lines) + "\n"


def _last_attempt(queued: QueuedMessage) -> Iterator[str]:
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
        yield from _wrapped(trial.result, "    ")
        tls = _tls_facts(trial)
        if tls:
            yield from _wrapped(tls, "    ")
        yield ""


def _tls_facts(trial: Trial) -> str:
    facts = [trial.tls] if trial.tls else []
    facts.extend(f"({reason})" for reason in trial.reasons)
    return f"TLS: {' '.join(facts)}" if facts else ""


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text[:_LONGEST_VALUE],
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _host(name: str | None, address: str) -> str:
    return address if name is None or name == address else f"{name} [{address}]"


# -- the part for programs ------------------------------------------------------------------------


def _status(queued: QueuedMessage, failures: Sequence[Undelivered], me: str, now: float) -> bytes:
    """RFC 3464 section 2.1: one group of fields about the message, one for each recipient."""
    groups = []
    message = [_ascii_field("Reporting-MTA", f"dns; {me}")]
    if queued.envelope.parameters.envid:
        message.insert(0, _ascii_field("Original-Envelope-Id", queued.envelope.parameters.envid))
    message.append(_ascii_field("Arrival-Date", formatdate(queued.arrived)))
    message.append(_ascii_field("X-Queue-Id", queued.id))
    groups.append(b"".join(message))
    longest = _LONGEST_VALUE if len(failures) <= _MOST_TOLD else _SHORT_VALUE
    for failure in failures:
        groups.append(b"".join(_recipient_fields(failure, now, longest)))
    return b"\r\n".join(groups)


def _recipient_fields(failure: Undelivered, now: float, longest: int) -> Iterator[bytes]:
    failed = failure.failed
    if failed.recipient.original:
        yield _ascii_field("Original-Recipient", failed.recipient.original)
    yield f"Final-Recipient: {_typed(failed.recipient.address)}\r\n".encode()
    yield _ascii_field("Action", "failed")
    yield _ascii_field("Status", str(_status_code(failed.reply)))
    if failed.next_hop is not None:
        hop = failed.next_hop
        yield _ascii_field("Remote-MTA", f"dns; {hop.mx_name or f'[{hop.host}]'}")
    yield _ascii_field("Diagnostic-Code", f"smtp; {failure.words}"[:longest])
    yield _ascii_field("Last-Attempt-Date", formatdate(now))


def _status_code(reply: Reply) -> EnhancedStatus:
    """Of class 5 in any case: "failed" (RFC 3464 section 2.3.3) is final."""
    said = reply.enhanced
    return EnhancedStatus(5, said.subject, said.detail) if said else EnhancedStatus(5, 0, 0)


def _typed(address: Address) -> str:
    """
    An address with its type, all ASCII.

    What is not ASCII is written as utf-8-addr-xtext (RFC 6533 section 3).
    """
    text = str(address)
    if address.is_ascii:
        return f"rfc822; {text}"
    plain = (c if "!" <= c <= "~" and c not in "+=\\" else f"\\x{{{ord(c):X}}}" for c in text)
    return f"utf-8; {''.join(plain)}"


def _ascii_field(name: str, value: str) -> bytes:
    return field(name, value[:_LONGEST_VALUE].encode("ascii", "replace").decode("ascii"))


# -- the header of the message --------------------------------------------------------------------


def _header_part(header: bytes) -> bytes:
    description = b"Content-Description: Header of the undelivered message\r\n"
    if header.isascii():
        return b"Content-Type: text/rfc822-headers\r\n" + description + b"\r\n" + header
    # RFC 6533 section 5; encoded, for hosts without 8BITMIME (RFC 6532 section 3.7).
    encoded = encodebytes(header).replace(b"\n", b"\r\n")
    return (
        b"Content-Type: message/global-headers\r\nContent-Transfer-Encoding: base64\r\n"
        + description
        + b"\r\n"
        + encoded
    )
