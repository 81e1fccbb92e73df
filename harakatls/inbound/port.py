"""What all connections to one listening port share."""

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime

from harakatls.hooks.chain import HookChain
from harakatls.inbound.admission import Admission
from harakatls.inbound.failed_logins import FailedLogins
from harakatls.inbound.offered import session_limits
from harakatls.inbound.settings import InboundSettings, ListenerSettings
from harakatls.interfaces import IServerTLS, ISpool
from harakatls.smtp.offer import SessionLimits


@frozen(eq=False)
class Port:
    """
    @ivar tls: None where there is none.
    @ivar me: our host name.
    @ivar admission: the same for all ports of a server.
    @ivar failed_logins: the server's ports share one.
    """

    listener: ListenerSettings
    settings: InboundSettings
    chain: HookChain
    spool: ISpool
    tls: IServerTLS | None
    me: str
    clock: IReactorTime
    admission: Admission = field()
    failed_logins: FailedLogins = field()
    limits: SessionLimits = field(init=False)

    @admission.default
    def _admission(self) -> Admission:
        return Admission(self.settings.peers, self.clock)

    @failed_logins.default
    def _failed_logins(self) -> FailedLogins:
        return FailedLogins(self.clock)

    @limits.default
    def _limits(self) -> SessionLimits:
        return session_limits(self.settings)
