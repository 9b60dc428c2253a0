"""A service on this machine that answers what a test tells it to, and records what was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Service:
    """Answers by path, without the query.

    Attributes:
        answers: Status and body of each path; a body that is no text is sent as JSON.
        asked: Path, query included, and headers in lower case of every request.
    """

    url: str = ""
    answers: dict[str, tuple[int, object]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    delay: threading.Event | None = None


@contextmanager
def serve() -> Iterator[Service]:
    """Run a service on a free port of 127.0.0.1 while the block runs."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen = {name.lower(): value for name, value in self.headers.items()}
            service.asked.append((self.path, seen))
            if service.delay is not None:
                service.delay.wait(5)
            status, body = service.answers.get(self.path.partition("?")[0], (404, {}))
            text = body if isinstance(body, str) else json.dumps(body)
            with suppress(BrokenPipeError):  # The client may have lost its patience.
                self.send_response(status)
                for name, value in service.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield service
    finally:
        if service.delay is not None:
            service.delay.set()
        server.shutdown()
        thread.join()
        server.server_close()
