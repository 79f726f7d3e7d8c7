"""What an evaluation pass records and measures, and of which images."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam_core.config import build_config
from sam_core.datasets.base import Sample
from sam_core.datasets.masks import MaskStore
from sam_core.datasets.on_device import DeviceImages
from sam_core.datasets.run_data import RunData, load_run_data
from sam_core.device import choose_machine
from sam_core.evaluation.evaluator import NanMean, evaluate_group
from sam_core.evaluation.groups import build_groups, choose_recorded, describe_samples, object_coverage
from sam_core.evaluation.maps import kinds_of
from sam_core.models.sam_net import build_model

NORMALISATION = ((0.5,) * 3, (0.5,) * 3)


@pytest.fixture(scope="module")
def data(shared_photographs: Path) -> RunData:
    return load_run_data(build_config({"dataset": str(shared_photographs), "label_ratio": 50, "image_size": 64}))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(backbone="test_resnet", classes=3, method="sam", pooling="gap", attention_maps=4)


def evaluate(model, data: RunData, name: str = "test", **changes):
    config = build_config({"image_size": 64, "batch_size": 4} | changes.pop("config", {}))
    groups = changes.pop("groups", None) or build_groups(data, choose_recorded(data, None), image_size=64, grid=(2, 2))
    images, machine = DeviceImages(data.store, torch.device("cpu")), choose_machine("cpu")
    return evaluate_group(
        model, images, groups[name], config, machine, normalisation=NORMALISATION, kinds=kinds_of(config), **changes
    )


def test_every_labelled_and_test_image_is_recorded(data: RunData):
    recorded = choose_recorded(data, None)
    assert Counter(group for group, _ in recorded) == {"labelled": 9, "test": 9}
    described = describe_samples(data, recorded)
    assert len({sample["id"] for sample in described}) == 18
    assert {sample["split"] for sample in described if sample["labelled"]} == {"train"}


def test_a_cap_on_recorded_images_takes_from_every_class_of_every_group(data: RunData):
    recorded = choose_recorded(data, 7)
    strata = Counter((group, data.store.samples[position].label) for group, position in recorded)
    assert len(recorded) == 7
    assert len(strata) == 6


def test_images_that_are_not_recorded_still_count_for_accuracy(model, data: RunData):
    groups = build_groups(data, choose_recorded(data, 6), image_size=64, grid=(2, 2))
    rows = []
    capped = evaluate(model, data, groups=groups, record=lambda row, *rest: rows.extend(row))
    assert len(rows) == 3
    assert capped.accuracy == evaluate(model, data).accuracy


def test_the_maps_of_an_image_do_not_depend_on_its_batch(model, data: RunData):
    def maps(batch_size: int) -> dict[int, np.ndarray]:
        found = {}

        def keep(rows, maps, predicted, confidence):
            for place, row in enumerate(rows):
                found[row] = np.stack([maps[kind][place].numpy() for kind in sorted(maps)])

        evaluate(model, data, config={"batch_size": batch_size}, record=keep)
        return found

    alone, together = maps(1), maps(9)
    for row in alone:
        np.testing.assert_allclose(alone[row], together[row], rtol=1e-4, atol=1e-5)


def test_evaluation_leaves_the_network_as_it_was(model, data: RunData):
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluate(model, data)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_ten_crops_average_the_scores_of_ten_views(model, data: RunData):
    from sam_core.augment import normalise, ten_crop_views

    found = evaluate(model, data, config={"test_crops": 10}, keep_scores=True)
    positions = torch.tensor(data.groups["test"])
    crops = ten_crop_views(data.store.take(positions), 64)
    model.eval()
    with torch.no_grad():
        expected = torch.stack([model(normalise(crop, *NORMALISATION)).scores for crop in crops]).mean(dim=0)
    torch.testing.assert_close(found.scores, expected, rtol=1e-4, atol=1e-5)


def test_the_object_is_found_in_the_view_from_its_mask_or_its_box(tmp_path: Path):
    mask = np.zeros((128, 256), dtype=np.uint8)
    mask[:64, :128] = 7  # the upper left quarter of a wide photograph
    Image.fromarray(mask).save(tmp_path / "mask.png")
    unknown = Sample("a", tmp_path / "a.jpg", 0, "test")
    samples = [
        replace(unknown, mask_path=tmp_path / "mask.png"),
        replace(unknown, box=(0.0, 0.0, 0.5, 0.5)),
        unknown,
    ]
    masks = MaskStore(samples, 256)
    found = object_coverage(samples, masks, side=256, image_size=224, grid=(2, 2))
    expected = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(found[1], expected)
    assert found[2].isnan().all()
    assert object_coverage([unknown], [None], side=256, image_size=224, grid=(2, 2)) is None


def test_means_pass_over_images_for_which_a_measure_is_not_defined():
    means = NanMean()
    means.add(("a", "b"), torch.tensor([1.0, float("nan"), 3.0]))
    means.add(("a", "b"), torch.tensor([5.0]))
    means.add(("a", "c"), torch.tensor([float("nan")]))
    assert means.nested() == {"a": {"b": 3.0, "c": None}}


def test_kinds_follow_from_the_method():
    assert "learned" not in kinds_of(build_config({"method": "finetune"}))
    assert not [
        kind for kind in kinds_of(build_config({"method": "sam-bilinear", "pooling": "compact"})) if kind == "cam"
    ]
    assert kinds_of(build_config({"pseudo": "layercam"}))[-1] == "layercam"


def test_maps_for_the_predicted_class_show_that_class(model, data: RunData):
    from sam_core.evaluation.maps import recorded_maps
    from sam_core.models.sam_net import SAMOutput
    from sam_core.pseudo_attention import pseudo_attention

    generator = torch.Generator().manual_seed(1)
    features = torch.rand(3, model.head.channels, 2, 2, generator=generator)
    output = SAMOutput(torch.zeros(3, 3), features, torch.rand(3, 4, 2, 2, generator=generator))
    labels, predicted = torch.tensor([0, 1, 2]), torch.tensor([1, 1, 0])
    maps = recorded_maps(model, output, labels, predicted, kinds_of(build_config({"pseudo": "layercam"})))
    for kind, classes in (("cam", labels), ("cam_predicted", predicted), ("gradcam_predicted", predicted)):
        expected = pseudo_attention(kind.split("_")[0], features, output.attention, model.head, classes)
        torch.testing.assert_close(maps[kind], expected)
    assert not torch.equal(maps["cam"][0], maps["cam_predicted"][0])
    torch.testing.assert_close(maps["cam"][1], maps["cam_predicted"][1])
    torch.testing.assert_close(maps["energy"], features.mean(dim=1))
    torch.testing.assert_close(maps["learned"], output.attention.amax(dim=1))
