"""Viewers of one run, replayed over HTTP: `python -m explorer.benchmark.audience ADDRESS RUN VIEWERS`.

Each does what a page with the Attention view open does (`web/store.js`, `attention.js`, `gallery.js`): it asks for
news, waits, and asks again with what it then knows; when an epoch was recorded, it fetches that epoch of its image and
the gallery's columns. Standard input says `watch` or `rest`, a line each; at its end, a JSON object with what was done
is printed. One thread and plain sockets, and answers are parsed only where the next question needs it: what the
viewers themselves take of the machine must not be taken for the server's.
"""

from __future__ import annotations

import gzip
import heapq
import json
import select
import socket
import struct
import sys
import time
from collections import Counter
from urllib.parse import urlencode, urlsplit

PATIENCE_S = 60.0
CHUNK = 1 << 16
#: Viewers come one after the other within this time.
COMING_S = 1.0


class Viewer:
    """One page: what it knows, and its connection, kept open from question to question."""

    def __init__(self, number: int, address: str, run: str, done: Counter[str]) -> None:
        self.number = number
        self.run = run
        self.done = done
        place = urlsplit(address)
        self._place = (str(place.hostname), int(place.port or 80))
        self._connection: socket.socket | None = None
        self._list_version = 0
        self._cursor = ""
        self._image: str | None = None
        self._last_epoch = -1
        #: Until the next question, as the answer to the last one said.
        self.ask_in_s = COMING_S

    def poll(self) -> None:
        """Ask for news once, and for what the news make a page ask for."""
        query = {"list": self._list_version, "run": self.run, "cursor": self._cursor}
        content = self._get(f"pulse?{urlencode({name: value for name, value in query.items() if value != ''})}")
        self.done["polls"] += 1
        if not content:
            return
        self.done["news"] += 1
        news = json.loads(content)
        self._list_version = news.get("list", {}).get("version", self._list_version)
        if "run" in news:
            self._cursor = news["run"]["cursor"]
            if news["run"]["recorded"]:
                self._see_recorded()

    def _see_recorded(self) -> None:
        columns = self._get(f"runs/{self.run}/samples")
        if self._image is None:
            ids = json.loads(columns)["ids"]
            self._image = ids[-1 - self.number % len(ids)]
        query = urlencode({"image": self._image, "after": self._last_epoch})
        message = self._get(f"runs/{self.run}/timeline?{query}")
        (length,) = struct.unpack("<I", message[:4])
        self._last_epoch = max([self._last_epoch, *json.loads(message[4 : 4 + length])["epochs"]])
        self.done["timelines"] += 1

    def _get(self, path: str) -> bytes:
        if self._connection is None:
            self._connection = socket.create_connection(self._place, timeout=PATIENCE_S)
        host, port = self._place
        lines = (f"GET /explorer/{path} HTTP/1.1", f"Host: {host}:{port}", "Accept-Encoding: gzip", "", "")
        self._connection.sendall("\r\n".join(lines).encode())
        content = b""
        while b"\r\n\r\n" not in content:
            content += self._received()
        head, _, content = content.partition(b"\r\n\r\n")
        status, *fields = head.lower().split(b"\r\n")
        headers = dict(field.split(b": ", 1) for field in fields)
        self.ask_in_s = int(headers.get(b"x-explorer-ask-in", 1000 * self.ask_in_s)) / 1000
        length = int(headers.get(b"content-length", b"0"))
        while len(content) < length:
            content += self._received()
        if status.split(b" ", 2)[1] not in (b"200", b"204"):
            raise ConnectionError(f"{path} was answered with {status!r}")
        return gzip.decompress(content) if headers.get(b"content-encoding") == b"gzip" else content

    def _received(self) -> bytes:
        chunk = self._connection.recv(CHUNK) if self._connection else b""
        if not chunk:
            raise ConnectionError("the server hung up")
        return chunk

    def hang_up(self) -> None:
        """Close the connection; the next question opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Audience:
    """All viewers. They come at different times, and ask again when the server wants them to."""

    def __init__(self, address: str, run: str, viewers: int) -> None:
        self.done: Counter[str] = Counter(polls=0, news=0, timelines=0, failed=0)
        self.viewers = [Viewer(number, address, run, self.done) for number in range(viewers)]
        self._waiting: list[tuple[float, int]] = []

    def live(self) -> None:
        """Watch or rest, as the standard input says, until it ends."""
        while True:
            wait = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None
            if not select.select([sys.stdin], [], [], wait)[0]:
                self._let_next_ask()
            elif word := sys.stdin.readline().strip():
                self._obey(word)
            else:
                return

    def _obey(self, word: str) -> None:
        now, apart = time.monotonic(), COMING_S / len(self.viewers)
        self._waiting = [(now + viewer.number * apart, viewer.number) for viewer in self.viewers]
        if word == "rest":
            self._waiting.clear()
            for viewer in self.viewers:
                viewer.hang_up()

    def _let_next_ask(self) -> None:
        viewer = self.viewers[self._waiting[0][1]]
        try:
            viewer.poll()
        except OSError:
            self.done["failed"] += 1
            viewer.hang_up()
        heapq.heapreplace(self._waiting, (time.monotonic() + viewer.ask_in_s, viewer.number))


def main(address: str, run: str, viewers: str) -> None:
    """Live until the standard input ends, and say what was done."""
    audience = Audience(address, run, int(viewers))
    audience.live()
    print(json.dumps(audience.done), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
