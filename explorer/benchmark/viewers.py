"""What twenty viewers cost a run: its training steps while they watch, beside its steps while nobody does."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from explorer.benchmark.audience import COMING_S
from explorer.benchmark.server import RunningServer, processor_seconds, running_server
from explorer.routes.runs import ASK_EVERY_S
from sam_core.benchmark.made_up import config_for, write_photographs
from sam_core.benchmark.quick import CORES, few_cores
from sam_core.benchmark.rounds import median, order_of, ratio
from sam_core.benchmark.rows import Figure
from sam_core.config import PROJECT_ROOT, RunConfig
from sam_core.device import Machine
from sam_core.recording.writer import RunWriter

VIEWERS = 20
CLASSES = 10
#: More epochs than any measurement lasts. One takes as long as one of the default run, so that epochs are recorded,
#: and fetched by the viewers, as often as there.
EPOCHS = 200
#: Seconds between two looks at the steps that the run has made.
INTERVAL_S = 0.05
#: A run that makes no step for so long is not going to.
PATIENCE_S = 300.0


class TraineeError(RuntimeError):
    """The run that was to be watched did not train."""


@dataclass
class _Turn:
    """What was seen while some steps were made.

    Attributes:
        step_s: mean seconds of a step.
        seconds: how long the turn was, evaluations between the steps included.
        server_s: processor seconds of the server meanwhile.
        audience_s: the same of the viewers' process.
    """

    step_s: float
    seconds: float
    server_s: float | None
    audience_s: float | None


@dataclass
class _Place:
    """The processes of one measurement, and the file in which the run notes its steps."""

    server: RunningServer
    trainee: subprocess.Popen[bytes]
    audience: subprocess.Popen[str]
    steps: Path
    said: Path
    _known: list[tuple[float, float]] = field(default_factory=list)
    _position: int = 0

    def turn(self, *, watched: bool, steps: int) -> _Turn:
        """Let `steps` whole steps pass with viewers or without."""
        print("watch" if watched else "rest", file=self.audience.stdin, flush=True)
        # The viewers come or go: nothing counts until each of them has had a turn.
        time.sleep(COMING_S + 1.2 * ASK_EVERY_S)
        since = time.monotonic()
        server, audience = processor_seconds(self.server.pid), processor_seconds(self.audience.pid)
        made = self._wait_for_steps(steps, since)
        return _Turn(
            step_s=statistics.fmean(ended - started for started, ended in made),
            seconds=time.monotonic() - since,
            server_s=_difference(processor_seconds(self.server.pid), server),
            audience_s=_difference(processor_seconds(self.audience.pid), audience),
        )

    def _wait_for_steps(self, count: int, since: float) -> list[tuple[float, float]]:
        """The first steps that began after `since`, once there are so many: when each began and ended."""
        while True:
            self._read_steps()
            made = [step for step in self._known if step[0] >= since]
            if len(made) >= count:
                return made[:count]
            latest = max([since, *(ended for _, ended in self._known[-1:])])
            if self.trainee.poll() is not None or time.monotonic() - latest > PATIENCE_S:
                lines = self.said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                raise TraineeError(f"the run that was watched did not go on: {(lines or ['it said nothing'])[-1]}")
            time.sleep(INTERVAL_S)

    def _read_steps(self) -> None:
        with open(self.steps, "rb") as file:
            file.seek(self._position)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._position += len(whole)
        self._known += [(float(started), float(ended)) for started, ended in map(bytes.split, whole.splitlines())]


def measure_viewers(
    machine: Machine,
    *,
    pairs: int,
    viewers: int = VIEWERS,
    steps_per_turn: int = 6,
    images: int = 320,
    choices: dict[str, Any] | None = None,
) -> Figure:
    """Mean time of a step with viewers / without: the median over pairs of turns, in changing order.

    One run trains in a process of its own: the default network and batch, evaluated and recorded after every epoch.
    One server shows it. Both have the same two processor cores. In every other turn `viewers` pages ask the server for
    news, as often as the page does, and fetch what was recorded. A turn is a number of whole steps; evaluations
    between them count in neither time. The viewers are replayed from a process of their own, which on a machine of two
    cores runs on the same ones: what it takes is in the ratio too, and is said in the details.

    Args:
        machine: where the run trains.
        pairs: turns with viewers, and without.
        viewers: how many pages watch.
        steps_per_turn: steps in a turn.
        images: labelled images of the made-up folder that the run trains on.
        choices: choices of the run other than the default run's, for tests.
    """
    with _place(machine, viewers, images, choices or {}) as (place, config):
        place.turn(watched=True, steps=max(3, steps_per_turn // 2))  # every page has opened the run, all is warm
        turns: dict[str, list[_Turn]] = {"watched": [], "alone": []}
        for number in tqdm(range(pairs), desc="viewers", leave=False, disable=None, unit="pair"):
            for name in order_of(list(turns), number):
                turns[name].append(place.turn(watched=name == "watched", steps=steps_per_turn))
        done = _farewell(place.audience)
    step_s = {name: [turn.step_s for turn in made] for name, made in turns.items()}
    figure = ratio(step_s["watched"], step_s["alone"])
    control = ratio(step_s["alone"][1:], step_s["alone"][:-1]) if pairs > 1 else median([1.0])
    details = {
        "pairs": pairs,
        "viewers": viewers,
        "asking_every_s": ASK_EVERY_S,
        "steps_per_turn": steps_per_turn,
        "backbone": config.backbone,
        "batch_size": config.batch_size,
        "watched_ms": round(1000 * statistics.median(step_s["watched"]), 1),
        "alone_ms": round(1000 * statistics.median(step_s["alone"]), 1),
        "alone_against_alone": [round(control.value, 4), round(control.noise, 4)],
        **_processor_shares(turns, viewers),
        **done,
    }
    return Figure(figure.value, figure.noise, details)


def _processor_shares(turns: dict[str, list[_Turn]], viewers: int) -> dict[str, Any]:
    """Shares of one core: of the server with viewers and without, per viewer, and of the viewers' process."""

    def share(made: Sequence[_Turn], name: str) -> float | None:
        used = [getattr(turn, name) for turn in made]
        return None if None in used else sum(used) / sum(turn.seconds for turn in made)

    watched, alone = share(turns["watched"], "server_s"), share(turns["alone"], "server_s")
    audience = share(turns["watched"], "audience_s")
    if watched is None or alone is None or audience is None:
        return {}
    return {
        "server_share_of_a_core": round(watched, 4),
        "server_share_without_viewers": round(alone, 4),
        "server_ms_per_viewer_second": round(1000 * (watched - alone) / viewers, 3),
        "replaying_share_of_a_core": round(audience, 4),
    }


