"""
Builds the report to the sender of a message: failed, delayed, relayed or delivered; pure.

A multipart/report (RFC 6522) with a part for people, a message/delivery-status (RFC 3464) and the
message or its header. Everything but the field To, and a whole 8-bit message, is 7-bit, so that
any host on the way back takes it: other addresses and header fields with UTF-8 are encoded as
RFC 6533 says. Only a report to an address that is not ASCII itself needs SMTPUTF8.
"""

import quopri
from collections.abc import Iterator, Sequence
from email.utils import formatdate

from attrs import frozen

from harakatls.mail.address import Address
from harakatls.mail.envelope import Envelope, MailParameters, Recipient
from harakatls.mail.header import LONGEST_VALUE, field, first_value
from harakatls.outbound.notices import Action, Notice
from harakatls.outbound.original import Original, as_part
from harakatls.outbound.templates import (
    NO_TEMPLATES,
    Templates,
    Values,
    filled,
    filled_html,
    header_fields,
    values,
)
from harakatls.outbound.words import MOST_TOLD, further_words, subject, words
from harakatls.queued import QueuedMessage

_TLS_OPTIONAL = field("TLS-Required", "No")  # RFC 8689 section 3, as the message had it
_SHORT_VALUE = 500  # where there are many: a report must not become too large to arrive


@frozen
class Reporter:
    """
    @ivar me: our host name.
    @ivar templates: the operator's own words about failures.
    """

    me: str
    templates: Templates = NO_TEMPLATES

    def report(
        self,
        queued: QueuedMessage,
        told: Sequence[Notice],
        original: Original,
        now: float,
        token: str,
        until: float | None = None,
    ) -> bytes:
        """
        The whole message, header and all, in wire form.

        @param queued: with the last attempt in its history.
        @param told: at least one.
        @param token: unique and not to be guessed; for Message-Id and the boundary.
        @param until: when what is delayed is tried for the last time.
        """
        msgid = f"<{token}@{self.me}>"
        given = None
        if self.templates.text is not None and any(n.action is Action.FAILED for n in told):
            given = values(queued, told, original.header, self.me, now, msgid)
        people = self._for_people(queued, told, original.whole, token, until, given)
        parts = (
            people,
            b"Content-Type: message/delivery-status\r\n"
            b"Content-Description: Delivery report\r\n\r\n"
            + _status(queued, told, self.me, now, until),
            as_part(original),
        )
        body = _joined(parts, f"=_{token}")
        encoding = b"" if body.isascii() else b"Content-Transfer-Encoding: 8bit\r\n"
        top = [
            *self._fields(queued, told, now, msgid, given),
            *_references(original.header),
            field("Auto-Submitted", "auto-replied"),  # RFC 3834 section 5
            *((_TLS_OPTIONAL,) if queued.envelope.tls_optional else ()),
            b"MIME-Version: 1.0\r\n",
            b"Content-Type: multipart/report; report-type=delivery-status;\r\n"
            b'\tboundary="=_' + token.encode() + b'"\r\n' + encoding,
            b"\r\nThis is a report in several parts, as RFC 3464 describes it.\r\n",
        ]
        return b"".join(top) + body

    def _fields(
        self,
        queued: QueuedMessage,
        told: Sequence[Notice],
        now: float,
        msgid: str,
        given: Values | None,
    ) -> Iterator[bytes]:
        """@param given: for the templates; None where they are not used."""
        sender = queued.envelope.reverse_path
        written = self.templates.fields if given is not None else ()
        if given is not None:
            yield from header_fields(written, given)
        usual = {
            "From": f"Mail Delivery System <MAILER-DAEMON@{self.me}>",
            "Subject": subject(told),
            "Date": formatdate(now),
            "Message-Id": msgid.encode("ascii", "replace").decode(),
        }
        names = {name.lower() for name, _ in written}
        for name, value in usual.items():
            if name.lower() not in names:
                yield field(name, value)
        yield f"To: <{sender}>\r\n".encode()

    def _for_people(
        self,
        queued: QueuedMessage,
        told: Sequence[Notice],
        whole: bool,
        token: str,
        until: float | None,
        given: Values | None,
    ) -> bytes:
        """The first part; with HTML it is one of several."""
        written = self.templates
        if given is None or written.text is None:
            return _text(words(queued, told, self.me, until, whole))
        further = further_words(told, until)
        text = _text("\n".join(filter(None, [filled(written.text, given), further])))
        if written.html is None:
            return text
        page = _text(filled_html(written.html, given), "html")
        both = _multipart("alternative", (text, page), f"=_{token}.b")
        if written.image is None:
            return both
        return _multipart("related", (both, written.image), f"=_{token}.a")


