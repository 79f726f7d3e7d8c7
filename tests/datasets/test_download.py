"""A download from a real server that does everything a server can do wrong."""

from __future__ import annotations

import errno
import hashlib
import random
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sam_core.datasets import download
from sam_core.datasets.base import DatasetError
from sam_core.datasets.download import Patience, Unavailable, difference_from_published, fetch, was_fetched
from sam_core.datasets.sources import RemoteFile
from tests.datasets.file_server import Fault, FileServer

CONTENT = random.Random(0).randbytes(300_000)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = FileServer({"file.tgz": CONTENT})
    yield server
    server.close()


@dataclass
class Person:
    """Who waits in front of the download."""

    heard: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    seen: list[tuple[str, int, int]] = field(default_factory=list)

    def fetch(self, path: Path, *urls: str, content: bytes = CONTENT, timeout: float = 5.0, **changes: object) -> None:
        patience = Patience(timeout=timeout, tries=4, sleep=self.waits.append)
        fetch(
            published(content, **changes), path, urls,
            report=lambda *what: self.seen.append(what), say=self.heard.append, patience=patience,
        )  # fmt: skip

    @property
    def all_heard(self) -> str:
        return "\n".join(self.heard)


def published(content: bytes = CONTENT, **changes: object) -> RemoteFile:
    sums = {name: hashlib.new(name, content).hexdigest() for name in ("md5", "sha256")}
    return RemoteFile(**{"name": "file.tgz", "size": len(content), "checksums": sums, "target": "file"} | changes)


def address(server: FileServer) -> str:
    return server.url + "file.tgz"


@pytest.fixture
def person() -> Person:
    return Person()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "file.tgz"


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def cut_off(path: Path, server: FileServer, person: Person, after: int = 100_000) -> None:
    """Leave what a download leaves that a person interrupts."""

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    server.script = [Fault(cut_after=after)]
    with pytest.raises(KeyboardInterrupt):
        fetch(published(), path, [address(server)], say=person.heard.append, patience=Patience(sleep=interrupt))
    server.forget()


def test_a_whole_file_arrives_with_progress(server: FileServer, person: Person, path: Path):
    person.fetch(path, address(server))
    assert path.read_bytes() == CONTENT
    assert files_in(path.parent) == ["file.tgz", "file.tgz.download.json"]
    assert was_fetched(path)
    assert person.heard == []
    assert "Python-urllib" not in server.requests[0]["User-Agent"]
    downloading = [done for task, done, total in person.seen if task == "downloading file.tgz"]
    assert downloading[0] == 0
    assert downloading[-1] == len(CONTENT)
    assert downloading == sorted(downloading)
    assert person.seen[-1] == ("checking file.tgz", len(CONTENT), len(CONTENT))


def test_after_ctrl_c_only_the_rest_is_sent(server: FileServer, person: Person, path: Path):
    cut_off(path, server, person)
    assert files_in(path.parent) == ["file.tgz.download.json", "file.tgz.part"]
    assert person.heard[-1] == "file.tgz: 100 kB of 300 kB are kept; the same command goes on from there"
    person.fetch(path, address(server))
    assert path.read_bytes() == CONTENT
    assert [(request["Range"], request["If-Range"]) for request in server.requests] == [("bytes=100000-", '"one"')]
    assert server.sent == [200_000]
    assert person.seen[0] == ("downloading file.tgz", 100_000, 300_000)


def test_a_cut_within_a_call_is_mended_by_itself(server: FileServer, person: Person, path: Path):
    server.script = [Fault(cut_after=100_000), Fault(cut_after=50_000)]
    person.fetch(path, address(server))
    assert path.read_bytes() == CONTENT
    assert server.sent == [100_000, 50_000, 150_000]
    assert person.waits == [1.0, 2.0]
    assert "ended the connection early; 100 kB of 300 kB are there" in person.heard[0]


