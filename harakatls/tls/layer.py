"""
TLS between octets and octets: knows no transport.

Twisted's own layer serves any protocol and pays for that with a delayed call for each write and a
chain of producers; for what a mail server needs this one costs about two thirds of the CPU.
"""

from OpenSSL import SSL

from harakatls.tls.binding import drain, feed, has_record_calls, read_record, write_records
from harakatls.tls.handshake import describe_failure

_AT_MOST = 65536  # octets asked for at once; one record gives up to 16,384
_HEADER = 5  # octets before the contents of a record, RFC 8446 section 5.1
_LONGEST_RECORD = (1 << 14) + 2048  # octets of an encrypted one, RFC 5246 section 6.2.3
_MAJOR_VERSION = 3  # the first octet of the version in its header


class TLSBroken(Exception):
    """
    The peer does not keep to TLS, refuses ours, or is refused; the text is for the operator.
    """


class TLSLayer:
    """
    One side of one TLS connection.

    What is to be sent to the peer is fetched with `outgoing`: after `begin`, after `encrypt`, after
    `close`, and after `decrypt` while the handshake goes on, where it raised, or where it
    `is_answering`.

    @ivar established: the handshake has finished.
    @ivar ended: the peer has said that it sends no more (close_notify).
    @ivar is_answering: TLS itself may have something to say since the handshake, as to a request
        for new keys. To be set to false when that has been sent: a peer that asks again and again
        would fill the memory otherwise.
    """

    __slots__ = (
        "_header",
        "_left",
        "_quick",
        "_records",
        "connection",
        "ended",
        "established",
        "is_answering",
    )

    def __init__(self, connection: SSL.Connection, server: bool = True) -> None:
        """@param connection: over memory (C{socket} is None)."""
        self.connection = connection
        self.established = self.ended = self.is_answering = False
        self._left = 0  # octets of a record that has begun to come in
        self._header = b""  # the beginning of a record, too short to tell its length
        self._records = 0
        self._quick = has_record_calls(connection)
        if server:
            connection.set_accept_state()
        else:
            connection.set_connect_state()

    def getHandle(self) -> SSL.Connection:
        """As Twisted's TLS transports have it."""
        return self.connection

    def begin(self) -> None:
        """
        A client's first step.

        @raise TLSBroken: there is nothing that it could offer.
        """
        try:
            self._shake()
        except SSL.Error as problem:
            raise TLSBroken(describe_failure(problem)) from None

    def decrypt(self, octets: bytes) -> list[bytes]:
        """
        @param octets: from the peer, cut anywhere.
        @return: what they say, in pieces; nothing while the handshake goes on and after the end.
        @raise TLSBroken: there may be an alert for the peer.
        """
        if not octets or self.ended:
            return []
        try:
            return self._decrypt(octets)
        except SSL.Error as problem:
            raise TLSBroken(describe_failure(problem)) from None

    def encrypt(self, octets: bytes) -> None:
        """@raise TLSBroken: nothing can be sent any more."""
        sent = write_records(self.connection, octets) if self._quick else 0
        try:
            while sent < len(octets):
                sent += self.connection.send(memoryview(octets)[sent:])
        except SSL.Error as problem:
            raise TLSBroken(describe_failure(problem)) from None

    def close(self) -> None:
        """Say that we send no more (close_notify), where there is anybody to say it to."""
        try:
            self.connection.shutdown()
        except SSL.Error:
            pass  # the handshake was not finished, or the connection is broken

    def outgoing(self) -> bytes:
        """What is to be sent now; b"" for nothing."""
        octets = self._some_outgoing()
        if len(octets) < _AT_MOST:
            return octets
        pieces = [octets]
        while octets := self._some_outgoing():
            pieces.append(octets)
        return b"".join(pieces)

    def _some_outgoing(self) -> bytes:
        if self._quick:
            return drain(self.connection)
        try:
            return self.connection.bio_read(_AT_MOST)
        except SSL.Error:
            return b""

    def _decrypt(self, octets: bytes) -> list[bytes]:
        connection = self.connection
        if not (self._quick and feed(connection, octets)):
            connection.bio_write(octets)
        self._count(octets)
        if not self.established:
            self._shake()
            if not self.established:
                return []
        pieces: list[bytes] = []
        # OpenSSL gives one record at a time. To ask once too often costs an exception, so
        # complete records are counted.
        while self._records and not self.ended:
            self._records -= 1
            if self._quick:
                piece = read_record(connection)
                if piece is None:
                    self._no_more_data()
                    break
                if piece:
                    pieces.append(piece)
                    continue
            try:
                pieces.append(connection.recv(_AT_MOST))
            except SSL.WantReadError:
                self._no_more_data()
            except SSL.ZeroReturnError:
                self.ended = True
        return pieces

    def _no_more_data(self) -> None:
        """Some of the records were none: tickets, key updates."""
        self._records = 0
        self.is_answering = True

    def _shake(self) -> None:
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return
        self.established = True

    def _count(self, octets: bytes) -> None:
        """Count the records that are complete by now."""
        if self._left > len(octets):
            self._left -= len(octets)
            return
        at = self._left
        if at:
            self._records += 1
            self._left = 0
        elif self._header:
            octets = self._header + octets
            self._header = b""
        end = len(octets)
        while at + _HEADER <= end:
            length = (octets[at + 3] << 8) + octets[at + 4]
            if length > _LONGEST_RECORD or octets[at + 1] != _MAJOR_VERSION:
                self._records += 1  # is none: OpenSSL is to say so now, not when all of it is here
                return
            at += _HEADER + length
            if at > end:
                self._left = at - end
                return
            self._records += 1
        self._header = octets[at:]
