"""Looks mail routes up."""

from zope.interface import Interface

from harakatls.mail.route import MailExchanger


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
