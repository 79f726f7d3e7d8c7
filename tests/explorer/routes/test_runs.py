from __future__ import annotations

import io
import json
import shutil
import zipfile

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from explorer.context import Explorer
from explorer.places import Places
from explorer.routes.assembly import add_routes
from explorer.routes.runs import ASK_EVERY_S, ask_again_in
from tests.explorer.routes.conftest import OURS, open_door


def test_a_poll_is_answered_once_and_then_with_nothing(client, run_id):
    first = client.get("/explorer/pulse", params={"run": run_id}).json()
    assert [run["id"] for run in first["list"]["runs"]] == [run_id]
    assert len(first["run"]["epochs"]) == 3
    known = {"list": first["list"]["version"], "run": run_id, "cursor": first["run"]["cursor"]}
    again = client.get("/explorer/pulse", params=known)
    assert again.status_code == 204
    assert again.content == b""


def test_a_run_that_vanished_is_said_once(client, run_id, own_run):
    client.get("/explorer/pulse", params={"run": run_id})
    shutil.rmtree(own_run)
    news = client.get("/explorer/pulse", params={"run": run_id, "cursor": "x"}).json()["run"]
    assert news == {"gone": True, "cursor": "gone"}
    version = client.get("/explorer/pulse").json()["list"]["version"]
    again = client.get("/explorer/pulse", params={"list": version, "run": run_id, "cursor": "gone"})
    assert again.status_code in (200, 204)
    assert again.status_code == 204 or "run" not in again.json()


def test_a_runs_name_and_notes_are_kept(client, run_id):
    said = {"name": "First try", "notes": "with <b>few</b> labels"}
    assert client.post(f"/explorer/runs/{run_id}/notes", content=json.dumps(said), headers=OURS).status_code == 200
    (run,) = client.get("/explorer/pulse").json()["list"]["runs"]
    assert (run["name"], run["notes"]) == ("First try", "with <b>few</b> labels")


def test_freeing_space_keeps_curves_maps_and_the_network(client, run_id, own_run, image):
    before = client.get(f"/explorer/runs/{run_id}/size").json()["bytes"]
    freed = client.post(f"/explorer/runs/{run_id}/prune", headers=OURS).json()["freed"]
    assert freed > 0
    assert client.get(f"/explorer/runs/{run_id}/size").json()["bytes"] == before - freed
    assert not (own_run / "last.pt").exists()
    assert (own_run / "model.safetensors").exists()
    assert client.get(f"/explorer/runs/{run_id}/timeline", params={"image": image}).status_code == 200


def test_a_run_that_has_not_finished_keeps_what_resuming_needs(client, run_id, own_run):
    status = json.loads((own_run / "status.json").read_text())
    (own_run / "status.json").write_text(json.dumps(status | {"state": "stopped"}))
    answer = client.post(f"/explorer/runs/{run_id}/prune", headers=OURS)
    assert answer.status_code == 400
    assert (own_run / "last.pt").exists()


def test_a_deleted_run_is_gone_at_once(client, run_id, own_run):
    assert client.post(f"/explorer/runs/{run_id}/delete", headers=OURS).status_code == 200
    assert not own_run.exists()
    assert client.get("/explorer/pulse").json()["list"]["runs"] == []
    answer = client.get(f"/explorer/runs/{run_id}/samples")
    assert answer.status_code == 404
    assert "there is no run" in answer.json()["message"]


def test_an_exported_run_opens_in_another_explorer_with_its_name_and_pictures(
    client, run_id, image, tmp_path, shared_photographs
):
    said = {"name": "Travels", "notes": "far"}
    client.post(f"/explorer/runs/{run_id}/notes", content=json.dumps(said), headers=OURS)
    archive = client.get(f"/explorer/runs/{run_id}/archive.zip")
    assert f'filename="{run_id}.zip"' in archive.headers["content-disposition"]

    (tmp_path / "no-data").mkdir()
    elsewhere = Explorer(Places(tmp_path / "elsewhere", demo=tmp_path / "none", data_roots=(tmp_path / "no-data",)))
    app = FastAPI()
    add_routes(app, elsewhere, guard=open_door)
    other = TestClient(app)
    brought = other.post("/explorer/import", content=archive.content, headers=OURS).json()["run"]
    (run,) = other.get("/explorer/pulse").json()["list"]["runs"]
    assert (run["id"], run["name"], run["notes"], run["state"]) == (brought, "Travels", "far", "finished")
    here = client.get(f"/explorer/runs/{run_id}/timeline", params={"image": image}).content
    there = other.get(f"/explorer/runs/{brought}/timeline", params={"image": image}).content
    assert here[-200:] == there[-200:]
    assert other.get(f"/explorer/runs/{brought}/view/0").status_code == 200, "the pictures travel with the run"
    elsewhere.close()


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"no zip at all", zip_of({}), zip_of({"../../evil.txt": b"x"}), zip_of({"run/evil.sh": b"x"}),
        zip_of({"run/config.json": b"0" * 50_000_000}), zip_of({"run/last.pt": b"\x80\x04."}),
    ],
    ids=["empty", "text", "no files", "climbs out", "a strange file", "a bomb", "a pickle"],
)  # fmt: skip
def test_zips_that_are_no_runs_are_refused_and_leave_nothing(client, places, content):
    answer = client.post("/explorer/import", content=content, headers=OURS)
    assert answer.status_code == 400
    assert answer.json()["message"]
    assert [path.name for path in places.runs.iterdir() if not path.name.startswith(".queue")] == []


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"name": 1}', b"\xff", b'{"name": "' + b"x" * 500 + b'", "notes": ""}', b"[" * 5000]
)
def test_notes_that_make_no_sense_are_refused(client, run_id, body):
    assert client.post(f"/explorer/runs/{run_id}/notes", content=body, headers=OURS).status_code == 400


@pytest.mark.parametrize("path", ["pulse", "pulse?list={version}"])
def test_an_answer_says_when_to_ask_again(client, path):
    version = client.get("/explorer/pulse").json()["list"]["version"]
    answer = client.get(f"/explorer/{path.format(version=version)}")
    assert answer.status_code in (200, 204)
    assert 50 <= int(answer.headers["X-Explorer-Ask-In"]) <= 950


def test_pages_that_came_at_different_times_ask_in_the_same_moment_from_then_on():
    came = [900.1, 900.3, 900.71, 900.84]
    asked = [moment + ask_again_in(moment) for moment in came]
    assert asked == pytest.approx([asked[0]] * 4)
    # Somewhat late, as a page is, or too early: the next moment is the same for all, and no more than a second away.
    late = [asked[0] + 0.003, asked[0] + 0.2, asked[0] - 0.01]
    assert [moment + ask_again_in(moment) for moment in late] == pytest.approx([asked[0] + ASK_EVERY_S] * 3)
    assert all(0 < ask_again_in(number / 100) < 1 for number in range(1000))
