"""A TCP tunnel to a server that can fall silent, or break, as networks do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Tunnel:
    """Forwards what comes to `port`. While it is `frozen` it takes connections and bytes, and answers nothing."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self._lines: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        """From now on nothing passes, in either direction."""
        self._open.clear()

    def thaw(self) -> None:
        """What has waited passes, and all the rest."""
        self._open.set()

    def cut(self) -> None:
        """Close every connection; new ones may be made."""
        for line in self._lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        self._lines.clear()

    def close(self) -> None:
        """No more."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.thaw()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        with near, suppress(OSError):
            self._lines.append(near)
            self._open.wait()
            with socket.create_connection(("127.0.0.1", self._target)) as far:
                self._lines.append(far)
                back = threading.Thread(target=self._pass, args=(far, near), daemon=True)
                back.start()
                self._pass(near, far)
                back.join()

    def _pass(self, here: socket.socket, there: socket.socket) -> None:
        with suppress(OSError):
            while piece := here.recv(1 << 16):
                self._open.wait()
                there.sendall(piece)
        for line in (here, there):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


@contextmanager
def running_tunnel(target: int) -> Iterator[Tunnel]:
    """A tunnel to a port of this machine, closed afterwards."""
    tunnel = Tunnel(target)
    try:
        yield tunnel
    finally:
        tunnel.close()
