"""Sockets that systemd gives: which are taken, and what is told of the others."""

import os
import socket

from twisted.trial.unittest import SynchronousTestCase

from harakatls.inbound.settings import ListenerSettings
from harakatls.service.activation import GivenSocket, given_sockets, notify, told_at_start
from harakatls.service.failure import StartFailure
from harakatls.service.listeners import bind_all
from tests.support import temporary_directory

FIRST = 700  # a descriptor that nobody else uses
PID = 4242


class GivenTestCase(SynchronousTestCase):
    def listening(self, host: str = "127.0.0.1") -> socket.socket:
        """A socket with a port that the system chooses."""
        made = socket.create_server(
            (host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
        self.addCleanup(made.close)
        return made

    def give(
        self, *sockets: socket.socket, names: str | None = None, pid: int = PID
    ) -> tuple[GivenSocket, ...]:
        """As systemd would."""
        for descriptor, made in enumerate(sockets, FIRST):
            os.dup2(made.fileno(), descriptor)
            self.addCleanup(self.close, descriptor)
        told = {"LISTEN_PID": str(PID), "LISTEN_FDS": str(len(sockets))}
        if names is not None:
            told["LISTEN_FDNAMES"] = names
        given = given_sockets(told, pid, FIRST)
        for one in given:
            self.addCleanup(one.socket.close)
        return given

    def close(self, descriptor: int) -> None:
        try:
            os.close(descriptor)
        except OSError:
            pass

    def refused(self, *sockets: socket.socket) -> str:
        with self.assertRaises(StartFailure) as caught:
            self.give(*sockets, names=":".join(["a.socket"] * len(sockets)))
        return str(caught.exception)


class GivenTests(GivenTestCase):
    def test_none(self) -> None:
        """Most servers are not started so."""
        self.assertEqual(given_sockets({}, PID), ())
        self.assertEqual(given_sockets({"LISTEN_FDS": "1"}, PID), ())

    def test_given(self) -> None:
        """Address, port and name of each."""
        four, six = self.listening(), self.listening("::1")
        given = self.give(four, six, names="smtp:smtps")
        self.assertEqual(
            [(one.name, one.host, one.port) for one in given],
            [
                ("smtp", "127.0.0.1", four.getsockname()[1]),
                ("smtps", "::1", six.getsockname()[1]),
            ],
        )
        for one in given:
            self.assertFalse(one.socket.getblocking())
            self.assertFalse(one.socket.get_inheritable())

    def test_without_names(self) -> None:
        """An older systemd tells no names; a wrong number of them is as good as none."""
        for names in (None, "a:b"):
            (given,) = self.give(self.listening(), names=names)
            self.assertEqual(given.name, "unknown")
            given.socket.close()

    def test_for_another_process(self) -> None:
        """They are left alone, and the operator hears why."""
        made = self.listening()
        self.assertEqual(self.give(made, pid=PID + 1), ())
        os.fstat(FIRST)

    def test_children(self) -> None:
        """What this process was told is none of its children's."""
        self.patch(os, "environ", {"LISTEN_PID": "1", "LISTEN_FDS": "1", "HOME": "/"})
        self.assertEqual(told_at_start(), {})  # it was told later
        self.assertEqual(os.environ, {"HOME": "/"})

    def test_unusable(self) -> None:
        """What is no listening TCP socket is named, and none of the others is kept."""
        for family, kind, problem in (
            (socket.AF_UNIX, socket.SOCK_STREAM, "is a Unix socket"),
            (socket.AF_INET, socket.SOCK_DGRAM, "is not for TCP"),
            (socket.AF_INET, socket.SOCK_STREAM, "does not listen"),
        ):
            made = socket.socket(family, kind)
            self.addCleanup(made.close)
            found = self.refused(self.listening(), made)
            self.assertIn(f"systemd gave descriptor {FIRST + 1} (a.socket), which {problem}", found)
            self.assertIn("expected ListenStream=", found)
            self.assertRaises(OSError, os.fstat, FIRST)

    def test_no_socket(self) -> None:
        """A descriptor may be anything."""
        file = os.open(os.devnull, os.O_RDONLY)
        os.dup2(file, FIRST)
        os.close(file)
        self.addCleanup(self.close, FIRST)
        environ = {"LISTEN_PID": str(PID), "LISTEN_FDS": "1"}
        with self.assertRaises(StartFailure) as caught:
            given_sockets(environ, PID, FIRST)
        self.assertIn("is no socket: ", str(caught.exception))

    def test_number(self) -> None:
        """The number of sockets is one."""
        for count in ("x", "-1", "1e3", "9" * 40):
            environ = {"LISTEN_PID": str(PID), "LISTEN_FDS": count}
            self.assertRaises(StartFailure, given_sockets, environ, PID, FIRST)


class BindTests(GivenTestCase):
    def test_adopted(self) -> None:
        """What was given is not bound again; what was not, is."""
        made = self.listening()
        address = made.getsockname()
        given = self.give(made)
        made.close()
        bound = bind_all(
            [ListenerSettings("127.0.0.1", 0), ListenerSettings(*address)], given=given
        )
        for one in bound:
            self.addCleanup(one.socket.close)
        self.assertEqual(bound[1].socket.getsockname(), address)
        self.assertIs(bound[1].socket, given[0].socket)
        with socket.create_connection(address, timeout=10) as peer:
            bound[1].socket.setblocking(True)
            connection, came_from = bound[1].socket.accept()
            connection.close()
            self.assertEqual(came_from, peer.getsockname())

    def test_not_listed(self) -> None:
        """A socket that no line of smtp.ini is there for is named, with those that are."""
        made = self.listening()
        given = self.give(made, names="smtp.socket")
        with self.assertRaises(StartFailure) as caught:
            bind_all([ListenerSettings("127.0.0.1", 0)], given=given)
        self.assertEqual(
            str(caught.exception),
            f"systemd gave the socket 127.0.0.1:{made.getsockname()[1]} (smtp.socket), but it is "
            "not in smtp.ini listen; listen is 127.0.0.1:0",
        )
        self.assertEqual(given[0].socket.fileno(), -1)

    def test_twice(self) -> None:
        """Two sockets for one address are a mistake in the units."""
        made = self.listening()
        given = self.give(made, made)
        with self.assertRaises(StartFailure) as caught:
            bind_all([ListenerSettings(*made.getsockname())], given=given)
        self.assertIn("twice", str(caught.exception))

    def test_another_cannot_be_bound(self) -> None:
        """Then those given are closed, too."""
        made = self.listening()
        given = self.give(made)
        listeners = [ListenerSettings("192.0.2.1", 0), ListenerSettings(*made.getsockname())]
        self.assertRaises(StartFailure, bind_all, listeners, given=given)
        self.assertEqual(given[0].socket.fileno(), -1)


class NotifyTests(SynchronousTestCase):
    def test_told(self) -> None:
        """By a path, or by a name in the abstract namespace."""
        for address in (str(temporary_directory() / "notify"), f"\0harakatls-{os.getpid()}"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
                systemd.bind(address)
                systemd.settimeout(10)
                self.patch(os, "environ", {"NOTIFY_SOCKET": address.replace("\0", "@")})
                notify("READY=1")
                self.assertEqual(systemd.recv(100), b"READY=1")

    def test_nobody_there(self) -> None:
        """A server that nobody asks tells nobody, and goes on where nobody listens."""
        for environ in ({}, {"NOTIFY_SOCKET": "vsock:2"}, {"NOTIFY_SOCKET": "/nowhere/there"}):
            self.patch(os, "environ", environ)
            notify("READY=1")
