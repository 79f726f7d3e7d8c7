"""Writing a run folder. The training process is its only writer."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from sam_core.config import RunConfig
from sam_core.recording import layout
from sam_core.recording.environment import describe_environment
from sam_core.recording.lock import take_lock

#: status.json is replaced at most this often while nothing but the step count changes.
STATUS_INTERVAL_S = 0.5
FLOAT16_MAX = 65504.0


class RunError(RuntimeError):
    """A run that cannot be used as asked; `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def new_run_id(config: RunConfig, now: datetime.datetime | None = None) -> str:
    """A run's name on disk, sortable by time: `20261124-101502-fieldguide-10pct-sam-3f2a`."""
    now = now or datetime.datetime.now()
    dataset = re.sub(r"[^A-Za-z0-9]+", "-", Path(config.dataset).name).strip("-").lower()[:32] or "folder"
    return f"{now:%Y%m%d-%H%M%S}-{dataset}-{config.label_ratio:g}pct-{config.method}-{secrets.token_hex(2)}"


class RunWriter:
    """One run folder, open for writing and locked against a second writer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        lock = take_lock(folder)
        if lock is None:
            raise RunError(
                f"run {folder.name} is being trained by another process", "wait for it to end, or stop it first"
            )
        self._lock = lock
        self._status: dict[str, Any] = {}
        self._status_written = 0.0
        self._metrics: TextIO | None = None
        self.attention: AttentionWriter | None = None

    @classmethod
    def create(cls, runs: Path, config: RunConfig, *, epochs: int, state: str = "queued") -> RunWriter:
        """Make a new run folder under `runs`; it appears there whole, with its configuration and status."""
        runs.mkdir(parents=True, exist_ok=True)
        run_id = new_run_id(config)
        temporary = runs / f".{run_id}.tmp"
        temporary.mkdir()
        try:
            layout.write_json(temporary / layout.CONFIG, config.to_json())
            layout.write_json(temporary / layout.ENVIRONMENT, describe_environment())
            layout.write_json(temporary / layout.STATUS, _first_status(state, epochs))
            temporary.rename(runs / run_id)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return cls(runs / run_id)

    # --- status -------------------------------------------------------------------------------------------------

    def status(self, *, force: bool = True, **changes: Any) -> None:
        """Change some keys of status.json. Without `force` it may wait until enough time has passed."""
        if not self._status:
            self._status = layout.json.loads((self.folder / layout.STATUS).read_text(encoding="utf-8"))
        self._status |= changes
        now = time.monotonic()
        if not force and now - self._status_written < STATUS_INTERVAL_S:
            return
        self._status["updated"] = time.time()
        # A step's progress is not worth waiting for the disk.
        layout.write_json(self.folder / layout.STATUS, self._status, durable=force)
        self._status_written = now

    def last_status(self, **changes: Any) -> None:
        """As `status`, for a run that is ending badly: on a full disk the old file's own space has to do."""
        try:
            self.status(**changes)
        except OSError:
            with contextlib.suppress(OSError), open(self.folder / layout.STATUS, "r+", encoding="utf-8") as file:
                file.write(layout.dump_json(self._status))
                file.truncate()

    def take_over(self, **changes: Any) -> None:
        """Begin status.json anew, as of this process."""
        self._status = _first_status("running", 0)
        self.status(**changes)

    # --- metrics ------------------------------------------------------------------------------------------------

    def append_metrics(self, entry: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl and hand it to the operating system at once."""
        if self._metrics is None:
            self._metrics = open(self.folder / layout.METRICS, "a", encoding="utf-8")  # noqa: SIM115
        self._metrics.write(layout.dump_json(entry) + "\n")
        self._metrics.flush()

    def keep_metrics_until(self, *, epoch: int) -> None:
        """Forget every line written after `epoch` finished: a resumed run writes them again."""
        path = self.folder / layout.METRICS
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        kept = [line for line in lines if line.endswith(b"\n") and _epoch_of(line) <= epoch]
        with layout.replacing(path) as temporary:
            temporary.write_bytes(b"".join(kept))

    # --- samples and attention ----------------------------------------------------------------------------------

    def start_attention(
        self, samples: Sequence[Mapping[str, Any]], *, kinds: Sequence[str], grid: tuple[int, int],
        epochs: Sequence[int], view: Sequence[float],
    ) -> None:  # fmt: skip
        """Write samples.json and reserve the disk that every map of the run will need, or raise `OSError` now.

        Args:
            samples: one JSON object per recorded sample, each with `id`.
            kinds: the maps to record.
            grid: height and width of a map.
            epochs: the recording points, known from the start.
            view: where the recorded view lies in the image (left, top, width, height as fractions).
        """
        layout.write_json(self.folder / layout.SAMPLES, list(samples), indent=None)
        self.attention = AttentionWriter.create(self.folder, len(samples), kinds, grid, epochs, view)
        ids = [sample["id"] for sample in samples]
        layout.write_json(self.folder / layout.ATTENTION / layout.IDS, ids, indent=None)

    def reopen_attention(self, *, until: int) -> None:
        """Go on writing the maps of a run that is resumed; those after epoch `until` are hidden until written again."""
        self.attention = AttentionWriter(self.folder)
        self.attention.forget_after(until)

    # --- weights ------------------------------------------------------------------------------------------------

    def save_last(self, state: Mapping[str, Any]) -> None:
        """Replace last.pt: tensors and plain values only, so that it loads without unpickling objects."""
        with layout.replacing(self.folder / layout.LAST) as temporary:
            torch.save(dict(state), temporary)

    def save_weights(self, weights: Mapping[str, Tensor], *, epoch: int | None = None) -> None:
        """Write model.safetensors, or with `epoch` the weights kept of that epoch."""
        path = self.folder / layout.MODEL
        if epoch is not None:
            path = self.folder / layout.KEPT / f"epoch-{epoch:05d}.safetensors"
            path.parent.mkdir(exist_ok=True)
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        with layout.replacing(path) as temporary:
            save_file(plain, temporary)

    def write_classes(self, value: Mapping[str, Any]) -> None:
        """Write classes.json, which with model.safetensors makes the trained model usable elsewhere."""
        layout.write_json(self.folder / layout.CLASSES, value)

    def start_over(self) -> None:
        """Remove what a run left that was cut before its first epoch was saved."""
        for name in (layout.METRICS, layout.SAMPLES, layout.LAST, layout.MODEL, layout.CLASSES):
            (self.folder / name).unlink(missing_ok=True)
        for name in (layout.ATTENTION, layout.KEPT):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def close(self) -> None:
        """Let go of the files and the lock."""
        if self._metrics:
            self._metrics.close()
            self._metrics = None
        self.attention = None
        self._lock.close()


class AttentionWriter:
    """The arrays of `attention/`, one per kind of map, laid out so that all epochs of one image lie together."""

    def __init__(self, folder: Path) -> None:
        base = folder / layout.ATTENTION
        meta = layout.json.loads((base / "meta.json").read_text(encoding="utf-8"))
        self.kinds: tuple[str, ...] = tuple(meta["kinds"])
        self.planned: tuple[int, ...] = tuple(meta["epochs"])
        self._maps = {kind: np.load(layout.map_file(folder, kind), mmap_mode="r+") for kind in self.kinds}
        self._predicted = np.load(base / "predicted.npy", mmap_mode="r+")
        self._confidence = np.load(base / "confidence.npy", mmap_mode="r+")
        self._epochs = np.load(base / "epochs.npy", mmap_mode="r+")

    @classmethod
    def create(
        cls, folder: Path, samples: int, kinds: Sequence[str], grid: tuple[int, int], epochs: Sequence[int],
        view: Sequence[float],
    ) -> AttentionWriter:  # fmt: skip
        """Reserve the arrays. Disk is claimed now, since a full disk under a mapped file would kill the process."""
        base = folder / layout.ATTENTION
        base.mkdir(exist_ok=True)
        points = len(epochs)
        for kind in kinds:
            _reserve(layout.map_file(folder, kind), (samples, points, *grid), np.float16)
        _reserve(base / "predicted.npy", (samples, points), np.int32)
        _reserve(base / "confidence.npy", (samples, points), np.float32)
        _reserve(base / "epochs.npy", (points,), np.int32)
        np.load(base / "epochs.npy", mmap_mode="r+")[:] = -1
        meta = {"kinds": list(kinds), "grid": list(grid), "epochs": list(epochs), "view": list(view)}
        layout.write_json(base / "meta.json", meta, indent=None)
        return cls(folder)

    def record(
        self, rows: np.ndarray, point: int, maps: Mapping[str, Tensor], predicted: Tensor, confidence: Tensor
    ) -> None:
        """Store one batch at one recording point: `rows` are positions in samples.json, maps are (B, H, W)."""
        # All kinds in one transfer: a GPU is waited for once, not once per kind.
        stacked = torch.stack([maps[kind] for kind in self.kinds]).float().clamp(-FLOAT16_MAX, FLOAT16_MAX).half()
        for kind, values in zip(self.kinds, stacked.cpu().numpy(), strict=True):  # (kinds, B, H, W)
            self._maps[kind][rows, point] = values
        self._predicted[rows, point] = predicted.cpu().numpy()
        self._confidence[rows, point] = confidence.float().cpu().numpy()

    def finish_point(self, point: int) -> None:
        """Say that a recording point is whole; only now do readers see it."""
        self._epochs[point] = self.planned[point]
        self._epochs.flush()

    def forget_after(self, epoch: int) -> None:
        """Hide the points after `epoch` from readers until they are written again."""
        self._epochs[np.asarray(self.planned) > epoch] = -1


def _reserve(path: Path, shape: tuple[int, ...], dtype: type) -> None:
    """Make an array of zeros whose every byte is claimed on the disk."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    size = path.stat().st_size
    del array
    with open(path, "r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)


def _first_status(state: str, epochs: int) -> dict[str, Any]:
    return {
        "state": state, "pid": os.getpid(), "host": socket.gethostname(), "epoch": 0, "epochs": epochs, "step": 0,
        "steps": 0, "updated": time.time(), "eta_s": None, "error": None,
    }  # fmt: skip


def _epoch_of(line: bytes) -> int:
    try:
        return int(layout.json.loads(line)["epoch"])
    except (ValueError, KeyError, TypeError):
        return 1 << 60  # an unreadable line is dropped
