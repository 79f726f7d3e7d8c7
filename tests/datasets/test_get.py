"""From a name to a dataset that opens, against a server on the loopback address and miniatures of the originals."""

from __future__ import annotations

import hashlib
import io
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from sam_core.datasets import get
from sam_core.datasets.base import DatasetError
from sam_core.datasets.download import Patience
from sam_core.datasets.get import MARGIN, Got, addresses, get_dataset
from sam_core.datasets.sources import SOURCES, RemoteFile
from tests.datasets.file_server import Fault, FileServer
from tests.datasets.miniatures import write_cars_torchvision, write_cub200


def packed(folder: Path, *also: tuple[str, bytes]) -> bytes:
    """A tar.gz of one folder, and of files beside it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(folder, folder.name)
        for name, content in also:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def described_as(file: RemoteFile, content: bytes, url: str | None = None) -> RemoteFile:
    """The same file with a miniature's size and checksums."""
    sums = {name: hashlib.new(name, content).hexdigest() for name in file.checksums}
    return replace(file, size=len(content), checksums=sums, urls=(url,) if url else ())


@dataclass
class Place:
    """A data root, a server with the miniatures of the archives, and who asks for them."""

    root: Path
    server: FileServer
    heard: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def get(self, name: str, **options: object) -> Got:
        options = {"say": self.heard.append, "patience": Patience(sleep=self.waits.append, tries=2)} | options
        return get_dataset(name, self.root, **options)

    @property
    def asked_for(self) -> list[str]:
        return [request["path"] for request in self.server.requests]

    @property
    def there(self) -> list[str]:
        """The files in the data root and in the datasets' folders, not those of the datasets."""
        return sorted(
            path.relative_to(self.root).as_posix()
            for pattern in ("*", "*/*")
            for path in self.root.glob(pattern)
            if path.name.endswith((".tgz", ".part", ".json", ".lock", ".gz")) or "unpacking" in path.name
        )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = tmp_path / "made"
    birds = write_cub200(made / "CUB_200_2011", masks=made)
    cars = write_cars_torchvision(made)
    files = {
        "CUB_200_2011.tgz": packed(birds, ("attributes.txt", b"1 has_bill_shape::curved\n")),
        "segmentations.tgz": packed(made / "segmentations"),
        "cars_train.tgz": packed(cars / "cars_train"),
        "cars_test.tgz": packed(cars / "cars_test"),
        "car_devkit.tgz": packed(cars / "devkit"),
        "cars_test_annos_withlabels.mat": (cars / "cars_test_annos_withlabels.mat").read_bytes(),
    }
    shutil.rmtree(made)
    server = FileServer(files)
    for name in ("cub200", "cars"):
        source = SOURCES[name]
        miniatures = tuple(
            described_as(file, files[file.name], server.url + file.name if file.urls else None) for file in source.files
        )
        monkeypatch.setitem(SOURCES, name, replace(source, files=miniatures))
    yield Place(tmp_path / "root", server)
    server.close()


def test_a_dataset_is_fetched_unpacked_and_opened(place: Place):
    reported: set[str] = set()
    got = place.get("cub200", report=lambda task, done, total: reported.add(task))
    assert got.files == ("CUB_200_2011.tgz", "segmentations.tgz")
    assert got.without == ()
    assert got.dataset.root == place.root.resolve() / "CUB_200_2011"
    assert (len(got.dataset.split("train")), len(got.dataset.split("test"))) == (9, 6)
    assert all(sample.box and sample.parts and sample.mask_path for sample in got.dataset.samples)
    assert got.dataset.problems == ()
    assert place.there == []
    assert sorted(path.name for path in place.root.iterdir()) == ["CUB_200_2011"]
    tasks = {f"{doing} {name}" for doing in ("downloading", "checking", "unpacking") for name in got.files}
    assert reported == tasks


def test_what_is_there_is_left_alone(place: Place):
    place.get("cub200")
    place.server.forget()
    lists = place.root / "CUB_200_2011" / "images.txt"
    before = lists.stat().st_mtime_ns
    got = place.get("cub200")
    assert (got.files, place.asked_for) == ((), [])
    assert lists.stat().st_mtime_ns == before
    assert len(got.dataset.samples) == 15


def test_a_dataset_in_another_arrangement_is_not_fetched_again(place: Place):
    write_cub200(place.root / "cub200")
    assert place.get("cub200").files == ()
    assert place.asked_for == []


