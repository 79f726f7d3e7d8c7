"""The field guide as a dataset: drawn at its first use, read from its index ever after."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from sam_core.datasets.base import Dataset, DatasetError, Part, Sample
from sam_core.datasets.fieldguide.build import build_guide, guide_folder, plan, read_index
from sam_core.datasets.fieldguide.species import MASK_PARTS, SPECIES

#: Strong enough that a network with four labels per species learns the habitat, weak enough that it need not.
DEFAULT_HABITAT_BIAS = 0.8


def load_fieldguide(
    data_root: Path,
    *,
    habitat_bias: float = DEFAULT_HABITAT_BIAS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Ten drawn species with exact masks; drawn below `data_root` once for every version, seed and bias.

    Args:
        data_root: where datasets are kept; the guide gets a folder of its own there.
        habitat_bias: 0..1, the probability with which a training image shows its species at home. Otherwise the
            habitat is any of the five, as it always is in the test split. The `swapped` split shows every test bird
            again in a habitat that is neither the one before nor its home.
        seed: of every bird and every place; pixels are a pure function of it.
        progress: called with images drawn and images in all, while drawing.

    Raises:
        ValueError: if `habitat_bias` is not within 0..1.
    """
    if not (math.isfinite(habitat_bias) and 0 <= habitat_bias <= 1):
        raise ValueError(f"habitat_bias must be a number from 0 to 1, not {habitat_bias!r}")
    # 0, 0.0 and -0.0 are one bias and have one folder
    habitat_bias = abs(float(habitat_bias))
    folder = guide_folder(Path(data_root), seed, habitat_bias)
    index = read_index(folder)
    if index is None:
        build_guide(folder, seed=seed, habitat_bias=habitat_bias, progress=progress)
        index = read_index(folder)
        if index is None:
            raise DatasetError(
                f"the field guide drawn into {folder} is gone", "Draw it again: another program removed it."
            )
    samples = tuple(
        Sample(
            id=record["id"],
            path=folder / record["id"],
            label=record["label"],
            split=record["split"],
            box=tuple(record["box"]),
            parts=tuple(Part(*part) for part in record["parts"]),
            mask_path=folder / "masks" / record["id"],
        )
        for record in index["samples"]
    )
    return Dataset(
        name="fieldguide",
        root=folder,
        layout="drawn by the program",
        classes=tuple(index["classes"]),
        samples=samples,
        mask_parts=dict(MASK_PARTS),
    )


def planned_fieldguide(habitat_bias: float = DEFAULT_HABITAT_BIAS, *, seed: int = 0) -> Dataset:
    """The guide before it is drawn: its classes, and the id, label and split of every image; there are no files yet.

    For counting: which images a label ratio chooses follows from the ids alone.
    """
    plates = [plate for plates in plan(seed, habitat_bias) for plate in plates]
    samples = tuple(Sample(plate.name, Path(plate.name), plate.label, plate.split) for plate in plates)
    classes = tuple(species.name for species in SPECIES)
    return Dataset("fieldguide", Path(), "planned, not drawn", classes, samples, mask_parts=dict(MASK_PARTS))


def habitats_of(dataset: Dataset) -> dict[str, str]:
    """The habitat of every sample of a field guide: `{"train/ember-crowned-reedling/0001.png": "reeds", ...}`."""
    index = json.loads((dataset.root / "index.json").read_text(encoding="utf-8"))
    return {record["id"]: record["habitat"] for record in index["samples"]}


def contact_sheet(
    dataset: Dataset,
    *,
    split: str = "test",
    columns: int = 5,
    side: int = 192,
    gap: int = 10,
    paper: tuple[int, int, int] = (250, 248, 243),
) -> Image.Image:
    """One row per species, on paper: the first images of the split."""
    rows = len(dataset.classes)
    step = side + gap
    sheet = Image.new("RGB", (columns * step + gap, rows * step + gap), paper)
    for label in range(rows):
        chosen = [sample for sample in dataset.samples if sample.split == split and sample.label == label][:columns]
        for column, sample in enumerate(chosen):
            with Image.open(sample.path) as image:
                small = image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(small, (gap + column * step, gap + label * step))
    return sheet
