"""How many files and connections the process may have open."""

import resource

from twisted.logger import Logger

log = Logger()

UNLIMITED = 1 << 20
"""What counts for no limit: more than this no Linux gives unasked."""


def raise_limit(wanted: int | None) -> int:
    """
    As many descriptors as the operator allows, not the few that interactive programs get.

    @param wanted: connections that the operator named, for a warning where they do not fit.
    @return: how many there may be now.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError) as problem:
            log.warn("at most {soft} connections: {problem}", soft=soft, problem=str(problem))
    allowed = UNLIMITED if soft == resource.RLIM_INFINITY else soft
    if wanted is not None and wanted >= allowed:
        log.warn(
            "connection.ini [max] connections: {wanted} are more than the {allowed} file "
            "descriptors that the system allows (ulimit -n, LimitNOFILE=)",
            wanted=wanted,
            allowed=allowed,
        )
    return allowed