@pytest.mark.parametrize("beside", [True, False])
def test_only_masks_that_lack_are_added(beside: bool, place: Place):
    birds = write_cub200(place.root / "CUB_200_2011", masks=place.root if beside else None)
    expected = () if beside else ("segmentations.tgz",)
    assert place.get("cub200").files == expected
    assert tuple(place.asked_for) == expected
    assert (birds / "segmentations").exists() != beside


def test_archives_are_kept_if_that_is_asked_for(place: Place):
    place.get("cub200", keep_archives=True)
    assert place.there == ["CUB_200_2011.tgz", "CUB_200_2011/segmentations.tgz"]
    place.get("cub200")
    assert "CUB_200_2011.tgz" in place.there


def test_an_archive_that_a_person_put_there_is_used_and_kept(place: Place):
    place.root.mkdir()
    (place.root / "CUB_200_2011.tgz").write_bytes(place.server.files["CUB_200_2011.tgz"])
    assert place.get("cub200").files == ("CUB_200_2011.tgz", "segmentations.tgz")
    assert place.asked_for == ["segmentations.tgz"]
    assert place.there == ["CUB_200_2011.tgz"]


def test_an_archive_that_a_person_put_there_is_checked(place: Place):
    place.root.mkdir()
    archive = place.root / "CUB_200_2011.tgz"
    content = place.server.files[archive.name]
    archive.write_bytes(content[:-1] + b"!")
    with pytest.raises(DatasetError, match=r"CUB_200_2011\.tgz is not the published file: its MD5 is") as caught:
        place.get("cub200")
    assert "move it away" in caught.value.hint
    archive.write_bytes(content[:100])
    with pytest.raises(DatasetError, match=f"it has 100 bytes, the published file {len(content):,}"):
        place.get("cub200")
    assert place.there == ["CUB_200_2011.tgz"]


@pytest.mark.parametrize("moment", ["unpack_tar", "forget_origin"])
def test_a_process_that_is_killed_goes_on_where_it_was(moment: str, place: Place, monkeypatch: pytest.MonkeyPatch):
    class Killed(BaseException):
        pass

    def kill(*arguments: object, **keywords: object) -> None:
        raise Killed

    with monkeypatch.context() as killed:
        killed.setattr(get, moment, kill)
        with pytest.raises(Killed):
            place.get("cub200")
    place.server.forget()
    assert all(place.get("cub200").dataset.samples)
    assert place.asked_for == ["segmentations.tgz"]
    assert place.there == []


