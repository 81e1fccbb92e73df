"""
Everything that may be replaced.

A plugin is an object that provides one or more of the hook interfaces; an `IPluginFactory`
makes it. Hooks are coroutines: they return a verdict, and may await Deferreds before. They are
asked in the order of config/plugins; the first verdict other than Continue ends a stage. A hook
that raises, or takes longer than its plugin_timeout, counts as TempFail.
"""

from harakatls.interfaces.authentication import (
    ICertificateHook,
    IPasswordHook,
    ISecretHook,
    IUsersHook,
)
from harakatls.interfaces.back_ends import BackEndFailed, IBackEnd, IBackEnds
from harakatls.interfaces.delivery import (
    IBounceHook,
    IDelayHook,
    IDeliveryObserver,
    IRouteHook,
    ISendHook,
)
from harakatls.interfaces.dns import IResolver, NoSuchDomain, ResolutionFailed
from harakatls.interfaces.plugins import IAskedLast, IPluginFactory, SendEmail, Site
from harakatls.interfaces.reception import (
    IAcceptedRcptHook,
    ICapabilitiesHook,
    IConnectHook,
    IDataHook,
    IDisconnectHook,
    IHelloHook,
    IMailHook,
    IMessageHook,
    INoopHook,
    IPeerNameHook,
    IQueueHook,
    IQuitHook,
    IRcptHook,
    IRefusedHook,
    IRelayHook,
    IResetHook,
    IRsetHook,
    ITooLargeHook,
    IUnrecognizedHook,
    IVerifyHook,
)
from harakatls.interfaces.spool import (
    IMessageBody,
    ISpool,
    IStagedMessage,
    ISuccessReports,
    SpoolDamaged,
    SpoolFull,
)
from harakatls.interfaces.tls import HasHandle, IServerTLS, ITLSMemory

__all__ = [
    "BackEndFailed",
    "HasHandle",
    "IAcceptedRcptHook",
    "IAskedLast",
    "IBackEnd",
    "IBackEnds",
    "IBounceHook",
    "ICapabilitiesHook",
    "ICertificateHook",
    "IConnectHook",
    "IDataHook",
    "IDelayHook",
    "IDeliveryObserver",
    "IDisconnectHook",
    "IHelloHook",
    "IMailHook",
    "IMessageBody",
    "IMessageHook",
    "INoopHook",
    "IPasswordHook",
    "IPeerNameHook",
    "IPluginFactory",
    "IQueueHook",
    "IQuitHook",
    "IRcptHook",
    "IRefusedHook",
    "IRelayHook",
    "IResetHook",
    "IResolver",
    "IRouteHook",
    "IRsetHook",
    "ISecretHook",
    "ISendHook",
    "IServerTLS",
    "ISpool",
    "IStagedMessage",
    "ISuccessReports",
    "ITLSMemory",
    "ITooLargeHook",
    "IUnrecognizedHook",
    "IUsersHook",
    "IVerifyHook",
    "NoSuchDomain",
    "ResolutionFailed",
    "SendEmail",
    "Site",
    "SpoolDamaged",
    "SpoolFull",
]
