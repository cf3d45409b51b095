"""A proxy before the S3 server of the tests, which spoils the requests that a test asks it to spoil."""

import http.client
import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, cast

Fault = Literal["refuse", "overload", "fail", "cut", "forget"]

ERROR = """<?xml version="1.0" encoding="UTF-8"?><Error><Code>{}</Code><Message>Reduce your rate.</Message></Error>"""


class Proxy(ThreadingHTTPServer):
    """Hands requests on to a port of this machine, but the next ones as `faults` says, in order:

    refuse: the connection is closed before the request is handed on; overload: answered with 503 SlowDown; fail: with
    500 InternalError; cut: half of the body comes back; forget: the request is carried out and its answer lost.
    """

    daemon_threads = True

    def __init__(self, port: int, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        super().__init__(address, _Handler)
        self.host, self.target = address[0], port
        self.faults: deque[Fault] = deque()
        self.seen: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://{self.host}:{self.server_port}"

    def next_fault(self) -> Fault | None:
        """What is to be done to the request that has come."""
        return self.faults.popleft() if self.faults else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _hand_on(self) -> None:
        proxy = cast(Proxy, self.server)
        proxy.seen.append(f"{self.command} {self.path}")
        fault = proxy.next_fault()
        if self.headers.get("Expect"):
            self.send_response_only(100)
            self.end_headers()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault == "refuse":
            self._hang_up()
        elif fault == "overload":
            self._answer(503, {}, ERROR.format("SlowDown").encode())
        elif fault == "fail":
            self._answer(500, {}, ERROR.format("InternalError").encode())
        else:
            self._ask(proxy.target, body, fault)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _hand_on  # noqa: N815

    def _ask(self, port: int, body: bytes, fault: Fault | None) -> None:
        server = http.client.HTTPConnection("127.0.0.1", port)
        server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name != "Expect":
                server.putheader(name, value)
        server.endheaders(body)
        response = server.getresponse()
        data = response.read()
        server.close()
        if fault == "forget":
            self._hang_up()
        else:
            self._answer(response.status, dict(response.getheaders()), data, cut=fault == "cut")

    def _answer(self, code: int, headers: dict[str, str], data: bytes, cut: bool = False) -> None:
        self.send_response_only(code)
        length = headers.get("Content-Length", str(len(data)))
        for name, value in headers.items():
            if name not in ("Content-Length", "Transfer-Encoding", "Connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy_before(port: int) -> Iterator[Proxy]:
    """A running proxy."""
    with Proxy(port) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