def test_ctrl_c_while_unpacking_is_told_what_happens_next(place: Place):
    def interrupt(task: str, done: int, total: int) -> None:
        if task.startswith("unpacking"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.get("cub200", report=interrupt)
    assert place.heard[-1] == f"{place.root.resolve() / 'CUB_200_2011.tgz'} is kept; the same command unpacks it"
    assert place.there == ["CUB_200_2011.tgz", "CUB_200_2011.tgz.download.json"]


def test_an_archive_unpacked_but_not_yet_removed_is_removed_later(place: Place):
    place.get("cub200")
    archive = place.root / "CUB_200_2011.tgz"
    archive.write_bytes(b"used up")
    archive.with_name("CUB_200_2011.tgz.download.json").write_text("{}", encoding="utf-8")
    place.get("cub200")
    assert place.there == []


def test_birds_without_masks_are_better_than_no_birds(place: Place):
    del place.server.files["segmentations.tgz"]
    got = place.get("cub200")
    assert got.files == ("CUB_200_2011.tgz",)
    assert got.without == ("the birds' masks",)
    assert "no longer serves it (404 Not Found). cub200 is without the birds' masks" in place.heard[-1]
    assert len(got.dataset.samples) == 15


def test_a_host_that_serves_it_no_more_is_told_with_what_to_place_where(place: Place):
    place.server.script = [Fault(status=404)]
    with pytest.raises(DatasetError, match=r"127\.0\.0\.1 no longer serves it \(404 Not Found\)") as caught:
        place.get("cub200")
    root = place.root.resolve()
    assert f"put CUB_200_2011.tgz into {root} and run the same command again" in caught.value.hint
    assert f"have the unpacked dataset as {root / 'CUB_200_2011'}, holding images.txt" in caught.value.hint
    assert "--url" in caught.value.hint


def test_cars_are_no_longer_served_and_nothing_is_written(place: Place):
    with pytest.raises(DatasetError, match=r"cars_train\.tgz.*ai\.stanford\.edu, has answered 404") as caught:
        place.get("cars")
    assert f"car_devkit.tgz into {place.root.resolve() / 'stanford_cars'}" in caught.value.hint
    assert "devkit/cars_train_annos.mat" in caught.value.hint
    assert place.asked_for == []
    assert not place.root.exists()


def test_cars_come_from_a_mirror(place: Place):
    got = place.get("cars", url=place.server.url)
    assert len(got.files) == 4
    assert len(got.dataset.samples) == 15
    assert all(sample.box for sample in got.dataset.samples)
    assert place.there == []


def test_cars_come_from_archives_placed_by_hand(place: Place):
    folder = place.root / "stanford_cars"
    folder.mkdir(parents=True)
    names = [file.name for file in SOURCES["cars"].files]
    for name in names[:-1]:
        (folder / name).write_bytes(place.server.files[name])
    with pytest.raises(DatasetError, match=r"^car_devkit\.tgz cannot be fetched"):
        place.get("cars")
    (folder / names[-1]).write_bytes(place.server.files[names[-1]])
    assert len(place.get("cars").dataset.samples) == 15
    assert place.asked_for == []


def test_lists_without_photographs_are_completed(place: Place):
    write_cars_torchvision(place.root)
    shutil.rmtree(place.root / "stanford_cars" / "cars_train")
    got = place.get("cars", url=place.server.url)
    assert got.files == ("cars_train.tgz",)
    assert got.dataset.problems == ()


def test_a_folder_that_is_something_else_is_not_touched(place: Place):
    other = place.root / "CUB_200_2011" / "segmentations"
    other.mkdir(parents=True)
    (other / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"CUB_200_2011 is there, but is not CUB-200-2011: it must hold images\.txt"):
        place.get("cub200")
    assert place.asked_for == []


def test_space_is_measured_before_anything_is_fetched(place: Place):
    birds, masks = SOURCES["cub200"].files
    # The archive of the birds is gone before that of their masks comes.
    needed = max(
        birds.size + birds.unpacked_size, birds.unpacked_size + masks.size + masks.unpacked_size
    ) + MARGIN  # fmt: skip
    with pytest.raises(DatasetError, match=f"{needed:,} bytes .* {needed - 1:,} .* are free"):
        place.get("cub200", free_space=lambda folder: needed - 1)
    assert place.asked_for == []
    place.get("cub200", free_space=lambda folder: needed)


def test_what_has_arrived_needs_no_space_again(place: Place):
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    place.server.script = [Fault(cut_after=1000)]
    with pytest.raises(KeyboardInterrupt):
        place.get("cub200", patience=Patience(sleep=interrupt))
    birds, masks = SOURCES["cub200"].files
    kept = birds.size + birds.unpacked_size + masks.size + masks.unpacked_size + MARGIN - 1000
    with pytest.raises(DatasetError, match="too little space"):
        place.get("cub200", keep_archives=True, free_space=lambda folder: kept - 1)
    place.get("cub200", keep_archives=True, free_space=lambda folder: kept)


def test_two_at_once_do_not_get_in_each_others_way(place: Place):
    refused: list[str] = []

    def second(task: str, done: int, total: int) -> None:
        if not refused:
            with pytest.raises(DatasetError, match="another process is getting CUB-200-2011") as caught:
                place.get("cub200")
            refused.append(caught.value.hint)

    assert len(place.get("cub200", report=second).files) == 2
    assert refused == ["wait until it is done, then run the same command again"]


def test_a_root_that_cannot_be_made_is_named(place: Place):
    place.root.write_text("a file", encoding="utf-8")
    with pytest.raises(DatasetError, match="root cannot be written to") as caught:
        place.get("cub200")
    assert "--root" in caught.value.hint


def test_an_address_is_for_a_file_or_for_all():
    source = SOURCES["pets"]
    images, annotations = source.files
    for url, of_images, of_annotations in (
        (None, images.urls, annotations.urls),
        ("http://m/p/", ("http://m/p/images.tar.gz",), ("http://m/p/annotations.tar.gz",)),
        ("http://m/annotations.tar.gz?x=1", images.urls, ("http://m/annotations.tar.gz?x=1",)),
        ("http://m/download?id=5", ("http://m/download?id=5",), annotations.urls),
    ):
        assert addresses(images, source, url) == of_images
        assert addresses(annotations, source, url) == of_annotations


def test_the_drawn_guide_needs_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(get, "open_dataset", lambda name, **options: asked.append((name, options["data_root"])))
    assert get_dataset("fieldguide", tmp_path).files == ()
    assert asked == [("fieldguide", tmp_path.resolve())]
