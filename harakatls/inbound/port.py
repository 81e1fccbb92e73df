"""What all connections to one listening port share."""

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime

from harakatls.hooks.chain import HookChain
from harakatls.inbound.dialogue import session_limits
from harakatls.inbound.settings import InboundSettings, ListenerSettings
from harakatls.interfaces import IServerTLS, ISpool
from harakatls.smtp.offer import SessionLimits


@frozen(eq=False)
class Port:
    """
    @ivar tls: None where there is none.
    @ivar me: our host name.
    """

    listener: ListenerSettings
    settings: InboundSettings
    chain: HookChain
    spool: ISpool
    tls: IServerTLS | None
    me: str
    clock: IReactorTime
    limits: SessionLimits = field(init=False)

    @limits.default
    def _limits(self) -> SessionLimits:
        return session_limits(self.settings)
