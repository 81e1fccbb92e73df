"""The envelope of a message: what MAIL and RCPT say (RFC 5321 section 2.3.1)."""

from enum import Enum

from attrs import frozen

from harakatls.mail.address import Address

# RFC 5321 section 4.5.3.1.8: what every server takes in one transaction.
RECIPIENTS = 100
BINARYMIME = "BINARYMIME"


@frozen
class MailParameters:
    """
    The parameters of MAIL.

    @ivar size: octets as the client declared them (RFC 1870), or None.
    @ivar body: "7BIT", "8BITMIME" or "BINARYMIME" (RFC 6152, RFC 3030), or None.
    @ivar smtputf8: the message needs SMTPUTF8 (RFC 6531).
    @ivar ret: "FULL" or "HDRS" (RFC 3461), or None.
    @ivar envid: the envelope identifier, xtext decoded (RFC 3461), or None.
    @ivar requiretls: REQUIRETLS was said (RFC 8689).
    """

    size: int | None = None
    body: str | None = None
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None
    requiretls: bool = False

    @property
    def is_binary(self) -> bool:
        """The message is more than lines of text: its octets are to be kept as they are."""
        return self.body == BINARYMIME


NO_PARAMETERS = MailParameters()


class TLSWish(Enum):
    """
    What the sender of a message wants of TLS on its way (RFC 8689).

    NONE: nothing was said. REQUIRED: the option REQUIRETLS. OPTIONAL: the header field
    C{TLS-Required: No}.
    """

    NONE = "none"
    REQUIRED = "required"
    OPTIONAL = "optional"


@frozen
class Recipient:
    """
    A forward-path and its delivery status parameters (RFC 3461).

    @ivar original: ORCPT as "type;address", or None.
    @ivar notify: of "NEVER", "SUCCESS", "FAILURE", "DELAY"; empty when not given.
    """

    address: Address
    original: str | None = None
    notify: frozenset[str] = frozenset()

    def in_place_of(self, named: "Recipient") -> "Recipient":
        """
        This one, who gets what was meant for *named*: to the sender they are the same.

        What is not said here of reports is as was asked for *named* (RFC 3461 section 5.2.7).
        """
        return Recipient(
            self.address,
            named.original if self.original is None else self.original,
            self.notify or named.notify,
        )


@frozen
class Envelope:
    """
    @ivar reverse_path: None is the null reverse-path, ``<>``.
    @ivar route: where a plugin wants it to go, as a word that the plugin knows; never a login. ""
        leaves that to others.
    @ivar tls_optional: its header says C{TLS-Required: No} (RFC 8689 section 3), which counts for
        nothing beside REQUIRETLS.
    """

    reverse_path: Address | None
    recipients: tuple[Recipient, ...] = ()
    parameters: MailParameters = NO_PARAMETERS
    route: str = ""
    tls_optional: bool = False

    @property
    def tls_wish(self) -> TLSWish:
        """REQUIRETLS counts more than the header (RFC 8689 section 3)."""
        if self.parameters.requiretls:
            return TLSWish.REQUIRED
        return TLSWish.OPTIONAL if self.tls_optional else TLSWish.NONE
