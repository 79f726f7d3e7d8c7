"""A run travels as one zip; what a stranger packed is unpacked only if it is a run and nothing else."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam_core.config import RunConfig
from sam_core.recording import archive as archive_module
from sam_core.recording import checks, layout
from sam_core.recording.archive import pack_run, unpack_run
from sam_core.recording.lock import take_lock
from sam_core.recording.notes import Notes, read_notes, write_notes
from sam_core.recording.reader import Run
from sam_core.recording.views import PictureError, view_mask, view_picture
from sam_core.recording.writer import RunError

#: A place on the packer's machine whose name must not travel; it has a space in it.
HOME = "ada lovelace"


def settle(trained: Run, photographs: Path, home: Path) -> Run:
    """A copy of the finished run, with photographs of its own, masks and notes, as somebody has it at home."""
    shutil.copytree(photographs, home / "shapes")
    folder = home / "runs" / trained.id
    shutil.copytree(trained.folder, folder)
    mask = np.zeros((48, 60), dtype=np.uint8)
    mask[10:30, 20:50] = 2
    (home / "masks").mkdir()
    samples = [
        sample | {"path": str(home / "shapes" / sample["id"]), "mask": str(home / "masks" / f"{row}.png")}
        for row, sample in enumerate(trained.samples)
    ]
    for sample in samples:
        Image.fromarray(mask).save(sample["mask"])
    samples[-1]["mask"] = None
    change_json(folder / layout.SAMPLES, lambda old: samples)
    change_json(
        folder / layout.CONFIG, lambda old: old | {"dataset": str(home / "shapes"), "data_root": str(home / "data")}
    )
    with open(folder / layout.LOG, "a", encoding="utf-8") as log:
        log.write(f"left out: {home}/shapes/train/a.png: empty\nrun folder: /mnt/elsewhere/runs/x, and/or 3/4\n")
    layout.write_json(folder / layout.EVALUATION, {"run": str(folder), "epoch": 2})
    write_notes(folder, Notes("Grünfink", "what I saw"))
    return Run(folder)


@pytest.fixture
def travelling(trained: Run, shared_photographs: Path, tmp_path: Path) -> Run:
    return settle(trained, shared_photographs, tmp_path / HOME)


@pytest.fixture(scope="module")
def packed_once(trained: Run, shared_photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    assert pack_run(settle(trained, shared_photographs, folder / HOME), folder / "run.zip") == []
    return folder / "run.zip"


@pytest.fixture
def packed(packed_once: Path, tmp_path: Path) -> Path:
    """An archive of such a run, to be damaged."""
    return Path(shutil.copy(packed_once, tmp_path / "run.zip"))


def change_json(path: Path, change: Callable) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")


def repacked(source: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """The archive with its files, by name in the run folder, changed."""
    with zipfile.ZipFile(source) as old:
        top = old.namelist()[0].split("/")[0]
        files = {name.removeprefix(f"{top}/"): old.read(name) for name in old.namelist()}
    change(files)
    target = source.with_name("changed.zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in files.items():
            new.writestr(f"{top}/{name}", content)
    return target


def with_entry(source: Path, entry: zipfile.ZipInfo | str, content: bytes = b"") -> Path:
    """The archive with one more entry; `{}` in its name is the run's folder."""
    target = source.with_name("with_entry.zip")
    shutil.copy(source, target)
    with zipfile.ZipFile(target, "a") as archive:
        top = archive.namelist()[0].split("/")[0]
        if isinstance(entry, str):
            entry = zipfile.ZipInfo(entry.replace("{}", top))
        else:
            entry.filename = entry.filename.replace("{}", top)
        archive.writestr(entry, content)
    return target


def assert_refused(source: object, runs: Path, sentence: str, **limits: int) -> RunError:
    """It is refused with this sentence and a hint, and nothing has been written."""
    with pytest.raises(RunError, match=sentence) as caught:
        unpack_run(source, runs, **limits)
    assert not runs.exists() or not list(runs.iterdir())
    assert caught.value.hint
    return caught.value


# --- There and back -----------------------------------------------------------------------------------------------


