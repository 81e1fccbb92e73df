"""Who has logged in sends from his own domain (Haraka's constrain_sender)."""

from functools import cache

from publicsuffixlist import PublicSuffixList

from harakatls.connection import Connection, Transaction
from harakatls.mail.address import AddressError, to_a_label
from harakatls.smtp.reply import Reply
from harakatls.verdict import CONTINUE, Reject, Verdict


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()  # comes with the package; nothing is fetched


def organisational_domain(domain: str) -> str:
    """
    The one that was registered, by the list of public suffixes: of ``mail.example.co.uk``
    ``example.co.uk``. Of what nobody can register, itself.

    @param domain: an A-label.
    """
    return _suffixes().privatesuffix(domain) or domain


def constrain_sender(connection: Connection, transaction: Transaction) -> Verdict:
    """
    Reject where the organisational domains of sender and user are not the same.

    Neither a user without a domain nor the null reverse-path is held to any.
    """
    user, sender = connection.authenticated_as or "", transaction.envelope.reverse_path
    name = user.rpartition("@")[2] if "@" in user else ""
    if not name or sender is None or not sender.domain:
        return CONTINUE
    try:
        domain = to_a_label(name)
    except AddressError:
        domain = ""  # of nobody's mail
    if domain and organisational_domain(domain) == organisational_domain(sender.domain):
        return CONTINUE
    text = f"Envelope domain '{sender.domain}' doesn't match AUTH domain '{domain or '?'}'"
    return Reject(Reply.of(550, "5.7.1", text))
