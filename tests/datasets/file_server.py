"""A web server on the loopback address that can do everything wrong that a server can do wrong."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass
class Fault:
    """What the server does wrong with one request."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Bytes of the body after which the connection is closed."""
    trickle: float = 0.0
    """Seconds between one byte and the next."""
    silence: float = 0.0
    """Seconds before there is an answer."""
    hold: float = 0.0
    """Seconds after the last byte before the connection is closed."""
    length: int | None = None
    """What `Content-Length` says."""


class FileServer:
    """Serves files with ranges and ETags as RFC 9110 has them, but for the faults in its script.

    Attributes:
        files: the content of each by its name.
        etag: what it calls the version of them all.
        ranges: whether it can send a part of a file.
        script: the faults of the next requests.
        requests: the headers of each request so far, and under `path` what it asked for.
        sent: the bytes of each answer's body.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.etag = files, '"one"'
        self.ranges = True
        self.script: list[Fault] = []
        self.requests: list[dict[str, str]] = []
        self.sent: list[int] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._answer(self)

            def log_message(self, *words: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        """The address of the folder of the files."""
        return f"http://127.0.0.1:{self._http.server_port}/"

    def close(self) -> None:
        """Answer no more."""
        self._http.shutdown()
        self._http.server_close()

    def forget(self) -> None:
        """Begin the lists of requests anew."""
        self.requests.clear()
        self.sent.clear()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        name = urlsplit(handler.path).path.lstrip("/")
        self.requests.append({"path": name, **handler.headers})
        self.sent.append(0)
        fault = self.script.pop(0) if self.script else Fault()
        time.sleep(fault.silence)
        handler.close_connection = True
        content = self.files.get(name, b"")
        first = self._first_byte(handler)
        status = fault.status or (404 if name not in self.files else 206 if first else 200)
        body = content[first:] if status < 300 else b""
        headers = {"ETag": self.etag, "Content-Type": "application/gzip", "Content-Length": str(len(body))}
        if status == 206:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        if fault.length is not None:
            headers["Content-Length"] = str(fault.length)
        with contextlib.suppress(OSError):  # the other side may have had enough
            handler.send_response(status)
            for key, value in (headers | fault.headers).items():
                handler.send_header(key, value)
            handler.end_headers()
            self._send(handler, body[: fault.cut_after], fault)

    def _first_byte(self, handler: BaseHTTPRequestHandler) -> int:
        match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        if not self.ranges or match is None or handler.headers.get("If-Range", self.etag) != self.etag:
            return 0
        return int(match[1])

    def _send(self, handler: BaseHTTPRequestHandler, body: bytes, fault: Fault) -> None:
        step = 1 if fault.trickle else 1 << 16
        for start in range(0, len(body), step):
            handler.wfile.write(body[start : start + step])
            self.sent[-1] += len(body[start : start + step])
            time.sleep(fault.trickle)
        time.sleep(fault.hold)
