"""Why TLS holds a message back, and what would change it."""

import re
from collections.abc import Iterator

from attrs import frozen

from harakatls.config.directory import ConfigDirectory
from harakatls.mail.route import NextHop
from harakatls.outbound.settings import OutboundSettings
from harakatls.queued import QueuedMessage, Trial
from harakatls.tls.policy import Decision, outbound_decision
from harakatls.tls.settings import OutboundTLS, TLSSettings

# As `outbound.host.trial` writes it.
_HOST = re.compile(r"(?:(?P<name>\S+) )?\[(?P<address>[^\]\s]+)\]:(?P<port>[0-9]{1,5})")
# RFC 3463 section 3.8: security features not supported, cryptographic failure; said by us.
_HELD_BACK = re.compile(r"451 4\.7\.[45] TLS")


@frozen
class Rules:
    """What the configuration says now, which the running server may have to be told first."""

    outbound: OutboundSettings
    tls: OutboundTLS

    @classmethod
    def load(cls, config: ConfigDirectory) -> "Rules":
        """@raise ConfigError: a file is wrong."""
        return cls(OutboundSettings.load(config), TLSSettings.load(config).outbound)

    def decision(self, trial: Trial, domain: str) -> Decision | None:
        """How much TLS the host of *trial* would have to have now; None where it had no host."""
        found = _HOST.fullmatch(trial.host)
        if found is None:
            return None
        hop = NextHop(
            host=found["address"],
            port=int(found["port"]),
            preference=0,
            domain=domain,
            mx_name=found["name"],
        )
        return outbound_decision(hop, self.tls, None, self.outbound.enable_tls)


@frozen
class Advice:
    """
    @ivar host: as in the trial.
    @ivar problem: what the host did, or did not.
    @ivar reasons: why that is not good enough, as it was decided then.
    @ivar remedies: each of these would change it.
    """

    host: str
    problem: str
    reasons: tuple[str, ...]
    remedies: tuple[str, ...]


def advice(queued: QueuedMessage, rules: Rules) -> Iterator[Advice]:
    """For each host of the last attempt that got nothing because of TLS."""
    trials = queued.history[-1].trials if queued.history else ()
    for trial in trials:
        if not _HELD_BACK.match(trial.result):
            continue
        problem = trial.result.split(" ", 2)[2]
        decision = rules.decision(trial, queued.domain)
        remedies = tuple(_remedies(trial, decision, queued, rules))
        yield Advice(trial.host, problem, trial.reasons, remedies)


def _remedies(
    trial: Trial, now: Decision | None, queued: QueuedMessage, rules: Rules
) -> Iterator[str]:
    reason = trial.reasons[0] if trial.reasons else ""
    if now is not None and now.reasons and now.reasons[0] != reason:
        yield f"the configuration has changed since: for the next attempt, {now.reasons[0]}"
        return
    name = (now.reference if now is not None else None) or "the name of the host"
    forced = re.match(r"force_tls_hosts lists (\S+)", reason)
    if forced is not None and not rules.outbound.enable_tls:
        yield "enable_tls = true in outbound.ini, so that TLS is spoken at all"
    elif "STARTTLS" in trial.result:
        yield "the host offers STARTTLS"
    elif forced is not None or reason.startswith("rejectUnauthorized"):
        yield f"the host shows a valid certificate for {name}, from an authority that is trusted"
        if "certificate is for" not in trial.result:
            yield "ca in tls.ini [outbound] names the authority that has issued its certificate"
    if forced is not None:
        yield (
            f"force_tls_hosts in tls.ini [outbound] does not list {forced[1]} any more: then the "
            "mail may go to anybody who answers there, and in the clear"
        )
    elif reason.startswith("rejectUnauthorized"):
        yield (
            "rejectUnauthorized = false in tls.ini [outbound]: any certificate will do then, for "
            "all hosts"
        )
    elif queued.attempts == 1:
        yield "nothing needs to: if TLS fails at the next attempt as well, that one goes on without"