def test_a_server_that_knows_no_ranges_is_asked_for_everything(server: FileServer, person: Person, path: Path):
    cut_off(path, server, person)
    server.ranges = False
    person.fetch(path, address(server))
    assert path.read_bytes() == CONTENT
    assert server.sent == [300_000]
    assert "cannot send the rest of a file: starting over" in person.all_heard


def test_two_versions_are_not_glued_together(server: FileServer, person: Person, path: Path):
    cut_off(path, server, person)
    server.files["file.tgz"], server.etag = CONTENT[::-1], '"two"'
    person.fetch(path, address(server), content=CONTENT[::-1])
    assert path.read_bytes() == CONTENT[::-1]
    assert server.sent == [300_000]
    assert "has another version of the file by now: starting over" in person.all_heard


def test_nor_if_the_server_ignores_if_range(server: FileServer, person: Person, path: Path):
    cut_off(path, server, person)
    server.files["file.tgz"] = CONTENT[::-1]
    server.script = [Fault(headers={"ETag": '"two"'})]
    person.fetch(path, address(server), content=CONTENT[::-1])
    assert path.read_bytes() == CONTENT[::-1]
    assert "Range" not in server.requests[1]


def test_a_weak_etag_promises_nothing_but_a_date_does(server: FileServer, person: Person, path: Path):
    date = "Mon, 07 Nov 2011 10:00:00 GMT"
    server.etag = 'W/"one"'
    server.script = [Fault(cut_after=1000, headers={"Last-Modified": date})]
    person.fetch(path, address(server))
    assert server.requests[1]["If-Range"] == date
    assert path.read_bytes() == CONTENT


def test_another_address_goes_on_with_the_part_of_the_first(server: FileServer, person: Person, path: Path):
    cut_off(path, server, person)
    person.fetch(path, address(server) + "?mirror")
    assert path.read_bytes() == CONTENT
    assert server.requests[0]["Range"] == "bytes=100000-"
    assert "If-Range" not in server.requests[0]


def test_a_part_of_which_nothing_is_known_is_not_used(server: FileServer, person: Person, path: Path):
    cut_off(path, server, person)
    path.with_name("file.tgz.download.json").write_text("{broken", encoding="utf-8")
    person.fetch(path, address(server))
    assert "Range" not in server.requests[0]
    assert path.read_bytes() == CONTENT
    assert "starting over" not in person.all_heard


@pytest.mark.parametrize("size", [300_000, 300_001])
def test_a_part_that_is_complete_or_too_long(size: int, server: FileServer, person: Person, path: Path):
    cut_off(path, server, person)
    path.with_name("file.tgz.part").write_bytes((CONTENT + b"!")[:size])
    person.fetch(path, address(server))
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == (0 if size == 300_000 else 1)


def test_a_wrong_part_is_not_written(server: FileServer, person: Person, path: Path):
    cut_off(path, server, person)
    server.script = [Fault(headers={"Content-Range": "bytes 5-299999/300000"})]
    person.fetch(path, address(server))
    assert path.read_bytes() == CONTENT
    assert "sent another part than it was asked for" in person.all_heard


def test_a_part_that_the_server_does_not_have_starts_over(server: FileServer, person: Person, path: Path):
    cut_off(path, server, person)
    server.script = [Fault(status=416)]
    person.fetch(path, address(server))
    assert path.read_bytes() == CONTENT
    assert "Range" not in server.requests[1]


def test_a_wrong_checksum_is_told_and_nothing_is_kept(server: FileServer, person: Person, path: Path):
    expected = "0" * 32
    with pytest.raises(DatasetError) as caught:
        person.fetch(path, address(server), checksums={"md5": expected})
    found = hashlib.md5(CONTENT).hexdigest()
    assert str(caught.value) == (
        f"file.tgz: its MD5 is {found}, that of the published file {expected}; what arrived is deleted"
    )
    assert "run the same command again" in caught.value.hint
    assert files_in(path.parent) == []


