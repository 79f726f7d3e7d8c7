"""Strange files in a run folder, strange names and numbers in addresses: an answer, and no file of anyone else's."""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from explorer.context import Explorer
from explorer.form import config_of
from explorer.places import Places
from explorer.routes.assembly import add_routes
from sam_core.config import DATASETS, ConfigError, options
from sam_core.recording.writer import RunError
from tests.faults.damage import damaging
from tests.faults.examination import examine
from tests.faults.strange import NUMBERS, TEXTS, as_bytes, changed, strange_value, touching_only

SECRET = b"this belongs to somebody else"
OURS = {"X-Explorer": "1"}
FUZZED_FILES = (
    "config.json", "status.json", "samples.json", "classes.json", "attention/meta.json", "attention/ids.json",
    "notes.json", "metrics.jsonl",
)  # fmt: skip
#: Of the routes that show a run, and how often each is asked beside the cheapest.
RUN_ROUTES = {
    "samples": 8, "strip": 8, "rankings": 8, "timeline": 8, "view/0": 4, "thumb/1": 4, "mask/0": 4, "weights": 8,
    "size": 2, "maps.npz": 2, "frame.png": 2, "animation.gif": 1, "archive.zip": 1,
}  # fmt: skip


@pytest.fixture
def world(tmp_path: Path, few_photographs: Path, whole: Path, copied, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, few_photographs, copied(whole), monkeypatch)


class World:
    """A server over folders of its own, and beside them the file of somebody else, to which a link leads."""

    def __init__(self, tmp_path: Path, photographs: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run, self.runs = run, run.parent
        (tmp_path / "secret").mkdir()
        self.secret = tmp_path / "secret" / "canary.png"
        self.secret.write_bytes(SECRET)
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(scratch))
        data = tmp_path / "photographs"
        (data / "mixed" / "birds").mkdir(parents=True)
        (data / "mixed" / "birds" / "link.png").symlink_to(self.secret)
        (data / "link.zip").symlink_to(self.secret)
        (self.runs / "link").symlink_to(tmp_path / "secret")
        self.folders = (self.runs, data, photographs.parent, scratch, tmp_path / "no-demo")
        self.places = Places(self.runs, demo=tmp_path / "no-demo", data_roots=(data, photographs.parent))
        self.explorer = Explorer(self.places)
        app = FastAPI()

        async def open_door(request: Request) -> None:
            """Nobody is asked for a login."""

        add_routes(app, self.explorer, guard=open_door)
        self.client = TestClient(app, raise_server_exceptions=False)

    def strange_text(self, generator: random.Random) -> str:
        """A text that may be the name of something that is there."""
        there = (
            self.run.name, f"../{self.run.name}/config.json", str(self.run), str(self.runs / ".."), str(self.secret),
            "link", "link/canary.png", "link.zip", "mixed", "birds/link.png",
            *(name for name in DATASETS if name != "fieldguide"),
        )  # fmt: skip
        return generator.choice((*TEXTS, *there, *map(str, NUMBERS)))

    def ask(self, method: str, address: str, **options: Any) -> None:
        """One request: it is answered, with a sentence where it is refused, and shows nothing of anyone else's."""
        answer = self.client.request(method, f"/explorer/{address}", headers=OURS, **options)
        assert answer.status_code != 500, f"{method} {address} {options}: {answer.text[:500]}"
        assert SECRET not in answer.content
        if answer.status_code >= 400 and answer.headers.get("content-type") == "application/json":
            assert answer.json().get("message") or answer.json().get("detail")


@pytest.fixture
def closed_world(world: World) -> Iterator[World]:
    """The same, and no file outside its folders is touched."""
    with touching_only(*world.folders):
        yield world
    world.explorer.close()
    assert world.secret.read_bytes() == SECRET


# --- Files ----------------------------------------------------------------------------------------------------------


