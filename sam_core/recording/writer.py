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
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeVar

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from sam_core.config import RunConfig
from sam_core.recording import content, layout
from sam_core.recording.environment import describe_environment
from sam_core.recording.lock import take_lock

#: status.json is replaced at most this often while nothing but the step count changes.
STATUS_INTERVAL_S = 0.5
#: status.json takes so many bytes at least, so that its space holds an error too, should the disk be full.
STATUS_BYTES = 1000
FLOAT16_MAX = 65504.0
_Value = TypeVar("_Value")
#: What to do about a run folder's file that is not as it was written.
DAMAGED_HINT = "put the file back from a copy, or train the run again: the same configuration gives the same run"
#: What only the process that trains writes; of each a half may be left behind under another name.
_WRITTEN_BY_TRAINING = (
    layout.STATUS, layout.ENVIRONMENT, layout.METRICS, layout.SAMPLES, layout.LAST, layout.MODEL, layout.CLASSES,
    f"{layout.ATTENTION}/meta.json", f"{layout.ATTENTION}/{layout.IDS}", f"{layout.KEPT}/*",
)  # fmt: skip


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
            status = _read_status(folder)
            raise RunError(
                f"run {folder.name} is being trained by another process ({status['pid']} on {status['host']})",
                "wait for it to end, or stop it first",
            )
        self._lock = lock
        self._remove_leftovers()
        self._status: dict[str, Any] = {}
        self._status_written = 0.0
        self._metrics: TextIO | None = None
        self.attention: AttentionWriter | None = None

    @classmethod
    def create(
        cls, runs: Path, config: RunConfig, *, epochs: int, state: str = "queued",
        environment: Mapping[str, Any] | None = None,
    ) -> RunWriter:  # fmt: skip
        """Make a new run folder under `runs`; it appears there whole, with its configuration and status.

        `environment` is what environment.json says until the process that trains writes it.
        """
        runs.mkdir(parents=True, exist_ok=True)
        run_id, temporary = _claim_id(runs, config)
        try:
            layout.write_json(temporary / layout.CONFIG, config.to_json())
            layout.write_json(temporary / layout.STATUS, _first_status(state, epochs))
            if environment:
                layout.write_json(temporary / layout.ENVIRONMENT, environment)
            (temporary / layout.LOCK).touch()  # so that nothing has to be made that a full disk could refuse
            temporary.rename(runs / run_id)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return cls(runs / run_id)

    # --- status -------------------------------------------------------------------------------------------------

    def status(self, *, force: bool = True, **changes: Any) -> None:
        """Change some keys of status.json. Without `force` it may wait until enough time has passed."""
        if not self._status:
            self._status = _read_status(self.folder)
        self._status |= changes
        now = time.monotonic()
        if not force and now - self._status_written < STATUS_INTERVAL_S:
            return
        self._status["updated"] = time.time()
        # A step's progress is not worth waiting for the disk.
        with layout.replacing(self.folder / layout.STATUS, durable=force) as temporary:
            temporary.write_bytes(layout.dump_json(self._status, indent=2).encode().ljust(STATUS_BYTES) + b"\n")
        self._status_written = now

    def last_status(self, **changes: Any) -> None:
        """As `status`, for a run that is ending badly: on a full disk the old file's own space has to do.

        Where even that cannot be written to, the old status stays, and the run is one whose process is gone.
        """
        try:
            self.status(**changes)
        except OSError:
            text = layout.dump_json(self._status).encode()
            with contextlib.suppress(OSError), open(self.folder / layout.STATUS, "r+b", buffering=0) as file:
                size = max(file.seek(0, os.SEEK_END), len(text))
                # A disk that refuses does so here, where nothing is spoilt.
                file.seek(size - 1)
                file.write(b" ")
                file.seek(0)
                file.write(text.ljust(size))

    def take_over(self, *, state: str = "running", **changes: Any) -> None:
        """Begin status.json anew, as of this process; how far the run had come stays. `steps` is 0 until it begins."""
        before = self._status or _read_status(self.folder)
        self._status = _first_status(state, before["epochs"]) | {name: before[name] for name in ("epoch", "step")}
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
        """Go on writing the maps of a run that is resumed; those after epoch `until` are hidden until written again.

        Raises:
            RunError: if a file of the recording is missing or not as it was made.
        """
        recorded = _read_json(self.folder, layout.SAMPLES, content.as_samples)
        self.attention = AttentionWriter(self.folder, len(recorded))
        self.attention.forget_after(until)

    # --- weights ------------------------------------------------------------------------------------------------

    def save_last(self, state: Mapping[str, Any]) -> None:
        """Replace last.pt: tensors and plain values only, so that it loads without unpickling objects."""
        with layout.replacing(self.folder / layout.LAST) as temporary, open(temporary, "wb") as file:
            try:
                torch.save(dict(state), file)
            except RuntimeError as error:
                # Of a full disk torch says no more than that a position is unexpected.
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    def load_last(self, device: torch.device) -> dict[str, Any]:
        """What `save_last` wrote, every byte of it checked.

        Raises:
            RunError: if it is not as it was written.
        """
        path = self.folder / layout.LAST
        try:
            with zipfile.ZipFile(path) as archive:  # torch writes a zip with checksums, and does not look at them
                if broken := archive.testzip():
                    raise ValueError(f"the checksum of {broken} is wrong")
            state = torch.load(path, map_location=device, weights_only=True)
            if not isinstance(state, dict) or not {"epoch", "model", "optimiser"} <= state.keys():
                raise ValueError("it has not what resuming needs")
            return state
        except OSError as error:
            reason = error.strerror or content.brief(error)
            raise RunError(f"{layout.LAST} of run {self.folder.name} cannot be read: {reason}", DAMAGED_HINT) from error
        except Exception as error:  # zipfile, torch and the unpickler each raise many kinds for damaged bytes
            raise _damaged(self.folder, layout.LAST, content.brief(error)) from error

    def save_weights(self, weights: Mapping[str, Tensor], *, epoch: int | None = None) -> None:
        """Write model.safetensors, or with `epoch` the weights kept of that epoch."""
        path = self.folder / layout.MODEL
        if epoch is not None:
            path = self.folder / layout.KEPT / f"epoch-{epoch:05d}.safetensors"
            path.parent.mkdir(exist_ok=True)
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        with layout.replacing(path) as temporary:
            temporary.write_bytes(save(plain))  # by Python, whose errors name a full disk

    def write_environment(self, more: Mapping[str, Any] | None = None) -> None:
        """Write environment.json: the process that trains says under what it does so, and `more` of its team."""
        layout.write_json(self.folder / layout.ENVIRONMENT, {**describe_environment(), **(more or {})})

    def write_classes(self, value: Mapping[str, Any]) -> None:
        """Write classes.json, which with model.safetensors makes the trained model usable elsewhere."""
        layout.write_json(self.folder / layout.CLASSES, value)

    def start_over(self) -> None:
        """Remove what a run left that was cut before its first epoch was saved."""
        for name in (layout.METRICS, layout.SAMPLES, layout.LAST, layout.MODEL, layout.CLASSES):
            (self.folder / name).unlink(missing_ok=True)
        for name in (layout.ATTENTION, layout.KEPT):
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _remove_leftovers(self) -> None:
        """Remove what a killed process was writing: last.pt of a large network is hundreds of megabytes."""
        for name in _WRITTEN_BY_TRAINING:
            parent, _, name = name.rpartition("/")
            for path in (self.folder / parent).glob(f".{name}.*.tmp"):
                with contextlib.suppress(OSError):
                    path.unlink()

    def close(self) -> None:
        """Let go of the files and the lock."""
        if self._metrics:
            self._metrics.close()
            self._metrics = None
        self.attention = None
        self._lock.close()