def test_every_published_checksum_must_hold(path: Path):
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    sums = dict(published().checksums)
    assert difference_from_published(published(), path) == ""
    for name in sums:
        assert name.upper() in difference_from_published(published(checksums=sums | {name: "0"}), path)
    assert "300,000 bytes, the published file 5" in difference_from_published(published(size=5), path)


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "no longer serves it (404 Not Found)"), (410, "no longer serves it (410 Gone)"), (403, "(403 Forbidden)")],
)
def test_a_file_that_is_gone_is_asked_for_once(status: int, words: str, server: FileServer, person: Person, path: Path):
    server.script = [Fault(status=status)]
    with pytest.raises(Unavailable, match=re.escape(words)) as caught:
        person.fetch(path, address(server))
    assert "127.0.0.1" in str(caught.value)
    assert len(server.requests) == 1
    assert person.waits == []


def test_the_next_address_is_asked_when_one_has_it_no_more(server: FileServer, person: Person, path: Path):
    server.script = [Fault(status=404)]
    person.fetch(path, address(server) + "?old", address(server))
    assert path.read_bytes() == CONTENT


def test_errors_that_may_pass_are_waited_for(server: FileServer, person: Person, path: Path):
    server.script = [Fault(status=500), Fault(status=503, headers={"Retry-After": "7"}), Fault(status=429)]
    person.fetch(path, address(server))
    assert path.read_bytes() == CONTENT
    assert person.waits == [1.0, 7.0, 4.0]
    assert "127.0.0.1 answered 500 Internal Server Error; 0 bytes of 300 kB are there" in person.heard[0]
    assert "next attempt in 1 s (2 of 4)" in person.heard[0]


def test_but_not_for_ever(server: FileServer, person: Person, path: Path):
    server.script = [Fault(status=500)] * 9
    with pytest.raises(Unavailable, match=r"answered 500 Internal Server Error, 4 times in a row"):
        person.fetch(path, address(server))
    assert len(server.requests) == 4


