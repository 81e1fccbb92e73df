"""Which messages of the queue a command is about."""

import argparse
import re
import time
from collections.abc import Callable
from fnmatch import translate

from attrs import define, field, frozen

from harakatls.config.section import SECONDS_IN
from harakatls.mail.address import Address, AddressError, to_a_label
from harakatls.mail.envelope import Recipient
from harakatls.queued import QueuedMessage
from harakatls.service.command_failure import CommandFailure
from harakatls.spool.codec import UndecodableMessage
from harakatls.spool.listing import Entry, State

_AGE = re.compile(r"([0-9]{1,9})([smhdw]?)", re.IGNORECASE)
_ID = re.compile(r"[A-Za-z0-9._*?\[\]!-]{1,200}")
_STATES: dict[str, Callable[[Entry, float], bool]] = {
    "waiting": lambda entry, _: entry.state is State.WAITING,
    "due": lambda entry, now: entry.state is State.WAITING and entry.due <= now,
    "delayed": lambda entry, now: entry.state is State.WAITING and entry.due > now,
    "in-hand": lambda entry, _: entry.state in (State.IN_HAND, State.LEFT),
    "held": lambda entry, _: entry.held,
    "set-aside": lambda entry, _: entry.state is State.SET_ASIDE,
}


class QueueMisuse(CommandFailure):
    """What was asked for makes no sense; nothing was done."""

    status = 2


def add_filters(parser: argparse.ArgumentParser, ids: str = "*") -> None:
    """The options that choose messages."""
    parser.add_argument(
        "ids",
        nargs=ids,
        metavar="ID",
        type=_id,
        help="a message, as the server named it in its 250, in the log or in a list; * and ? "
        "stand for any text",
    )
    chosen = parser.add_argument_group(
        "filters", "With several, all must fit. * and ? stand for any text."
    )
    chosen.add_argument(
        "--id", dest="more_ids", action="append", default=[], metavar="ID", type=_id
    )
    chosen.add_argument(
        "--sender",
        metavar="ADDRESS",
        type=_address,
        help="an address, or a domain; <> for reports, which have no sender",
    )
    chosen.add_argument(
        "--recipient", metavar="ADDRESS", type=_address, help="an address that is still to get it"
    )
    chosen.add_argument("--domain", metavar="DOMAIN", type=_domain, help="of the recipients")
    chosen.add_argument(
        "--older-than",
        "--age",
        metavar="TIME",
        type=_age,
        help="arrived so long ago or longer: 90s, 30m, 2h, 3d, 1w",
    )
    chosen.add_argument("--newer-than", metavar="TIME", type=_age, help="arrived since then")
    chosen.add_argument("--state", choices=tuple(_STATES))


@frozen
class Pattern:
    """A text with wildcards. @ivar text: as the operator wrote it."""

    text: str
    matches: Callable[[str], object] = field(eq=False, repr=False)

    @classmethod
    def of(cls, text: str) -> "Pattern":
        """Large and small letters are the same."""
        return cls(text, re.compile(translate(text), re.IGNORECASE).match)


@define
class QueueFilter:
    """
    What was asked for on the command line.

    @ivar found: the ids that have fitted a message.
    """

    ids: tuple[Pattern, ...]
    sender: Pattern | None
    recipient: Pattern | None
    domain: Pattern | None
    older_than: float | None
    newer_than: float | None
    state: str | None
    now: float
    found: set[str] = field(factory=set)

    @classmethod
    def of(cls, options: argparse.Namespace) -> "QueueFilter":
        """From the options of `add_filters`."""
        return cls(
            tuple(Pattern.of(text) for text in (*options.ids, *options.more_ids)),
            options.sender,
            options.recipient,
            options.domain,
            options.older_than,
            options.newer_than,
            options.state,
            time.time(),
        )

    @property
    def is_empty(self) -> bool:
        """All messages fit."""
        return not self.ids and all(
            one is None
            for one in (
                *(self.sender, self.recipient, self.domain),
                *(self.older_than, self.newer_than, self.state),
            )
        )

    def fits(self, entry: Entry) -> bool:
        """What is in columns is looked at first; most messages need not be decoded."""
        if self.ids and not self._names_id(entry.id):
            return False
        age = self.now - entry.arrived
        if self.older_than is not None and age < self.older_than:
            return False
        if self.newer_than is not None and age > self.newer_than:
            return False
        if self.domain is not None and not self.domain.matches(entry.domain):
            return False
        if self.state is not None and not _STATES[self.state](entry, self.now):
            return False
        if self.sender is None and self.recipient is None:
            return True
        try:
            return self._fits_addresses(entry.queued())
        except UndecodableMessage:
            return False

    def names(self, recipient: Recipient) -> bool:
        """It is one of those asked for."""
        return self.recipient is None or _fits(self.recipient, recipient.address)

    def unknown_ids(self) -> list[str]:
        """Those, without wildcards, that have fitted no message so far."""
        return [
            one.text
            for one in self.ids
            if one.text not in self.found and not set(one.text) & set("*?[")
        ]

    def _names_id(self, message_id: str) -> bool:
        # The 250 told the id of the message; the queue has a row for each domain of it.
        whole = message_id.rpartition(".")[0]
        found = False
        for one in self.ids:
            if one.matches(message_id) or one.matches(whole):
                self.found.add(one.text)
                found = True
        return found

    def _fits_addresses(self, queued: QueuedMessage) -> bool:
        if self.sender is not None and not _fits(self.sender, queued.envelope.reverse_path):
            return False
        return self.recipient is None or any(map(self.names, queued.pending))


def _fits(pattern: Pattern, address: Address | None) -> bool:
    if address is None:
        return pattern.text == ""
    if "@" in pattern.text:
        return bool(pattern.matches(str(address)))
    return bool(pattern.matches(address.domain)) and pattern.text != ""


# ------------------------------------------------------------------------------- what is typed


def _id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the id of a message; expected one such as "
            "1B2C3D4E-5F60-4718-8293-A4B5C6D7E8F9.1.1"
        )
    return text


def _address(text: str) -> Pattern:
    bare = text[1:-1] if text.startswith("<") and text.endswith(">") else text
    if not bare and not text:
        raise argparse.ArgumentTypeError("expected an address, a domain, or <>")
    if re.search(r"[\s\0<>]", bare):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an address; expected one such as you@example.org, *@example.org, "
            "example.org or <>"
        )
    local, at, domain = bare.rpartition("@")
    return Pattern.of(f"{local}{at}{_a_label(domain)}" if bare else "")


def _domain(text: str) -> Pattern:
    if not text or re.search(r"[\s\0<>@]", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a domain; expected one such as example.org or *.example.org"
        )
    return Pattern.of(_a_label(text))


def _a_label(domain: str) -> str:
    """As domains stand in the queue; with wildcards, as it was typed."""
    if domain.startswith("["):
        return domain.replace("[", "[[]", 1)  # an address literal, and no choice of letters
    if domain.isascii():
        return domain
    try:
        return to_a_label(domain)
    except AddressError as problem:
        raise argparse.ArgumentTypeError(
            f"{problem}; write it in ASCII (xn--...) to use wildcards"
        ) from None


def _age(text: str) -> float:
    found = _AGE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time; expected one such as 90s, 30m, 2h, 3d or 1w"
        )
    return float(int(found[1]) * SECONDS_IN[found[2].lower() or "s"])