class AttentionWriter:
    """The arrays of `attention/`, one per kind of map, laid out so that all epochs of one image lie together."""

    def __init__(self, folder: Path, samples: int) -> None:
        """Open the arrays that `create` made for so many samples.

        Raises:
            RunError: if one is missing or has another form: numpy would make a short one longer, with zeros for maps.
        """
        meta = _read_json(folder, content.META, content.as_recording)
        self.kinds: tuple[str, ...] = tuple(meta["kinds"])
        self.planned: tuple[int, ...] = tuple(meta["epochs"])
        forms = content.expected_arrays(meta, samples)
        self._maps = {kind: _open_array(folder, kind, forms) for kind in self.kinds}
        self._predicted = _open_array(folder, "predicted", forms)
        self._confidence = _open_array(folder, "confidence", forms)
        self._epochs = _open_array(folder, "epochs", forms)

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
        return cls(folder, samples)

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
        """Hide the points after `epoch` from readers until they are written again; those until then are whole."""
        planned = np.asarray(self.planned)
        self._epochs[:] = np.where(planned > epoch, -1, planned)


def _claim_id(runs: Path, config: RunConfig) -> tuple[str, Path]:
    """An id that no run has, and a new folder with a hidden name in which that run is made."""
    while True:
        run_id = new_run_id(config)
        temporary = runs / f".{run_id}.tmp"
        with contextlib.suppress(FileExistsError):
            temporary.mkdir()
            if not (runs / run_id).exists():
                return run_id, temporary
            temporary.rmdir()


def _open_array(folder: Path, name: str, forms: Mapping[str, content.ArrayForm]) -> np.ndarray:
    """An array of attention/, mapped for writing, if it has the form that it was made with."""
    path = layout.map_file(folder, name)
    shown = f"{layout.ATTENTION}/{path.name}"
    try:
        with open(path, "rb") as file:
            content.check_array(file, path.stat().st_size, forms[path.stem])
        return np.load(path, mmap_mode="r+")
    except FileNotFoundError:
        raise _damaged(folder, shown, "it is missing") from None
    except ValueError as error:
        raise _damaged(folder, shown, str(error)) from error


def _read_json(folder: Path, name: str, check: Callable[[Any], _Value]) -> _Value:
    try:
        return check(content.parse_json((folder / name).read_bytes()))
    except FileNotFoundError:
        raise _damaged(folder, name, "it is missing") from None
    except ValueError as error:
        raise _damaged(folder, name, str(error)) from error


def _damaged(folder: Path, name: str, why: str) -> RunError:
    return RunError(f"{name} of run {folder.name} is damaged: {why}", DAMAGED_HINT)


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


def _read_status(folder: Path) -> dict[str, Any]:
    """status.json as it is; where a power cut left it unreadable, that of a run that has not begun."""
    first = _first_status("queued", 0)
    try:
        return first | content.as_status(content.parse_json((folder / layout.STATUS).read_bytes()))
    except (OSError, ValueError):
        return first


def _epoch_of(line: bytes) -> int:
    try:
        return int(content.parse_json(line)["epoch"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return 1 << 60  # an unreadable line is dropped
