import csv
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sam_core.cli.main import main
from sam_core.cli.sweep import format_table, read_vary, runs_as_csv, table_as_csv
from sam_core.config import ConfigError, options
from sam_core.recording import layout
from sam_core.recording.reader import Run


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    draw = random.Random(0)
    for name, colour in {"red": (220, 40, 40), "blue": (40, 40, 220)}.items():
        (root / name).mkdir()
        for number in range(4):
            shade = tuple(part + draw.randrange(-30, 30) for part in colour)
            Image.new("RGB", (72, 72), shade).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def tiny(photos: Path, tmp_path: Path) -> list[str]:
    """The options of a run that takes about a second, beside the start of its process."""
    return [
        "--dataset", str(photos), "--label-ratio", "100", "--backbone", "resnet18", "--weights", "none",
        "--image-size", "64", "--device", "cpu", "--runs", str(tmp_path / "runs"),
    ]  # fmt: skip


def runs_in(folder: Path) -> dict[int, Run]:
    """The runs being trained, by how many epochs they are to have."""
    return {
        int(run.config.epochs or 0): run
        for run in (Run(path.parent) for path in folder.glob(f"[!.]*/{layout.STATUS}"))
        if run.status["state"] == "running" and run.status["epoch"] >= 1 and run.is_alive
    }


def once_training(folder: Path, epochs: int, act: Callable[[Run], None]) -> threading.Thread:
    """Do something to the run of so many epochs as soon as it has finished one."""

    def wait() -> None:
        for _ in range(600):
            run = runs_in(folder).get(epochs)
            if run:
                act(run)
                return
            time.sleep(0.1)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def last_object(text: str) -> dict[str, Any]:
    return json.loads(text.strip().splitlines()[-1])


# --- what is asked for ----------------------------------------------------------------------------------------------


def test_values_have_the_type_of_their_option():
    assert read_vary(
        ["label-ratio=5,10", "method=finetune, sam", "num_classes=5,none", "tensorboard=true", "milestones=0.2:0.4,0.5"]
    ) == {
        "label_ratio": [5.0, 10.0],
        "method": ["finetune", "sam"],
        "num_classes": [5, None],
        "tensorboard": [True],
        "milestones": [(0.2, 0.4), (0.5,)],
    }
    assert type(read_vary(["label-ratio=5"])["label_ratio"][0]) is float


def test_every_option_can_be_read():
    for name, about in options().items():
        kind = str(about["type"])
        text = "true" if "bool" in kind else "1" if "int" in kind or "float" in kind else "sam"
        assert name in read_vary([f"{name.replace('_', '-')}={text}"])


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("method", "vary"),
        ("=3", "vary"),
        ("methode=sam", "methode"),
        ("batch-size=5.5", "batch_size"),
        ("lr=fast", "lr"),
        ("backbone=resnet18,", "backbone"),
        ("lr=none", "lr"),
        ("tensorboard=yes", "tensorboard"),
        ("milestones=0.2:x", "milestones"),
    ],
)
def test_a_value_that_cannot_be_read_names_its_option(text: str, field: str):
    with pytest.raises(ConfigError) as refused:
        read_vary([text])
    assert refused.value.field == field


