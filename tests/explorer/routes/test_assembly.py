from __future__ import annotations

import pytest

HOSTILE_IDS = ["..", "%2e%2e", "..%2f..%2fetc", ".hidden", "a%00b", "a" * 400, "no-such-run"]


@pytest.mark.parametrize("run_id", HOSTILE_IDS)
@pytest.mark.parametrize("path", ["samples", "view/0", "archive.zip", "size", "weights", "timeline?image=x"])
def test_no_name_reaches_beyond_the_run_folders(client, own_run, run_id, path):
    assert client.get(f"/explorer/runs/{run_id}/{path}").status_code in (400, 404)


@pytest.mark.parametrize("path", ["stop", "resume", "delete", "prune", "notes", "inspect"])
def test_a_page_of_another_site_can_change_nothing(client, run_id, own_run, path):
    answer = client.post(f"/explorer/runs/{run_id}/{path}", content=b"{}", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 400
    assert "own page" in answer.json()["message"]
    assert own_run.exists()


@pytest.mark.parametrize(
    "name", ["samples.json", "config.json", "classes.json", "attention/meta.json", "attention/cam.npy"]
)
@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2", b"\x93NUMPY"])
def test_a_damaged_run_gets_a_sentence_not_a_crash(client, run_id, own_run, image, name, content):
    (own_run / name).write_bytes(content)
    for path in (f"timeline?image={image}", "samples", "view/0", "rankings", "weights", "strip"):
        answer = client.get(f"/explorer/runs/{run_id}/{path}")
        assert answer.status_code in (200, 400, 404), f"{path}: {answer.text}"
        if answer.status_code != 200:
            assert answer.json()["message"]
