"""Each pooling against its equation, written out; and what must not happen at its edges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sam_core.models.attention_head import AttentionHead, learned_attention
from sam_core.models.head import ClassifierHead
from sam_core.models.pooling import POOLINGS, build_pooling, min_max_scaled

BATCH, CHANNELS, MAPS, HEIGHT, WIDTH = 3, 7, 4, 5, 6


@pytest.fixture
def features() -> Tensor:
    return torch.randn(BATCH, CHANNELS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def attention() -> Tensor:
    return torch.randn(BATCH, MAPS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)).relu()


def test_the_registry_describes_the_four_poolings():
    assert list(POOLINGS) == ["gap", "bilinear", "attention", "compact"]
    assert [info.needs_attention for info in POOLINGS.values()] == [False, True, True, True]
    for name, info in POOLINGS.items():
        pooling = info.builder(CHANNELS, MAPS)
        assert pooling.out_dim == {"gap": 7, "bilinear": 28, "attention": 7, "compact": 500}[name]
        assert info.label
        assert info.description


def test_gap_is_the_mean_over_positions(features):
    expected = torch.stack([torch.stack([channel.sum() / 30 for channel in image]) for image in features])
    torch.testing.assert_close(build_pooling("gap", CHANNELS, 0)(features, None), expected)


def test_bilinear_pooling_follows_its_equation(features, attention):
    result = build_pooling("bilinear", CHANNELS, MAPS)(features, attention)
    for image, maps, pooled in zip(features, attention, result, strict=True):
        z = torch.stack([(one * channel).mean() for one in maps for channel in image])
        root = torch.sign(z) * torch.sqrt(torch.abs(z) + 1e-8)
        torch.testing.assert_close(pooled, root / root.norm())
        assert pooled.norm().item() == pytest.approx(1)


def test_attention_pooling_scales_each_images_own_maximum_map(features, attention):
    result = build_pooling("attention", CHANNELS, MAPS)(features, attention)
    for image, maps, pooled in zip(features, attention, result, strict=True):
        largest = maps.amax(dim=0)
        scaled = (largest - largest.min()) / (largest.max() - largest.min())
        average = (scaled * image).mean(dim=(1, 2))
        torch.testing.assert_close(pooled, average / average.norm())


def test_compact_pooling_is_a_count_sketch_of_every_product_then_a_batch_norm(features, attention):
    pooling = build_pooling("compact", CHANNELS, MAPS).train()
    sketch = torch.zeros(BATCH, 500)
    for b in range(BATCH):
        for k in range(MAPS):
            for c in range(CHANNELS):
                place = (int(pooling.map_hash[k]) + int(pooling.channel_hash[c])) % 500
                sign = pooling.map_sign[k] * pooling.channel_sign[c]
                for h in range(HEIGHT):
                    for w in range(WIDTH):
                        sketch[b, place] += sign * attention[b, k, h, w] * features[b, c, h, w] / (HEIGHT * WIDTH)
    mean, variance = sketch.mean(dim=0), sketch.var(dim=0, unbiased=False)
    expected = (sketch - mean) / (variance + pooling.normalisation.eps).sqrt()
    torch.testing.assert_close(pooling(features, attention), expected, rtol=1e-4, atol=1e-5)


def test_a_count_sketch_keeps_inner_products_in_expectation():
    """The reason for the sketch: two images are about as alike after it as before."""
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(2, 300, 3, 3, generator=generator)
    features[1] = features[0] + 0.5 * features[1]
    attention = torch.rand(2, 16, 3, 3, generator=generator)
    pooling = build_pooling("compact", 300, 16)
    sketch = pooling._sketch(features, attention)
    full = torch.einsum("bkhw,bchw->bkc", attention, features).flatten(1) / 9
    assert sketch[0].dot(sketch[1]).item() == pytest.approx(full[0].dot(full[1]).item(), rel=0.2)
    assert sketch.norm(dim=1).tolist() == pytest.approx(full.norm(dim=1).tolist(), rel=0.2)


def test_hashes_and_signs_are_the_same_in_every_run_and_travel_with_the_weights():
    torch.manual_seed(1)
    one = build_pooling("compact", CHANNELS, MAPS)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    other = build_pooling("compact", CHANNELS, MAPS)
    assert torch.equal(torch.get_rng_state(), state)
    assert {"map_hash", "map_sign", "channel_hash", "channel_sign"} <= set(other.state_dict())
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])
    assert one.channel_sign.unique().tolist() == [-1, 1]


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("kind", ["zero features", "zero attention", "constant attention", "both zero"])
def test_values_and_gradients_are_finite_at_the_edges(name, kind, features, attention):
    pooling = build_pooling(name, CHANNELS, MAPS)
    features = torch.zeros_like(features) if kind in ("zero features", "both zero") else features.clone()
    if kind != "zero features":
        attention = torch.full_like(attention, 0.0 if "zero" in kind else 0.7)
    features.requires_grad_()
    attention = attention.clone().requires_grad_()
    pooled = pooling(features, attention)
    assert pooled.isfinite().all()
    (pooled * torch.randn_like(pooled)).sum().backward()
    assert features.grad.isfinite().all()
    assert attention.grad is None or attention.grad.isfinite().all()


def test_bilinear_pooling_has_a_finite_slope_where_a_product_is_exactly_zero(features, attention):
    features[:, 2] = 0
    features.requires_grad_()
    build_pooling("bilinear", CHANNELS, MAPS)(features, attention).sum().backward()
    assert features.grad.isfinite().all()
    assert (features.grad[:, [0, 1, 3]] != 0).any()


def test_bilinear_pooling_trains_the_attention_head(features):
    head = AttentionHead(CHANNELS, MAPS)
    pooled = build_pooling("bilinear", CHANNELS, MAPS)(features, head(features))
    (pooled * torch.randn_like(pooled)).sum().backward()
    assert head.convolution.weight.grad.abs().sum() > 0


def test_a_constant_attention_weighs_every_position_alike(features):
    constant = torch.full((BATCH, MAPS, HEIGHT, WIDTH), 0.3)
    pooled = build_pooling("attention", CHANNELS, MAPS)(features, constant)
    average = features.mean(dim=(2, 3))
    torch.testing.assert_close(pooled, average / average.norm(dim=1, keepdim=True))
    assert (min_max_scaled(constant[:, 0]) == 1).all()


@pytest.mark.parametrize("name", ["bilinear", "attention"])
def test_what_the_score_loses_without_the_one_channel_that_is_everything_stays_in_proportion(name, features, attention):
    pooling = build_pooling(name, CHANNELS, MAPS)
    features = features.abs() * 1e-5
    features[:, 0] *= 1e12 if name == "bilinear" else 1e5  # the square root halves what this is a power of
    drops = pooling.score_drops(features, attention, torch.ones(BATCH, pooling.out_dim))
    assert drops.isfinite().all()
    assert drops.abs().max() < 1e4


@pytest.mark.parametrize("name", ["gap", "bilinear", "attention"])
def test_an_image_is_pooled_the_same_alone_and_among_others(name, features, attention):
    pooling = build_pooling(name, CHANNELS, MAPS).train()
    together = pooling(features, attention)
    for index in range(BATCH):
        alone = pooling(features[index : index + 1], attention[index : index + 1])
        torch.testing.assert_close(alone[0], together[index])


@pytest.mark.parametrize("name", POOLINGS)
def test_channels_last_features_give_the_same_result_and_never_the_outer_product(name, features, attention):
    pooling = build_pooling(name, CHANNELS, MAPS).eval()
    expected = pooling(features, attention)
    last = features.contiguous(memory_format=torch.channels_last)
    # Flattening is a view of this layout: nothing is copied.
    assert last.flatten(2).data_ptr() == last.data_ptr()
    torch.testing.assert_close(pooling(last, attention), expected)


def test_compact_pooling_standing_alone_uses_running_statistics_and_keeps_them(features, attention):
    pooling = build_pooling("compact", CHANNELS, MAPS).train()
    pooling(features, attention)
    before = {key: value.clone() for key, value in pooling.state_dict().items()}
    alone = pooling.standalone(features, attention)
    assert all(torch.equal(value, before[key]) for key, value in pooling.state_dict().items())
    torch.testing.assert_close(alone, pooling.eval()(features, attention))


def test_compact_pooling_of_a_single_training_image_is_refused_with_what_to_do(features, attention):
    pooling = build_pooling("compact", CHANNELS, MAPS).train()
    with pytest.raises(ValueError, match=r"pooling: compact.*at least 2 images"):
        pooling(features[:1], attention[:1])
    pooling.eval()(features[:1], attention[:1])


def test_pooling_that_needs_attention_is_refused_without_it(features):
    for name in ("bilinear", "attention", "compact"):
        with pytest.raises(ValueError, match=f"pooling: {name} needs an attention head"):
            build_pooling(name, CHANNELS, 0)
        with pytest.raises(ValueError, match="no attention head"):
            build_pooling(name, CHANNELS, MAPS)(features, None)
    with pytest.raises(ValueError, match=r"pooling.*'max'.*gap, bilinear, attention, compact"):
        build_pooling("max", CHANNELS, MAPS)


# The attention head


def test_the_attention_head_is_a_projection_a_batch_norm_and_a_relu(features):
    head = AttentionHead(CHANNELS, MAPS).train()
    assert head.convolution.bias is None
    projected = torch.einsum("kc,bchw->bkhw", head.convolution.weight[:, :, 0, 0], features)
    mean = projected.mean(dim=(0, 2, 3), keepdim=True)
    variance = projected.var(dim=(0, 2, 3), keepdim=True, unbiased=False)
    expected = ((projected - mean) / (variance + 1e-5).sqrt()).relu()
    torch.testing.assert_close(head(features), expected, rtol=1e-4, atol=1e-5)


def test_the_learned_attention_is_the_channel_wise_maximum(attention):
    result = learned_attention(attention)
    assert result.shape == (BATCH, HEIGHT, WIDTH)
    assert torch.equal(result, attention.max(dim=1).values)


def test_an_attention_head_without_maps_is_refused():
    with pytest.raises(ValueError, match="attention_maps: must be at least 1, not 0"):
        AttentionHead(CHANNELS, 0)


# The classifier's head


def test_the_pooling_changes_in_place_between_gap_and_attention_and_keeps_the_classifier(features, attention):
    head = ClassifierHead("gap", channels=CHANNELS, maps=MAPS, classes=5).eval()
    classifier, weight = head.classifier, head.classifier.weight.clone()
    keys = list(head.state_dict())
    before = head(features, attention)
    head.use_pooling("attention")
    assert head.pooling_name == "attention"
    assert head.classifier is classifier
    assert torch.equal(head.classifier.weight, weight)
    assert list(head.state_dict()) == keys
    assert not head.pooling.training
    assert not torch.allclose(head(features, attention), before)
    head.use_pooling("gap")
    assert torch.equal(head(features, attention), before)


@pytest.mark.parametrize(("start", "end"), [("gap", "bilinear"), ("gap", "compact"), ("bilinear", "gap")])
def test_a_change_of_pooling_that_the_classifier_cannot_follow_is_refused(start, end):
    head = ClassifierHead(start, channels=CHANNELS, maps=MAPS, classes=5)
    with pytest.raises(ValueError, match=f"cannot change from {start} to {end}"):
        head.use_pooling(end)
    assert head.pooling_name == start


def test_a_change_of_pooling_to_attention_without_a_head_is_refused():
    with pytest.raises(ValueError, match="needs an attention head"):
        ClassifierHead("gap", channels=CHANNELS, maps=0, classes=5).use_pooling("attention")
