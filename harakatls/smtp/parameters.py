"""The parameters of MAIL and RCPT (RFC 5321 section 4.1.1.11), in both directions."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from attrs import frozen

from harakatls.mail import xtext
from harakatls.mail.envelope import BINARYMIME, NO_PARAMETERS, Envelope, MailParameters, Recipient
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.errors import LocalProtocolError
from harakatls.smtp.refusals import REQUIRETLS_IN_THE_CLEAR, refuse
from harakatls.smtp.reply import Reply

_SIZE_DIGITS = 20  # RFC 1870 section 4
_ENVID_OCTETS = 100  # RFC 3461 section 4.4
_ORCPT_OCTETS = 500  # RFC 3461 section 4.2
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9!#$%&'*/?^_`{|}~-]{1,40}\Z")
_NOTIFY = ("SUCCESS", "FAILURE", "DELAY")


@frozen
class _Parameter:
    """
    @ivar capability: what must have been offered for it.
    @ivar name: its attribute of MailParameters or Recipient.
    @ivar read: its value, or None without one, as Python's; told whether the transaction is one of
        SMTPUTF8. Raises ValueError, with what it expects.
    """

    capability: str
    name: str
    read: Callable[[str | None, bool], object]


# -- MAIL -----------------------------------------------------------------------------------------


def _read_size(value: str | None, _: bool) -> int:
    if not value or not value.isdigit() or not value.isascii() or len(value) > _SIZE_DIGITS:
        raise ValueError("octets")
    return int(value)


def _read_body(value: str | None, _: bool) -> str:
    if value is None or value.upper() not in ("7BIT", "8BITMIME", BINARYMIME):
        raise ValueError("7BIT, 8BITMIME or BINARYMIME")
    return value.upper()


def _read_nothing(value: str | None, _: bool) -> bool:
    if value is not None:
        raise ValueError("no value")
    return True


def _read_auth(value: str | None, _: bool) -> None:
    if not value:
        raise ValueError("a mailbox or <>")
    if value != "<>":
        xtext.decode(value, utf8=True)


def _read_ret(value: str | None, _: bool) -> str:
    if value is None or value.upper() not in ("FULL", "HDRS"):
        raise ValueError("FULL or HDRS")
    return value.upper()


def _read_envid(value: str | None, _: bool) -> str:
    if not value or len(value) > _ENVID_OCTETS:
        raise ValueError(f"1 to {_ENVID_OCTETS} characters")
    return xtext.decode(value)


_FORGOTTEN = ""
_OF_MAIL: Mapping[str, _Parameter] = {
    "SIZE": _Parameter("SIZE", "size", _read_size),
    "BODY": _Parameter("8BITMIME", "body", _read_body),
    "SMTPUTF8": _Parameter("SMTPUTF8", "smtputf8", _read_nothing),
    # RFC 4954 section 5: who is not trusted to say so is taken to have said <>.
    "AUTH": _Parameter("AUTH", _FORGOTTEN, _read_auth),
    "RET": _Parameter("DSN", "ret", _read_ret),
    "ENVID": _Parameter("DSN", "envid", _read_envid),
    "REQUIRETLS": _Parameter("REQUIRETLS", "requiretls", _read_nothing),
}


def read_mail_parameters(text: str, offered: Capabilities, secured: bool = False) -> MailParameters:
    """
    What stands behind the path of MAIL.

    @param secured: the session is inside TLS.
    @raise RemoteProtocolError: 555 for what was not offered, 501 for what cannot be read; 523 for
        REQUIRETLS in the clear.
    """
    if not secured and "REQUIRETLS" in _keywords(text):
        refuse(REQUIRETLS_IN_THE_CLEAR)
    given = MailParameters(**_read("MAIL", _OF_MAIL, text, offered))
    if given.is_binary and BINARYMIME not in offered:
        refuse(Reply.of(555, "5.5.4", "BODY=BINARYMIME is not offered"))
    return given


# -- RCPT -----------------------------------------------------------------------------------------


def _read_notify(value: str | None, _: bool) -> frozenset[str]:
    words = (value or "").upper().split(",")
    if words != ["NEVER"] and not set(words) <= set(_NOTIFY):
        raise ValueError("NEVER, or a list of SUCCESS, FAILURE and DELAY")
    return frozenset(words)


def _read_original(value: str | None, utf8: bool) -> str:
    kind, semicolon, address = (value or "").partition(";")
    if not semicolon or not address or not _ADDRESS_TYPE.match(kind):
        raise ValueError("type;address")
    if len(value or "") > _ORCPT_OCTETS:
        raise ValueError(f"up to {_ORCPT_OCTETS} characters")
    return f"{kind};{xtext.decode(address, utf8 and kind.lower() == 'utf-8')}"


_OF_RCPT: Mapping[str, _Parameter] = {
    "NOTIFY": _Parameter("DSN", "notify", _read_notify),
    "ORCPT": _Parameter("DSN", "original", _read_original),
}


def read_rcpt_parameters(text: str, offered: Capabilities, utf8: bool) -> dict[str, Any]:
    """
    What stands behind the path of RCPT (RFC 3461 section 4).

    @param utf8: MAIL had SMTPUTF8.
    @return: attributes of `Recipient`.
    @raise RemoteProtocolError: 555 for what was not offered, 501 for what cannot be read.
    """
    return _read("RCPT", _OF_RCPT, text, offered, utf8)


def _read(
    verb: str,
    known: Mapping[str, _Parameter],
    text: str,
    offered: Capabilities,
    utf8: bool = False,
) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for word in text.split():
        keyword, equals, value = word.partition("=")
        keyword = keyword.upper()
        parameter = known.get(keyword)
        if parameter is None or parameter.capability not in offered:
            _unsupported(verb, word)
        if parameter.name in given:
            refuse(Reply.of(501, "5.5.4", f"{keyword} is given twice"))
        try:
            given[parameter.name] = parameter.read(value if equals else None, utf8)
        except ValueError as expected:
            refuse(Reply.of(501, "5.5.4", f"{keyword} takes {expected}"))
    given.pop(_FORGOTTEN, None)
    return given


def _keywords(text: str) -> set[str]:
    return {word.partition("=")[0].upper() for word in text.split()}


def _unsupported(verb: str, word: str) -> NoReturn:
    keyword = ascii(word.partition("=")[0][:40])[1:-1]
    refuse(Reply.of(555, "5.5.4", f"Unsupported parameter of {verb}: {keyword}"))


# -- to the next hop ------------------------------------------------------------------------------


def needs_smtputf8(envelope: Envelope) -> bool:
    """
    The message may only be given to a server that offers SMTPUTF8 (RFC 6531 section 3.2).

    So it was sent to us, or an address has a local part beyond ASCII.
    """
    path = envelope.reverse_path
    return (
        envelope.parameters.smtputf8
        or (path is not None and not path.is_ascii)
        or not all(recipient.address.is_ascii for recipient in envelope.recipients)
    )


def mail_parameters(envelope: Envelope, size: int, capabilities: Capabilities) -> str:
    """
    What is said behind the path of MAIL: "" or " SIZE=1000 BODY=8BITMIME SMTPUTF8 RET=HDRS".

    @param size: octets of the message.
    @raise LocalProtocolError: the message needs SMTPUTF8, or is BINARYMIME, which is not offered:
        ask `needs_smtputf8` before, and see that it goes as another one.
    """
    words = []
    given = envelope.parameters
    if "SIZE" in capabilities:
        words.append(f" SIZE={size}")
    if given.is_binary and BINARYMIME not in capabilities:
        raise LocalProtocolError("the message is BINARYMIME, which is not offered")
    if given.body is not None and "8BITMIME" in capabilities:
        words.append(f" BODY={given.body}")
    if needs_smtputf8(envelope):
        if "SMTPUTF8" not in capabilities:
            raise LocalProtocolError("the message needs SMTPUTF8, which is not offered")
        words.append(" SMTPUTF8")
    if given is not NO_PARAMETERS and "DSN" in capabilities:
        if given.ret is not None:
            words.append(f" RET={given.ret}")
        if given.envid is not None:
            words.append(f" ENVID={xtext.encode(given.envid)}")
    if given.requiretls and "REQUIRETLS" in capabilities:
        words.append(" REQUIRETLS")
    return "".join(words)


def rcpt_parameters(recipient: Recipient, capabilities: Capabilities) -> str:
    """What is said behind the path of RCPT: as it was said to us (RFC 3461 section 5.2.1)."""
    if (not recipient.notify and recipient.original is None) or "DSN" not in capabilities:
        return ""
    words = []
    if recipient.notify:
        words.append(f" NOTIFY={','.join(w for w in (*_NOTIFY, 'NEVER') if w in recipient.notify)}")
    if recipient.original is not None:
        kind, _, address = recipient.original.partition(";")
        words.append(f" ORCPT={kind};{xtext.encode(address)}")
    return "".join(words)