def fuzz_files(world: World, image: str, times: int, generator: random.Random, asked: int) -> int:
    """Change the files of a run and ask the reader, the explorer and its routes; how often."""
    (world.run / "notes.json").write_text('{"name": "A run", "notes": "of mine"}')
    routes = [name for name, weight in RUN_ROUTES.items() for _ in range(weight)]
    for number in range(times):
        path = world.run / generator.choice(FUZZED_FILES)
        with damaging(path, fuzzed(path, generator)):
            samples = world.run / "samples.json"
            samples.touch()  # so that the server opens the run anew
            examine(world.run, image)
            world.explorer.library.look_again()
            world.ask("GET", "pulse", params={"run": world.run.name})
            for route in generator.sample(routes, asked):
                world.ask("GET", f"runs/{world.run.name}/{route}", params={"image": image})
            if number % 20 == 0:
                world.ask("POST", f"runs/{world.run.name}/inspect", params={"image": image})
    return times


def fuzzed(path: Path, generator: random.Random) -> bytes:
    """The content of a file, changed."""
    if path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        return b"\n".join(as_bytes(changed(line, generator), generator) for line in lines) + b"\n"
    return as_bytes(changed(json.loads(path.read_bytes()), generator), generator)


def test_strange_files_of_a_run_are_read_or_refused(closed_world: World, image: str, tried: Counter[str]):
    tried["strange files"] += fuzz_files(closed_world, image, 150, random.Random(20), asked=2)


def test_strange_words_of_a_run_are_shown(closed_world: World, image: str, tried: Counter[str]):
    """In the place of its name, its dataset and its error, which every page's list of runs has."""
    run = closed_world.run
    config, status = (json.loads((run / name).read_bytes()) for name in ("config.json", "status.json"))
    for text in TEXTS:
        with (
            damaging(run / "config.json", json.dumps(config | {"name": text, "dataset": text}).encode()),
            damaging(run / "status.json", json.dumps(status | {"error": {"message": text}}).encode()),
        ):
            closed_world.explorer.library.look_again()
            closed_world.ask("GET", "pulse", params={"run": run.name})
        tried["strange files"] += 2


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_very_many_strange_files_of_a_run_are_read_or_refused(closed_world: World, image: str, tried: Counter[str]):
    tried["strange files"] += fuzz_files(closed_world, image, 3_000, random.Random(21), asked=4)


# --- Names and numbers ----------------------------------------------------------------------------------------------


def fuzz_places(world: World, times: int, generator: random.Random) -> int:
    """Ask for runs, datasets, weights and files by strange names; how often."""
    places = world.places
    for _ in range(times):
        name = generator.choice((world.strange_text(generator), strange_value(generator)))
        folder = result_of(places.run_folder, name)
        assert folder is None or folder.parent in (places.runs, places.demo)
        if isinstance(name, str):
            dataset = result_of(places.dataset, name)
            assert dataset is None or dataset in DATASETS or is_within(Path(dataset), places.data_roots)
            assert result_of(places.weights, name) in (None, "imagenet", "none", name)
            if places.may_read(Path(name)):
                assert is_within(Path(name), (*places.data_roots, places.runs, places.demo))
    return times


def fuzz_form(world: World, times: int, generator: random.Random) -> int:
    """Ask for runs with strange choices; how often."""
    names = (*options(), "no_such_option")
    for _ in range(times):
        values = {generator.choice(names): strange_value(generator) for _ in range(generator.choice((1, 1, 2)))}
        result_of(lambda values: config_of(values, world.places), values)
    return times


def result_of(ask: Callable[[Any], Any], value: Any) -> Any:
    """The answer, or None where it was refused as it should be."""
    try:
        return ask(value)
    except (RunError, ConfigError):
        return None


def is_within(path: Path, roots: tuple[Path, ...]) -> bool:
    return any(path.resolve().is_relative_to(root) for root in roots)


def test_strange_names_lead_nowhere(closed_world: World, tried: Counter[str]):
    tried["strange names"] += fuzz_places(closed_world, 1500, random.Random(22))
    tried["strange choices"] += fuzz_form(closed_world, 1500, random.Random(23))


