"""
The operator's own words for reports of failures: outbound.bounce_message, _html and _image.

A template holds variables in braces. What they stand for was written by strangers (a subject, a
server's reply), so in a header field it is one line, in HTML it is escaped, and in text it cannot
end the part, as nobody knows the boundary beforehand.
"""

import html
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from email.errors import MessageError
from email.header import Header, decode_header, make_header
from email.utils import formataddr, formatdate, parseaddr

from attrs import frozen

from harakatls.config.directory import ConfigDirectory
from harakatls.config.errors import ConfigError, shown
from harakatls.mail.header import LONGEST_VALUE, field, first_value
from harakatls.outbound.notices import Action, Notice
from harakatls.outbound.words import MOST_TOLD, last_attempt
from harakatls.queued import QueuedMessage

TEXT, HTML, IMAGE = (
    "outbound.bounce_message",
    "outbound.bounce_message_html",
    "outbound.bounce_message_image",
)
VARIABLES = (
    "date",
    "me",
    "from",
    "to",
    "subject",
    "recipients",
    "reason",
    "extended_reason",
    "pid",
    "msgid",
)
Values = Mapping[str, str]
"""What each variable stands for in one report."""

_VARIABLE = re.compile(r"\{(\w+)\}")
_COMMENTS = re.compile(r"\A(?:#[^\n]*(?:\n|\Z))*\n*")
_FIELD = re.compile(r"([!-9;-~]+)[ \t]*:(.*)", re.DOTALL)
# These follow from the report, whatever a template says.
_OURS = frozenset({"to", "auto-submitted", "references"})
_MIME = ("mime-version", "content-")
_ADDRESSES = frozenset({"from", "reply-to", "sender"})
_MOST_REPLIES = 3


@frozen
class Templates:
    """
    Where there is none, the words of `outbound.words` are used.

    @ivar fields: names of header fields with templates of their values.
    @ivar text: the template of the text, or None.
    @ivar html: the template of the same in HTML, or None.
    @ivar image: a MIME part, header and all, in wire form, for the HTML to show; or None.
    """

    fields: tuple[tuple[str, str], ...] = ()
    text: str | None = None
    html: str | None = None
    image: bytes | None = None

    @classmethod
    def load(cls, config: ConfigDirectory) -> "Templates":
        """@raise ConfigError: a template cannot be used."""
        text = _content(config, TEXT)
        page = _content(config, HTML)
        image = _content(config, IMAGE)
        fields: tuple[tuple[str, str], ...] = ()
        if text is not None:
            fields, text = _split(config, text)
        for file, template in ((TEXT, " ".join(v for _, v in fields) + (text or "")), (HTML, page)):
            for name in dict.fromkeys(_VARIABLE.findall(template or "")):
                if name not in VARIABLES:
                    known = ", ".join(f"{{{variable}}}" for variable in VARIABLES)
                    config.warn(file, f"{{{name}}} becomes ?; the variables are {known}")
        if page is not None and text is None:
            config.warn(HTML, f"has no effect without {TEXT}")
        elif image is not None and page is None:
            config.warn(IMAGE, f"has no effect without {HTML}")
        return cls(fields, text, page, None if image is None else _part(image))


NO_TEMPLATES = Templates()


def _content(config: ConfigDirectory, file: str) -> str | None:
    """
    As text, with line feeds; None where there is no such file, or nothing in it.

    Lines with # at the top are comments: neither a field nor HTML begins so.
    """
    content = config.content(file)
    if content is None:
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(file, None, None, "is not UTF-8") from None
    text = _COMMENTS.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return text if text.strip() else None


