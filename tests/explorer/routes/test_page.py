from __future__ import annotations

import json

import pytest

from explorer.setup import page_setup


def test_the_setup_names_every_map_colour_and_chart(client):
    setup = client.get("/explorer/setup").json()
    assert setup == json.loads(json.dumps(page_setup()))
    assert {"cam", "gradcam", "learned", "energy", "cam_predicted", "scorecam"} <= set(setup["maps"])
    assert len(setup["colour_maps"]["viridis"]["table"]) == 3 * 256


@pytest.mark.parametrize("name", ["..%2fcli.py", "%2e%2e/cli.py", "cli.py", "", "store.js%00", "player.map"])
def test_only_the_pages_own_files_are_served(client, name):
    assert client.get(f"/explorer/web/x/{name}").status_code == 404