def test_a_run_looks_the_same_elsewhere_when_its_photographs_are_gone(travelling: Run, tmp_path: Path):
    def shown(run: Run, row: int, allowed: Callable[[Path], bool] | None = None) -> tuple:
        pictures = (read(run, row, side=336, allowed=allowed) for read in (view_picture, view_mask))
        return run.timeline(run.samples[row]["id"]), *pictures

    before = [shown(travelling, row) for row in range(18)]
    packed = tmp_path / "run.zip"
    assert pack_run(travelling, packed) == []
    weights = (travelling.folder / layout.MODEL).read_bytes()
    shutil.rmtree(tmp_path / HOME)
    runs = tmp_path / "there"
    run = Run(runs / unpack_run(packed, runs))

    assert run.id == travelling.id
    assert read_notes(run.folder) == Notes("Grünfink", "what I saw")
    assert run.status["state"] == "finished"
    assert run.classes == ["circle", "square", "stripes"]
    assert [entry["epoch"] for entry in run.metrics("epoch")] == [0, 1, 2]
    assert (run.folder / layout.MODEL).read_bytes() == weights
    assert run.model() is not None
    assert len(run.samples) == 18
    for row, (timeline, picture, mask) in enumerate(before):
        timeline_after, picture_after, mask_after = shown(run, row, allowed=lambda path: False)
        assert timeline_after.keys() == timeline.keys()
        for name, values in timeline.items():
            np.testing.assert_array_equal(timeline_after[name], values)
        assert picture_after.size == picture.size
        assert np.abs(np.asarray(picture_after, float) - np.asarray(picture, float)).mean() < 4  # what JPEG costs
        assert (mask is None) == (row == 17)
        assert mask == mask_after


def test_an_unpacked_run_can_be_packed_and_unpacked_again_with_the_same_pictures(packed: Path, tmp_path: Path):
    runs = tmp_path / "there"
    first = Run(runs / unpack_run(packed, runs))
    assert pack_run(first, tmp_path / "again.zip") == []
    second = Run(runs / unpack_run(tmp_path / "again.zip", runs))
    names = [sorted(p.relative_to(run.folder).as_posix() for p in run.folder.rglob("*")) for run in (first, second)]
    assert names[0] == names[1]
    assert layout.view_file(first.folder, 3).read_bytes() == layout.view_file(second.folder, 3).read_bytes()


def test_nothing_in_the_archive_names_a_place_on_the_packers_machine(travelling: Run, tmp_path: Path):
    pack_run(travelling, tmp_path / "run.zip")
    with zipfile.ZipFile(tmp_path / "run.zip") as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert HOME.encode() not in content, name
            assert b"elsewhere" not in content, name
            assert str(tmp_path).encode() not in content, name
        top = travelling.id
        samples = json.loads(archive.read(f"{top}/{layout.SAMPLES}"))
        config = json.loads(archive.read(f"{top}/{layout.CONFIG}"))
        status = json.loads(archive.read(f"{top}/{layout.STATUS}"))
        log = archive.read(f"{top}/{layout.LOG}").decode()
    assert [sample["path"] for sample in samples] == [sample["id"] for sample in travelling.samples]
    assert samples[0]["mask"] == "0.png"
    assert (config["dataset"], config["data_root"], config["weights"]) == ("shapes", "data", "none")
    assert (status["pid"], status["host"]) == (0, "")
    assert "left out: a.png: empty" in log
    assert "run folder: x, and/or 3/4" in log
    assert "epoch   2 of 2" in log


def test_what_only_this_machine_needs_stays_behind(travelling: Run, tmp_path: Path):
    for name in ("worker.txt", ".status.json.1a2b.tmp", "lock"):
        (travelling.folder / name).write_text("x")
    (travelling.folder / "tensorboard").mkdir()
    (travelling.folder / "tensorboard" / "events.out").write_text("x")
    (travelling.folder / layout.KEPT).mkdir()
    (travelling.folder / layout.KEPT / "epoch-00001.safetensors").write_bytes(b"weights")
    os.symlink("/etc/hostname", travelling.folder / layout.KEPT / "epoch-00002.safetensors")

    skipped = pack_run(travelling, tmp_path / "whole.zip")
    whole = set(zipfile.ZipFile(tmp_path / "whole.zip").namelist())
    assert sorted(sentence.split()[0] for sentence in skipped) == [
        "kept/epoch-00002.safetensors",
        "tensorboard/events.out",
    ]
    pack_run(travelling, tmp_path / "light.zip", weights=False)
    light = set(zipfile.ZipFile(tmp_path / "light.zip").namelist())

    names = {name.removeprefix(f"{travelling.id}/") for name in whole}
    assert not names & {"worker.txt", "lock", "last.pt", ".status.json.1a2b.tmp", "tensorboard/events.out"}
    assert {"environment.json", "attention/cam.npy", "attention/ids.json", "views/00000-mask.png"} <= names
    assert whole - light == {
        f"{travelling.id}/{name}" for name in ("model.safetensors", "kept/epoch-00001.safetensors")
    }
    unpack_run(tmp_path / "whole.zip", tmp_path / "there")
    assert unpack_run(tmp_path / "light.zip", tmp_path / "there").endswith("-2")


