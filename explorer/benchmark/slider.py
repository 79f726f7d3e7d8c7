"""What moving the slider costs in a real browser: requests, and our own work per move."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import numpy as np

from explorer.benchmark.made_up import Photographs, write_recorded_run
from explorer.benchmark.server import RunningServer, running_server
from sam_core.benchmark.rounds import median
from sam_core.benchmark.rows import Figure
from sam_core.recording.reader import Run

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
#: --no-sandbox: in a container, as root, Chromium has no other way. The others keep it from looking outside.
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
IMAGES = 60
#: The page is at rest when it has asked for nothing but news for so long; after the last move it is watched so long.
REST_S = 1.5
PATIENCE_MS = 60_000

PLAYER = "document.querySelector('.sx-player').player"
#: Times the whole of what follows from a move, from within the slider's own event: drawing, words, charts' markers.
WATCH = f"""() => {{
  const player = {PLAYER};
  const seek = player.seek.bind(player);
  player.drawTimes.length = 0;
  window.moves = [];
  player.seek = (point) => {{
    const before = player.point;
    const started = performance.now();
    seek(point);
    if (player.point !== before) window.moves.push([player.point, performance.now() - started]);
  }};
}}"""


class NoBrowserError(RuntimeError):
    """There is no browser to measure in."""


def measure_slider(*, rounds: int, epochs: int = 100) -> dict[str, Figure]:
    """Move the slider over every epoch and back, `rounds` times, with the arrow keys in headless Chromium.

    The work per move is the time from the call in the slider's event handler to its return: the maps drawn, the words
    below them, the markers of the charts. It is the 95th percentile within a round, and the median of the rounds'.
    Requests are all those that the page makes meanwhile, but for its regular question for news, which goes on whether
    or not the slider moves.
    """
    with tempfile.TemporaryDirectory(prefix="sam-benchmark-") as folder:
        place = Path(folder)
        photographs = Photographs(place / "photographs")
        run = Run(write_recorded_run(place / "runs", photographs, epochs=epochs, images=IMAGES))
        with (
            _chromium_page() as (page, version),
            running_server(place / "runs", data_root=photographs.folder) as server,
        ):
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            _open_player(page, server, run, asked)
            started, before = time.monotonic(), len(asked)
            times = _move(page, rounds, epochs)
            page.wait_for_timeout(1000 * REST_S)
            made, seconds = asked[before:], time.monotonic() - started
            draws = page.evaluate(f"{PLAYER}.drawTimes")
    caused = [urlsplit(url).path for url in made if not _is_poll(url)]
    moves = sum(len(values) for values in times)
    about = {"browser": version, "epochs": epochs + 1, "moves": moves}
    work = median([float(np.percentile(values, 95)) for values in times])
    details = {
        "median_ms": round(float(np.median(np.concatenate(times))), 2),
        "largest_ms": round(float(np.concatenate(times).max()), 2),
        "drawing_p95_ms": round(float(np.percentile(draws, 95)), 2),
    }
    polls = {"regular_polls": len(made) - len(caused), "seconds": round(seconds, 1)}
    return {
        "slider_requests": Figure(len(caused), 0.0, about | polls | ({"requests": caused[:10]} if caused else {})),
        "slider_work_ms": Figure(work.value, work.noise, about | details),
    }


def find_chromium() -> str:
    """The system's browser: what SAM_CHROMIUM names, or one of the usual names on the path.

    Raises:
        NoBrowserError: if there is none.
    """
    named = os.environ.get("SAM_CHROMIUM")
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise NoBrowserError(
            f"SAM_CHROMIUM names no program: {named}"
            if named
            else "no Chromium on this machine: install one (apt-get install chromium), or name it by SAM_CHROMIUM"
        )
    return found


@contextmanager
def _chromium_page() -> Iterator[tuple[Page, str]]:
    """An empty page, and the browser's version."""
    path = find_chromium()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise NoBrowserError("playwright is missing: pip install --requirement requirements-dev.txt") from None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(PATIENCE_MS)
            yield page, browser.version
        finally:
            browser.close()


def _open_player(page: Page, server: RunningServer, run: Run, asked: list[str]) -> None:
    """Open one image, and wait until its maps, its photograph and its charts are there and the page is at rest."""
    image = quote(run.samples[-1]["id"], safe="")
    page.goto(f"{server.address}/?tab=attention&run={run.id}&image={image}")
    points = len(run.recorded_epochs)
    page.wait_for_function(
        f"document.querySelector('.sx-player')?.player?.timeline?.about.epochs.length === {points}"
        f" && {PLAYER}.photograph.width > 1 && document.querySelectorAll('.sx-attention .js-plotly-plot').length > 0"
    )
    quiet_since, known = time.monotonic(), -1
    while time.monotonic() - quiet_since < REST_S:
        page.wait_for_timeout(100)
        other = sum(not _is_poll(url) for url in asked)
        if other != known:
            quiet_since, known = time.monotonic(), other


def _move(page: Page, rounds: int, epochs: int) -> list[list[float]]:
    """The milliseconds of every move, round by round; every epoch is reached in each of them."""
    slider = page.locator(".sx-player .sx-slider").first
    slider.focus()
    page.keyboard.press("Home")
    page.evaluate(WATCH)
    times = []
    for _ in range(rounds):
        for key in ("ArrowRight", "ArrowLeft"):
            for _ in range(epochs):
                page.keyboard.press(key)
        moves: list[Any] = page.evaluate("window.moves.splice(0)")
        reached = {point for point, _ in moves}
        if reached != set(range(epochs + 1)):
            raise RuntimeError(f"the slider reached {len(reached)} of {epochs + 1} epochs")
        times.append([milliseconds for _, milliseconds in moves])
    return times


def _is_poll(url: str) -> bool:
    return urlsplit(url).path == "/explorer/pulse"