def report_envelope(queued: QueuedMessage, report: bytes) -> Envelope:
    """
    From nobody to the sender. The message must have one.

    Without REQUIRETLS: it returns no content of a message that had it, and is better than silence.
    What a message said of doing without TLS counts for what is said of it.
    """
    sender = queued.envelope.reverse_path
    assert sender is not None, "a message without a sender is never reported"
    parameters = MailParameters(
        body=None if report.isascii() else "8BITMIME", smtputf8=not sender.is_ascii
    )
    optional = queued.envelope.tls_optional
    return Envelope(None, (Recipient(sender),), parameters, tls_optional=optional)


def _references(header: bytes) -> Iterator[bytes]:
    original = first_value(header, b"Message-Id")
    if original and original.isascii() and original[:1] == b"<" and len(original) < LONGEST_VALUE:
        yield field("References", original.decode("ascii"))


# -- parts ----------------------------------------------------------------------------------------


def _joined(parts: Sequence[bytes], boundary: str) -> bytes:
    between = b"\r\n--" + boundary.encode()
    return b"".join(between + b"\r\n" + part for part in parts) + between + b"--\r\n"


def _multipart(kind: str, parts: Sequence[bytes], boundary: str) -> bytes:
    header = f'Content-Type: multipart/{kind};\r\n\tboundary="{boundary}"\r\n'
    return header.encode() + _joined(parts, boundary)


def _text(text: str, kind: str = "plain") -> bytes:
    """Encoded where it must be."""
    lines = text.split("\n")
    charset, encoding, content = "us-ascii", "", "\r\n".join(lines).encode("utf-8", "replace")
    if not text.isascii() or max(map(len, lines)) > LONGEST_VALUE:
        charset, encoding = "utf-8", "Content-Transfer-Encoding: quoted-printable\r\n"
        encoded = quopri.encodestring(text.encode("utf-8", "replace"))
        content = encoded.replace(b"\n", b"\r\n")
    header = (
        f'Content-Type: text/{kind}; charset="{charset}"\r\n{encoding}'
        "Content-Description: Notification\r\n\r\n"
    )
    return header.encode() + content


# -- the part for programs ------------------------------------------------------------------------


def _status(
    queued: QueuedMessage, told: Sequence[Notice], me: str, now: float, until: float | None
) -> bytes:
    """RFC 3464 section 2.1: one group of fields about the message, one for each recipient."""
    envid = queued.envelope.parameters.envid
    # Not folded: it is to come back as it was given, whatever spaces are in it.
    message = [f"Original-Envelope-Id: {envid}\r\n".encode("ascii", "replace")] if envid else []
    message.append(_ascii_field("Reporting-MTA", f"dns; {me}"))
    message.append(_ascii_field("Arrival-Date", formatdate(queued.arrived)))
    message.append(_ascii_field("X-Queue-Id", queued.id))
    groups = [b"".join(message)]
    longest = LONGEST_VALUE if len(told) <= MOST_TOLD else _SHORT_VALUE
    for notice in told:
        fields = list(_recipient_fields(notice, now, longest))
        if notice.action is Action.DELAYED and until is not None:
            fields.append(_ascii_field("Will-Retry-Until", formatdate(until)))
        groups.append(b"".join(fields))
    return b"\r\n".join(groups)


def _recipient_fields(notice: Notice, now: float, longest: int) -> Iterator[bytes]:
    if notice.recipient.original:
        yield _original_recipient(notice.recipient.original)
    yield f"Final-Recipient: {_typed(notice.recipient.address)}\r\n".encode()
    yield _ascii_field("Action", notice.action.value)
    yield _ascii_field("Status", str(notice.status))
    words, hop = notice.words, notice.next_hop
    if words.heard and hop is not None and not hop.is_socket:
        # Of no host that did not say so (RFC 3464 section 2.3.5).
        yield _ascii_field("Remote-MTA", f"dns; {hop.mx_name or f'[{hop.host}]'}")
    # RFC 3464 section 2.3.6: "smtp" is for the very words of a server.
    kind = "smtp" if words.heard else "x-harakatls"
    yield _ascii_field("Diagnostic-Code", f"{kind}; {words}"[:longest])
    yield _ascii_field("Last-Attempt-Date", formatdate(now))


def _original_recipient(original: str) -> bytes:
    kind, _, address = original.partition(";")
    text = "".join(c if c.isascii() else _escaped(c) for c in address)
    return f"Original-Recipient: {kind}; {text}\r\n".encode()


def _typed(address: Address) -> str:
    """
    An address with its type, all ASCII.

    What is not ASCII is written as utf-8-addr-xtext (RFC 6533 section 3).
    """
    text = str(address)
    if address.is_ascii:
        return f"rfc822; {text}"
    plain = (c if "!" <= c <= "~" and c not in "+=\\" else _escaped(c) for c in text)
    return f"utf-8; {''.join(plain)}"


def _escaped(character: str) -> str:
    return f"\\x{{{ord(character):X}}}"


def _ascii_field(name: str, value: str) -> bytes:
    return field(name, value[:LONGEST_VALUE].encode("ascii", "replace").decode("ascii"))