def test_pictures_that_cannot_be_read_are_skipped_and_named(travelling: Run, tmp_path: Path):
    (tmp_path / HOME / "shapes" / travelling.samples[2]["id"]).unlink()
    (tmp_path / HOME / "masks" / "5.png").write_bytes(b"broken")
    skipped = pack_run(travelling, tmp_path / "run.zip")
    assert len(skipped) == 2
    assert skipped[0].startswith(travelling.samples[2]["id"])
    assert skipped[1].startswith(travelling.samples[5]["id"])
    assert HOME not in " ".join(skipped)
    run = Run(tmp_path / "there" / unpack_run(tmp_path / "run.zip", tmp_path / "there"))
    with pytest.raises(PictureError, match="did not travel"):
        view_picture(run, 2, side=50)
    assert view_picture(run, 5, side=50)
    with pytest.raises(PictureError, match="did not travel"):
        view_mask(run, 5, side=50)


def test_only_photographs_that_may_be_read_are_packed(travelling: Run, tmp_path: Path):
    skipped = pack_run(travelling, tmp_path / "run.zip", allowed=lambda path: path.name != "00.png")
    assert len(skipped) == sum(sample["id"].endswith("00.png") for sample in travelling.samples)
    assert "outside the folders" in skipped[0]


def test_what_a_camera_wrote_into_a_photograph_does_not_travel(travelling: Run, tmp_path: Path):
    exif = Image.Exif()
    exif[0x010E] = "SECRET"
    path = tmp_path / HOME / "camera.jpg"
    Image.new("RGB", (60, 48)).save(path, exif=exif, comment=b"SECRET")
    change_json(travelling.folder / layout.SAMPLES, lambda old: [old[0] | {"path": str(path)}, *old[1:]])
    pack_run(Run(travelling.folder), tmp_path / "run.zip")
    assert b"SECRET" in path.read_bytes()
    assert b"SECRET" not in (tmp_path / "run.zip").read_bytes()


def test_packing_says_how_far_it_is(travelling: Run, tmp_path: Path):
    seen = []
    pack_run(travelling, tmp_path / "run.zip", progress=lambda done, total: seen.append((done, total)))
    total = seen[0][1]
    assert seen == [(done, total) for done in range(1, total + 1)]


def test_a_run_is_packed_into_an_open_file_that_cannot_seek(travelling: Run, tmp_path: Path):
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.received = io.BytesIO()

        def writable(self) -> bool:
            return True

        def write(self, block) -> int:
            return self.received.write(block)

    pipe = Pipe()
    pack_run(travelling, pipe)
    assert unpack_run(io.BytesIO(pipe.received.getvalue()), tmp_path / "there") == travelling.id


def test_a_run_that_is_being_trained_is_not_packed_and_an_old_zip_stays(travelling: Run, tmp_path: Path):
    target = tmp_path / "run.zip"
    target.write_bytes(b"old")
    with take_lock(travelling.folder), pytest.raises(RunError, match="is being trained"):
        pack_run(travelling, target)
    (travelling.folder / layout.SAMPLES).write_text("{}")
    with pytest.raises(RunError, match=r"samples\.json of the run is damaged"):
        pack_run(Run(travelling.folder), target)
    assert target.read_bytes() == b"old"
    assert not list(tmp_path.glob(".*"))


