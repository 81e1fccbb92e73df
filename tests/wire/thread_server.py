"""A server on loopback, written apart from harakatls: a thread and a socket for each connection."""

import socket
import threading


class ThreadServer:
    """
    Listens from its making on.

    @ivar connections: all that were ever made.
    """

    def __init__(self, port: int = 0, patience: float = 60.0) -> None:
        """@param patience: seconds until it gives up a connection on which nothing happens."""
        self.connections: list[socket.socket] = []
        self._patience = patience
        self._socket = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def talk(self, connection: socket.socket) -> None:
        """All that is said; then, or with an OSError or a ValueError, the connection is closed."""
        raise NotImplementedError

    def close(self) -> None:
        """Refuse connections from now on; those that are open are served to their end."""
        # A thread blocked in accept would keep the socket listening.
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(self._patience)
            self.talk(connection)
        except (OSError, ValueError):
            pass
        finally:
            connection.close()
