"""Fetching one large file over HTTP: it goes on after a cut, tries again, and is the published file or is not kept."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from email.message import Message
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from sam_core.datasets.base import DatasetError, Progress
from sam_core.datasets.sources import RemoteFile, amount

#: Some hosts refuse Python's own name.
USER_AGENT = "sam-explorer (dataset download)"
BLOCK = 1 << 18
#: An attempt that gained this much was not in vain: the count of failures begins anew.
ENOUGH = 1 << 20
LONGEST_WAIT = 60.0
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_NETWORK = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
_MAY_PASS = (http.client.REQUEST_TIMEOUT, http.client.TOO_MANY_REQUESTS)

Say = Callable[[str], None]
Report = Callable[[str, int, int], None]
"""Takes what is being done, how many bytes of it are, and of how many."""


class Unavailable(DatasetError):
    """No address serves the file."""


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        timeout: seconds without a byte after which a connection counts as dead.
        slowest: bytes per second below which, over as many seconds, it also does.
        tries: attempts in a row that gain next to nothing before an address is given up.
        wait: seconds before the second attempt; before every further one twice as many.
        sleep: waits so many seconds.
    """

    timeout: float = 30.0
    slowest: float = 1000.0
    tries: int = 6
    wait: float = 1.0
    sleep: Callable[[float], None] = time.sleep


PATIENCE = Patience()


def silent(*words: object) -> None:
    """Takes what nobody wants to hear."""


def fetch(
    file: RemoteFile,
    path: Path,
    urls: Sequence[str],
    *,
    report: Report = silent,
    say: Say = silent,
    patience: Patience = PATIENCE,
) -> None:
    """Fetch a published file as `path`, going on with what an earlier call left.

    Until it is whole and has the published checksums it is called `NAME.part`. Beside it `NAME.download.json` keeps
    what the server calls this version of it, so that two versions are not glued together. That note stays as the
    mark of a file that was fetched and not brought by a person, until `forget_origin`.

    Args:
        file: its size and checksums.
        path: where it is put; the folder is made.
        urls: where it is served, asked in this order.
        report: told how far the download and then the check are.
        say: told in a sentence of everything that does not go straight.
        patience: how long to wait for a server.

    Raises:
        Unavailable: if no address serves it.
        DatasetError: if the disk is full or may not be written to, or what arrived is not the published file.
    """
    part = _Part(path)
    with _disk_errors(file, path), _mentioning_what_is_kept(file, part, say):
        path.parent.mkdir(parents=True, exist_ok=True)
        refusals = []
        for url in urls:
            try:
                _Address(url, file, part, report, say, patience).fetch()
                break
            except _Refusal as refusal:
                refusals.append(str(refusal))
        else:
            raise Unavailable(f"{file.name} cannot be fetched: {'; '.join(dict.fromkeys(refusals))}")
        if difference := difference_from_published(file, part.data, partial(report, f"checking {file.name}")):
            part.clear()
            raise DatasetError(
                f"{file.name}: {difference}; what arrived is deleted",
                "run the same command again; should this repeat itself, the server has another file of this name: "
                "give another address with --url",
            )
        part.data.replace(path)


def was_fetched(path: Path) -> bool:
    """Whether `fetch` put a file there, and not a person."""
    return _Part(path).notes.exists()


def forget_origin(path: Path) -> None:
    """Remove the mark that `fetch` left beside a file."""
    _Part(path).notes.unlink(missing_ok=True)


def bytes_arrived(path: Path) -> int:
    """How much there is of a file that an earlier `fetch` was not done with."""
    return _Part(path).size()


def difference_from_published(file: RemoteFile, path: Path, progress: Progress = silent) -> str:
    """In words, how a file on disk differs from the published one; empty if it does not."""
    size = path.stat().st_size
    if size != file.size:
        return f"it has {size:,} bytes, the published file {file.size:,}"
    # Not for secrecy: MD5 is allowed for this even where it is forbidden otherwise.
    sums = {name: hashlib.new(name, usedforsecurity=False) for name in file.checksums}
    done = 0
    with path.open("rb") as content:
        while block := content.read(1 << 20):
            for algorithm in sums.values():
                algorithm.update(block)
            done += len(block)
            progress(done, size)
    for name, expected in file.checksums.items():
        if (found := sums[name].hexdigest()) != expected:
            return f"its {name.upper()} is {found}, that of the published file {expected}"
    return ""


