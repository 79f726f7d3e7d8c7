"""A long run with a page open: what the worker, the server and the page hold does not grow with the epochs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import CDPSession, Page

from explorer.benchmark.made_up import Photographs, write_recorded_run
from explorer.benchmark.server import running_server
from explorer.places import Places
from explorer.runs.states import process_of
from sam_core.recording.reader import Run
from sam_core.recording.writer import RunError
from tests.conftest import write_photographs

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is measured under /proc")

#: The smallest run there is, in the form's own words.
SMALL_RUN = {
    "dataset": "shapes", "label_ratio": 50, "backbone": "test_resnet", "weights": "none", "image_size": 64,
    "batch_size": 4, "attention_maps": 4, "device": "cpu",
}  # fmt: skip
#: How often the page goes from one view to the other before it is measured, and while it is.
CHANGES_OF_VIEW = (3, 4)
PATIENCE_S = 60

#: Has a process give back, when it is told to, what it has freed: what a server frees while it starts is megabytes,
#: which would take up what it loses later, and hide it.
SITE_CUSTOMIZE = """\
import ctypes, gc, pathlib, signal

def give_back(*_):
    gc.collect()
    getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
    pathlib.Path(__file__).with_name("given-back").touch()

signal.signal(signal.SIGUSR1, give_back)
"""

PLAYER = "document.querySelector('.sx-player')?.player"
#: Whether the page knows of every epoch that was recorded, and its open view has drawn the last one.
HAS_DRAWN = f"""(recorded) => {{
  const {{ live, place }} = window.samExplorer;
  if (live?.recorded.length !== recorded) return false;
  const drawn = (name) => document.querySelector(`[data-chart="${{name}}"] .js-plotly-plot`)?.data?.[0].x.at(-1);
  if (document.querySelector('.sx-run').offsetParent) {{
    const strip = document.querySelector('.sx-strip .sx-between > .sx-help').textContent;
    return drawn('accuracy') === live.epochs.at(-1)?.epoch && strip.endsWith(`after epoch ${{live.recorded.at(-1)}}`);
  }}
  const about = {PLAYER}?.timeline?.about;
  return about?.id === place.image && about.epochs.length === recorded
    && !{PLAYER}.photograph.isBlank && drawn('image-agreement') === about.epochs.at(-1);
}}"""


@dataclass(frozen=True)
class Held:
    """What is held after so many epochs: bytes of three processes, and nodes and event listeners of the page."""

    epoch: int
    in_attention: bool
    worker: int
    server: int
    page: int
    nodes: int
    listeners: int


def growth(seen: Sequence[Held]) -> dict[str, float]:
    """What one epoch adds to each of the measures: the median of the slopes between two looks not far from each other.

    Both are at the same view. Megabytes that a process gives back once would tilt a line through all looks; they lie
    between few of these pairs.
    """
    assert len(seen) >= 10, "it was not looked at often enough"
    epochs, in_attention = np.array([held.epoch for held in seen]), np.array([held.in_attention for held in seen])
    first, second = np.triu_indices(len(seen), k=1)
    compared = (in_attention[first] == in_attention[second]) & (second - first <= len(seen) // 4)
    first, second = first[compared], second[compared]

    def slope(name: str) -> float:
        measured = np.array([getattr(held, name) for held in seen], dtype=float)
        return float(np.median((measured[second] - measured[first]) / (epochs[second] - epochs[first])))

    return {name: slope(name) for name in ("worker", "server", "page", "nodes", "listeners")}


def memory_of(process: int) -> int:
    """What a process has in memory and shares with no file, in bytes."""
    resident, shared = map(int, Path(f"/proc/{process}/statm").read_text().split()[1:3])
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def waiting(process: int) -> Iterator[None]:
    """Let a process wait, so that it is seen every few epochs however slow the machine is to look."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


class Devtools:
    """What the browser says of a page's memory."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._session: CDPSession = page.context.new_cdp_session(page)

    def held(self) -> tuple[int, int, int]:
        """Bytes of the page's objects, elements and arrays; its nodes but for points of curves; its event listeners."""
        self._session.send("HeapProfiler.collectGarbage")
        heap = self._session.send("Runtime.getHeapUsage")
        counted = self._session.send("Memory.getDOMCounters")
        size = sum(int(heap[name]) for name in ("usedSize", "embedderHeapUsedSize", "backingStorageSize"))
        points = self._page.locator(".js-plotly-plot .point").count()
        return size, counted["nodes"] - points, counted["jsEventListeners"]


def recorded_epochs(run: Run) -> int:
    """How many there are; none before the first."""
    try:
        return len(run.recorded_epochs)
    except RunError:
        return 0