def test_an_attempt_that_gains_much_begins_the_count_anew(
    server: FileServer, person: Person, path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(download, "ENOUGH", 20_000)
    server.script = [Fault(cut_after=20_000)] * 12
    person.fetch(path, address(server))
    assert path.read_bytes() == CONTENT
    assert set(person.waits) == {1.0}


def test_a_server_that_starts_over_for_ever_is_given_up(
    server: FileServer, person: Person, path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(download, "ENOUGH", 20_000)
    server.ranges = False
    server.script = [Fault(cut_after=30_000), Fault(cut_after=1)] * 50
    with pytest.raises(Unavailable, match="4 times in a row"):
        person.fetch(path, address(server))
    assert len(server.requests) == 4


def test_silence_is_waited_out_for_so_long_only(server: FileServer, person: Person, path: Path):
    server.script = [Fault(silence=1.0)]
    person.fetch(path, address(server), timeout=0.1)
    assert path.read_bytes() == CONTENT
    assert "127.0.0.1 does not answer" in person.heard[0]


def test_a_trickle_is_no_better_than_silence(server: FileServer, person: Person, path: Path):
    server.script = [Fault(trickle=0.02)]
    person.fetch(path, address(server), timeout=0.1)
    assert path.read_bytes() == CONTENT
    assert "127.0.0.1 sends less than 1 kB a second" in person.heard[0]


@pytest.mark.parametrize("length", [10**15, 299_999])
def test_something_of_another_size_is_refused_before_it_is_read(
    length: int, server: FileServer, person: Person, path: Path
):
    server.script = [Fault(length=length)]
    with pytest.raises(Unavailable, match=f"offers {length:,} bytes where 300,000 are missing"):
        person.fetch(path, address(server))
    assert files_in(path.parent) == []


def test_something_without_a_size_is_read_no_further_than_the_file_is_long(
    server: FileServer, person: Person, path: Path
):
    server.script = [Fault(headers={"Content-Length": "unknown"})]
    with pytest.raises(Unavailable, match="sends more than 1,000 bytes"):
        person.fetch(path, address(server), content=CONTENT[:1000])


def test_a_web_page_is_no_dataset(server: FileServer, person: Person, path: Path):
    server.script = [Fault(headers={"Content-Type": "text/html; charset=utf-8"})]
    with pytest.raises(Unavailable, match="answers with a web page in place of the file"):
        person.fetch(path, address(server))


def test_a_redirection_is_followed_with_the_range(server: FileServer, person: Person, path: Path):
    cut_off(path, server, person)
    server.script = [Fault(status=302, headers={"Location": address(server) + "?here"})]
    person.fetch(path, address(server))
    assert path.read_bytes() == CONTENT
    assert server.requests[1]["Range"] == "bytes=100000-"


@pytest.mark.parametrize("place", ["file:///etc/hostname", "ftp://127.0.0.1/file.tgz", "data:text/plain,hello"])
def test_a_redirection_leads_to_http_only(place: str, server: FileServer, person: Person, path: Path):
    server.script = [Fault(status=302, headers={"Location": place})]
    with pytest.raises(Unavailable):
        person.fetch(path, address(server))
    assert len(server.requests) == 1
    assert not path.exists()


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/a", "nothing", "http://127.0.0.1:x/"])
def test_an_address_is_http_only(url: str, person: Person, path: Path):
    with pytest.raises(Unavailable):
        person.fetch(path, url)
    assert person.waits == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-3, "Temporary failure in name resolution"), "is not found: this machine seems to be offline"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "this machine seems to be offline"),
        (ssl.SSLCertVerificationError("certificate has expired"), "the certificate of 127.0.0.1 cannot be verified"),
    ],
)
def test_no_network_and_no_trust_are_told_at_once(
    error: OSError, words: str, person: Person, path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*arguments: object, **keywords: object) -> None:
        error.verify_message = "certificate has expired"
        raise error

    monkeypatch.setattr(socket, "create_connection", fail)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(Unavailable, match=words):
        person.fetch(path, "http://127.0.0.1:9/file.tgz")
    assert person.waits == []


def test_a_network_that_is_lost_on_the_way_may_come_back(
    server: FileServer, person: Person, path: Path, monkeypatch: pytest.MonkeyPatch
):
    connect, attempts = socket.create_connection, []

    def connect_the_third_time(*arguments: object, **keywords: object) -> socket.socket:
        attempts.append(arguments)
        if len(attempts) == 2:
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        return connect(*arguments, **keywords)

    monkeypatch.setattr(socket, "create_connection", connect_the_third_time)
    server.script = [Fault(cut_after=100_000)]
    person.fetch(path, address(server))
    assert path.read_bytes() == CONTENT
    assert "127.0.0.1 is not found; 100 kB of 300 kB are there" in person.heard[1]


def test_a_refused_connection_is_tried_again(person: Person, path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file.tgz"
    with pytest.raises(Unavailable, match="refuses the connection, 4 times in a row"):
        person.fetch(path, url)
    assert person.waits == [1.0, 2.0, 4.0]


def test_a_full_disk_keeps_what_has_arrived(
    server: FileServer, person: Person, path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cut_off(path, server, person)
    monkeypatch.setattr(download._Part, "note", full)
    with pytest.raises(DatasetError, match=r"is full: file\.tgz needs 300,000 bytes") as caught:
        person.fetch(path, address(server))
    assert "goes on where it was" in caught.value.hint
    assert path.with_name("file.tgz.part").stat().st_size == 100_000


def test_certificates_are_verified():
    https = next(handler for handler in download._opener().handlers if type(handler).__name__ == "HTTPSHandler")
    assert https._context.verify_mode == ssl.CERT_REQUIRED
    assert https._context.check_hostname
