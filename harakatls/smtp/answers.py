"""With what a server may say yes to a command."""

from collections.abc import Container, Mapping

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
_YES = range(200, 300)
_EXPECTED: Mapping[type, Container[int]] = {  # 2yz accepts the rest
    DataReceived: (354,),
    StartTLSReceived: (220,),
    AuthReceived: (*_YES, CHALLENGE),
    ResponseReceived: (*_YES, CHALLENGE),
    XClientReceived: (),
    HelloReceived: (),
    ChunkReceived: (),
}
_ELSEWHERE: Mapping[type, str] = {
    XClientReceived: "greet_again says yes to XCLIENT",
    HelloReceived: "accept_hello says yes to HELO and EHLO",
    ChunkReceived: "accept_chunk says yes to BDAT",
}
_MAY_BE_REFUSED = (BodyEnded, ChunkEnded)


def check_answer(event: ServerEvent, code: int) -> None:
    """@raise LocalProtocolError: not with *code*, which is one below 400."""
    kind = type(event)
    if code not in _EXPECTED.get(kind, _YES) or (
        isinstance(event, _MAY_BE_REFUSED) and event.refusal
    ):
        wrong = f"{kind.__name__} cannot be answered with {code}"
        raise LocalProtocolError(_ELSEWHERE.get(kind, wrong))
