"""What becomes of a connection when its peer has told by XCLIENT for whom it speaks."""

from attrs import evolve
from twisted.logger import Logger

from harakatls.connection import Connection, Endpoint, Hello
from harakatls.inbound.identity import new_id
from harakatls.smtp.events import XClientReceived

log = Logger()


def told_by_xclient(speaker: Connection, told: XClientReceived) -> Connection:
    """
    A new connection, to hooks and in the log, over the same octets; TLS stays.

    Nothing of the speaker's is left to the client: neither the right to relay, nor its name, its
    login, its certificate, or what plugins have noted of it. Where a port is not told it is 0,
    since the speaker's would be taken for the client's.
    """
    local = speaker.local
    if told.local_host is not None:
        local = Endpoint(told.local_host, told.local_port or 0)
    elif told.local_port is not None:
        local = Endpoint(local.host, told.local_port)
    secured = speaker.secured
    client = evolve(
        speaker,
        id=new_id(),
        peer=Endpoint(told.host, told.port or 0),
        local=local,
        secured=None if secured is None else secured.without_certificate(),
        hello=None if told.hello is None else Hello(told.hello, told.extended),
        authenticated_as=told.login,
        relaying=told.login is not None,  # as AUTH would have it
        notes={},
        errors=0,
        password=None,
        early_talker=False,
        peer_name=told.name,
        xclient_by=speaker.xclient_by or speaker.peer,
    )
    log.info(
        "{speaker} {peer} speaks by XCLIENT for {id} {client}",
        speaker=speaker.id,
        peer=speaker.peer,
        id=client.id,
        client=client.peer,
    )
    return client
