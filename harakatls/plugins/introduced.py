"""For whom a back end is spoken to, where it wants to know that (XCLIENT)."""

from attrs import evolve

from harakatls.connection import Connection
from harakatls.mail.route import IntroducedClient, NextHop


def introduced(hop: NextHop, connection: Connection) -> NextHop:
    """*hop*, as it is for the mail of one client."""
    if connection.peer == connection.local:
        return hop  # mail of this server itself has no client
    peer, local, hello = connection.peer, connection.local, connection.hello
    # The address of a proxy that does not tell for whom it speaks is not the client's.
    anonymous = connection.is_anonymous
    return evolve(
        hop,
        client=IntroducedClient(
            host=None if anonymous else peer.host,
            port=None if anonymous else peer.port,
            name=connection.peer_name,
            hello=hello.name if hello is not None else None,
            extended=hello is not None and hello.extended,
            # Where we log in ourselves, that is whose login it is: a server knows of one alone.
            login=connection.authenticated_as if hop.credentials is None else None,
            local_host=local.host,
            local_port=local.port,
        ),
    )
