"""The envelope of a message: what MAIL and RCPT say (RFC 5321 section 2.3.1)."""

from attrs import frozen

from harakatls.mail.address import Address

# RFC 5321 section 4.5.3.1.8: what every server takes in one transaction.
RECIPIENTS = 100


@frozen
class MailParameters:
    """
    The parameters of MAIL.

    @ivar size: octets as the client declared them (RFC 1870), or None.
    @ivar body: "7BIT", "8BITMIME" or "BINARYMIME" (RFC 6152, RFC 3030), or None.
    @ivar smtputf8: the message needs SMTPUTF8 (RFC 6531).
    @ivar ret: "FULL" or "HDRS" (RFC 3461), or None.
    @ivar envid: the envelope identifier, xtext decoded (RFC 3461), or None.
    @ivar requiretls: RFC 8689.
    """

    size: int | None = None
    body: str | None = None
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None
    requiretls: bool = False


NO_PARAMETERS = MailParameters()


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


@frozen
class Envelope:
    """
    @ivar reverse_path: None is the null reverse-path, ``<>``.
    @ivar route: where a plugin wants it to go, as a word that the plugin knows; never a login. ""
        leaves that to others.
    """

    reverse_path: Address | None
    recipients: tuple[Recipient, ...] = ()
    parameters: MailParameters = NO_PARAMETERS
    route: str = ""