def test_an_option_varied_twice_is_refused():
    with pytest.raises(ConfigError, match=r"^lr: is varied twice"):
        read_vary(["lr=0.1", "lr=0.2"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "error: vary: "),
        (["--vary", "label-ratio=5,250"], "error: label_ratio: "),
        (["--vary", "method=finetune", "--vary", "pooling=gap,bilinear"], "method=finetune pooling=bilinear"),
        (["--vary", "method=finetune", "--method", "sam"], "error: method: is both given and varied"),
        (["--seeds", "2", "--backbone", "resnet19"], "error: backbone: "),
        (["--seeds", "2", "--dataset", "nowhere"], "error: dataset: "),
        (["--seeds", "2", "--csv", "/dev/null/table.csv"], "error: csv: "),
    ],
)
def test_what_cannot_be_is_wrong_usage_and_writes_nothing(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["sweep", *arguments, "--runs", str(tmp_path / "runs")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_lists_the_runs_and_makes_none(tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--vary", "method=finetune,sam", "--vary", "temperature=0.2,0.4", "--dry-run", "--json"]
    assert main(["sweep", *arguments, *tiny]) == 0
    output = capsys.readouterr().out
    lines = output.splitlines()
    assert lines[0].split() == ["1", "of", "4", "method=finetune", "temperature=0.2", "to", "be", "trained"]
    assert lines[1].endswith("shared with a row above")
    assert lines[4] == "3 to be trained"
    assert [entry["how"] for entry in last_object(output)["runs"]] == ["to train", "shared", "to train", "to train"]
    assert not (tmp_path / "runs").exists()


# --- what comes out -------------------------------------------------------------------------------------------------


def figures(**given: Any) -> dict[str, Any]:
    from sam_core.training.sweep import FIGURES

    return dict.fromkeys(FIGURES) | given


TABLE = [
    {
        "options": {"method": "finetune", "num_classes": None},
        "runs": 3,
        "planned": 3,
        "figures": figures(test_top1={"mean": 34.125, "sd": 1.5, "n": 3}, seconds={"mean": 100.0, "sd": 0.0, "n": 3}),
    },
    {
        "options": {"method": "sam", "num_classes": 5},
        "runs": 1,
        "planned": 3,
        "figures": figures(
            test_top1={"mean": 5.0, "sd": None, "n": 1},
            learned_inside={"mean": 0.25, "sd": None, "n": 1},
            seconds={"mean": 9.0, "sd": None, "n": 1},
        ),
    },
]


def test_the_table_is_aligned_and_has_no_column_that_nobody_has():
    assert format_table(TABLE).splitlines()[:4] == [
        "method    num_classes    runs  test top-1  learned inside      seconds",
        "--------  -----------  ------  ----------  --------------  -----------",
        "finetune  none              3  34.1 ± 1.5               -  100.0 ± 0.0",
        "sam       5            1 of 3     5.0 ± -       0.250 ± -      9.0 ± -",
    ]


def test_a_table_without_a_finished_run_says_so():
    nothing = [{"options": {"lr": 0.1}, "runs": 0, "planned": 2, "figures": figures()}]
    assert format_table(nothing).splitlines() == [
        "lr     runs",
        "---  ------",
        "0.1  0 of 2",
        "no run has finished yet",
    ]


def test_the_summary_has_mean_and_spread_in_columns_of_their_own():
    rows = list(csv.DictReader(table_as_csv(TABLE).splitlines()))
    assert [row["test_top1_mean"] for row in rows] == ["34.125", "5.0"]
    assert [row["test_top1_sd"] for row in rows] == ["1.5", ""]
    assert [row["num_classes"] for row in rows] == ["none", "5"]


def test_the_csv_has_one_line_for_every_run():
    entries = [
        {
            "options": {"lr": 0.1}, "seed": seed, "split_seed": 0, "run": f"/runs/{seed}", "state": "failed",
            "how": "trained", "error": 'it said "no", twice', "figures": figures(),
        }
        for seed in (0, 1)
    ]  # fmt: skip
    rows = list(csv.DictReader(runs_as_csv(entries).splitlines()))
    assert [(row["lr"], row["seed"], row["run"]) for row in rows] == [("0.1", "0", "0"), ("0.1", "1", "1")]
    assert rows[0]["error"] == 'it said "no", twice'


# --- with real runs -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_a_killed_run_does_not_stop_the_sweep_and_the_same_command_goes_on_until_it_is_interrupted(
    tiny: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    runs, many = tmp_path / "runs", 5000
    command = ["sweep", "--vary", f"epochs={many},1", "--record", "1", "--json", "--quiet", *tiny]

    killer = once_training(runs, many, lambda run: os.kill(run.status["pid"], signal.SIGKILL))
    code = main(command)
    killer.join()
    said = capfd.readouterr()
    result = last_object(said.out)
    assert code == 1
    assert "error: 1 of 2 runs failed (epochs=5000: its process was killed (SIGKILL)" in said.err
    assert [entry["state"] for entry in result["runs"]] == ["failed", "finished"]
    assert [row["runs"] for row in result["table"]] == [0, 1]
    assert said.out.startswith("epochs    runs  test top-1")
    rows = list(csv.DictReader(Path(result["csv"]).read_text().splitlines()))
    assert [row["state"] for row in rows] == ["failed", "finished"]
    assert float(rows[1]["test_top1"]) == result["runs"][1]["figures"]["test_top1"]
    assert Path(result["summary_csv"]).is_file()

    # Only this process gets the signal, as from `kill`: it has to reach the run, and once.
    before = signal.getsignal(signal.SIGINT)
    interrupter = once_training(runs, many, lambda run: os.kill(os.getpid(), signal.SIGINT))
    code = main(command)
    interrupter.join()
    said = capfd.readouterr()
    again = last_object(said.out)
    assert code == 130
    assert "interrupted with 1 of 2 runs finished" in said.err
    assert [(entry["state"], entry["how"]) for entry in again["runs"]] == [
        ("stopped", "resumed"),
        ("finished", "reused"),
    ]
    assert [entry["run"] for entry in again["runs"]] == [entry["run"] for entry in result["runs"]]
    assert Run(Path(again["runs"][0]["run"])).status["state"] == "stopped"
    assert not Run(Path(again["runs"][0]["run"])).is_alive
    assert "Traceback" not in said.err
    assert signal.getsignal(signal.SIGINT) == before


def test_a_run_that_its_data_refuses_fails_with_its_own_sentence(
    tiny: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    command = ["sweep", "--vary", "num-classes=3", "--epochs", "1", "--csv", str(tmp_path / "out" / "table.csv")]
    assert main([*command, *tiny]) == 1
    said = capfd.readouterr()
    assert said.err.startswith("run 1 of 1: num_classes=3\n")
    assert "error: num_classes: " in said.err  # from the run itself, passed through
    assert said.err.splitlines()[-1].startswith("error: 1 of 1 runs failed (num_classes=3: it ended with exit code 1")
    assert said.out.splitlines()[2].split() == ["3", "0", "of", "1"]
    assert (tmp_path / "out" / "table.csv").is_file()
    assert (tmp_path / "out" / "table-summary.csv").is_file()
