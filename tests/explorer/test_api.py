from __future__ import annotations

import shutil
import time

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from explorer.places import Places


@pytest.fixture(scope="module")
def places(tmp_path_factory, shared_photographs) -> Places:
    root = tmp_path_factory.mktemp("api")
    return Places(root / "runs", demo=root / "demo", data_roots=(shared_photographs.parent,))


@pytest.fixture(scope="module")
def client(serving, places, trained):
    shutil.copytree(trained.folder, places.runs / trained.id)
    with serving(places) as address:
        yield Client(address, verbose=False)


NAMED = {
    "/datasets",
    "/dataset",
    "/start_run",
    "/stop_run",
    "/resume_run",
    "/runs",
    "/status",
    "/metrics",
    "/samples",
    "/timeline",
    "/predict",
}


def test_the_named_endpoints_are_all_that_is_exposed(client):
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == NAMED
    assert not client.view_api(return_format="dict")["unnamed_endpoints"]


def test_every_argument_of_start_run_is_optional(client):
    parameters = client.view_api(return_format="dict")["named_endpoints"]["/start_run"]["parameters"]
    assert all(parameter["parameter_has_default"] for parameter in parameters)
    assert {"dataset", "label_ratio", "method", "epochs", "seed"} <= {p["parameter_name"] for p in parameters}
    assert "data_root" not in {p["parameter_name"] for p in parameters}


def test_what_there_is_can_be_asked(client, trained, shared_photographs):
    names = [row["name"] for row in client.predict(api_name="/datasets")]
    assert names == ["fieldguide", str(shared_photographs)]
    (run,) = client.predict(api_name="/runs")
    assert run["id"] == trained.id
    status = client.predict(run=trained.id, api_name="/status")
    assert {"state", "pid", "host", "epoch", "epochs", "step", "steps", "updated", "eta_s", "error"} <= set(status)
    assert len(client.predict(run=trained.id, kind="epoch", api_name="/metrics")) == 3
    samples = client.predict(run=trained.id, api_name="/samples")
    assert [sample["id"] for sample in samples] == [sample["id"] for sample in trained.samples]
    assert "path" not in samples[0], "where files lie on the server is not told"
    timeline = client.predict(run=trained.id, id=samples[0]["id"], api_name="/timeline")
    assert {"epochs", "cam", "gradcam", "learned", "predicted", "confidence"} <= set(timeline)
    assert timeline["learned"] == trained.timeline(samples[0]["id"])["learned"].tolist()


def test_a_dataset_is_described_at_a_label_ratio(client, shared_photographs):
    (_, row) = client.predict(api_name="/datasets")
    assert row["layout"] == "train/ and test/ folders of classes"
    about = client.predict("shapes", label_ratio=50, num_classes=2, api_name="/dataset")
    assert about["name"] == str(shared_photographs)
    assert about["classes"] == ["circle", "square"]
    assert about["images"] == {"train": 12, "test": 6}
    assert about["labelled"] == len(about["labelled_ids"]) == 6
    assert about["labelled_by"] == "seeded rule"
    assert about["counts"][0] == {"class": "circle", "labelled": 3, "train": 6, "test": 3}
    assert about["problems"] == []
    with pytest.raises(AppError, match="num_classes"):
        client.predict("shapes", num_classes=9, api_name="/dataset")


def test_a_photograph_is_classified(client, trained, shared_photographs):
    picture = next((shared_photographs / "test").rglob("*.png"))
    said = client.predict(run=trained.id, image=handle_file(str(picture)), api_name="/predict")
    expected = trained.predict(picture)
    assert said["label"] == expected["label"]
    assert said["confidence"] == pytest.approx(expected["confidence"], abs=1e-4)
    assert len(said["top"]) == 3


def test_a_file_of_the_server_cannot_be_named_in_place_of_an_upload(client, trained):
    forged = {"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}, "url": None, "orig_name": "x.jpg"}
    with pytest.raises((AppError, ValueError, OSError)):
        client.predict(trained.id, forged, api_name="/predict")


@pytest.mark.parametrize(
    ("choices", "word"),
    [({"label_ratio": 0}, "label_ratio"), ({"dataset": "/etc"}, "dataset"), ({"method": "magic"}, "method"),
     ({"weights": "/etc/passwd"}, "weights"), ({"num_classes": 99, "dataset": "shapes"}, "num_classes")],
)  # fmt: skip
def test_a_run_that_cannot_be_is_refused_by_its_field(client, choices, word):
    with pytest.raises(AppError, match=word):
        client.predict(**choices, api_name="/start_run")


@pytest.mark.parametrize("endpoint", ["/status", "/metrics", "/samples", "/stop_run", "/resume_run"])
@pytest.mark.parametrize("run", ["../..", "no-such-run", ""])
def test_runs_that_are_not_there_are_refused(client, endpoint, run):
    with pytest.raises(AppError, match="no run"):
        client.predict(run=run, api_name=endpoint)


def test_a_run_is_started_watched_stopped_and_resumed_to_its_end(client):
    choices = {
        "dataset": "shapes", "label_ratio": 50, "backbone": "test_resnet", "weights": "none", "image_size": 64,
        "batch_size": 4, "epochs": 400, "attention_maps": 4, "device": "cpu", "name": "by a program",
    }  # fmt: skip
    started = time.monotonic()
    run = client.predict(**choices, api_name="/start_run")["run"]
    assert time.monotonic() - started < 3, "it must answer at once"

    def wait_for(*states: str) -> dict:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            status = client.predict(run=run, api_name="/status")
            if status["shown_state"] in states:
                return status
            time.sleep(0.3)
        raise AssertionError(f"still {status['shown_state']}: {status}")

    wait_for("running")
    assert client.predict(run=run, api_name="/stop_run")["state"] in ("stopping", "stopped")
    stopped = wait_for("stopped")
    assert stopped["epoch"] < 400
    assert client.predict(run=run, api_name="/resume_run")["state"] in ("queued", "starting")
    wait_for("running")
    client.predict(run=run, api_name="/stop_run")
    assert wait_for("stopped")["epoch"] >= stopped["epoch"]
    assert client.predict(api_name="/runs")[0]["name"] == "by a program"