#: Addresses with places for a run, an image, a row and other words; each place holds something strange half the time.
ADDRESSES = (
    ("GET", "pulse?list={number}&run={run}&cursor={word}"),
    ("GET", "runs/{run}/samples"),
    ("GET", "runs/{run}/strip?images={number}"),
    ("GET", "runs/{run}/timeline?image={image}&after={number}"),
    ("GET", "runs/{run}/view/{number}"),
    ("GET", "runs/{run}/thumb/{number}"),
    ("GET", "runs/{run}/mask/{number}"),
    (
        "GET",
        "runs/{run}/frame.png?image={image}&epoch={number}&maps={word}&first={word}&second={word}&opacity={number}",
    ),
    ("GET", "runs/{run}/maps.npz?image={image}"),
    ("GET", "runs/{run}/{word}"),
    ("GET", "web/{word}/{word}"),
    ("GET", "data/contents?set={set}&ratio={number}&classes={number}&seed={number}&level={word}"),
    ("GET", "data/labels?set={set}&ratio={number}"),
    ("GET", "data/thumb?set={set}&image={image}"),
    ("GET", "data/large?set={set}&image={image}"),
    ("GET", "data/mask?set={set}&image={image}"),
    ("GET", "data/image?set={set}&image={image}"),
    ("GET", "data/check?set={set}&seed={number}"),
    ("POST", "data/find?path={set}"),
    ("POST", "data/delete?set={word}"),
    ("POST", "data/add?name={word}"),
    ("POST", "import"),
    ("POST", "runs/{run}/inspect?image={image}&maps={word}&epochs={word}&class={word}&channels={word}"),
    ("POST", "runs/{run}/notes"),
    ("POST", "runs/{word}/stop"),
    ("POST", "runs/{word}/resume"),
    ("POST", "runs/{word}/prune"),
    ("POST", "runs/{word}/delete"),
)


def fuzz_addresses(world: World, image: str, times: int, generator: random.Random) -> int:
    """Ask for strange addresses; how often."""
    good = {"run": world.run.name, "image": image, "set": "shapes", "number": "1", "word": "cam"}
    for _ in range(times):
        method, address = generator.choice(ADDRESSES)
        changes_run = method == "POST" and "{word}/" in address

        def fill(name: str, changes_run: bool = changes_run) -> str:
            text = world.strange_text(generator) if changes_run or generator.random() < 0.5 else good[name]
            if changes_run and text == world.run.name:
                text = ".."  # what these do to a run that is there is meant
            if name == "set" and not text:
                text = "shapes"  # none at all is the field guide, which is drawn for seconds
            return quote(text.encode(errors="surrogatepass"), safe="")

        filled = "".join(
            part if place % 2 == 0 else fill(part) for place, part in enumerate(address.replace("}", "{").split("{"))
        )
        body = {"content": as_bytes(strange_value(generator), generator)} if method == "POST" else {}
        world.ask(method, filled, **body)
    assert world.run.is_dir()
    return times


def test_strange_addresses_get_an_answer(closed_world: World, image: str, tried: Counter[str]):
    tried["strange addresses"] += fuzz_addresses(closed_world, image, 1200, random.Random(24))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_very_many_strange_names_and_addresses(closed_world: World, image: str, tried: Counter[str]):
    tried["strange names"] += fuzz_places(closed_world, 50_000, random.Random(25))
    tried["strange choices"] += fuzz_form(closed_world, 50_000, random.Random(26))
    tried["strange addresses"] += fuzz_addresses(closed_world, image, 30_000, random.Random(27))


def test_a_file_that_is_touched_outside_is_noticed(world: World):
    """The watch over files above is worth something."""
    with pytest.raises(AssertionError, match="canary"), touching_only(*world.folders):
        world.secret.read_bytes()
    world.explorer.close()