def changes_of_view(epochs: int, warm_up: int) -> list[int]:
    """The epochs at which the page goes to the other view."""
    before, after = CHANGES_OF_VIEW
    return [
        *(warm_up * (at + 1) // (before + 1) for at in range(before)),
        *(warm_up + (epochs - warm_up) * (at + 1) // (after + 1) for at in range(after)),
    ]


def watch(
    memory_of_server: Callable[[], int], page: Page, run: Run, *, epochs: int, warm_up: int, every: int,
    until: Callable[..., Any],
) -> list[Held]:  # fmt: skip
    """Look at all three every so many epochs after the warm-up, while the page goes to and fro between its views.

    Before each look the worker waits until the page has drawn what there is.
    """
    worker = until(lambda: process_of(run.folder, run.status), "the worker", seconds=PATIENCE_S)
    devtools, tiles, seen, last, in_attention = Devtools(page), page.locator(".sx-tile"), [], 0, False
    changes = changes_of_view(epochs, warm_up)
    while last < epochs - every:
        wanted = last + (every if last >= warm_up else max(every, warm_up // 10))
        wait_until_recorded(run, wanted)
        with waiting(worker):
            last = recorded_epochs(run) - 1
            if changes and last >= changes[0]:
                changes.pop(0)
                in_attention = not in_attention
                if in_attention:
                    tiles.nth(len(changes) % tiles.count()).click()
                else:
                    page.get_by_role("tab", name="Train").click()
            wait_until_drawn(page, last)
            held = Held(last, in_attention, memory_of(worker), memory_of_server(), *devtools.held())
        if last >= warm_up:
            seen.append(held)
    return seen


def wait_until_recorded(run: Run, epoch: int) -> None:
    """Wait for an epoch, with so many looks at the run that hardly one more passes."""
    deadline = time.monotonic() + PATIENCE_S
    while recorded_epochs(run) <= epoch:
        assert time.monotonic() < deadline, f"epoch {epoch} was not recorded"
        time.sleep(0.01)


def wait_until_drawn(page: Page, last: int) -> None:
    """Let the page ask, more often than it does by itself, until it shows the last epoch that was recorded."""
    deadline = time.monotonic() + PATIENCE_S
    while not page.evaluate(HAS_DRAWN, last + 1):
        assert time.monotonic() < deadline, f"the page has not drawn epoch {last}"
        page.evaluate("window.samExplorer.poll()")
        page.wait_for_timeout(50)


@pytest.fixture
def watched(reader, until, tmp_path: Path, monkeypatch) -> Iterator[Callable[..., dict[str, float]]]:
    """Trains for many epochs under a page's eyes; says what one epoch adds to each of the measures."""
    from gradio_client import Client

    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE_CUSTOMIZE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    runs, photographs = tmp_path / "runs", write_photographs(tmp_path / "data" / "shapes", train=4, test=1)

    def train(**how: int) -> dict[str, float]:
        with running_server(runs, data_root=photographs.parent) as server:
            client = Client(server.address, verbose=False)
            run = Run(runs / client.predict(**SMALL_RUN, epochs=how["epochs"], api_name="/start_run")["run"])
            person = reader(server.address)

            def memory_of_server() -> int:
                os.kill(server.pid, signal.SIGUSR1)
                given_back = tmp_path / "site" / "given-back"
                until(given_back.exists, "the server gives back what it does not need", seconds=PATIENCE_S)
                given_back.unlink()
                return memory_of(server.pid)

            seen = watch(memory_of_server, person.open(f"?run={run.id}"), run, until=until, **how)
            until(lambda: run.status["state"] == "finished", "the end", seconds=PATIENCE_S)
            person.leave()
        return growth(seen)

    yield train
    for folder in runs.glob("[!.]*"):  # of a test that failed
        process = process_of(folder, Run(folder).status)
        if process:
            os.kill(process, signal.SIGKILL)


def too_much(grown: dict[str, float], **bounds: float) -> dict[str, float]:
    """What grows by more an epoch than it may."""
    return {name: round(grown[name], 2) for name, bound in bounds.items() if grown[name] >= bound}


def test_nothing_is_kept_of_an_epoch_but_its_points(watched):
    # After the warm-up a curve has so many points that its markers are gone; until then each epoch adds some.
    grown = watched(epochs=70, warm_up=42, every=2)
    # A photograph is 150 kB and more, a batch of images 200 kB, the tiles of the strip thirteen nodes.
    bounds = {"worker": 60_000, "server": 60_000, "page": 60_000, "nodes": 4, "listeners": 0.3}
    assert too_much(grown, **bounds) == {}


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_nothing_is_kept_of_two_thousand_epochs_but_their_points(watched, capsys):
    grown = watched(epochs=2000, warm_up=600, every=2)
    with capsys.disabled():
        print("\nan epoch adds:", ", ".join(f"{value:,.2f} {name}" for name, value in grown.items()))
    # An epoch's points are some 3 kB in the server, and in the page, with an image's maps and what the browser notes of
    # each request, 6; a message is 14 kB, and there is one every two epochs.
    bounds = {"worker": 1_000, "server": 7_000, "page": 9_000, "nodes": 0.2, "listeners": 0.05}
    assert too_much(grown, **bounds) == {}


# --- Two thousand epochs looked at ------------------------------------------------------------------------------------

EPOCHS = 2000


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> tuple[Places, Run]:
    """A run of two thousand recorded epochs, three steps each."""
    root = tmp_path_factory.mktemp("long-run")
    photographs = Photographs(root / "photographs")
    run = Run(write_recorded_run(root / "runs", photographs, epochs=EPOCHS, images=4))
    return Places(root / "runs", demo=root / "demo", data_roots=(photographs.folder,)), run


@pytest.fixture
def address(serving, made_up) -> Iterator[str]:
    with serving(made_up[0]) as address:
        yield address


def curve(page: Page, chart: str, number: int) -> tuple[list[float], list[float]]:
    """The points of one curve as they are drawn."""
    found = page.evaluate(
        """([chart, number]) => { const plot = document.querySelector(`[data-chart="${chart}"] .js-plotly-plot`);
        const curve = plot?.data?.[number]; return curve ? [[...curve.x], [...curve.y]] : [[], []]; }""",
        [chart, number],
    )
    return found[0], found[1]


def drawn_in_full(page: Page, until: Callable[..., Any], *charts: str) -> None:
    for chart in charts:
        until(lambda chart=chart: curve(page, chart, 0)[0][-1:] == [EPOCHS], f"the curves of {chart}", seconds=60)


def test_a_long_runs_curves_are_drawn_from_what_can_be_seen_of_them(address, reader, until, made_up, screenshots):
    page = reader(address).open("?tab=train")
    drawn_in_full(page, until, "loss", "accuracy", "agreement", "localisation", "lr")
    assert page.locator(".sx-run .js-plotly-plot .point").count() == 0, "no markers that cover each other"
    epochs, drawn = curve(page, "accuracy", 2)
    recorded = [point["test"]["top1"] for point in made_up[1].metrics("epoch")]
    assert len(epochs) <= 1_200 < len(recorded)
    assert epochs == sorted(set(epochs))
    assert [recorded[epoch] for epoch in epochs] == drawn, "the points are the run's own"
    assert (min(drawn), max(drawn), drawn[-1]) == (min(recorded), max(recorded), recorded[-1])

    plot = "document.querySelector('[data-chart=\"accuracy\"] .js-plotly-plot')"
    page.evaluate(f"Plotly.relayout({plot}, {{'xaxis.range': [500, 600]}})")
    until(lambda: set(range(500, 601)) <= set(curve(page, "accuracy", 2)[0]), "looked at closely, every epoch is drawn")
    assert len(curve(page, "accuracy", 2)[0]) <= 1_200
    page.evaluate(f"Plotly.relayout({plot}, {{'xaxis.autorange': true}})")
    until(lambda: curve(page, "accuracy", 2)[0] == epochs, "and as before when all are seen again")
    page.screenshot(path=screenshots / "train-2000-epochs.png", full_page=True)


@pytest.mark.parametrize("width", [1280, 390])
def test_every_one_of_two_thousand_epochs_is_reached_and_playing_them_takes_a_minute(
    address, reader, until, screenshots, width
):
    page = reader(address, width=width).open("?tab=attention&epoch=1234")
    drawn_in_full(page, until, "image-agreement", "image-localisation")
    shown = page.locator(".sx-epoch").first
    assert shown.inner_text() == f"epoch 1234 of {EPOCHS}"
    page.screenshot(path=screenshots / f"attention-2000-epochs-{width}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page is wider than the screen"
    page.get_by_role("button", name="One epoch on").first.click()
    assert shown.inner_text() == f"epoch 1235 of {EPOCHS}"
    page.locator(".sx-slider").first.press("ArrowLeft")
    assert shown.inner_text() == f"epoch 1234 of {EPOCHS}"
    page.evaluate(f"{PLAYER}.seek({EPOCHS - 20})")
    page.get_by_role("button", name="Play").first.click()
    until(lambda: shown.inner_text() == f"epoch {EPOCHS - 4} of {EPOCHS}", "playing shows every sixteenth")
    until(lambda: page.locator(".sx-play").first.inner_text() == "Play", "it stops at the end")
    assert shown.inner_text() == f"epoch {EPOCHS} of {EPOCHS}"


def test_charts_of_a_hidden_view_are_drawn_when_it_is_seen(address, reader, until, made_up):
    page = reader(address).open("?tab=attention")
    drawn_in_full(page, until, "image-agreement")
    page.get_by_role("tab", name="Train").click()
    drawn_in_full(page, until, "accuracy")
    page.evaluate(
        """() => { window.drawn = []; const { react } = Plotly; Plotly.react = (plot, ...more) => {
        window.drawn.push(plot.closest('[data-chart]').dataset.chart); return react(plot, ...more); }; }"""
    )
    image = made_up[1].samples[1]["id"]
    page.evaluate("image => window.samExplorer.openImage(image)", image)
    until(lambda: page.evaluate(f"{PLAYER}.timeline.about.id") == image, "another image")
    page.wait_for_timeout(300)
    assert page.evaluate("window.drawn.filter((name) => name.startsWith('image'))") == []
    page.get_by_role("tab", name="Attention").click()
    until(lambda: "image-agreement" in page.evaluate("window.drawn"), "seen, they are drawn")
