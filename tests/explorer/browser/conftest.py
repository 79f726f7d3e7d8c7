"""A real Chromium, and pages that fail their test when the browser complains.

The system's own browser is used: `chromium` or `google-chrome` on the path, or the file that SAM_CHROMIUM names.
Without one these tests fail; they are not skipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

from explorer.benchmark.slider import ARGUMENTS, find_chromium


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(ARGUMENTS))
        yield browser
        browser.close()


class Reader:
    """One person's browser: pages in it share nothing with others, and what they complain of is kept."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.context, self.address = context, address
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.expected: list[str] = []

    def open(self, query: str = "") -> Page:
        """A page whose head and open view are there."""
        page = self.context.new_page()
        page.on("console", lambda said: said.type == "error" and self.complaints.append(f"console: {said.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("requestfailed", self._note_failed)
        page.on(
            "response", lambda answer: answer.status >= 400 and self.complaints.append(f"{answer.status} {answer.url}")
        )
        page.goto(f"{self.address}/{query}")
        page.wait_for_selector("#page-head h1")
        return page

    def _note_failed(self, request: Request) -> None:
        # Aborted is what the page itself gave up: it was left or loaded anew while the answer was on its way.
        if request.failure != "net::ERR_ABORTED":
            self.complaints.append(f"failed: {request.url} {request.failure}")

    def leave(self) -> None:
        """Close every page, for a test whose server ends before it does."""
        self.context.close()

    def check(self) -> None:
        """No console error, no failed request, nothing asked of another server."""
        unforeseen = [text for text in self.complaints if not any(word in text for word in self.expected)]
        assert unforeseen == []
        outside = [url for url in self.requests if not url.startswith((self.address, "data:", "blob:"))]
        assert outside == []


@pytest.fixture
def reader(chromium: Browser) -> Iterator[Callable[..., Reader]]:
    """Makes a person's browser: `reader(address, width=390)`; at the end nobody may have complained."""
    readers: list[Reader] = []

    def make(address: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> Reader:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", accept_downloads=True
        )
        context.set_default_timeout(20_000)
        readers.append(Reader(context, address))
        return readers[-1]

    yield make
    for made in readers:
        made.context.close()
    for made in readers:
        made.check()


@pytest.fixture
def until() -> Callable[..., object]:
    """Waits until something is true: `until(lambda: ..., "what")`."""

    def wait(found: Callable[[], object], what: str, *, seconds: float = 20) -> object:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            value = found()
            if value:
                return value
            time.sleep(0.1)
        raise AssertionError(f"after {seconds} s still not: {what}")

    return wait


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where the screenshots go."""
    folder = Path(__file__).resolve().parents[3] / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
