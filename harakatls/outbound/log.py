"""
The log lines of deliveries: one for each host and kind of outcome.

``delivered``, ``deferred`` and ``bounced`` are the words that readers of mail logs look for;
``unusable`` is a host from which mail goes on to the next one.
"""

from collections.abc import Iterable
from typing import Any

from twisted.logger import Logger

from harakatls.connection import TLSSummary
from harakatls.mail.route import NextHop
from harakatls.queued import Delayed, Delivered, Failed, Outcome, QueuedMessage
from harakatls.smtp.reply import Reply
from harakatls.tls.policy import Decision

log = Logger(namespace="harakatls.outbound")

WORDS = {Delivered: "delivered", Delayed: "deferred", Failed: "bounced"}

_HOP = (
    "{outcome} {queue_id} domain={domain} host={host} ip={ip} port={port} tls={tls}"
    " cipher={cipher} verified={verified} auth={auth} response={response} delay={delay}"
    " fails={fails} rcpts={rcpts} reused={reused} tls_reasons={tls_reasons}"
)
_UNUSABLE = (
    "{outcome} {queue_id} domain={domain} host={host} ip={ip} port={port} tls={tls}"
    " cipher={cipher} verified={verified} response={response} fails={fails}"
    " tls_reasons={tls_reasons}"
)


def log_hop(
    queued: QueuedMessage,
    hop: NextHop | None,
    outcomes: Iterable[Outcome],
    secured: TLSSummary | None,
    now: float,
    decision: Decision | None = None,
    earlier: int = 0,
    logged_in: bool = False,
) -> None:
    """
    What became of recipients at one host; or, with None, without one.

    @param decision: None where nothing was decided about TLS.
    @param earlier: messages that had been on the connection before.
    @param logged_in: on the connection, with AUTH.
    """
    by_kind: dict[type[Outcome], list[Outcome]] = {}
    for outcome in outcomes:
        by_kind.setdefault(type(outcome), []).append(outcome)
    counts = "/".join(str(len(by_kind.get(kind, ()))) for kind in (Delivered, Delayed, Failed))
    for kind, some in by_kind.items():
        log.info(
            _HOP,
            outcome=WORDS[kind],
            response=str(some[0].reply),
            recipients=len(some),
            rcpts=counts,
            delay=round(now - queued.arrived, 3),
            auth="Y" if logged_in else "N",
            reused="Y" if earlier else "N",
            earlier=earlier,
            **_place(queued, hop),
            **_tls(secured, decision),
        )


def log_unusable(
    queued: QueuedMessage,
    hop: NextHop | None,
    reply: Reply,
    decision: Decision | None,
    secured: TLSSummary | None,
) -> None:
    """A host to which nothing was sent, or no host at all."""
    log.info(
        _UNUSABLE,
        outcome="unusable",
        response=str(reply),
        recipients=len(queued.pending),
        **_place(queued, hop),
        **_tls(secured, decision),
    )


def log_given_up(queued: QueuedMessage, outcomes: Iterable[Outcome], now: float) -> None:
    """The last attempt has failed, and no further one is made."""
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    if failed:
        log_hop(queued, failed[0].next_hop, failed, failed[0].secured, now)


def _place(queued: QueuedMessage, hop: NextHop | None) -> dict[str, Any]:
    place = {"queue_id": queued.id, "domain": queued.domain, "fails": queued.attempts}
    if hop is None:
        return {**place, "host": "", "ip": "", "port": ""}
    if hop.is_socket:
        return {**place, "host": hop.host, "ip": "", "port": ""}
    return {**place, "host": hop.name, "ip": hop.host, "port": hop.port}


def _tls(secured: TLSSummary | None, decision: Decision | None) -> dict[str, Any]:
    reasons = "; ".join(decision.reasons) if decision is not None else ""
    if secured is None:
        facts: dict[str, Any] = {"tls": "N", "cipher": "", "verified": False, "resumed": False}
    else:
        facts = {
            "tls": secured.protocol,
            "cipher": secured.cipher,
            "verified": secured.verified,
            "resumed": secured.resumed,
        }
    return {**facts, "tls_reasons": reasons}
