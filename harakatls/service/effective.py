"""The settings of tls.ini that count, by the names they have there: for people and programs."""

from collections.abc import Iterable
from typing import Any

from harakatls.outbound.settings import OutboundSettings
from harakatls.tls.files import GroupFile, PEMFile
from harakatls.tls.mutual import EVERYWHERE, EXCLUDED, HOSTS, HostRule, MutualTLS
from harakatls.tls.parameters import ContextParameters, TLSVersion, version_name
from harakatls.tls.requiretls import HOSTS as LEVEL_HOSTS
from harakatls.tls.requiretls import NAMES, OPTION, SECURE_MX, RequireTLSPolicy
from harakatls.tls.settings import InboundTLS, NoGoSettings, OutboundTLS

Facts = dict[str, Any]


def incoming(settings: InboundTLS) -> Facts:
    """For clients that ask for no name with a section of its own."""
    return {
        **rules_of(settings),
        "no_starttls_ports": sorted(settings.no_starttls_ports),
        "no_tls_hosts": list(settings.no_tls_hosts.entries),
        "require_tls_ports": sorted(settings.require_tls_ports),
        "require_tls_hosts": list(settings.require_tls_hosts.entries),
    }


def rules_of(settings: InboundTLS) -> Facts:
    """What may differ from name to name."""
    return {
        **_parameters(settings.parameters),
        "honorCipherOrder": settings.parameters.honor_cipher_order,
        "dhparam": _group(settings.group_file),
        "ca": _names(settings.anchors) or "the system's",
        "requestCert": settings.request_certificate,
        "rejectUnauthorized": settings.reject_unauthorized,
        "requireAuthorized": sorted(settings.require_authorized),
        "requestOCSP": settings.staples,
    }


def outgoing(settings: OutboundTLS, delivery: OutboundSettings | None) -> Facts:
    """@param delivery: None where outbound.ini cannot be used."""
    return {
        "enable_tls": delivery.enable_tls if delivery is not None else None,
        **servers_of(settings),
    }


def servers_of(settings: OutboundTLS) -> Facts:
    """What holds with the servers that somebody connects to."""
    return {
        **_parameters(settings.parameters),
        "ca": _names(settings.anchors) or "the system's",
        "rejectUnauthorized": settings.reject_unauthorized,
        "force_tls_hosts": list(settings.force_tls_hosts.entries),
        "no_tls_hosts": list(settings.no_tls_hosts.entries),
        **_mutual(settings.mutual),
        **_requiretls(settings.requiretls),
    }


def memory(settings: NoGoSettings) -> Facts:
    """[redis]; never with the password."""
    return {
        "disable_for_failed_hosts": settings.enabled,
        "disable_expiry": settings.expiry,
        "disable_inbound_expiry": settings.inbound_expiry,
        "Redis": "none" if settings.redis is None else str(settings.redis),
    }


def versions(parameters: ContextParameters) -> list[str]:
    """All that are spoken, the oldest first."""
    newest = parameters.max_version or max(TLSVersion)
    return [version_name(v) for v in TLSVersion if parameters.min_version <= v <= newest]


def _parameters(parameters: ContextParameters) -> Facts:
    lists = filter(None, (parameters.suites, parameters.ciphers))
    newest = parameters.max_version
    return {
        "minVersion": version_name(parameters.min_version),
        "maxVersion": "the newest" if newest is None else version_name(newest),
        "ciphers": ":".join(lists) or "the library's",
        "ecdhCurve": parameters.groups or "auto",
    }


def _group(file: GroupFile) -> str:
    if file.problem is not None:
        return f"ffdhe2048, since {file.name} cannot be used"
    if file.missing:
        return f"ffdhe2048; {file.name} will be made at the start"
    return f"{file.name}, {file.group.bits} bits"


def _mutual(mutual: MutualTLS) -> Facts:
    return {
        EVERYWHERE: mutual.everywhere,
        HOSTS: [_entry(rule) for rule in mutual.rules],
        EXCLUDED: list(mutual.excluded.entries),
    }


def _requiretls(policy: RequireTLSPolicy) -> Facts:
    return {
        OPTION: NAMES[policy.usual],
        SECURE_MX: policy.secure_mx,
        LEVEL_HOSTS: [f"{rule.entry}={NAMES[rule.level]}" for rule in policy.rules],
    }


def _entry(rule: HostRule) -> str:
    return rule.entry if rule.certificate is None else f"{rule.entry}={rule.certificate}"


def _names(files: Iterable[PEMFile]) -> list[str]:
    return [file.name for file in files]
