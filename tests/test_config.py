"""Every choice of a run: validated once, explained, and the same after a trip through JSON."""

from __future__ import annotations

import json

import pytest

from sam_core import config as configuration
from sam_core.config import PRESETS, ConfigError, RunConfig, build_config, options


def test_a_configuration_survives_json_unchanged():
    config = build_config({"method": "sam-bilinear", "label_ratio": 15, "milestones": (0.3, 0.6)})
    assert RunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_valid_configuration(preset: str):
    assert build_config(preset=preset).to_json()["format"] == configuration.FORMAT_VERSION


def test_preset_paper_has_every_number_of_the_released_protocol():
    paper = build_config(preset="paper")
    expected = {
        "backbone": "resnet50.tv_in1k", "batch_size": 24, "lr": 1e-3, "head_lr": 1e-2, "attention_lr": 1e-3,
        "momentum": 0.9, "weight_decay": 1e-4, "iterations": 30_000, "pooling": "attention", "pooling_start": 800,
        "temperature": 0.4, "attention_weight": 0.24, "target_scale": "raw", "test_crops": 10, "augment": "randaugment",
        "eval_every": 1000, "attention_maps": 16, "crop_scale": 0.08, "warmup": 0.0, "image_size": 224,
    }  # fmt: skip
    assert {name: getattr(paper, name) for name in expected} == expected
    assert [round(share * 30_000) for share in paper.milestones] == [6000, 12_000, 18_000, 24_000]


def test_preset_paper_works_for_every_method():
    for method in configuration.METHODS:
        config = build_config({"method": method}, preset="paper")
        assert config.pooling == ("attention" if method == "sam" else configuration.DEFAULT_POOLING[method])


def test_flags_win_over_the_file_and_the_file_over_the_preset(tmp_path):
    file = tmp_path / "choices.json"
    file.write_text(json.dumps({"lr": 0.5, "batch-size": 3}))
    config = build_config({"lr": 0.25}, file=file, preset="paper")
    assert (config.lr, config.batch_size, config.weight_decay) == (0.25, 3, 1e-4)


def test_epochs_given_take_the_place_of_a_presets_iterations():
    config = build_config({"epochs": 5}, preset="paper")
    assert (config.epochs, config.iterations, config.eval_every) == (5, None, 1)


def test_values_left_open_follow_the_method_and_the_learning_rate():
    config = build_config({"method": "sam-bilinear", "lr": 0.02})
    assert (config.pooling, config.pseudo, config.attention_maps) == ("bilinear", "gradcam", 16)
    assert (config.head_lr, config.attention_lr) == (2.0, 0.2)
    assert build_config({"method": "finetune"}).pseudo is None


@pytest.mark.parametrize(
    ("values", "field", "word"),
    [
        ({"label_ratio": 0}, "label_ratio", "above 0"),
        ({"label_ratio": 250}, "label_ratio", "at most 100"),
        ({"label_ratio": "ten"}, "label_ratio", "number"),
        ({"label_ratio": float("nan")}, "label_ratio", "number"),
        ({"method": "samm"}, "method", "did you mean sam"),
        ({"pseudo": "scorecam"}, "pseudo", "cam"),
        ({"batch_size": 0}, "batch_size", "at least 1"),
        ({"batch_size": 2.5}, "batch_size", "whole number"),
        ({"epochs": 2, "iterations": 3}, "epochs", "not both"),
        ({"method": "finetune", "pooling": "bilinear"}, "pooling", "finetune has none"),
        ({"method": "sam-bilinear", "pooling": "gap"}, "pooling", "bilinear"),
        ({"pooling": "compact", "pseudo": "cam"}, "pseudo", "gradcam"),
        ({"pooling_start": 5}, "pooling_start", "attention pooling"),
        ({"test_crops": 5}, "test_crops", "1 or 10"),
        ({"milestones": [0.5, 0.2]}, "milestones", "rising"),
        ({"tensorboard": 1}, "tensorboard", "true or false"),
        ({"learning_rate": 1}, "learning_rate", "no option"),
        ({"labelratio": 1}, "labelratio", "did you mean label_ratio"),
    ],
)
def test_a_choice_that_cannot_be_is_refused_by_name(values: dict, field: str, word: str):
    with pytest.raises(ConfigError) as caught:
        build_config(values)
    assert caught.value.field == field
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [("[1]", "one JSON object"), ("{", "not JSON"), ("[" * 5000, "not JSON"), ('{"zzz": 1}', "no option")],
)
def test_a_bad_configuration_file_is_refused(tmp_path, text: str, word: str):
    file = tmp_path / "choices.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=word):
        build_config(file=file)


def test_every_option_is_explained():
    for name, about in options().items():
        assert about["help"], name
        assert about["group"] in ("data", "model", "attention", "training", "recording", "machine")


def test_the_names_in_the_configuration_are_those_that_exist():
    from sam_core.datasets.catalog import DATASETS
    from sam_core.losses import TARGET_SCALES
    from sam_core.models.pooling import POOLINGS
    from sam_core.pseudo_attention import PSEUDO_ATTENTION

    assert tuple(POOLINGS) == configuration.POOLINGS
    assert tuple(name for name, info in PSEUDO_ATTENTION.items() if info.trains) == configuration.PSEUDO_ATTENTIONS
    assert tuple(TARGET_SCALES) == configuration.TARGET_SCALES
    assert tuple(DATASETS) == configuration.DATASETS


def test_a_folder_is_kept_as_an_absolute_path_and_a_name_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert build_config({"dataset": "photos/birds"}).dataset == str(tmp_path / "photos" / "birds")
    assert build_config({"dataset": "fieldguide"}).dataset == "fieldguide"


def test_pooling_begins_with_gap_until_its_start():
    paper = build_config(preset="paper")
    assert [paper.pooling_at(step) for step in (0, 799, 800, 30_000)] == ["gap", "gap", "attention", "attention"]
