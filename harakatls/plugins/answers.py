"""What a back end has answered for the recipients of a message, as one verdict."""

from collections.abc import Iterable

from attrs import evolve

from harakatls.smtp.reply import Reply
from harakatls.verdict import Reject, TempFail


def refused(answers: Iterable[Reply]) -> Reject | TempFail:
    """
    A passing failure counts before a lasting one: then the client comes back.

    @param answers: at least one is a refusal.
    """
    reply = min((reply for reply in answers if not reply.accepts), key=lambda each: each.code)
    if reply.is_permanent:
        return Reject(evolve(reply, code=550))
    return TempFail(evolve(reply, code=450 if reply.heard else 451))
