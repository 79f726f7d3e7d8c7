"""One run by several processes, with PyTorch's own engine: what the training loop needs beside the team itself.

torchrun --nproc-per-node=8 -m sam_core train ...

Every process makes the same plan, takes its share of each batch, and has the whole network; gradients are averaged as
they come (`DistributedDataParallel`), batch-norms see the whole batch, and the first process alone writes the run
folder. So the run is the one that a single process would train, up to the order in which numbers are added.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sam_core.config import ConfigError, RunConfig
from sam_core.models.sam_net import SAMNet
from sam_core.recording import layout
from sam_core.recording.content import parse_json
from sam_core.recording.reader import Run
from sam_core.recording.writer import RunError
from sam_core.team import WORD_WITHIN_S, PeerEnded, Team, Word
from sam_core.training.failures import TrainingError, explain
from sam_core.training.step import training_losses
from sam_core.training.stopping import Stopped

# --- the step -------------------------------------------------------------------------------------------------------


class SharedStep(nn.Module):
    """A step's losses for this process's share of the batch, scaled so that their mean over the processes is right.

    This, rather than the network, is what `DistributedDataParallel` wraps: so neither the network nor the mathematics
    of the losses knows of it.
    """

    def __init__(self, model: SAMNet, config: RunConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config

    def forward(self, images: Tensor, labels: Tensor, attention_weight: float, scale: float) -> dict[str, Tensor]:
        """As `training_losses`.

        Args:
            images: (b, 3, S, S); b may be 0.
            labels: (b,).
            attention_weight: lambda of this step.
            scale: b times the number of processes, divided by the images of all of them.
        """
        losses = training_losses(self.model, images, labels, self.config, attention_weight)
        if len(labels) == 0:  # the mean over no image is not a number, and has no part in the whole
            losses = {name: value.nan_to_num() for name, value in losses.items()}
        return {name: value * scale for name, value in losses.items()}


def shared_step(model: SAMNet, config: RunConfig) -> nn.Module:
    """The step whose backward pass averages the gradients over the processes; every one of them starts as the first."""
    from torch.nn.parallel import DistributedDataParallel

    # The statistics of the batch-norms are the same everywhere, and need not be sent around at every step.
    newer = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    still = {"forward_sync_buffers" if newer else "broadcast_buffers": False}
    return DistributedDataParallel(SharedStep(model, config), **still)


# --- the run folder -------------------------------------------------------------------------------------------------


class Onlooker:
    """In the place of the run folder's writer in every process but the first: writes nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.attention = self

    def _nothing(self, *arguments: object, **options: object) -> None:
        pass

    status = last_status = take_over = keep_metrics_until = reopen_attention = start_over = _nothing
    write_environment = write_classes = start_attention = append_metrics = save_last = save_weights = _nothing
    record = finish_point = close = _nothing


def all_launches(team: Team) -> list[str]:
    """The launches of torchrun that the processes of a team belong to: one on each machine, none without torchrun."""
    return [launch for launch in dict.fromkeys(team.exchange(this_launch(team.number))) if launch]


def this_launch(number: int) -> str | None:
    """What identifies the launch of torchrun that this process belongs to on its machine; None without torchrun.

    Restarted processes have the same parent, the agent, and a process id together with the moment at which it was given
    is not given twice. (Where the system does not tell that moment, torchrun's own id of the launch has to do; it is
    random only with `--standalone`.)

    Args:
        number: which of the runs that this process trains one after the other.
    """
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name is None:
        return None
    agent = os.getppid()
    return " ".join([socket.gethostname(), str(agent), _started_at(agent), name, str(number)])


def _started_at(process: int) -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "?"
    # The second field, the program's name in brackets, may hold anything; the moment is the 22nd.
    return f"{boot} {status.rpartition(')')[2].split()[19]}"


def begun_by(launches: Sequence[str], runs: Path, config: RunConfig) -> str | None:
    """The folder of the run that a launch has begun before its processes were started anew, if it has.

    Args:
        launches: of every machine, for the first process may be on another one now.
        runs: the folder of the run folders.
        config: what is to be trained.
    """
    if not launches or not runs.is_dir():
        return None
    for folder in sorted(runs.iterdir(), reverse=True):  # the newest first, by name
        run = Run(folder)
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError, RunError):
            known = parse_json((folder / layout.ENVIRONMENT).read_bytes()).get("launches", ())
            if set(known) & set(launches) and run.config == config:
                return str(folder.resolve())
    return None


def describe_team(team: Team, device: torch.device, launches: Sequence[str]) -> dict[str, Any]:
    """What environment.json says of the processes."""
    backend = ("nccl" if device.type == "cuda" else "gloo") if team.size > 1 else None
    described: dict[str, Any] = {"processes": team.size, "backend": backend}
    return described | ({"launches": list(launches)} if launches else {})


# --- ends -----------------------------------------------------------------------------------------------------------


@contextmanager
def ending_together(team: Team, record_end: Callable[[Exception], None] | None = None) -> Iterator[None]:
    """What ends one process of a team ends them all, for the same reason; the first process is the one that says so.

    Args:
        team: the processes.
        record_end: called by another thread just before it ends this process, if the work inside does not notice.

    Raises:
        Stopped, ConfigError, TrainingError: in the place of an error that says only that another process is gone.
    """
    if team.size == 1:
        yield
        return

    def give_up(word: Word) -> None:
        cause = _error_of(word)
        if record_end is not None:
            record_end(cause)
        if team.is_first:
            print(f"error: {cause}", f"hint: {getattr(cause, 'hint', '')}", sep="\n", file=sys.stderr, flush=True)

    before, team.when_left_alone = team.when_left_alone, give_up
    try:
        yield
    except BaseException as error:
        if isinstance(error, PeerEnded):
            cause = _error_of(error.word)
        elif team.is_lost_connection(error):
            cause = _error_of(team.word(within=WORD_WITHIN_S))
        else:
            cause = error
        heard = team.leave_word(_word_of(cause))
        if heard and not team.is_first:
            cause.said_elsewhere = True
        if cause is error:
            raise
        raise cause from error
    finally:
        team.when_left_alone = before


def _word_of(error: BaseException) -> Word:
    """An error as another process can raise it."""
    if isinstance(error, Stopped | KeyboardInterrupt):
        return {"state": "stopped", "exit_code": 130}
    details = "".join(traceback.format_exception(error))
    option = error.field if isinstance(error, ConfigError) else None
    return {
        "state": "failed", "error": explain(error).as_json(), "option": option, "details": details,
        "exit_code": 1 if option is None else 2,
    }  # fmt: skip


def _error_of(word: Word | None) -> Exception:
    """The error that a word tells of."""
    if word is None:
        return TrainingError(
            "process gone",
            "another process of the run has ended without a word; it was killed, or the machine ran out of memory",
            "see what torchrun says about it; --resume goes on from the last finished epoch",
        )
    if word["state"] == "stopped":
        return Stopped()
    error: Mapping[str, str] = word["error"]
    if word["option"] is not None:
        return ConfigError(word["option"], error["message"].removeprefix(f"{word['option']}: "))
    cause = TrainingError(error["type"], error["message"], error["hint"])
    cause.add_note(f"process {word['rank']} of the team:\n{word['details']}")
    return cause