def _split(config: ConfigDirectory, text: str) -> tuple[tuple[tuple[str, str], ...], str]:
    """Header fields up to the first empty line, then the text."""
    header, _, rest = text.partition("\n\n")
    fields = []
    for line in re.sub(r"\n[ \t]+", " ", header.strip("\n")).split("\n"):
        found = _FIELD.match(line)
        if found is None:
            problem = (
                f"{shown(line)} is not a header field; expected fields, an empty line, the text"
            )
            raise ConfigError(TEXT, None, None, problem)
        name, value = found[1], found[2].strip()
        if name.lower().startswith(_MIME):
            config.warn(TEXT, f"{name} has no effect: it follows from the parts of the report")
        elif name.lower() not in _OURS:
            fields.append((name, value))
    return tuple(fields), rest


def _part(text: str) -> bytes:
    """@raise ConfigError: it is not a MIME part of ASCII."""
    text = text.lstrip("\n")
    header, empty, _ = text.partition("\n\n")
    if not empty or not re.search(r"^content-type:", header, re.IGNORECASE | re.MULTILINE):
        problem = "expected a MIME part: Content-Type and other fields, an empty line, base64"
        raise ConfigError(IMAGE, None, None, problem)
    if not text.isascii():
        raise ConfigError(IMAGE, None, None, "is not ASCII; expected an image in base64")
    return text.rstrip("\n").replace("\n", "\r\n").encode("ascii") + b"\r\n"


# -- values ---------------------------------------------------------------------------------------


def values(
    queued: QueuedMessage, told: Sequence[Notice], header: bytes, me: str, now: float, msgid: str
) -> Values:
    """
    What the variables stand for.

    @param header: of the message that failed.
    @param msgid: of the report, with angle brackets.
    """
    failures = [notice for notice in told if notice.action is Action.FAILED]
    addresses = [str(notice.recipient.address) for notice in failures]
    more = f" and {len(addresses) - MOST_TOLD} others" if len(addresses) > MOST_TOLD else ""
    replies = list(dict.fromkeys(str(notice.reply) for notice in failures))
    reasons = [f"{n.recipient.address}: {_line(str(n.words))}" for n in failures[:MOST_TOLD]]
    return {
        "date": formatdate(now),
        "me": me,
        "from": str(queued.envelope.reverse_path),
        "to": addresses[0],
        "subject": _line(_subject(header)),
        "recipients": ", ".join(addresses[:MOST_TOLD]) + more,
        "reason": _line("; ".join(replies[:_MOST_REPLIES])),
        "extended_reason": "\n".join([*reasons, "", *last_attempt(queued)]).rstrip(),
        "pid": str(os.getpid()),
        "msgid": msgid,
    }


def _line(text: str) -> str:
    """Of printable characters, and of a bounded length."""
    return "".join(c if c.isprintable() else " " for c in text[:LONGEST_VALUE])


def _subject(header: bytes) -> str:
    """Decoded (RFC 2047), as well as it can be."""
    raw = (first_value(header, b"Subject") or b"").decode("utf-8", "replace")[:LONGEST_VALUE]
    try:
        return str(make_header(decode_header(raw)))
    # A forged encoding, a character set that nobody knows.
    except (ValueError, LookupError, MessageError):
        return raw


def filled(template: str, given: Values, escape: Callable[[str], str] = lambda value: value) -> str:
    """*template* with the values of its variables; an unknown one becomes "?"."""
    return _VARIABLE.sub(lambda found: escape(given.get(found[1], "?")), template)


def filled_html(template: str, given: Values) -> str:
    """Likewise; no value can be more than text."""
    return filled(template, given, lambda value: html.escape(value).replace("\n", "<br>\n"))


def header_fields(fields: Iterable[tuple[str, str]], given: Values) -> list[bytes]:
    """One ASCII field for each; no value can start another."""
    return [_header_field(name, _line(filled(value, given))) for name, value in fields]


def _header_field(name: str, value: str) -> bytes:
    if value.isascii():
        return field(name, value)
    if name.lower() in _ADDRESSES:
        person, address = parseaddr(value)
        if address.isascii():
            return field(name, formataddr((person, address), "utf-8"))
    encoded = Header(value, "utf-8", header_name=name).encode(linesep="\r\n")
    return f"{name}: {encoded}\r\n".encode("ascii")
