from __future__ import annotations

import pytest
from PIL import Image

from explorer.attention.networks import Networks
from explorer.attention.photographs import (
    ON_DEMAND,
    PhotographError,
    attend_message,
    chosen_epochs,
    chosen_label,
    chosen_maps,
    read_photograph,
    weights_of,
)
from sam_core.config import ConfigError
from sam_core.recording.reader import Run
from sam_core.recording.writer import RunError


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.linear_gradient("L").convert("RGB").resize((90, 60))


@pytest.fixture(scope="module")
def networks() -> Networks:
    return Networks()


def test_every_map_can_be_asked_of_any_photograph(trained, picture, networks, decode):
    message = attend_message(networks, trained, picture, maps=ON_DEMAND, label=None, epochs=[None], channels=True)
    header, maps = decode(message)
    assert set(ON_DEMAND) <= set(maps)
    assert {f"A{number}" for number in range(1, 5)} <= set(maps)
    assert header["picture"].startswith("data:image/jpeg;base64,")
    assert header["shown_class"] == [header["top"][0][0][0]]
    assert header["epochs"] == [2]


def test_the_maps_are_those_of_the_class_that_was_asked_for(trained, picture, networks, decode):
    def cam_of(label):
        message = attend_message(networks, trained, picture, maps=["cam"], label=label, epochs=[None])
        header, maps = decode(message)
        assert header["shown_class"] == [trained.classes[label]]
        return maps["cam"]["raw"].tolist()

    assert cam_of(0) != cam_of(1)


def test_a_photograph_goes_through_every_kept_checkpoint(shared_photographs, tiny, picture, networks, tmp_path, decode):
    import sam_core

    run = sam_core.train(tiny(shared_photographs, epochs=2, keep_checkpoints=1), runs=tmp_path, quiet=True)
    epochs = chosen_epochs(run, "kept")
    header, maps = decode(attend_message(networks, run, picture, maps=["cam", "learned"], label=None, epochs=epochs))
    assert header["epochs"] == epochs == run.kept_epochs
    assert len(epochs) > 1
    first, last = maps["learned"]["raw"][0], maps["learned"]["raw"][-1]
    assert (first != last).any()


def test_without_weights_the_reason_is_said(own_run):
    (own_run / "model.safetensors").unlink()
    about = weights_of(Run(own_run))
    assert not about["finished"]
    assert "no weights" in about["reason"]


@pytest.mark.parametrize("epochs", ["kept", "7", "-1", "latest", ""])
def test_epochs_without_weights_are_refused_by_name(trained, epochs):
    with pytest.raises(ConfigError, match="epochs"):
        chosen_epochs(trained, epochs)


def test_unknown_maps_and_classes_are_refused_by_name(trained):
    with pytest.raises(ConfigError, match="maps"):
        chosen_maps("cam,../../x")
    with pytest.raises(ConfigError, match="class"):
        chosen_label(trained, "unicorn")
    with pytest.raises(ConfigError, match="class"):
        chosen_label(trained, "99")
    assert chosen_label(trained, "circle") == chosen_label(trained, "0") == 0
    assert chosen_label(trained, "") is None


def test_no_map_at_all_is_refused(shared_photographs, tiny, picture, networks, tmp_path):
    import sam_core

    run = sam_core.train(tiny(shared_photographs, epochs=1, method="finetune"), runs=tmp_path, quiet=True)
    with pytest.raises(RunError, match="no attention head"):
        attend_message(networks, run, picture, maps=[], label=None, epochs=[None], channels=True)


def test_files_that_are_no_photographs_are_refused_with_the_reason(tmp_path):
    for name, content, words in [
        ("empty.jpg", b"", "0 bytes"), ("text.jpg", b"hello, this is text", "not a JPEG"),
        ("cut.png", b"\x89PNG\r\n\x1a\n\0\0", "not a JPEG|damaged"),
    ]:  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PhotographError, match=words):
            read_photograph(tmp_path / name)


def test_networks_are_kept_but_not_without_bound(trained):
    networks = Networks()
    with networks.inspector(trained) as first:
        pass
    with networks.inspector(trained) as again:
        assert again is first
    networks.forget()
    with networks.inspector(trained) as anew:
        assert anew is not first