# --- what is there already ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Version:
    """What a server calls the version of the file that it sends."""

    url: str
    etag: str | None
    modified: str | None

    @classmethod
    def of(cls, url: str, headers: Message) -> _Version:
        return cls(url, headers.get("ETag"), headers.get("Last-Modified"))

    def validator(self) -> str | None:
        """What `If-Range` may name: a weak ETag does not promise the same bytes (RFC 9110, section 13.1.5)."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    def differs_from(self, other: _Version) -> bool:
        """Whether one address had two versions. Of two addresses nothing is known: the checksum will tell."""
        pairs = ((self.etag, other.etag), (self.modified, other.modified))
        return self.url == other.url and any(one and two and one != two for one, two in pairs)


class _Part:
    """What has arrived of a file, and of which version of it."""

    def __init__(self, path: Path) -> None:
        self.data = path.with_name(f"{path.name}.part")
        self.notes = path.with_name(f"{path.name}.download.json")

    def size(self) -> int:
        return self.data.stat().st_size if self.data.exists() else 0

    def version(self) -> _Version | None:
        """None where it is not known."""
        try:
            return _Version(**json.loads(self.notes.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def note(self, version: _Version) -> None:
        self.notes.write_text(json.dumps(asdict(version)), encoding="utf-8")

    def clear(self) -> None:
        self.data.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)


# --- one address ----------------------------------------------------------------------------------------------------


class _Refusal(Exception):
    """An address will not serve the file, however often it is asked; the message is a sentence that says why."""


class _Broken(Exception):
    """An attempt failed that may succeed the next time; the message continues a sentence that begins with the host."""

    def __init__(self, message: str, *, wait: float = 0.0, start_over: bool = False) -> None:
        super().__init__(message)
        self.wait = wait
        self.start_over = start_over


@dataclass(frozen=True)
class _Address:
    """Asks one address for a file, until it is there or there is no hope."""

    url: str
    file: RemoteFile
    part: _Part
    report: Report
    say: Say
    patience: Patience

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or self.url

    def fetch(self) -> None:
        """Attempts fail in a row if none of them brings the file well beyond where it has been before."""
        failures, furthest = 0, self.part.size()
        may_be_offline = True
        while True:
            try:
                return self._attempt(may_be_offline=may_be_offline)
            except _Broken as broken:
                have = self.part.size()
                may_be_offline &= have <= furthest
                failures = 1 if have >= furthest + ENOUGH else failures + 1
                furthest = max(furthest, have)
                if broken.start_over:
                    self.part.clear()
                if failures >= self.patience.tries:
                    raise _Refusal(f"{self.host} {broken}, {failures} times in a row") from None
                self._pause(broken, failures)

    def _pause(self, broken: _Broken, failures: int) -> None:
        wait = max(min(self.patience.wait * 2 ** (failures - 1), LONGEST_WAIT), broken.wait)
        self.say(
            f"{self.file.name}: {self.host} {broken}; {amount(self.part.size())} of {amount(self.file.size)} are "
            f"there, next attempt in {wait:.2g} s ({failures + 1} of {self.patience.tries})"
        )
        self.patience.sleep(wait)

    def _attempt(self, *, may_be_offline: bool) -> None:
        """One request: for the whole file, or for what is missing of it."""
        known = self.part.version()
        if known is None or self.part.size() > self.file.size:
            self.part.clear()
        have = self.part.size()
        if have == self.file.size:
            return
        headers = _range_headers(self.url, have, known)
        with _open(self.url, headers, self.patience.timeout, may_be_offline=may_be_offline) as response:
            version = _Version.of(self.url, response.headers)
            have = self._begin(response, have, changed=known is not None and version.differs_from(known))
            self.part.note(version)
            with self.part.data.open("ab" if have else "wb") as out:
                for block in _blocks(response, self.patience):
                    have += len(block)
                    if have > self.file.size:
                        raise _Refusal(f"{self.host} sends more than {self.file.size:,} bytes: it has another file")
                    out.write(block)
                    self.report(f"downloading {self.file.name}", have, self.file.size)
        if have < self.file.size:
            raise _Broken("ended the connection early")

    def _begin(self, response: http.client.HTTPResponse, have: int, *, changed: bool) -> int:
        """From which byte on the answer is to be written, if it is one to be written at all."""
        if response.status == http.client.PARTIAL_CONTENT:
            if changed:
                raise _Broken("has another version of the file by now", start_over=True)
            if not _is_range(response.headers, have, self.file.size):
                raise _Broken("sent another part than it was asked for", start_over=True)
        elif have:
            why = "has another version of the file by now" if changed else "cannot send the rest of a file"
            self.say(f"{self.file.name}: {self.host} {why}: starting over")
            have = 0
        # Gigabytes of something else, or the web page of a login, are refused before they are read.
        if response.headers.get_content_type() == "text/html":
            raise _Refusal(f"{self.host} answers with a web page in place of the file")
        expected, length = self.file.size - have, response.headers.get("Content-Length", "")
        if length.isdecimal() and int(length[:18]) != expected:
            raise _Refusal(
                f"{self.host} offers {int(length[:18]):,} bytes where {expected:,} are missing: it has another file"
            )
        self.report(f"downloading {self.file.name}", have, self.file.size)
        return have


def _range_headers(url: str, have: int, known: _Version | None) -> dict[str, str]:
    """What asks for the rest of this version of the file only; of another version the server then sends all."""
    if not have or known is None:
        return {}
    headers = {"Range": f"bytes={have}-"}
    if known.url == url and (validator := known.validator()):
        headers["If-Range"] = validator
    return headers


def _is_range(headers: Message, have: int, size: int) -> bool:
    match = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", headers.get("Content-Range", "").strip())
    return match is not None and int(match[1]) == have and match[2] in ("*", str(size))


def _blocks(response: http.client.HTTPResponse, patience: Patience) -> Iterator[bytes]:
    """What arrives, as it arrives. A trickle is no better than silence, and a new connection may be."""
    since, gained = time.monotonic(), 0
    while True:
        try:
            block = response.read1(BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _Broken(_in_words(error)) from None
        if not block:
            return
        yield block
        gained += len(block)
        seconds = time.monotonic() - since
        if seconds >= patience.timeout:
            if gained < patience.slowest * seconds:
                raise _Broken(f"sends less than {amount(patience.slowest)} a second")
            since, gained = time.monotonic(), 0


# --- HTTP -----------------------------------------------------------------------------------------------------------


def _opener() -> urllib.request.OpenerDirector:
    """Opens http and https and follows redirections to these; nothing else, so that no file can be named."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


