"""How a plugin is made, and what it may use."""

from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

from harakatls.config.directory import ConfigDirectory
from harakatls.interfaces.back_ends import IBackEnds
from harakatls.interfaces.dns import IResolver
from harakatls.interfaces.spool import ISpool
from harakatls.interfaces.tls import IServerTLS
from harakatls.mail.address import Address
from harakatls.mail.envelope import NO_PARAMETERS, MailParameters, Recipient


class SendEmail(Protocol):
    """Sends mail of this server's own."""

    async def __call__(
        self,
        sender: str | Address | None,
        recipients: Iterable[str | Address | Recipient],
        content: bytes | str | AsyncIterable[bytes],
        *,
        parameters: MailParameters = NO_PARAMETERS,
        remove: Collection[str] = (),
        dot_stuffed: bool = False,
        notes: Mapping[str, Any] | None = None,
    ) -> str:
        """
        When it returns, the message survives a crash: it is in the queue, or where a queue plugin
        has put it. Those are asked as about mail of a client that may relay, at 127.0.0.1, port 0.

        @param sender: None is the null reverse-path: nobody hears of a failure.
        @param content: header and body, with any line ends. Date and Message-Id are added where
            they are missing.
        @param parameters: RET, ENVID, REQUIRETLS and the like; what each recipient's reports are is
            in L{Recipient}. 8BITMIME and SMTPUTF8 are seen to.
        @param remove: names of header fields that are to be left out.
        @param dot_stuffed: lines that begin with a dot have another one before it.
        @param notes: of its transaction, for plugins: C{queue.wants}.
        @return: the id under which it is queued.
        @raise ValueError: an address is none (AddressError), or there is no recipient.
        @raise SpoolFull: no space; nothing was queued.
        """


async def _nobody_sends(*_: object, **__: object) -> str:
    raise RuntimeError("there is nobody here who sends mail")


class IAskedLast(Interface):
    """A plugin that also wants to be asked after all others, in another way than in its place."""

    asked_last: object | None = Attribute("Provides the hooks to be asked last; None for none.")


@frozen
class Site:
    """
    What a plugin may use of the server it is loaded into.

    @ivar config: the config directory.
    @ivar me: our host name, an A-label.
    @ivar clock: for time, delays and time limits; never the global reactor.
    @ivar call_in_thread: run a blocking function in a thread: ``await call_in_thread(f, x)``.
    @ivar back_ends: servers to hand mail on to while the client waits.
    @ivar send_email: send a message of your own: see L{SendEmail}.
    """

    config: ConfigDirectory
    me: str
    clock: IReactorTime
    spool: ISpool
    tls: IServerTLS
    resolver: IResolver
    call_in_thread: Callable[..., Awaitable[Any]]
    back_ends: IBackEnds | None = None
    send_email: SendEmail = _nobody_sends


class IPluginFactory(IPlugin):
    """Found by twisted.plugin: in ``twisted/plugins`` and in ``plugins`` beside the config."""

    name: str = Attribute("As written in config/plugins, for example 'rcpt_to.in_host_list'.")

    def load(site: Site) -> object:
        """
        @return: an object that provides one or more hooks.
        @raise ConfigError: its configuration is wrong.
        """
