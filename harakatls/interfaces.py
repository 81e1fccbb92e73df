"""
Everything that may be replaced.

A plugin is an object that provides one or more of the hook interfaces; an `IPluginFactory`
makes it. Hooks are coroutines: they return a verdict, and may await Deferreds before. They are
asked in the order of config/plugins; the first verdict other than Continue ends a stage. A hook
that raises, or takes longer than its plugin_timeout, counts as TempFail.
"""

from collections.abc import (
    AsyncIterable,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.interfaces import (
    IOpenSSLServerConnectionCreator,
    IReactorTime,
)
from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

from harakatls.config.directory import ConfigDirectory
from harakatls.connection import Connection, Hello, TLSSummary, Transaction
from harakatls.mail.address import Address
from harakatls.mail.envelope import NO_PARAMETERS, Envelope, MailParameters, Recipient
from harakatls.mail.route import BackEndOptions, MailExchanger, NextHop
from harakatls.queued import Delayed, Delivered, Failed, QueuedMessage
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.reply import Reply
from harakatls.verdict import Verdict

# ------------------------------------------------------------------ hooks of a transaction


class IConnectHook(Interface):
    """Asked when a peer has connected, before the greeting."""

    async def connect(connection: Connection) -> Verdict:
        """Reject is answered with 554, TempFail with 421; all further commands likewise."""


class IRelayHook(Interface):
    """Asked once after connecting and again after AUTH: may this peer send to any domain?"""

    async def relaying(connection: Connection) -> bool:
        """One yes is enough."""


class IHelloHook(Interface):
    """Asked at HELO and EHLO."""

    async def hello(connection: Connection, hello: Hello) -> Verdict:
        """*connection* is as it was before this command."""


class ICapabilitiesHook(Interface):
    """Edits what EHLO offers; all are asked, in order."""

    async def capabilities(connection: Connection, offered: Capabilities) -> Capabilities:
        """@return: *offered*, or a changed one."""


class IMailHook(Interface):
    """Asked at MAIL."""

    async def mail(connection: Connection, transaction: Transaction) -> Verdict:
        """The transaction's envelope has no recipients yet."""


class IRcptHook(Interface):
    """
    Asked at RCPT.

    A recipient that nobody accepts is refused (550 5.7.1) unless the transaction is relaying.
    """

    async def rcpt(
        connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        """The transaction's envelope holds the recipients accepted before this one."""


class IAcceptedRcptHook(Interface):
    """
    Asked about a recipient that was accepted, by a plugin or since the peer may relay.

    So it has the last word on recipients, wherever its plugin is listed.
    """

    async def accepted_rcpt(
        connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        """Continue leaves it accepted; Accept does so with a reply of its own."""


class IDataHook(Interface):
    """Asked at DATA, before the message is sent."""

    async def data(connection: Connection, transaction: Transaction) -> Verdict:
        """The envelope is complete."""


class IMessageHook(Interface):
    """Asked when the message is there (Haraka's data_post)."""

    async def message(
        connection: Connection, transaction: Transaction, message: "IStagedMessage"
    ) -> Verdict:
        """The message may be read with `message.open` and fields put on top of it."""


class IQueueHook(Interface):
    """
    Takes responsibility for a message.

    Asked last, after all message hooks. Accept means that the message is safe: 250 follows.
    The durable queue is asked after all plugins.

    Also asked, and no other hook before it, for a report of ours that mail could not be delivered:
    the peer is 127.0.0.1, port 0, then, and the reverse-path is null.
    """

    async def queue(
        connection: Connection, transaction: Transaction, message: "IStagedMessage"
    ) -> Verdict:
        """
        Accept with `recipients` takes the message for these alone; the next plugin is then
        asked with a transaction that names the others.
        """


class IDisconnectHook(Interface):
    """Told when a connection is gone, however it ended; all are told."""

    async def disconnected(connection: Connection) -> None:
        """Nothing can be answered any more."""


# ------------------------------------------------------------------------ hooks of delivery


class IRouteHook(Interface):
    """Says where mail for a domain goes (Haraka's get_mx)."""

    async def route(domain: str, queued: QueuedMessage) -> tuple[NextHop, ...] | None:
        """@return: hosts in the order of trying; None leaves it to the next plugin, then to DNS."""


class ISendHook(Interface):
    """Asked before each attempt to deliver a message (Haraka's send_email)."""

    async def send(queued: QueuedMessage) -> float | None:
        """
        @return: seconds until it is asked about again; the attempt is not made, and not counted.
            None lets it go: the next plugin is asked.
        """


class IBounceHook(Interface):
    """Asked before a sender is told that mail has failed (Haraka's bounce)."""

    async def bounce(queued: QueuedMessage, failed: tuple[Failed, ...]) -> bool:
        """
        @return: the sender is to be told. One no is enough; who fails to answer has not said no.
        """


class IDeliveryObserver(Interface):
    """Told what became of each recipient of a queued message."""

    async def delivered(queued: QueuedMessage, outcome: Delivered) -> None:
        """A next hop has it."""

    async def delayed(queued: QueuedMessage, outcome: Delayed) -> None:
        """It will be tried again at `queued.due`."""

    async def failed(queued: QueuedMessage, outcome: Failed) -> None:
        """It is given up; the sender is told, unless the reverse-path is null."""


# ------------------------------------------------------------------------------------ spool


class IMessageBody(Interface):
    """Reads a message, header and all, in wire form (CRLF, not dot-stuffed), from its start."""

    size: int = Attribute("Octets in all.")

    async def read(length: int) -> bytes:
        """
        @return: up to about *length* octets, or b"" at the end.
        @raise SpoolDamaged: what was stored cannot be read.
        """

    def close() -> None:
        """Nothing more will be read. May be called twice."""


class IStagedMessage(Interface):
    """A message that is being received; it is nobody's responsibility yet."""

    id: str = Attribute("As given to `ISpool.stage`.")
    size: int = Attribute("Octets so far, with the prepended fields.")

    def prepend(fields: bytes) -> None:
        """Put whole header fields (with their CRLF) on top of all that is there."""

    async def write(chunk: bytes) -> None:
        """
        Add to the end. Not to be called again before it has finished.

        @raise SpoolFull: no space.
        """

    async def commit(envelope: Envelope, settling: QueuedMessage | None = None) -> str:
        """
        Make the message ours: when this returns, it survives a crash.

        One transaction queues the message for each domain of its recipients, due at once, and
        settles *settling* as `ISpool.settle` does (for a bounce: the message it is about).

        @return: the queue id.
        @raise SpoolFull: no space; nothing was queued.
        """

    async def abort() -> None:
        """Forget it. May be called after commit, and twice; then it does nothing."""

    def open() -> IMessageBody:
        """Read what has been written so far; also after commit, until `abort`."""


class ISuccessReports(Interface):
    """Tells senders that their mail has been delivered here (RFC 3461)."""

    async def delivered(
        transaction: Transaction, recipients: tuple[Recipient, ...], message: IStagedMessage
    ) -> None:
        """
        Raises nothing: the message has been delivered, with a report or without.

        @param recipients: those of whom the sender, who is not null, wants to be told.
        """


class ISpool(Interface):
    """
    Keeps accepted messages until they are delivered.

    Several workers may share one; what one has claimed no other gets while the claim holds. The
    worst crash delivers a message twice; none loses one.
    """

    async def stage(message_id: str) -> IStagedMessage:
        """@raise SpoolFull: no space."""

    async def claim(
        now: float,
        limit: int,
        *,
        domain: str | None = None,
        rooms: Mapping[str, int] = {},
        per_domain: int | None = None,
        together: Sequence[tuple[int, Collection[str]]] = (),
    ) -> tuple[QueuedMessage, ...]:
        """
        Take up to *limit* due messages, the longest due first, for this worker.

        Mail for a domain without room holds up no other, however much of it there is. It may take
        several calls to find all that is due behind it: `next_due` tells when to ask again.

        @param now: seconds since the epoch.
        @param domain: mail for this one alone; nothing of what follows counts.
        @param rooms: by domain, how many of it at most; 0 where it is at its limit or in back-off.
        @param per_domain: how many at most of each other domain; None for any number.
        @param together: how many at most of some domains in all; each is in one such group or none.
        """

    async def settle(queued: QueuedMessage) -> None:
        """
        Record what became of a claimed message and end the claim.

        Removed when nothing is pending, else kept until `queued.due`.
        """

    def open_body(queued: QueuedMessage) -> IMessageBody:
        """@raise SpoolDamaged: it is gone or cannot be read."""

    async def set_aside(queued: QueuedMessage, problem: str) -> None:
        """Keep a message that cannot be read, for the operator; it is not claimed again."""

    async def next_due(excluded: Collection[str] = ()) -> float | None:
        """
        When the earliest message that nobody has claimed is due; None with none.

        @param excluded: domains that do not count. Where there is much mail for these, the time
            may be too early: of a message for one of them.
        """

    async def flush(domain: str | None = None) -> int:
        """
        Let all mail be due now that waits for a later attempt.

        @param domain: mail for this one alone.
        @return: how many messages; whoever asked for `when_flushed` has been told.
        """

    def when_added(told: Callable[[], None]) -> None:
        """Call *told*, in the reactor's thread, whenever messages were committed here."""

    def when_flushed(told: Callable[[], None]) -> None:
        """
        Call *told*, in the reactor's thread, when the operator wants mail to be tried now.

        Whatever keeps a destination waiting is to be forgotten. Those of `when_added` are told
        afterwards.
        """

    async def close() -> None:
        """Finish what was begun; claims fall free."""


class SpoolFull(Exception):
    """There is no space for the message (disk full, quota): answered with 452 4.3.1."""


class SpoolDamaged(Exception):
    """What is stored of a message cannot be read."""


# -------------------------------------------------------------------------------------- TLS


class HasHandle(Protocol):
    """A transport inside of TLS."""

    def getHandle(self) -> Any:
        """@return: the connection of pyOpenSSL."""


class IServerTLS(Interface):
    """The TLS side of all listeners."""

    def ready() -> bool:
        """There is a certificate to show."""

    async def offers(connection: Connection) -> bool:
        """Shall STARTTLS be offered to this peer, on this port?"""

    def requires(connection: Connection) -> bool:
        """Shall nothing be taken from this peer, on this port, before TLS?"""

    def connection_creator(
        connection: Connection, client_hello: bytes
    ) -> IOpenSSLServerConnectionCreator:
        """@param client_hello: the first octets from the peer; a whole ClientHello, or garbage."""

    def summary(transport: HasHandle) -> TLSSummary:
        """
        What the handshake that has just finished on *transport* came to.

        @raise TLSBroken: the client resumes a session that is no longer good enough.
        """

    async def handshake_failed(connection: Connection, reason: str) -> None:
        """The peer broke off, was too slow, or could not agree."""


class ITLSMemory(Interface):
    """Hosts with which TLS failed lately. Mail waits for the answers: so none may take long."""

    async def failed_at(host: str) -> float | None:
        """@return: when, in seconds since the epoch; None where it did not or is forgotten."""

    async def remember_failure(host: str, seconds: float) -> None:
        """@param seconds: for how long."""


# ------------------------------------------------------------------------------------- DNS


class IResolver(Interface):
    """Looks mail routes up."""

    async def mx(domain: str) -> tuple[MailExchanger, ...]:
        """
        @return: the MX records in no particular order; empty where the domain has none.
        @raise NoSuchDomain: the name does not exist.
        @raise ResolutionFailed: nobody knows at present.
        """

    async def addresses(host: str) -> tuple[str, ...]:
        """
        @return: IPv6 and IPv4 addresses as text; empty where there are none.
        @raise NoSuchDomain: the name does not exist.
        @raise ResolutionFailed: nobody knows at present.
        """


class NoSuchDomain(Exception):
    """The DNS says that the name does not exist."""


class ResolutionFailed(Exception):
    """The DNS gave no usable answer: a passing failure."""


# -------------------------------------------------------------------------------- back ends


class BackEndFailed(Exception):
    """
    The conversation with a back end ended without an answer that could be passed on.

    @ivar reply: 4yz, for the client.
    @ivar reached: it was there, and has refused no mail from us as a whole.
    """

    def __init__(self, reply: Reply, reached: bool) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.reached = reached


class IBackEnd(Interface):
    """
    A connection to a back end on which MAIL may be said, step by step. Its answers are the back
    end's own.

    All methods that ask raise `BackEndFailed` when it breaks; then there is nothing more to ask.
    """

    async def mail(envelope: Envelope) -> Reply:
        """Ends a transaction that was begun before."""

    async def rcpt(recipient: Recipient) -> Reply:
        """Of the transaction that was begun."""

    async def message(message: "IStagedMessage") -> Reply:
        """The message; 2yz makes it the back end's, for all recipients that it has accepted."""

    def leave() -> None:
        """Say goodbye. May be called at any time, and twice."""


class IBackEnds(Interface):
    """Servers that plugins hand mail on to while the client waits."""

    def prepare(section: str) -> None:
        """
        Get the TLS of a section of tls.ini ready.

        @raise ConfigError: OpenSSL refuses a value in it.
        """

    async def open(hop: NextHop, options: BackEndOptions) -> IBackEnd:
        """
        Connected, greeted, with TLS and logged in, as *hop* and *options* want it.

        @raise BackEndFailed: no mail can be sent there.
        """

    async def deliver(
        hop: NextHop, options: BackEndOptions, envelope: Envelope, message: "IStagedMessage"
    ) -> Mapping[Recipient, Reply]:
        """
        One transaction. Nothing is sent if one of the recipients is refused.

        @return: the back end's answer for each recipient that there is one for; 2yz: it has the
            message.
        @raise BackEndFailed: and it has answered for nobody.
        """


# ---------------------------------------------------------------------------------- plugins


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
        @param parameters: RET, ENVID and the like; what each recipient's reports are is in
            L{Recipient}. 8BITMIME and SMTPUTF8 are seen to.
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