def test_a_run_cut_before_its_first_record_travels_too(travelling: Run, tmp_path: Path):
    for name in (layout.SAMPLES, layout.METRICS, layout.CLASSES, layout.MODEL, f"{layout.ATTENTION}/meta.json"):
        (travelling.folder / name).unlink()
    change_json(travelling.folder / layout.STATUS, lambda old: old | {"state": "running", "pid": 1, "eta_s": 7})
    pack_run(travelling, tmp_path / "run.zip")
    run = Run(tmp_path / "there" / unpack_run(tmp_path / "run.zip", tmp_path / "there"))
    status = run.status
    assert (status["state"], status["pid"], status["eta_s"]) == ("stopped", 0, None)


def test_an_id_that_is_taken_gets_a_number(packed: Path, trained: Run, tmp_path: Path):
    runs = tmp_path / "there"
    ids = [unpack_run(packed, runs) for _ in range(3)]
    assert ids == [trained.id, f"{trained.id}-2", f"{trained.id}-3"]
    assert sorted(path.name for path in runs.iterdir()) == sorted(ids)


def test_a_run_in_a_folder_with_an_odd_name_gets_a_plain_one(travelling: Run, tmp_path: Path):
    odd = travelling.folder.rename(travelling.folder.with_name("my run: <1>"))
    pack_run(Run(odd), tmp_path / "run.zip")
    assert unpack_run(tmp_path / "run.zip", tmp_path / "there") == "my-run-1"


def test_a_strangers_paths_and_process_mean_nothing_here(packed: Path, tmp_path: Path):
    def change(files: dict[str, bytes]) -> None:
        samples = json.loads(files[layout.SAMPLES])
        files[layout.SAMPLES] = json.dumps([sample | {"path": "/etc/passwd"} for sample in samples]).encode()
        files[layout.CONFIG] = json.dumps(
            json.loads(files[layout.CONFIG]) | {"dataset": "/etc", "weights": "C:\\w\\imagenet"}
        ).encode()
        files[layout.STATUS] = json.dumps(json.loads(files[layout.STATUS]) | {"pid": 1, "host": "h"}).encode()

    run = Run(tmp_path / "there" / unpack_run(repacked(packed, change), tmp_path / "there"))
    assert {sample["path"] for sample in run.samples} == {sample["id"] for sample in run.samples}
    config = json.loads((run.folder / layout.CONFIG).read_text())
    assert (config["dataset"], config["weights"]) == ("etc", "./imagenet")
    assert isinstance(run.config, RunConfig)
    assert run.config.weights != "imagenet"
    assert (run.status["pid"], run.status["host"]) == (0, "")


# --- Names and kinds of entries -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["/etc/cron.d/x", "{}/../../x", "../x", "{}/./config.json", "{}//config.json", "{}\\x", "{}/a\\..\\x", "C:/x",
     "{}/C:x", "{}/config.json:stream", "{}/nul", "{}/CON.txt", "{}/attention/com1.npy", "{}/x\0.json", "{}/x. ",
     "{}/x\n"],
)  # fmt: skip
def test_a_name_that_would_leave_the_folder_is_refused(name: str, packed: Path, tmp_path: Path):
    source = with_entry(packed, "{}/placeholder-" + "x" * 30, b"x")
    # zipfile itself cleans names when it writes: the bytes are changed afterwards.
    top = zipfile.ZipFile(packed).namelist()[0].split("/")[0]
    length = len(f"{top}/placeholder-" + "x" * 30)
    name = name.replace("{}", top)
    raw = name.encode() + b"/" + b"y" * (length - len(name) - 1)
    source.write_bytes(source.read_bytes().replace(f"{top}/placeholder-".encode() + b"x" * 30, raw))
    assert_refused(source, tmp_path / "there", "is no plain name inside the run's folder")


