from __future__ import annotations

import json

import pytest

from explorer import form
from explorer.places import Places
from sam_core.config import METHODS, ConfigError, RunConfig, options


def test_every_option_of_a_run_has_its_field_or_is_decided_by_the_server():
    assert set(form.FIELDS) | set(form.DECIDED_BY_SERVER) == set(options())
    assert len(set(form.FIELDS)) == len(form.FIELDS)


def test_the_form_as_it_opens_is_the_default_run(places):
    values = {name: form.shown_value(name, value) for name, value in form.default_values().items()}
    config = form.config_of(values, places)
    default = RunConfig(data_root=str(places.data_roots[0]))
    assert config == default


@pytest.mark.parametrize("name", form.FIELDS)
def test_every_field_says_what_it_is_for(name, places):
    field = form.field_for(name, [("Field guide", "fieldguide")])
    assert field.label
    assert field.info.endswith(".")
    assert field.elem_id == f"field-{name}"


@pytest.mark.parametrize("method", METHODS)
def test_only_what_goes_together_can_be_chosen(method):
    for pooling in form.possible("pooling", {"method": method}):
        for pseudo in form.possible("pseudo", {"method": method, "pooling": pooling}) or [None]:
            RunConfig(method=method, pooling=pooling, pseudo=pseudo)


def test_impossible_combinations_are_not_offered():
    assert form.possible("pseudo", {"method": "finetune"}) == []
    assert form.possible("pooling", {"method": "finetune"}) == ["gap"]
    assert "compact" in form.possible("pooling", {"method": "sam"})
    assert "cam" not in form.possible("pseudo", {"method": "sam", "pooling": "compact"})
    assert form.possible("pooling", {"method": "sam-bilinear"}) == ["bilinear", "compact"]


def test_a_choice_that_no_longer_fits_falls_back_to_one_that_does():
    assert form.fitting("pooling", "gap", {"method": "sam-bilinear"}) == "bilinear"
    assert form.fitting("pooling", "attention", {"method": "sam"}) == "attention"
    assert form.fitting("pseudo", None, {"method": "sam-bilinear"}) == "gradcam"
    assert form.fitting("pseudo", "cam", {"method": "sam", "pooling": "compact"}) == "gradcam"
    assert form.fitting("pseudo", "cam", {"method": "finetune"}) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("label_ratio", 0),
        ("label_ratio", 250),
        ("epochs", "many"),
        ("epochs", 0),
        ("epochs", 1.5),
        ("num_classes", "1"),
        ("lr", -1),
        ("lr", "nan"),
        ("milestones", "0.5, x"),
        ("milestones", "0.9, 0.1"),
        ("method", "magic"),
        ("pseudo", "magic"),
        ("seed", "inf"),
        ("dataset", "/etc"),
        ("dataset", 3),
        ("weights", "/etc/passwd"),
        ("data_root", "/"),
        ("no_such_option", 1),
    ],
)
def test_wrong_input_names_its_field(places, name, value):
    with pytest.raises(ConfigError) as caught:
        form.config_of({name: value}, places)
    assert caught.value.field == name


def test_numbers_typed_as_text_are_read_and_what_is_left_open_keeps_its_default(places):
    config = form.config_of({"epochs": "3", "num_classes": "", "record": None, "head_lr": "0.5", "seed": 4.0}, places)
    assert (config.epochs, config.num_classes, config.record, config.head_lr, config.seed) == (3, None, None, 0.5, 4)


def test_iterations_take_the_place_of_the_forms_own_epochs(places):
    config = form.config_of({**form.default_values(), "iterations": "50"}, places)
    assert (config.epochs, config.iterations) == (None, 50)


def test_epochs_and_iterations_that_were_both_chosen_are_refused(places):
    with pytest.raises(ConfigError, match="not both"):
        form.config_of({"epochs": "5", "iterations": "50"}, places)


def test_a_named_dataset_is_trained_on_where_it_lies(places, data_folder):
    both = Places(places.runs, data_roots=(*places.data_roots, data_folder))
    assert form.config_of({"dataset": "cub200"}, both).data_root == str(data_folder)
    assert form.config_of({}, both).data_root == str(places.data_roots[0])


def test_a_proposal_fills_the_fields_that_it_names(places, shared_photographs):
    proposal = {"dataset": "shapes", "label_ratio": "12.5", "num_classes": "", "split_seed": "3", "data_root": "/"}
    assert form.proposed_values(json.dumps(proposal), places) == {
        "dataset": str(shared_photographs), "label_ratio": 12.5, "num_classes": None, "split_seed": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    "proposal", [None, "", "{", "[]", "3", '{"dataset": "/etc"}', '{"label_ratio": 900}', "[" * 5000]
)
def test_a_proposal_that_makes_no_sense_changes_nothing(places, proposal):
    assert form.proposed_values(proposal, places) == {}
