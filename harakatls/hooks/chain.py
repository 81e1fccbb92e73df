"""Asks the hooks of all plugins, in the order of config/plugins."""

from collections.abc import Coroutine, Sequence
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime

from harakatls.config.hosts import host_name
from harakatls.connection import Connection, Hello, Transaction
from harakatls.hooks.asking import HookCancelled, HookFailed, ask, nonsense
from harakatls.hooks.deliveries import DeliveryStages
from harakatls.hooks.stages import LoadedPlugin
from harakatls.hooks.users import Users
from harakatls.interfaces import IQueueHook, IStagedMessage, ISuccessReports
from harakatls.mail.envelope import Recipient
from harakatls.smtp.capabilities import Capabilities
from harakatls.smtp.reply import Reply
from harakatls.verdict import Accept, Continue, TempFail, Verdict

MOST_SHOWN = 100  # characters, of what is no name

NOBODY_QUEUED = TempFail(Reply.of(451, "4.3.0", "Queuing declined or disabled, try later"))


class HookChain(DeliveryStages):
    """
    All hooks, stage by stage.

    @ivar success_reports: told of recipients that a queue plugin has put into their mailboxes, or
        handed on, if the sender asked to hear of it; it raises nothing. None where nobody sends
        reports.
    @ivar users: the plugins that know users, for AUTH.

    A hook that does not wait for anything costs no timer and no Deferred. One that raises, takes
    too long, or returns what is no verdict counts as TempFail, so that a broken filter lets no
    mail pass.
    """

    def __init__(
        self,
        plugins: Sequence[LoadedPlugin],
        clock: IReactorTime,
        last_queue: IQueueHook | None = None,
    ) -> None:
        """
        @param plugins: in the order of asking.
        @param last_queue: takes what no plugin took; it has all the time it needs, since to give
            up a commit half-way is to not know whose the message is.
        """
        super().__init__(plugins, clock, last_queue)
        self.success_reports: ISuccessReports | None = None
        self.users = Users(self._hooks, clock)

    # -- the stages of a connection ---------------------------------------------------------

    async def peer_name(self, connection: Connection) -> str | None:
        """
        The name that is known already, else as `IPeerNameHook.peer_name`.

        @raise CancelledError: the peer has gone, so that nobody else is to be asked about it.
        """
        if connection.peer_name is not None or connection.is_anonymous:
            return connection.peer_name  # that of a proxy would be taken for its client's
        for hook in self._hooks["peer_name"]:
            try:
                found = await ask(hook, self._clock, connection)
            except HookCancelled:
                raise CancelledError from None
            except HookFailed:
                continue
            if found is None:
                continue
            # It is shown to the peer, in the header and in the log.
            try:
                if isinstance(found, str) and found.isascii():
                    return host_name(found)
            except ValueError:
                pass
            nonsense(hook, found[:MOST_SHOWN] if isinstance(found, str) else found, connection)
        return None

    def connect(self, connection: Connection) -> Coroutine[Any, Any, Verdict]:
        """As `IConnectHook.connect`; CONTINUE where nobody has an opinion."""
        return self._verdict(self._hooks["connect"], connection)

    async def relaying(self, connection: Connection) -> bool:
        """One yes is enough; a hook that fails has not said yes."""
        if connection.is_anonymous and connection.authenticated_as is None:
            return False  # its address is the proxy's, and everybody comes by that
        for hook in self._hooks["relaying"]:
            try:
                if await ask(hook, self._clock, connection) is True:
                    return True
            except HookFailed:
                pass
        return False

    def hello(self, connection: Connection, hello: Hello) -> Coroutine[Any, Any, Verdict]:
        """As `IHelloHook.hello`."""
        return self._verdict(self._hooks["hello"], connection, hello)

    async def capabilities(self, connection: Connection, offered: Capabilities) -> Capabilities:
        """What all hooks together make of *offered*; a hook that fails changes nothing."""
        for hook in self._hooks["capabilities"]:
            try:
                edited = await ask(hook, self._clock, connection, offered)
            except HookFailed:
                continue
            if isinstance(edited, Capabilities):
                offered = edited
            else:
                nonsense(hook, edited, connection)
        return offered

    def mail(
        self, connection: Connection, transaction: Transaction
    ) -> Coroutine[Any, Any, Verdict]:
        """As `IMailHook.mail`."""
        return self._verdict(self._hooks["mail"], connection, transaction)

    def rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Coroutine[Any, Any, Verdict]:
        """As `IRcptHook.rcpt`; then as `IAcceptedRcptHook.accepted_rcpt`."""
        if self._hooks["accepted_rcpt"]:
            return self._rcpt(connection, transaction, recipient)
        return self._verdict(self._hooks["rcpt"], connection, transaction, recipient)

    async def _rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Verdict:
        verdict = await self._verdict(self._hooks["rcpt"], connection, transaction, recipient)
        # Whoever may relay needs nobody's yes.
        if isinstance(verdict, Accept) or (transaction.relaying and isinstance(verdict, Continue)):
            return await self._last_word(connection, transaction, recipient, verdict)
        return verdict

    async def _last_word(
        self,
        connection: Connection,
        transaction: Transaction,
        recipient: Recipient,
        verdict: Accept | Continue,
    ) -> Verdict:
        """One no is a no for all who take the recipient's place."""
        becomes = verdict.becomes if isinstance(verdict, Accept) else None
        for accepted in (
            (recipient,) if becomes is None else (r.in_place_of(recipient) for r in becomes)
        ):
            last = await self.accepted_rcpt(connection, transaction, accepted)
            if isinstance(last, Accept):
                verdict = evolve(last, becomes=becomes)
            elif not isinstance(last, Continue):
                return last
        return verdict

    def accepted_rcpt(
        self, connection: Connection, transaction: Transaction, recipient: Recipient
    ) -> Coroutine[Any, Any, Verdict]:
        """As `IAcceptedRcptHook.accepted_rcpt`; part of `rcpt`."""
        return self._verdict(self._hooks["accepted_rcpt"], connection, transaction, recipient)

    def data(
        self, connection: Connection, transaction: Transaction
    ) -> Coroutine[Any, Any, Verdict]:
        """As `IDataHook.data`."""
        return self._verdict(self._hooks["data"], connection, transaction)

    def message(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Coroutine[Any, Any, Verdict]:
        """As `IMessageHook.message`."""
        return self._verdict(self._hooks["message"], connection, transaction, message)

    async def queue(
        self, connection: Connection, transaction: Transaction, message: IStagedMessage
    ) -> Verdict:
        """
        Ask until every recipient has been taken.

        @return: Accept only when each was; never Continue.
        @raise SpoolFull: no space.
        """
        for hook in self._hooks["queue"]:
            verdict = await self._verdict((hook,), connection, transaction, message)
            if isinstance(verdict, Continue):
                continue
            if not isinstance(verdict, Accept):
                return verdict
            if self.success_reports is not None:
                await self._report_success(self.success_reports, transaction, message, verdict)
            if verdict.recipients is None:
                return verdict
            taken = verdict.recipients
            recipients = transaction.envelope.recipients
            others = tuple(r for r in recipients if r.address not in taken)
            if not others:
                return verdict
            transaction = evolve(
                transaction, envelope=evolve(transaction.envelope, recipients=others)
            )
        return NOBODY_QUEUED

    async def _report_success(
        self,
        reports: ISuccessReports,
        transaction: Transaction,
        message: IStagedMessage,
        verdict: Accept,
    ) -> None:
        envelope = transaction.envelope
        if envelope.reverse_path is None:
            return
        if verdict.delivered:
            taken = verdict.recipients
            told = tuple(
                recipient
                for recipient in envelope.recipients
                if "SUCCESS" in recipient.notify and (taken is None or recipient.address in taken)
            )
            if told:
                await reports.delivered(transaction, told, message)
        relayed = tuple(
            outcome
            for outcome in verdict.handed_on
            if "SUCCESS" in outcome.recipient.notify and not outcome.will_report
        )
        if relayed:
            await reports.relayed(transaction, relayed, message)

    def too_large(
        self, connection: Connection, transaction: Transaction, size: int
    ) -> Coroutine[Any, Any, Verdict]:
        """As `ITooLargeHook.too_large`."""
        return self._verdict(self._hooks["too_large"], connection, transaction, size)

    def reset(self, connection: Connection, transaction: Transaction) -> Coroutine[Any, Any, None]:
        """Tell everybody."""
        return self._tell("reset", connection, transaction)

    # -- commands that are no part of a transaction -------------------------------------------

    def unrecognized(
        self, connection: Connection, transaction: Transaction | None, verb: str, argument: str
    ) -> Coroutine[Any, Any, Verdict]:
        """As `IUnrecognizedHook.unrecognized`."""
        hooks = self._hooks["unrecognized"]
        return self._verdict(hooks, connection, transaction, verb, argument)

    def verify(
        self, connection: Connection, transaction: Transaction | None, argument: str
    ) -> Coroutine[Any, Any, Verdict]:
        """As `IVerifyHook.verify`."""
        return self._verdict(self._hooks["verify"], connection, transaction, argument)

    def noop(
        self, connection: Connection, transaction: Transaction | None
    ) -> Coroutine[Any, Any, Verdict]:
        """As `INoopHook.noop`."""
        return self._verdict(self._hooks["noop"], connection, transaction)

    def rset(
        self, connection: Connection, transaction: Transaction | None
    ) -> Coroutine[Any, Any, None]:
        """Tell everybody."""
        return self._tell("rset", connection, transaction)

    def quit(
        self, connection: Connection, transaction: Transaction | None
    ) -> Coroutine[Any, Any, None]:
        """Tell everybody."""
        return self._tell("quit", connection, transaction)

    def disconnected(self, connection: Connection) -> Coroutine[Any, Any, None]:
        """Tell everybody."""
        return self._tell("disconnected", connection)
