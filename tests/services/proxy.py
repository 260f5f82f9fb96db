"""A TCP proxy that cuts a database connection at a chosen moment of a COMMIT."""

from __future__ import annotations

import random
import re
import socket
import struct
import threading
from contextlib import contextmanager, suppress

# PostgreSQL: the messages Query and Parse; MariaDB: the packet COM_QUERY.
_COMMIT = re.compile(rb"(?:Q.{4}|P.{4}\0)COMMIT\0|\x07\0\0\0\x03commit", re.DOTALL | re.IGNORECASE)
_SIZE = 65536
_PATIENCE = 30.0

BEFORE = "before COMMIT reaches the server"
MEANWHILE = "while the server commits"
AFTER = "before the answer to COMMIT comes back"
ANY_TIME = "at any time"


class Proxy:
    """Hands bytes on between clients and a server, until it is told to cut a connection.

    Attributes:
        port: where it listens, on 127.0.0.1.
        commits: how many COMMITs it saw.
        cuts: how many connections it cut.
    """

    def __init__(self, host, port):
        self._server = (host, port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.commits = self.cuts = 0
        self._moment = None
        self._messages_left = None
        self._threads = [threading.Thread(target=self._listen)]
        self._threads[0].start()

    def cut_next(self, moment, messages=None):
        """Cut one connection: at its next COMMIT, or ANY_TIME after so many messages."""
        self._messages_left = messages
        self._moment = moment

    def cut_nothing(self):
        self._moment = None

    def close(self):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(_PATIENCE)
        assert not any(thread.is_alive() for thread in self._threads)

    def _listen(self):
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:  # closed
                return
            server = socket.create_connection(self._server)
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = _Pair(client, server)
            for work in (self._from_client, self._from_server):
                thread = threading.Thread(target=work, args=(pair,))
                thread.start()
                self._threads.append(thread)

    def _from_client(self, pair):
        for data in pair.received(pair.client):
            if _COMMIT.search(data):
                self.commits += 1
                if self._moment in (BEFORE, MEANWHILE, AFTER):
                    moment, self._moment = self._moment, None
                    self.cuts += 1
                    pair.answer_is_wanted = moment != AFTER
                    if moment != BEFORE:
                        pair.server.sendall(data)
                    if moment != AFTER:
                        pair.cut()
                    continue
            if self._is_due():
                pair.cut()
                continue
            pair.send(pair.server, data)

    def _from_server(self, pair):
        for data in pair.received(pair.server):
            if not pair.answer_is_wanted or self._is_due():
                pair.cut()
                continue
            pair.send(pair.client, data)

    def _is_due(self):
        if self._moment != ANY_TIME:
            return False
        self._messages_left -= 1
        if self._messages_left > 0:
            return False
        self._moment = None
        self.cuts += 1
        return True


class _Pair:
    def __init__(self, client, server):
        self.client, self.server = client, server
        self.answer_is_wanted = True

    def received(self, one):
        """What comes from one side; when it has ended, so has the other."""
        while True:
            try:
                data = one.recv(_SIZE)
            except OSError:
                data = b""
            if not data:
                self._end()
                return
            yield data

    def send(self, other, data):
        try:
            other.sendall(data)
        except OSError:
            self._end()

    def cut(self):
        """End both sides, one time orderly and the next time not."""
        if random.random() < 0.5:
            for one in (self.client, self.server):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end()

    def _end(self):
        for one in (self.client, self.server):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@contextmanager
def proxy_to(settings):
    """A proxy to the server of an alias's settings."""
    default = 5432 if "postgresql" in settings["ENGINE"] else 3306
    proxy = Proxy(settings["HOST"] or "127.0.0.1", int(settings["PORT"] or default))
    try:
        yield proxy
    finally:
        proxy.close()
