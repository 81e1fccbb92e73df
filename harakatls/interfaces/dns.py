"""Looks mail routes and the names of peers up."""

from zope.interface import Interface

from harakatls.mail.route import MailExchanger


class IResolver(Interface):
    """Looks mail routes and the names of peers up."""

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

    async def names(address: str) -> tuple[str, ...]:
        """
        What an address is called (PTR). Whoever has the address may write there what he likes: a
        name is his only if `addresses` of it has the address.

        @return: names as `harakatls.config.hosts.host_name` has them; what is no host name is left
            out. Empty where there are none.
        @raise NoSuchDomain: the address has no name.
        @raise ResolutionFailed: nobody knows at present.
        @raise ValueError: *address* is none.
        """


class NoSuchDomain(Exception):
    """The DNS says that the name does not exist."""


class ResolutionFailed(Exception):
    """The DNS gave no usable answer: a passing failure."""
