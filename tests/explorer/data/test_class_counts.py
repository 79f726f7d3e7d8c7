from __future__ import annotations

import json

from explorer.data.class_counts import counts_definition
from sam_core.datasets.base import SPLITS


def test_every_group_of_images_has_its_bar_and_each_looks_its_own_way():
    definition = json.loads(json.dumps(counts_definition()))
    groups = definition["groups"]
    assert [one["group"] for one in groups] == ["labelled", *SPLITS]
    bars = [trace for trace in definition["figure"]["data"] if trace["type"] == "bar"]
    assert [bar["name"] for bar in bars] == [one["name"] for one in groups]
    looks = {(bar["marker"]["color"], bar["marker"]["pattern"]["shape"]) for bar in bars}
    assert len(looks) == len(groups)
    assert all(bar["orientation"] == "h" for bar in bars)