@contextlib.contextmanager
def _place(machine: Machine, viewers: int, images: int, choices: dict[str, Any]) -> Iterator[tuple[_Place, RunConfig]]:
    """A server, a run that trains, and viewers who rest."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sam-benchmark-")))
        photographs = write_photographs(
            folder / "photographs", classes=CLASSES, train=max(1, images // CLASSES), test=2
        )
        common = {"backbone": RunConfig().backbone, "batch_size": RunConfig().batch_size, "epochs": EPOCHS}
        config = config_for(photographs, machine, **(common | choices))
        # A queued one the server would start itself.
        writer = RunWriter.create(folder / "runs", config, epochs=EPOCHS, state="stopped")
        writer.close()
        steps, said = folder / "steps.txt", folder / "said.txt"
        steps.touch()
        with few_cores(CORES):
            server = stack.enter_context(running_server(folder / "runs", data_root=photographs))
            # The run's folder is a word of the command line: by that the explorer knows whose process it is.
            trainee = _process(stack, said, "trainee", str(writer.folder), str(steps))
        audience = _process(stack, said, "audience", server.address, writer.folder.name, str(viewers), talking=True)
        yield _Place(server, trainee, audience, steps, said), config


def _process(stack: contextlib.ExitStack, said: Path, program: str, *arguments: str, talking: bool = False) -> Any:
    """A process of one of this package's programs, ended with the stack; what it complains of goes to a file."""
    command = [sys.executable, "-m", f"explorer.benchmark.{program}", *arguments]
    stream = subprocess.PIPE if talking else subprocess.DEVNULL
    with open(said, "ab") as errors:
        process = subprocess.Popen(
            command, cwd=PROJECT_ROOT, stdin=stream, stdout=stream, stderr=errors, text=talking or None
        )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def _farewell(audience: subprocess.Popen[str]) -> dict[str, int]:
    """Let the viewers go; what they have done all in all."""
    said, _ = audience.communicate(timeout=30)
    return {f"viewers_{name}": int(value) for name, value in json.loads(said).items()}


def _difference(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else now - before
