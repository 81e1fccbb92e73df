"""Why TLS holds a message back, and what would change it."""

import re
from collections.abc import Iterator, Mapping

from attrs import frozen

from harakatls.config.directory import ConfigDirectory
from harakatls.mail.envelope import TLSWish
from harakatls.mail.route import NextHop
from harakatls.outbound.settings import OutboundSettings
from harakatls.queued import QueuedMessage, Trial
from harakatls.tls.policy import Decision
from harakatls.tls.requiretls import HOSTS, OPTION, SECURE_MX
from harakatls.tls.sections import OUTBOUND
from harakatls.tls.settings import OutboundTLS, TLSSettings
from harakatls.tls.wishes import decision_for

# As `outbound.host.trial` writes it.
_HOST = re.compile(r"(?:(?P<name>\S+) )?\[(?P<address>[^\]\s]+)\]:(?P<port>[0-9]{1,5})")
# RFC 3463 section 3.8: security features not supported, cryptographic failure; said by us.
_HELD_BACK = re.compile(r"451 4\.7\.[45] TLS|(?:451 4\.7\.5|550 5\.7\.(?:10|30)) REQUIRETLS")


@frozen
class Rules:
    """
    What the configuration says now, which the running server may have to be told first.

    @ivar tls: by section of tls.ini: that of all mail that goes out, and those of plugins whose
        back ends have rules of their own.
    """

    outbound: OutboundSettings
    tls: Mapping[str, OutboundTLS]

    @classmethod
    def load(cls, config: ConfigDirectory) -> "Rules":
        """@raise ConfigError: a file is wrong."""
        tls = TLSSettings.load(config)
        return cls(OutboundSettings.load(config), {OUTBOUND: tls.outbound, **tls.plugins})

    def decision(
        self, trial: Trial, domain: str, wish: TLSWish = TLSWish.NONE
    ) -> tuple[str, Decision | None]:
        """
        @param wish: of the message.
        @return: the section of tls.ini that the host of *trial* is about: the one that still says
            what was decided then; and how much TLS it would have to have now, None where there was
            no host.
        """
        found = _HOST.fullmatch(trial.host)
        if found is None:
            return OUTBOUND, None
        hop = NextHop(
            host=found["address"],
            port=int(found["port"]),
            preference=0,
            domain=domain,
            mx_name=found["name"],
        )
        usual = decision_for(wish, hop, self.tls[OUTBOUND], None, self.outbound.enable_tls)
        if usual.reasons[:1] != trial.reasons[:1]:
            for section, tls in self.tls.items():
                decision = decision_for(wish, hop, tls, None)
                same = not decision.may_fall_back and decision.reasons[:1] == trial.reasons[:1]
                if same and section != OUTBOUND:
                    return section, decision
        return OUTBOUND, usual


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
        remedies = tuple(_remedies(trial, queued, rules))
        yield Advice(trial.host, problem, trial.reasons, remedies)


def _remedies(trial: Trial, queued: QueuedMessage, rules: Rules) -> Iterator[str]:
    section, now = rules.decision(trial, queued.domain, queued.envelope.tls_wish)
    reason = trial.reasons[0] if trial.reasons else ""
    if now is not None and now.reasons and now.reasons[0] != reason:
        yield f"the configuration has changed since: for the next attempt, {now.reasons[0]}"
        return
    name = (now.reference if now is not None else None) or "the name of the host"
    if reason.startswith("REQUIRETLS"):
        yield from _for_requiretls(trial.result, section, name)
        return
    forced = re.match(r"force_tls_hosts lists (\S+)", reason)
    if forced is not None and section == OUTBOUND and not rules.outbound.enable_tls:
        yield "enable_tls = true in outbound.ini, so that TLS is spoken at all"
    elif "STARTTLS" in trial.result:
        yield "the host offers STARTTLS"
    elif forced is not None or reason.startswith("rejectUnauthorized"):
        yield f"the host shows a valid certificate for {name}, from an authority that is trusted"
        if "certificate is for" not in trial.result:
            yield f"ca in tls.ini [{section}] names the authority that has issued its certificate"
    if forced is not None:
        yield (
            f"force_tls_hosts in tls.ini [{section}] does not list {forced[1]} any more: then the "
            "mail may go to anybody who answers there, and in the clear"
        )
    elif reason.startswith("rejectUnauthorized"):
        yield (
            f"rejectUnauthorized = false in tls.ini [{section}]: any certificate will do then, for "
            "all hosts"
        )
    elif queued.attempts == 1:
        yield "nothing needs to: if TLS fails at the next attempt as well, that one goes on without"


def _for_requiretls(result: str, section: str, name: str) -> Iterator[str]:
    """@param name: for which the certificate has to be."""
    if "enable_tls" in result:
        yield "enable_tls = true in outbound.ini, so that TLS is spoken at all"
    elif SECURE_MX in result:
        yield f"{SECURE_MX} = false in tls.ini [{section}]: a host that the DNS names will do then"
    elif "STARTTLS" in result:
        yield "the host offers STARTTLS"
    elif "does not offer it" in result:
        yield "the host offers REQUIRETLS"
    else:
        yield f"the host shows a valid certificate for {name}, from an authority that is trusted"
        if "certificate is for" not in result:
            yield f"ca in tls.ini [{section}] names the authority that has issued its certificate"
    yield (
        f"{OPTION} in tls.ini [{section}], or [{HOSTS}] for this host alone, demands less: then "
        "the message goes less safely than its sender has asked for"
    )
