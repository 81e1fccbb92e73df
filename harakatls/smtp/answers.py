"""With what a server may say yes to a command."""

from harakatls.smtp.errors import LocalProtocolError
from harakatls.smtp.events import (
    AuthReceived,
    BodyEnded,
    ChunkEnded,
    ChunkReceived,
    DataReceived,
    HelloReceived,
    ResponseReceived,
    ServerEvent,
    StartTLSReceived,
    XClientReceived,
)

CHALLENGE = 334  # RFC 4954: the login goes on
_INTERMEDIATE = 300
_EXPECTED = {DataReceived: 354, StartTLSReceived: 220}  # 2yz accepts the rest


def check_answer(event: ServerEvent, code: int) -> None:
    """@raise LocalProtocolError: not with *code*, which is one below 400."""
    kind = type(event)
    if kind is XClientReceived:
        raise LocalProtocolError("greet_again says yes to XCLIENT")
    if kind is HelloReceived:
        raise LocalProtocolError("accept_hello says yes to HELO and EHLO")
    if kind is ChunkReceived:
        raise LocalProtocolError("accept_chunk says yes to BDAT")
    expected = _EXPECTED.get(kind)
    is_right = code < _INTERMEDIATE if expected is None else code == expected
    if code == CHALLENGE:
        is_right = kind is AuthReceived or kind is ResponseReceived
    if not is_right or (isinstance(event, BodyEnded | ChunkEnded) and event.refusal):
        raise LocalProtocolError(f"{kind.__name__} cannot be answered with {code}")
