"""`data get`, as a person types it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sam_core.cli.data_get import ByteBar
from sam_core.cli.main import build_parser, main
from sam_core.config import DATASETS, PROJECT_ROOT
from sam_core.datasets import get, sources
from sam_core.datasets.folder import load_folder
from sam_core.datasets.sources import SOURCES
from tests.datasets.file_server import Fault, FileServer
from tests.datasets.miniatures import write_cub200


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A server that has a miniature of CUB-200-2011; the table of sources has its size and checksums."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = write_cub200(tmp_path / "made" / "CUB_200_2011", masks=tmp_path / "made" / "CUB_200_2011")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder, folder.name)
    archive = buffer.getvalue()
    birds, masks = SOURCES["cub200"].files
    sums = {name: hashlib.new(name, archive).hexdigest() for name in birds.checksums}
    miniature = replace(birds, size=len(archive), checksums=sums)
    monkeypatch.setitem(sources.SOURCES, "cub200", replace(SOURCES["cub200"], files=(miniature, masks)))
    server = FileServer({"CUB_200_2011.tgz": archive})
    yield server
    server.close()


def attempt(capsys: pytest.CaptureFixture, *arguments: object) -> tuple[int, str, str]:
    try:
        code = main(["data", *map(str, arguments)])
    except SystemExit as stop:  # argparse's own way out
        code = int(stop.code)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_person_sees_the_terms_first_and_the_next_step_last(
    mirror: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture
):
    root = tmp_path / "my data"
    code, out, err = attempt(capsys, "get", "cub200", "--root", root, "--url", mirror.url + "CUB_200_2011.tgz")
    assert code == 0, err
    lines = out.splitlines()
    assert "non-commercial research and education only" in lines[0]
    assert lines[1] == "https://www.vision.caltech.edu/datasets/cub_200_2011/"
    assert "3 classes" in out
    assert "9 training and 6 test images" in out
    assert lines[-1] == (
        f"train on it: python -m sam_core train --dataset cub200 --data-root '{root}' --label-ratio 10"
    )
    assert f"from {mirror.url}CUB_200_2011.tgz" in err
    assert not (root / "CUB_200_2011.tgz").exists()

    mirror.forget()
    code, out, _ = attempt(capsys, "get", "cub200", "--root", root)
    assert (code, mirror.requests) == (0, [])
    assert f"{root / 'CUB_200_2011'}: there already" in out
    assert attempt(capsys, "cub200", "--data-root", root)[0] == 0


def test_a_program_gets_one_object(mirror: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture):
    arguments = ("get", "cub200", "--data-root", tmp_path / "root", "--url", mirror.url + "CUB_200_2011.tgz")
    code, out, _ = attempt(capsys, *arguments, "--keep-archive", "--json")
    (line,) = out.splitlines()
    found = json.loads(line)
    assert code == 0
    assert {key: found[key] for key in ("name", "classes", "train", "test", "problems", "files", "without")} == {
        "name": "cub200", "classes": 3, "train": 9, "test": 6, "problems": 0,
        "files": ["CUB_200_2011.tgz"], "without": [],
    }  # fmt: skip
    assert Path(found["path"]) == (tmp_path / "root" / "CUB_200_2011").resolve()
    assert found["homepage"].startswith("https://")
    assert (tmp_path / "root" / "CUB_200_2011.tgz").exists()


def test_the_drawn_guide_is_drawn(
    shared_photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    # In place of its 800 plates, the few photographs that a test has.
    monkeypatch.setattr(get, "open_dataset", lambda name, **options: load_folder(shared_photographs))
    code, out, _ = attempt(capsys, "get", "fieldguide", "--root", tmp_path)
    assert code == 0
    assert "drawn by the program" in out
    assert "3 classes\n18 training and 9 test images" in out
    assert f"train on it: python -m sam_core train --dataset fieldguide --data-root {tmp_path}" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, ["NAME"]),
        (["cub20"], 2, ["name: must be one of", "did you mean cub200?"]),
        (["CUB-200-2011"], 2, ["did you mean cub200?"]),
        (["stanford_cars"], 2, ["did you mean cars?"]),
        (["birds"], 2, ["not 'birds'"]),
        (["pets", "--url", "file:///etc/passwd"], 2, ["url: must be an address", "file:///etc/passwd"]),
        (["pets", "--url", "http://[x/"], 2, ["url: must be an address"]),
        (["fieldguide", "--url", "http://127.0.0.1/"], 2, ["url: fieldguide is drawn"]),
        (["pets", "--force"], 2, ["--force"]),
        (["cars"], 1, ["ai.stanford.edu, has answered 404", "cars_test_annos_withlabels.mat", "hint: from whoever"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_told_in_a_sentence(
    arguments: list[str], code: int, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
):
    ended, _, err = attempt(capsys, "get", *arguments, "--root", tmp_path / "root")
    assert ended == code, err
    assert "Traceback" not in err
    for word in words:
        assert word in err
    assert not (tmp_path / "root").exists()


def test_help_teaches(capsys: pytest.CaptureFixture):
    code, out, _ = attempt(capsys, "get", "--help")
    assert code == 0
    for name in DATASETS:
        assert f"  {name} " in out
    for word in ("--root", "--url", "--keep-archive", "--json", "1.19 GB", "by hand", "goes on where it was"):
        assert word in out
    assert "data get NAME fetches" in " ".join(attempt(capsys, "--help")[1].split())


def test_looking_into_a_dataset_is_as_it_was():
    options = build_parser().parse_args(["data", "get-together", "--label-ratio", "30"])
    assert (options.dataset, options.label_ratio) == ("get-together", 30)
    options = build_parser().parse_args(["data", "get", "pets", "--json"])
    assert (options.verb, options.name, options.json, options.debug) == ("data", "pets", True, False)


@pytest.mark.skipif(sys.platform == "win32", reason="sends the signal of Ctrl-C")
def test_ctrl_c_keeps_what_has_arrived_and_a_killed_process_too(tmp_path: Path):
    """A whole process, and the real table: the server says it has 1.15 GB, and never gets beyond the first megabyte."""
    birds = SOURCES["cub200"].files[0]
    server = FileServer({birds.name: bytes(1 << 20)})
    command = [sys.executable, "-m", "sam_core", "data", "get", "cub200", "--root", str(tmp_path), "--url", server.url]
    part = tmp_path / f"{birds.name}.part"

    def begin(arrived: int) -> subprocess.Popen:
        """Start the command, and wait until so much has arrived."""
        process = subprocess.Popen(
            command, cwd=PROJECT_ROOT, env=os.environ | {"no_proxy": "127.0.0.1"}, stderr=subprocess.PIPE, text=True
        )
        while process.poll() is None and not (part.exists() and part.stat().st_size >= arrived):
            process.poll()
        return process

    try:
        server.script = [Fault(length=birds.size, hold=60)]
        process = begin(1 << 20)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 130
        assert f"{birds.name}: 1.05 MB of 1.15 GB are kept; the same command goes on from there" in said
        assert said.endswith("interrupted\n")

        size = birds.size
        server.files[birds.name] = bytes(2 << 20)
        ranges = {"Content-Range": f"bytes {1 << 20}-{size - 1}/{size}"}
        server.script = [Fault(headers=ranges, length=size - (1 << 20), hold=60)]
        process = begin(2 << 20)
        process.kill()
        process.communicate(timeout=20)
        assert server.requests[-1]["Range"] == f"bytes={1 << 20}-"
        assert part.stat().st_size == 2 << 20
    finally:
        server.close()


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys: pytest.CaptureFixture):
    for seconds, said in ((0, ["downloading a: 250 bytes of 1 kB", "checking a: 1 kB of 1 kB"]), (60, [])):
        bar = ByteBar(seconds)
        bar.show("downloading a", 250, 1000)
        bar.show("checking a", 1000, 1000)
        bar.close()
        assert capsys.readouterr().err.splitlines() == said


def test_progress_on_a_terminal_has_bytes_rate_and_time_left(monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", "100")
    bar = ByteBar()
    bar.show("downloading a", 200_000_000, 1_000_000_000)
    time.sleep(0.15)
    bar.show("downloading a", 250_000_000, 1_000_000_000)
    bar.close()
    shown = [line for line in terminal.getvalue().split("\r") if "25%" in line]
    assert re.search(r"downloading a: +25%.*250M/1.00G \[00:0\d<00:0\d, +\d+MB/s\]", shown[-1])