@pytest.mark.parametrize(
    "name",
    ["{}/last.pt", "{}/model.pkl", "{}/lock", "{}/worker.txt", "{}/.hidden", "{}/config.json/x",
     "{}/attention/evil.npy", "{}/attention/cam.npz", "{}/attention/deep/cam.npy", "{}/kept/epoch-1.safetensors",
     "{}/kept/epoch-00001.pt", "{}/views/00001.gif", "{}/views/bird.jpg", "{}/views/٠٠٠٠٠.jpg",
     "{}/tensorboard/events", "{}/extra/", "loose.json"],
)  # fmt: skip
def test_a_file_that_no_run_has_is_refused_by_name(name: str, packed: Path, tmp_path: Path):
    error = assert_refused(with_entry(packed, name), tmp_path / "there", "is no file of a recorded run")
    assert ascii(name.split("/")[-1])[1:-1] in str(error)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_are_refused(kind: int, packed: Path, tmp_path: Path):
    entry = zipfile.ZipInfo("{}/views/00099.jpg")
    entry.create_system = 3
    entry.external_attr = (kind | 0o777) << 16
    assert_refused(with_entry(packed, entry, b"/etc/passwd"), tmp_path / "there", "is a link or a device")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(packed: Path, tmp_path: Path):
    assert_refused(with_entry(packed, "{}/config.json", b"{}"), tmp_path / "there", "is there twice")


def test_names_that_differ_in_their_letters_only_are_the_same(packed: Path, monkeypatch: pytest.MonkeyPatch):
    # Such a name is no name of a run folder anyway; should it become one, it would be one file on some systems.
    monkeypatch.setattr(checks, "RUN_FILE", checks.re.compile(checks.RUN_FILE.pattern, checks.re.IGNORECASE))
    with zipfile.ZipFile(with_entry(packed, "{}/CONFIG.json", b"{}")) as archive:
        infos = archive.infolist()
    with pytest.raises(RunError, match="is there twice"):
        checks.check_names(infos, 1000)


def test_two_folders_are_not_one_run(packed: Path, tmp_path: Path):
    assert_refused(with_entry(packed, "other/config.json", b"{}"), tmp_path / "there", "must hold one folder")


@pytest.mark.parametrize("top", ["-rf", ".hidden", "a b", "x" * 191, "<b>", "é"])
def test_a_folder_that_cannot_be_a_runs_id_is_refused(top: str, packed: Path, tmp_path: Path):
    target = tmp_path / "named.zip"
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(f"{top}/{name.split('/', 1)[1]}", old.read(name))
    assert_refused(target, tmp_path / "there", "is no name for a run|is no plain name")


def test_folders_as_entries_of_their_own_are_fine(packed: Path, tmp_path: Path):
    assert unpack_run(with_entry(packed, "{}/attention/"), tmp_path / "there")


def test_an_encrypted_archive_is_refused(packed: Path, tmp_path: Path):
    content = bytearray(packed.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    packed.write_bytes(content)
    assert_refused(packed, tmp_path / "there", "^the archive is encrypted$")


def test_an_unusual_compression_is_refused(packed: Path, tmp_path: Path):
    entry = zipfile.ZipInfo("{}/views/00099.jpg")
    entry.compress_type = zipfile.ZIP_LZMA
    assert_refused(with_entry(packed, entry, b"x" * 100), tmp_path / "there", "compressed in an unusual way")


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + b"\0" * 60])
def test_what_is_no_zip_is_refused(content: bytes, tmp_path: Path):
    (tmp_path / "run.zip").write_bytes(content)
    assert_refused(tmp_path / "run.zip", tmp_path / "there", "no zip archive")
    assert_refused(io.BytesIO(content), tmp_path / "there", "no zip archive")


def test_a_zip_that_is_not_there_is_said(tmp_path: Path):
    assert_refused(tmp_path / "run.zip", tmp_path / "there", "No such file")


@pytest.mark.parametrize("where", [0.2, 0.5, 0.8, 0.95, 0.99])
def test_a_zip_with_wrong_bytes_or_cut_short_leaves_nothing(where: float, packed: Path, tmp_path: Path):
    content = bytearray(packed.read_bytes())
    place = int(where * len(content))
    content[place : place + 200] = bytes(byte ^ 0x5A for byte in content[place : place + 200])
    assert_refused(io.BytesIO(content), tmp_path / "there", "damaged|in the archive|no zip archive")
    assert_refused(io.BytesIO(content[:place]), tmp_path / "there", "no zip archive")


# --- Sizes --------------------------------------------------------------------------------------------------------


def test_limits_on_files_and_bytes_hold(packed: Path, tmp_path: Path):
    infos = zipfile.ZipFile(packed).infolist()
    size = sum(info.file_size for info in infos)
    assert_refused(packed, tmp_path / "there", "files, the limit is", max_files=len(infos) - 1)
    assert_refused(packed, tmp_path / "there", "when unpacked, the limit is", max_bytes=size - 1)
    assert unpack_run(packed, tmp_path / "there", max_bytes=size, max_files=len(infos))


