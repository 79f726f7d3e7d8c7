"""All that the reader and the explorer can be asked about a run folder, asked: each question is answered, or refused in
one sentence with a hint. Nothing else may happen, whatever is in the folder.
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sam_core
from explorer.attention import gallery
from explorer.attention.photographs import weights_of
from explorer.attention.timelines import Messages
from explorer.places import Places
from explorer.runs.library import Library
from explorer.runs.live import RunFeed
from explorer.runs.pruning import disk_size
from sam_core.recording import layout
from sam_core.recording.archive import pack_run
from sam_core.recording.notes import read_notes
from sam_core.recording.reader import Run
from sam_core.recording.views import PictureError, view_mask, view_picture
from sam_core.recording.writer import RunError

MAPS = tuple(f"attention/{kind}.npy" for kind in layout.MAP_KINDS)
#: Every array needs to know how many samples and recording points there are.
FORM = ("attention/meta.json", "attention/ids.json", "attention/epochs.npy")
TIMELINE = (*FORM, *MAPS, "attention/predicted.npy", "attention/confidence.npy")
#: Whatever shows a recorded image needs these.
SAMPLES = ("samples.json", "attention/ids.json")

#: Questions, and the files without which they cannot be answered: of a run and one of its images.
QUESTIONS: dict[str, tuple[Callable[[Run, str], Any], tuple[str, ...]]] = {
    "opened": (lambda run, image: sam_core.open_run(run.folder), ()),
    "config": (lambda run, image: run.config, ("config.json",)),
    "status": (lambda run, image: run.status, ("status.json",)),
    "alive": (lambda run, image: run.is_alive, ()),
    "metrics": (lambda run, image: (run.metrics(), run.metrics("epoch")), ()),
    "classes": (lambda run, image: run.classes, ("classes.json",)),
    "samples": (lambda run, image: run.samples, SAMPLES),
    "recorded epochs": (lambda run, image: list(run.recorded_epochs), FORM),
    "timeline": (lambda run, image: run.timeline(image), TIMELINE),
    "attention": (lambda run, image: run.attention(image, 0), TIMELINE),
    "kept epochs": (lambda run, image: run.kept_epochs, ()),
    "picture": (lambda run, image: view_picture(run, run.row(image), side=40), (*SAMPLES, "attention/meta.json")),
    "mask": (lambda run, image: view_mask(run, run.row(image), side=40), SAMPLES),
    "gallery": (
        lambda run, image: gallery.columns(run),
        (*SAMPLES, *FORM, "classes.json", "attention/predicted.npy", "attention/confidence.npy"),
    ),
    "strip": (lambda run, image: gallery.strip(run, 4), (*SAMPLES, "classes.json")),
    "rankings": (lambda run, image: gallery.Rankings().of(run), (*SAMPLES, *FORM, *MAPS, "config.json")),
    "message": (
        lambda run, image: Messages().of(run, image, after=-1, allowed=lambda path: True),
        (*TIMELINE, *SAMPLES, "config.json"),
    ),
    "weights": (lambda run, image: weights_of(run), ("status.json", "classes.json")),
    "size": (lambda run, image: disk_size(run.folder), ()),
    "notes": (lambda run, image: read_notes(run.folder), ()),
    "feed": (lambda run, image: json.loads(RunFeed(run.folder).news_json("")), ()),
}  # fmt: skip
#: These take longer, and are asked where the files that they alone read have suffered.
SLOW_QUESTIONS: dict[str, tuple[Callable[[Run, str], Any], tuple[str, ...]]] = {
    "network": (lambda run, image: run.model(), ("model.safetensors", "config.json", "classes.json")),
    "archive": (
        lambda run, image: pack_run(run, io.BytesIO(), allowed=lambda path: False),
        ("config.json", "status.json", "samples.json", "evaluation.json"),
    ),
}


def slow_for(name: str) -> list[str]:
    """The slow questions that a file is needed for."""
    return [question for question, (_, needed) in SLOW_QUESTIONS.items() if name in needed]


@dataclass
class Findings:
    """Answers by question, and the sentences of the questions that were refused."""

    answers: dict[str, Any] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)


def examine(folder: Path, image: str, *, slow: Sequence[str] = ()) -> Findings:
    """Ask everything of a run folder."""
    findings, run = Findings(), Run(folder)
    for name, (ask, _) in (QUESTIONS | {name: SLOW_QUESTIONS[name] for name in slow}).items():
        try:
            findings.answers[name] = ask(run, image)
        except (RunError, PictureError) as error:
            findings.refusals[name] = sentence_of(error)
    assert "feed" in findings.answers, "a page that is open says what it can say"
    listed = Library(Places(folder.parent, demo=folder.parent / "no-demo")).changes_json(0)
    findings.answers["list"] = {run["id"]: run for run in json.loads(listed)["runs"]}
    return findings


def refused_for(findings: Findings, damaged: str) -> None:
    """Assert that nothing was refused but what needs the damaged file."""
    for name, sentence in findings.refusals.items():
        needed = (QUESTIONS | SLOW_QUESTIONS)[name][1]
        assert damaged in needed, f"{name} does not need {damaged}: {sentence}"


def sentence_of(error: RunError | PictureError) -> str:
    """What an error says to a person; it must be one sentence that can be shown anywhere."""
    text = str(error)
    assert text, repr(error)
    assert text.isprintable(), text
    assert len(text) < 700, text
    assert "\n" not in error.hint
    json.dumps([text, error.hint], ensure_ascii=False).encode()
    return text


class Polling:
    """Looks at every run folder under some folder, again and again, while something else happens to them.

    with Polling(runs, image) as polling:
        ...
    polling.looks  # how often
    """

    def __init__(self, runs: Path, image: str) -> None:
        self.looks = 0
        self._runs = runs
        self._image = image
        self._library = Library(Places(runs, demo=runs / "no-demo"))
        self._end = threading.Event()
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def _poll(self) -> None:
        while not self._end.is_set():
            try:
                self._library.look_again()
                for summary in self._library.summaries():
                    examine(self._runs / summary["id"], self._image)
                    self.looks += 1
            except BaseException as error:
                self._errors.append(error)
                return
            time.sleep(0.02)

    def __enter__(self) -> Polling:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(timeout=30)
        assert not self._thread.is_alive(), "a reader hangs"
        if self._errors:
            raise self._errors[0]
