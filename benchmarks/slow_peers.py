"""
Holds many slow connections to a server, for row 9: prints READY when all are there, and at its end,
on SIGTERM, how many are still open.

A fourth of them each: dribbles a message, ten octets a second; types commands, one octet a second;
says nothing behind EHLO; sends the first 100 KB of a message and stands still.
"""

import json
import selectors
import signal
import socket
import sys
import time

KINDS = ("dribble", "type", "silent", "stall")
TICK = 0.01  # seconds; in each, another hundredth of the peers has its turn
STEPS = 100
ENVELOPE = b"EHLO slow.test\r\nMAIL FROM:<slow@load.test>\r\nRCPT TO:<slow@sink.test>\r\n"
TYPED = b"RSET\r\nMAIL FROM:<slow@load.test>\r\nRCPT TO:<slow@sink.test>\r\n"
STALLED = (b"x" * 76 + b"\r\n") * 1300
LINE = b"12345678\r\n"
SETUP = 60.0  # seconds


class Peer:
    """One connection; what it is told is read and thrown away."""

    def __init__(self, address: tuple[str, int], kind: str):
        self.kind = kind
        self.typed = 0
        self.told = b""
        self.socket = socket.create_connection(address, 30)
        self.socket.setblocking(False)
        self.begun = self.open = False

    def hear(self) -> bool:
        """@return: whether it is still open."""
        try:
            octets = self.socket.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            octets = b""
        self.told = (self.told + octets)[-2000:]
        if not self.begun and b"220 " in self.told:
            self.begun = self.open = True
            self.say(ENVELOPE if self.kind != "silent" else b"EHLO slow.test\r\n")
            if self.kind in ("dribble", "stall"):
                self.say(b"DATA\r\n")
        if self.kind == "stall" and b"\r\n354" in self.told:
            self.kind = "silent"
            self.say(STALLED)
        if not octets or b"\r\n421" in self.told:
            self.open = False
        return bool(octets)

    def say(self, octets: bytes) -> None:
        """All at once, or not at all."""
        try:
            self.socket.send(octets)
        except OSError:
            pass

    def turn(self) -> None:
        """Once a second."""
        if self.kind == "dribble":
            self.say(LINE)
        elif self.kind == "type" and self.begun:
            self.say(TYPED[self.typed : self.typed + 1])
            self.typed = (self.typed + 1) % len(TYPED)


def main() -> None:
    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    selector = selectors.DefaultSelector()
    peers = []
    for number in range(count):
        peer = Peer((host, port), KINDS[number % len(KINDS)])
        peers.append(peer)
        selector.register(peer.socket, selectors.EVENT_READ, peer)
    step, due, ready, deadline = 0, time.monotonic(), False, time.monotonic() + SETUP
    while not stopped:
        for key, _ in selector.select(max(0.0, due - time.monotonic())):
            if not key.data.hear():
                selector.unregister(key.fileobj)
        if time.monotonic() < due:
            continue
        due += TICK
        for peer in peers[step::STEPS]:
            if ready:
                peer.turn()
        step = (step + 1) % STEPS
        if not ready and (
            time.monotonic() > deadline or all(p.begun and p.kind != "stall" for p in peers)
        ):
            ready = True
            print("READY", flush=True)
    print(json.dumps({"open": sum(peer.open for peer in peers), "count": count}), flush=True)


if __name__ == "__main__":
    main()