@contextmanager
def _open(
    url: str, headers: dict[str, str], timeout: float, *, may_be_offline: bool
) -> Iterator[http.client.HTTPResponse]:
    """The answer to a request. What goes wrong before there is one becomes `_Refusal` or `_Broken`."""
    host = urlsplit(url).hostname
    try:
        request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT, **headers})
        response = _opener().open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            raise _meaning_of_answer(host, error) from None
    except (http.client.InvalidURL, ValueError) as error:
        raise _Refusal(f"{url} is no address ({error})") from None
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise _meaning_of_failure(host, reason, may_be_offline=may_be_offline) from None
    with response:
        yield response


def _meaning_of_answer(host: str | None, error: urllib.error.HTTPError) -> _Refusal | _Broken:
    # The server's own words for it may be anything.
    said = f"{error.code} {http.client.responses.get(error.code, '')}".strip()
    if 300 <= error.code < 400:
        return _Refusal(f"{host} redirects to where we do not follow ({said})")
    if error.code in (http.client.NOT_FOUND, http.client.GONE):
        return _Refusal(f"{host} no longer serves it ({said})")
    if error.code in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        return _Refusal(f"{host} does not give it to this machine ({said})")
    if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
        return _Broken(f"has no such part of the file ({said})", start_over=True)
    if error.code in _MAY_PASS or error.code >= 500:
        asked = error.headers.get("Retry-After", "")
        return _Broken(f"answered {said}", wait=min(float(asked), LONGEST_WAIT) if asked.isdecimal() else 0.0)
    return _Refusal(f"{host} answered {said}")


def _meaning_of_failure(host: str | None, reason: object, *, may_be_offline: bool) -> _Refusal | _Broken:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return _Refusal(
            f"the certificate of {host} cannot be verified ({reason.verify_message}): is this machine's clock right, "
            "and does a proxy stand between?"
        )
    if isinstance(reason, str):  # urllib's own word on an address, that of a redirection too
        return _Refusal(f"{host} cannot be asked ({reason})")
    no_network = isinstance(reason, socket.gaierror) or getattr(reason, "errno", None) in _NO_NETWORK
    if no_network and may_be_offline:
        return _Refusal(f"{host} {_in_words(reason)}: this machine seems to be offline, or that host is gone")
    return _Broken(_in_words(reason))


def _in_words(error: object) -> str:
    """An error of the network as the end of a sentence that begins with the host."""
    if isinstance(error, TimeoutError):
        return "does not answer"
    if isinstance(error, socket.gaierror):
        return "is not found"
    if isinstance(error, ConnectionRefusedError):
        return "refuses the connection"
    if isinstance(error, ConnectionError | http.client.IncompleteRead):
        return "ended the connection early"
    return f"cannot be reached ({getattr(error, 'strerror', None) or error or type(error).__name__})"


# --- the disk -------------------------------------------------------------------------------------------------------


@contextmanager
def _disk_errors(file: RemoteFile, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise DatasetError(
                f"the disk of {path.parent} is full: {file.name} needs {file.size:,} bytes",
                "free some space and run the same command again: it goes on where it was",
            ) from None
        raise DatasetError(
            f"{file.name} cannot be written to {path.parent}: {error.strerror or error}",
            "name a folder that can be written to with --root",
        ) from None


@contextmanager
def _mentioning_what_is_kept(file: RemoteFile, part: _Part, say: Say) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, Unavailable):
        if have := part.size():
            say(f"{file.name}: {amount(have)} of {amount(file.size)} are kept; the same command goes on from there")
        raise
