"""`python -m explorer.demo`: make the recorded run that the Attention view shows before a person has run anything.

It is trained like any other run and then packed as an export is, with its pictures and without its weights, so that it
stays small and shows on a machine that has no data at all. Two minutes on two cores.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from explorer.places import DEMO_RUNS
from sam_core.config import PRESETS, RunConfig
from sam_core.recording.archive import pack_run, unpack_run
from sam_core.recording.notes import Notes, write_notes
from sam_core.training.lifecycle import train

#: More labels than the default run has, so that the learned attention can be seen to find its target; a few images of
#: every species, so that the recording stays a few megabytes.
CHOICES = PRESETS["quick"] | {"label_ratio": 25.0, "record": 60}
NOTES = Notes(
    name="Demonstration: drawn birds, 25 % of the labels",
    notes="Recorded beforehand. Move the slider: at epoch 0 all maps follow bright features; then CAM moves to what "
    "tells the species apart, and the learned attention follows it.",
)


def main() -> None:
    """Train, pack, and put the run in the place of the one before."""
    with tempfile.TemporaryDirectory(prefix="sam-demo-") as place:
        run = train(RunConfig(**CHOICES), runs=Path(place) / "runs")
        write_notes(run.folder, NOTES)
        archive = Path(place) / "run.zip"
        for sentence in pack_run(run, archive, weights=False):
            print(sentence, file=sys.stderr)
        DEMO_RUNS.mkdir(parents=True, exist_ok=True)
        for earlier in DEMO_RUNS.iterdir():
            if earlier.is_dir():
                shutil.rmtree(earlier)
        run_id = unpack_run(archive, DEMO_RUNS)
    print(f"recorded {DEMO_RUNS / run_id}", file=sys.stderr)


if __name__ == "__main__":
    main()
