"""A compiled backbone trains the same run, its weights keep their names; where it cannot be compiled, that is said."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import sam_core
from sam_core.config import ConfigError
from sam_core.models.sam_net import build_model
from sam_core.recording import layout
from sam_core.recording.reader import Run
from sam_core.training.failures import TrainingError

COMPILE = torch.compile


def assert_nearly_same(run: Run, plain: Run) -> None:
    compiled, expected = load_file(run.folder / layout.MODEL), load_file(plain.folder / layout.MODEL)
    assert compiled.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(compiled[name], values, rtol=1e-3, atol=1e-4, msg=name)
    assert list(run.recorded_epochs) == list(plain.recorded_epochs)


def test_the_backbone_is_compiled_once_in_the_mode_asked_for(
    shared_photographs: Path, tiny, trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The graph is traced as it would be for a compiler, and then run as it is."""
    modes, calls = [], []

    def traced(function: Callable[..., Any], *, mode: str) -> Callable[..., Any]:
        modes.append(mode)
        compiled = COMPILE(function, backend="eager")

        def counting(*arguments: Any) -> Any:
            calls.append(arguments[0].shape)
            return compiled(*arguments)

        return counting

    monkeypatch.setattr(torch, "compile", traced)
    run = sam_core.train(tiny(shared_photographs, epochs=2, compile="max-autotune"), runs=tmp_path, quiet=True)
    assert modes == ["max-autotune"]
    assert len(calls) == 3 * 6 + 2 * 3  # at three points 9 labelled and 9 test images in fours; two epochs in fours
    assert_nearly_same(run, trained)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_a_compiled_backbone_has_the_same_features_and_gradients(mode: str):
    """In double precision: in single, another order of sums is a tenth of such a small network's loss in two steps."""
    model = build_model(backbone="test_resnet", classes=3, method="sam", pooling="gap", attention_maps=4)
    compiled = copy.deepcopy(model)
    compiled.compile_backbone(mode)
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    features, gradients = [], []
    for network in (model, compiled):
        found = network.double().train().backbone.forward_features(images)
        (found * torch.linspace(-1, 1, found.numel(), dtype=found.dtype).view_as(found)).sum().backward()
        features.append(found.detach())
        gradients.append({name: weight.grad for name, weight in network.backbone.named_parameters()})
    torch.testing.assert_close(features[1], features[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-7, atol=1e-7)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_a_run_with_a_compiled_backbone_begins_the_same_and_ends(
    mode: str, shared_photographs: Path, tiny, trained: Run, tmp_path: Path
):
    run = sam_core.train(tiny(shared_photographs, epochs=2, compile=mode), runs=tmp_path, quiet=True)
    first, expected = run.metrics("step")[0], trained.metrics("step")[0]
    for name in ("loss", "classification", "attention"):
        assert first[name] == pytest.approx(expected[name], rel=1e-4)
    assert load_file(run.folder / layout.MODEL).keys() == load_file(trained.folder / layout.MODEL).keys()
    assert list(run.recorded_epochs) == list(trained.recorded_epochs)


def test_without_a_compiler_a_run_fails_with_a_sentence(
    shared_photographs: Path, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from torch._inductor.exc import InvalidCxxCompiler

    def refused(*_: Any) -> None:
        raise InvalidCxxCompiler

    monkeypatch.setattr(torch, "compile", lambda function, *, mode: refused)
    with pytest.raises(TrainingError, match="cannot compile the backbone") as failure:
        sam_core.train(tiny(shared_photographs, compile="default"), runs=tmp_path, quiet=True)
    assert "without --compile" in failure.value.hint
    (folder,) = tmp_path.iterdir()
    assert Run(folder).status["error"]["type"] == "not compiled"


def test_another_mode_is_refused(shared_photographs: Path, tiny):
    with pytest.raises(ConfigError, match="compile: must be one of off, default"):
        tiny(shared_photographs, compile="fast")
