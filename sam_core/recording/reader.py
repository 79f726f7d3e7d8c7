"""Reading a run folder: a run on this machine or another, running, finished, or cut in the middle."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from sam_core.config import ConfigError, RunConfig
from sam_core.recording import layout
from sam_core.recording.lock import is_locked
from sam_core.recording.writer import RunError


def open_run(path: str | Path, runs: Path | None = None) -> Run:
    """Open a run by the path of its folder, or by its id under `runs`.

    Raises:
        RunError: if there is no such run.
    """
    folder = Path(path).expanduser()
    if not (folder / layout.CONFIG).is_file() and runs is not None and folder.name == str(path):
        folder = Path(runs) / folder
    if not (folder / layout.CONFIG).is_file():
        where = f" under {runs}" if runs is not None else ""
        raise RunError(
            f"run: there is no run {str(path)!r}{where}", "give the path of a run folder, or an id under --runs"
        )
    return Run(folder.resolve())


class Run:
    """One recorded run. Reading never changes the folder, and copes with a run that is being written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    # --- what the run is ----------------------------------------------------------------------------------------

    @cached_property
    def config(self) -> RunConfig:
        """The configuration it was started with."""
        try:
            return RunConfig.from_json(self._json(layout.CONFIG))
        except ConfigError as error:
            raise RunError(f"{layout.CONFIG} of run {self.id} is damaged: {error}") from error

    @property
    def status(self) -> dict[str, Any]:
        """status.json as it is now."""
        return self._json(layout.STATUS)

    @property
    def is_alive(self) -> bool:
        """Whether a process of this machine is training it. A `running` run that is not was cut, and can resume."""
        return is_locked(self.folder)

    @cached_property
    def samples(self) -> list[dict[str, Any]]:
        """Every recorded sample: id, path, split, label, labelled, box, parts, mask."""
        return self._json(layout.SAMPLES)

    @cached_property
    def classes(self) -> list[str]:
        """Class names in label order."""
        return list(self._json(layout.CLASSES)["classes"])

    # --- curves -------------------------------------------------------------------------------------------------

    def metrics(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, of one kind (`step`, `epoch`) or all; a cut last line is passed over."""
        try:
            lines = (self.folder / layout.METRICS).read_bytes().splitlines()
        except FileNotFoundError:
            return []
        entries = []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and (kind is None or entry.get("kind") == kind):
                entries.append(entry)
        return entries

    # --- attention ----------------------------------------------------------------------------------------------

    @cached_property
    def attention_meta(self) -> dict[str, Any]:
        """Kinds, grid, planned epochs, and where the recorded view lies in the image (fractions)."""
        return self._json(f"{layout.ATTENTION}/meta.json")

    @property
    def recorded_epochs(self) -> np.ndarray:
        """The epochs whose maps are whole: (points,) int32, rising."""
        epochs = self._array(self.folder / layout.ATTENTION / "epochs.npy")
        return np.array(epochs[epochs >= 0])

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
        row = self.row(sample_id)
        base = self.folder / layout.ATTENTION
        all_epochs = self._array(base / "epochs.npy")
        done = np.flatnonzero(all_epochs >= 0)
        result: dict[str, Any] = {kind: None for kind in layout.MAP_KINDS}
        for kind in self.attention_meta["kinds"]:
            result[kind] = self._row_of(layout.map_file(self.folder, kind), row)[done].astype(np.float32)
        result["epochs"] = np.array(all_epochs[done])
        result["predicted"] = self._row_of(base / "predicted.npy", row)[done]
        result["confidence"] = self._row_of(base / "confidence.npy", row)[done]
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
        return sorted(
            int(path.stem.removeprefix("epoch-")) for path in (self.folder / layout.KEPT).glob("epoch-*.safetensors")
        )

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
        config, about = self.config, self._json(layout.CLASSES)
        model = build_model(
            backbone=config.backbone,
            classes=len(about["classes"]),
            method=config.method,
            pooling=str(config.pooling),
            attention_maps=int(config.attention_maps or 0),
        )
        try:
            model.load_state_dict(load_file(path))
        except (SafetensorError, RuntimeError, OSError) as error:
            raise RunError(f"{path.name} of run {self.id} does not fit its configuration: {error}") from error
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

        model, about = self.model(epoch), self._json(layout.CLASSES)
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

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        # The ids alone: samples.json of 6,000 images with their parts takes a tenth of a second to parse.
        path = self.folder / layout.ATTENTION / layout.IDS
        ids = self._json(f"{layout.ATTENTION}/{layout.IDS}") if path.is_file() else [s["id"] for s in self.samples]
        return {sample_id: row for row, sample_id in enumerate(ids)}

    def _json(self, name: str) -> Any:
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"run {self.id} has no {name} yet", "it was cut early; resume it") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{name} of run {self.id} cannot be read: {error}") from error

    def _row_of(self, path: Path, row: int) -> np.ndarray:
        """One sample's part of an array, read and not mapped.

        A page fault in a mapped file makes the system read megabytes around it ahead (8 MB on some disks, for each of
        the arrays); reading asks for what is needed: 4 ms in place of 75 for a recording that is not in memory.
        """
        try:
            with open(path, "rb") as file:
                np.lib.format.read_magic(file)
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
                size = math.prod(shape[1:])
                values = np.fromfile(file, dtype=dtype, count=size, offset=row * size * dtype.itemsize)
            return values.reshape(shape[1:])
        except FileNotFoundError:
            raise RunError(f"run {self.id} has recorded no attention yet ({path.name})") from None
        except (OSError, ValueError, EOFError) as error:
            raise RunError(f"{path.name} of run {self.id} cannot be read: {error}") from error

    def _array(self, path: Path) -> np.ndarray:
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise RunError(f"run {self.id} has recorded no attention yet ({path.name})") from None
        except (OSError, ValueError, EOFError) as error:
            raise RunError(f"{path.name} of run {self.id} cannot be read: {error}") from error
