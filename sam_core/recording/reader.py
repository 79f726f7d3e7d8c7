"""Reading a run folder: a run on this machine or another, running, finished, cut in the middle, or damaged."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sam_core.config import RunConfig
from sam_core.recording import content, layout
from sam_core.recording.content import IDS, META
from sam_core.recording.lock import is_locked
from sam_core.recording.writer import DAMAGED_HINT, RunError

_KEPT_FILE = re.compile(r"epoch-([0-9]{1,9})")
_Value = TypeVar("_Value")
#: Reads so many numbers of an array, from a place in it on.
_Reading = Callable[[int, int], np.ndarray]


def open_run(path: str | Path, runs: Path | None = None) -> Run:
    """Open a run by the path of its folder, or by its id under `runs`.

    Raises:
        RunError: if there is no such run.
    """
    folder = Path(path)
    try:
        folder = folder.expanduser()
        if not (folder / layout.CONFIG).is_file() and runs is not None and folder.name == str(path):
            folder = Path(runs) / folder
        is_there = (folder / layout.CONFIG).is_file()
    except (OSError, RuntimeError):  # a name too long; `~nobody`
        is_there = False
    if not is_there:
        where = f" under {runs}" if runs is not None else ""
        raise RunError(
            f"run: there is no run {str(path)!r}{where}", "give the path of a run folder, or an id under --runs"
        )
    return Run(folder.resolve())


class Run:
    """One recorded run. Reading never changes the folder, and copes with a run that is being written.

    A file that is damaged is a `RunError` that names it; what the others hold can be read all the same. No array is
    mapped: whoever makes a mapped file shorter would kill its reader.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    # --- what the run is ----------------------------------------------------------------------------------------

    @cached_property
    def config(self) -> RunConfig:
        """The configuration it was started with."""
        return self._json(layout.CONFIG, content.as_config)

    @property
    def status(self) -> dict[str, Any]:
        """status.json as it is now."""
        return self._json(layout.STATUS, content.as_status)

    @property
    def is_alive(self) -> bool:
        """Whether a process of this machine is training it. A `running` run that is not was cut, and can resume."""
        return is_locked(self.folder)

    @property
    def has_samples(self) -> bool:
        """Whether the run came so far as to list what it records; a queued one, or one stopped early, did not."""
        return (self.folder / layout.SAMPLES).is_file()

    @cached_property
    def samples(self) -> list[dict[str, Any]]:
        """Every recorded sample: id, path, split, label, labelled, box, parts, mask."""
        samples = self._json(layout.SAMPLES, content.as_samples)
        if self._ids is not None and self._ids != [sample["id"] for sample in samples]:
            raise self._damaged(IDS, f"it must have the ids of {layout.SAMPLES}")
        if any((sample.get("label") or 0) >= self._class_count for sample in samples):
            raise self._damaged(layout.SAMPLES, f"it names a class that {layout.CLASSES} does not have")
        return samples

    @cached_property
    def classes(self) -> list[str]:
        """Class names in label order."""
        return self._json(layout.CLASSES, content.as_classes)

    # --- curves -------------------------------------------------------------------------------------------------

    def metrics(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, of one kind (`step`, `epoch`) or all; a cut last line is passed over."""
        try:
            lines = (self.folder / layout.METRICS).read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unreadable(layout.METRICS, error) from error
        entries = []
        for line in lines:
            try:
                entry = content.parse_json(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and (kind is None or entry.get("kind") == kind):
                entries.append(entry)
        return entries

    # --- attention ----------------------------------------------------------------------------------------------

    @cached_property
    def attention_meta(self) -> dict[str, Any]:
        """Kinds, grid, planned epochs, and where the recorded view lies in the image (fractions)."""
        return self._json(META, content.as_recording)

    @property
    def recorded_epochs(self) -> np.ndarray:
        """The epochs whose maps are whole: (points,) int32, rising."""
        return np.array(self.attention_meta["epochs"], dtype=np.int32)[self.recorded_points]

    @property
    def recorded_points(self) -> np.ndarray:
        """Where the recorded epochs lie on the arrays' second axis: (points,) rising."""
        planned = self.attention_meta["epochs"]
        # Its form does not depend on the samples, so it can be read where their list cannot.
        form = content.epochs_form(self.attention_meta)
        return self._read_array("epochs", form, lambda read: content.whole_points(read(0, len(planned)), planned))

    def recorded_at(self, name: str, point: int, rows: slice = slice(None)) -> np.ndarray:
        """What was recorded of many samples at one recording point.

        Args:
            name: a kind of map, `predicted` or `confidence`.
            point: one of `recorded_points`.
            rows: which samples, by their places in samples.json.

        Returns:
            (rows,) of `predicted` or `confidence`, or maps (rows, H, W).
        """
        dtype, shape = self._form(name)
        chosen, size = range(*rows.indices(shape[0])), math.prod(shape[2:])

        def gather(read: _Reading) -> np.ndarray:
            values = np.empty((len(chosen), size), dtype)
            for place, row in zip(values, chosen, strict=True):
                place[:] = read((row * shape[1] + point) * size, size)
            return values.reshape(len(chosen), *shape[2:])

        return self._read_array(name, (dtype, shape), gather)

    def row(self, sample_id: str) -> int:
        """The position of a sample in samples.json."""
        try:
            return self._rows[sample_id]
        except KeyError:
            raise RunError(
                f"run {self.id} has recorded no sample {sample_id!r}", "see samples.json for the ids"
            ) from None

    def timeline(self, sample_id: str) -> dict[str, Any]:
        """All epochs of one image.

        Returns:
            Every kind of map as float32 (epochs, H, W), or None where the run cannot have it, and `epochs`,
            `predicted`, `confidence` as arrays of that length.
        """
        row, points = self.row(sample_id), self.recorded_points
        result: dict[str, Any] = {kind: None for kind in layout.MAP_KINDS}
        for kind in self.attention_meta["kinds"]:
            result[kind] = self._row_of(kind, row)[points].astype(np.float32)
        result["epochs"] = np.array(self.attention_meta["epochs"], dtype=np.int32)[points]
        result["predicted"] = self._row_of("predicted", row)[points]
        result["confidence"] = self._row_of("confidence", row)[points]
        if not ((result["predicted"] >= 0) & (result["predicted"] < self._class_count)).all():
            raise self._damaged(f"{layout.ATTENTION}/predicted.npy", "it names a class that the run does not have")
        return result

    def attention(self, sample_id: str, epoch: int) -> dict[str, Any]:
        """The maps of one image at one recorded epoch, each (H, W), with `predicted` and `confidence`."""
        timeline = self.timeline(sample_id)
        points = np.flatnonzero(timeline["epochs"] == epoch)
        if len(points) == 0:
            recorded = ", ".join(str(value) for value in timeline["epochs"][:20])
            raise RunError(f"run {self.id} has recorded no maps at epoch {epoch}", f"recorded epochs: {recorded}")
        return {
            name: None if values is None else values[points[0]] for name, values in timeline.items() if name != "epochs"
        }

    # --- the trained network ------------------------------------------------------------------------------------

    @property
    def kept_epochs(self) -> list[int]:
        """The epochs whose weights can be loaded, beside the last one's."""
        found = (_KEPT_FILE.fullmatch(path.stem) for path in (self.folder / layout.KEPT).glob("*.safetensors"))
        return sorted(int(match[1]) for match in found if match)

    def model(self, epoch: int | None = None) -> Any:
        """The trained `SAMNet`, in evaluation mode on the CPU; of an earlier epoch if its weights were kept.

        Raises:
            RunError: if those weights are not there or not readable.
        """
        from sam_core.models.sam_net import build_model

        path = self.folder / (layout.MODEL if epoch is None else f"{layout.KEPT}/epoch-{epoch:05d}.safetensors")
        if not path.is_file():
            kept = ", ".join(map(str, self.kept_epochs)) or "none"
            which = "has not finished" if epoch is None else f"kept no weights of epoch {epoch}"
            raise RunError(f"run {self.id} {which}", f"resume it, or ask for one of the kept epochs: {kept}")
        config, about = self.config, self._json(layout.CLASSES, content.as_input_form)
        try:
            weights = load_file(path)
            _refuse_other_sizes(weights, config, about["classes"])
            model = build_model(
                backbone=config.backbone,
                classes=len(about["classes"]),
                method=config.method,
                pooling=str(config.pooling),
                attention_maps=int(config.attention_maps or 0),
            )
            model.load_state_dict(weights)
        except (SafetensorError, RuntimeError, ValueError, OSError) as error:
            reason = content.brief(error)
            raise RunError(
                f"{path.name} of run {self.id} does not fit its configuration: {reason}", DAMAGED_HINT
            ) from error
        step = about["steps"] if epoch is None else about["steps_per_epoch"] * epoch
        model.head.use_pooling(config.pooling_at(step))
        return model.eval()

    def predict(self, image: Image.Image | str | Path, *, epoch: int | None = None) -> dict[str, Any]:
        """Classify one photograph with the centre view.

        Returns:
            `label` and `confidence` of the best class, and `top`: the best five as [class name, probability].
        """
        import torch

        from sam_core.models.inference import prepare_image

        model, about = self.model(epoch), self._json(layout.CLASSES, content.as_input_form)
        with torch.no_grad():
            output = model(prepare_image(image, size=self.config.image_size, mean=about["mean"], std=about["std"]))
        probabilities = output.scores[0].softmax(dim=0)
        best = probabilities.topk(min(5, len(about["classes"])))
        top = [
            [about["classes"][index], value]
            for value, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]
        return {"label": top[0][0], "confidence": top[0][1], "top": top}

    # --- files --------------------------------------------------------------------------------------------------

    @property
    def _class_count(self) -> float:
        """How many classes there are; no limit where that is not known, so that what depends on it can be read."""
        try:
            return len(self.classes)
        except RunError:
            return math.inf

    @cached_property
    def _ids(self) -> list[str] | None:
        """The ids of the recorded samples, from a file of their own; None where that is missing or damaged.

        samples.json of 6,000 images with their parts takes a tenth of a second to parse.
        """
        try:
            return self._json(IDS, content.as_ids)
        except RunError:
            return None

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        ids = [sample["id"] for sample in self.samples] if self._ids is None else self._ids
        return {sample_id: row for row, sample_id in enumerate(ids)}

    @cached_property
    def _forms(self) -> dict[str, content.ArrayForm]:
        return content.expected_arrays(self.attention_meta, len(self._rows))

    def _form(self, name: str) -> content.ArrayForm:
        """The number type and shape of one of the arrays of attention/."""
        stem = layout.map_file(self.folder, name).stem
        if stem not in self._forms:
            raise RunError(f"run {self.id} has recorded no {name[:40]!r}", f"it has {', '.join(self._forms)}")
        return self._forms[stem]

    def _json(self, name: str, check: Callable[[Any], _Value]) -> _Value:
        """A JSON file as a function of `content` returns it."""
        try:
            data = (self.folder / name).read_bytes()
        except FileNotFoundError:
            raise RunError(f"run {self.id} has no {name} yet", "it was cut early; resume it") from None
        except OSError as error:
            raise self._unreadable(name, error) from error
        return self._checked(lambda data: check(content.parse_json(data)), data, name)

    def _row_of(self, name: str, row: int) -> np.ndarray:
        """One sample's part of an array: (points, ...).

        A page fault in a mapped file makes the system read megabytes around it ahead (8 MB on some disks, for each of
        the arrays); reading asks for what is needed: 4 ms in place of 75 for a recording that is not in memory.
        """
        dtype, shape = self._form(name)
        size = math.prod(shape[1:])
        return self._read_array(name, (dtype, shape), lambda read: read(row * size, size).reshape(shape[1:]))

    def _read_array(self, name: str, form: content.ArrayForm, take: Callable[[_Reading], np.ndarray]) -> np.ndarray:
        """What `take` makes of an array of attention/ that has the form it must have.

        It is called with a function that reads so many of the array's numbers from a place on. Where the file was cut,
        what lies before the cut can still be read.
        """
        path = layout.map_file(self.folder, name)
        shown = f"{layout.ATTENTION}/{path.name}"
        try:
            with open(path, "rb") as file:
                begin, dtype = content.check_array_form(file, form), form[0]

                def read(place: int, count: int) -> np.ndarray:
                    file.seek(begin + place * dtype.itemsize)
                    data = file.read(count * dtype.itemsize)
                    if len(data) < count * dtype.itemsize:
                        raise ValueError("it is shorter than its header says")
                    return np.frombuffer(data, dtype)

                return take(read)
        except FileNotFoundError:
            raise RunError(f"run {self.id} has recorded no attention yet ({path.name})", "resume it") from None
        except OSError as error:
            raise self._unreadable(shown, error) from error
        except ValueError as error:
            raise self._damaged(shown, str(error)) from error

    def _checked(self, check: Callable[[Any], _Value], value: Any, name: str) -> _Value:
        try:
            return check(value)
        except ValueError as error:
            raise self._damaged(name, str(error)) from error

    def _damaged(self, name: str, why: str) -> RunError:
        return RunError(f"{name} of run {self.id} is damaged: {why}", DAMAGED_HINT)

    def _unreadable(self, name: str, error: OSError) -> RunError:
        reason = error.strerror or content.brief(error)
        return RunError(f"{name} of run {self.id} cannot be read: {reason}", "see who owns it, and that its disk works")


def _refuse_other_sizes(weights: Mapping[str, Tensor], config: RunConfig, classes: list[str]) -> None:
    """Raise `ValueError` where the network would have other sizes than its weights: a stranger's numbers may ask for
    more memory than there is.
    """  # fmt: skip
    sizes = {"head.classifier.weight": len(classes)}
    if config.has_attention:
        sizes["attention_head.convolution.weight"] = int(config.attention_maps or 0)
    for name, size in sizes.items():
        if name not in weights or len(weights[name]) != size:
            raise ValueError(f"{name} is not of {size}")