def test_a_bomb_is_refused_by_what_it_declares(packed: Path, tmp_path: Path):
    bomb = repacked(packed, lambda files: files.update({layout.LOG: b"\0" * 50_000_000}))
    assert bomb.stat().st_size < 2_000_000
    assert_refused(bomb, tmp_path / "there", "when unpacked, the limit is", max_bytes=40_000_000)


def test_an_entry_that_lies_about_its_size_is_cut_off(packed: Path, tmp_path: Path):
    bomb = repacked(packed, lambda files: files.update({layout.LOG: b"\0" * 3_000_000}))
    content = bomb.read_bytes()
    assert content.count(struct.pack("<L", 3_000_000)) == 2
    bomb.write_bytes(content.replace(struct.pack("<L", 3_000_000), struct.pack("<L", 1_000)))
    assert_refused(bomb, tmp_path / "there", "damaged", max_bytes=2_900_000)


def test_an_entry_of_another_size_than_declared_leaves_nothing(packed: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(archive_module, "copy_exactly", lambda packed, file, size: False)
    assert_refused(packed, tmp_path / "there", "has another size than it declares")


def test_a_disk_without_room_is_said_before_anything_is_written(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    usage = shutil.disk_usage(tmp_path)._replace(free=archive_module.KEPT_FREE + 1000)
    monkeypatch.setattr(archive_module.shutil, "disk_usage", lambda path: usage)
    assert_refused(packed, tmp_path / "there", "the disk has no room")


def test_a_disk_that_fills_up_leaves_nothing(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive_module, "copy_exactly", full)
    assert_refused(packed, tmp_path / "there", "No space left on device")


def test_what_a_killed_process_was_unpacking_is_removed_after_a_day(packed: Path, trained: Run, tmp_path: Path):
    runs = tmp_path / "there"
    for name, age in (("old", archive_module.ABANDONED_S + 60), ("new", 60)):
        (runs / f".{name}.12ab.tmp" / "attention").mkdir(parents=True)
        os.utime(runs / f".{name}.12ab.tmp", (time.time() - age, time.time() - age))
    assert unpack_run(packed, runs) == trained.id
    assert sorted(path.name for path in runs.iterdir()) == [".new.12ab.tmp", trained.id]


# --- Content ------------------------------------------------------------------------------------------------------


def set_json(name: str, value: object) -> Callable[[dict[str, bytes]], object]:
    return lambda files: files.update({name: json.dumps(value).encode()})


def change_value(name: str, **values: object) -> Callable[[dict[str, bytes]], object]:
    return lambda files: files.update({name: json.dumps(json.loads(files[name]) | values).encode()})


def array(value: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, value, allow_pickle=allow_pickle)
    return file.getvalue()


CAM, META, IDS = "attention/cam.npy", checks.META, checks.IDS

DAMAGE: dict[str, tuple[str, Callable[[dict[str, bytes]], object]]] = {
    "no config": (r"config\.json is missing", lambda files: files.pop(layout.CONFIG)),
    "no status": (r"status\.json is missing", lambda files: files.pop(layout.STATUS)),
    "config is a list": (r"config\.json .* object", set_json(layout.CONFIG, [1])),
    "config has a strange field": (r"config\.json .* is no option", change_value(layout.CONFIG, spam=1)),
    "config is of the future": (r"config\.json .* version", change_value(layout.CONFIG, format=9)),
    "config has a huge number": (r"config\.json", change_value(layout.CONFIG, lr=10**400)),
    "config is no JSON": (r"config\.json .* no JSON", lambda files: files.update({layout.CONFIG: b"\x80\x04."})),
    "config is deep": (r"config\.json .* no JSON", lambda files: files.update({layout.CONFIG: b"[" * 100_000})),
    "half a character": (r"classes\.json .* no JSON", set_json(layout.CLASSES, {"classes": ["\ud800"]})),
    "status is text": (r"status\.json .* object", set_json(layout.STATUS, "finished")),
    "status has a strange epoch": ("epoch must be a count", change_value(layout.STATUS, epoch="<b>")),
    "status has a strange error": ("error must be an object", change_value(layout.STATUS, error="text")),
    "classes are no names": (r"classes\.json", set_json(layout.CLASSES, {"classes": [1]})),
    "environment is a list": (r"environment\.json", set_json(layout.ENVIRONMENT, [])),
    "notes are too long": (r"notes\.json .* name: at most", set_json(layout.NOTES, {"name": "a" * 121, "notes": ""})),
    "samples are an object": (r"samples\.json .* a list", set_json(layout.SAMPLES, {})),
    "a sample is a number": (r"samples\.json .* entry 0", set_json(layout.SAMPLES, [3])),
    "a sample has no id": (r"samples\.json .* entry 1", set_json(layout.SAMPLES, [{"id": "a"}, {"id": 3}])),
    "a mask's values are words": (r"samples\.json .* mask_on", set_json(layout.SAMPLES, [{"id": "a", "mask_on": "1"}])),
    "a mask is a list": (r"samples\.json .* mask", set_json(layout.SAMPLES, [{"id": "a", "mask": [1]}])),
    "fewer samples than maps": (r"samples\.json|ids", lambda files: set_json(
        layout.SAMPLES, json.loads(files[layout.SAMPLES])[:-1])(files)),
    "no samples": (r"ids\.json|shape", lambda files: files.pop(layout.SAMPLES)),
    "ids in another order": (r"ids\.json", lambda files: set_json(IDS, json.loads(files[IDS])[::-1])(files)),
    "no meta": (r"meta\.json", lambda files: files.pop(META)),
    "a map is missing": (r"cam\.npy .* missing", lambda files: files.pop(CAM)),
    "a map too many": (r"layercam\.npy .* not among", lambda files: files.update(
        {"attention/layercam.npy": files[CAM]})),
    "a kind leads out": (r"kinds", change_value(META, kinds=["../../x"])),
    "kinds are no names": (r"kinds", change_value(META, kinds=[["cam"]])),
    "the grid is huge": (r"grid", change_value(META, grid=[10**6, 10**6])),
    "the grid is flat": (r"grid", change_value(META, grid=[4])),
    "the grid is another": (r"shape", change_value(META, grid=[3, 3])),
    "more epochs than maps": (r"shape", change_value(META, epochs=[0, 1, 2, 3])),
    "epochs are text": (r"epochs", change_value(META, epochs=["0"])),
    "the view is text": (r"view", change_value(META, view="all")),
    "an array is a pickle": (r"cam\.npy .* plain array", lambda files: files.update(
        {CAM: array(np.array([{"an": "object"}], dtype=object), allow_pickle=True)})),
    "an array is only a pickle": (r"cam\.npy .* no array", lambda files: files.update({CAM: b"\x80\x04N."})),
    "an array has a broken header": (r"cam\.npy .* no array", lambda files: files.update(
        {CAM: files[CAM][:10] + b"(" * 118 + files[CAM][128:]})),
    "an array has other numbers": (r"cam\.npy .* float16", lambda files: files.update(
        {CAM: array(np.zeros((18, 3, 2, 2), np.float64))})),
    "an array is turned": (r"cam\.npy .* plain array", lambda files: files.update(
        {CAM: array(np.asfortranarray(np.zeros((18, 3, 2, 2), np.float16)))})),
    "an array has another shape": (r"cam\.npy .* shape", lambda files: files.update(
        {CAM: array(np.zeros((17, 3, 2, 2), np.float16))})),
    "an array is cut": (r"cam\.npy .* length", lambda files: files.update({CAM: files[CAM][:-1]})),
    "an array is too long": (r"cam\.npy .* length", lambda files: files.update({CAM: files[CAM] + b"\0"})),
    "an array is empty": (r"cam\.npy .* no array", lambda files: files.update({CAM: b""})),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_content_that_cannot_be_a_runs_is_refused_before_anything_is_written(name: str, packed: Path, tmp_path: Path):
    sentence, change = DAMAGE[name]
    assert_refused(repacked(packed, change), tmp_path / "there", sentence)


def test_json_is_parsed_up_to_a_limit(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checks, "MAX_JSON_BYTES", 100)
    assert_refused(packed, tmp_path / "there", r"bytes, the limit is 100")
