"""A receiver and admin API in a thread, with the test's answers: for commands that run an event loop of their own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl


class ThreadReceiver(ThreadingHTTPServer):
    """Gives every request the same answer, except for the first `busy`, which get 503."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.answer = (200, b"success")
        self.busy = 0
        self.requests: list[tuple[str, str, bytes]] = []  # method, path, body
        self.counting = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def forms(self) -> list[dict[str, str]]:
        return [dict(parse_qsl(body.decode())) for _, _, body in self.requests]


class _Request(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, ThreadReceiver)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        with server.counting:
            server.requests.append((self.command, self.path, body))
            status, answer = (503, b"fail") if server.busy > 0 else server.answer
            server.busy -= 1
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_POST  # noqa: N815 - the library calls them by these names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own name
        pass


@contextmanager
def running() -> Iterator[ThreadReceiver]:
    """Serve until the context ends."""
    with ThreadReceiver() as receiver:
        thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield receiver
        receiver.shutdown()
        thread.join()
