import math

import pytest
import torch
import torch.nn.functional as F

from sam_core.evaluation.accuracy import AccuracyMeter, confusion_matrix, per_class_accuracy, top_k_correct


def test_top_k_counts_the_label_among_the_k_highest_scores():
    scores = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    labels = torch.tensor([1, 1, 0])
    assert top_k_correct(scores, labels, 1).tolist() == [True, False, False]
    assert top_k_correct(scores, labels, 2).tolist() == [True, True, False]
    assert top_k_correct(scores, labels, 3).tolist() == [True, True, True]


def test_top_five_of_three_classes_is_top_three():
    scores = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    assert top_k_correct(scores, torch.arange(8) % 3, 5).all()


def test_top_k_agrees_with_sorting_the_scores():
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(50, 11, generator=generator)
    labels = torch.randint(11, (50,), generator=generator)
    for k in (1, 3, 5):
        expected = (scores.topk(k).indices == labels[:, None]).any(dim=1)
        assert torch.equal(top_k_correct(scores, labels, k), expected)


def test_equal_scores_rank_in_class_order():
    scores = torch.zeros(4, 4)
    labels = torch.arange(4)
    assert top_k_correct(scores, labels, 1).tolist() == [True, False, False, False]
    assert top_k_correct(scores, labels, 3).tolist() == [True, True, True, False]


def test_scores_that_are_not_numbers_are_never_correct():
    scores = torch.tensor([[math.nan, math.nan], [1.0, math.nan], [1.0, 0.0]])
    assert top_k_correct(scores, torch.tensor([0, 0, 0]), 2).tolist() == [False, False, True]


def test_confusion_matrix_has_true_classes_in_rows():
    labels = torch.tensor([0, 0, 1, 2, 2, 2])
    predicted = torch.tensor([0, 1, 1, 2, 0, 0])
    confusion = confusion_matrix(predicted, labels, 4)
    assert confusion.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [2, 0, 1, 0], [0, 0, 0, 0]]
    assert confusion.dtype == torch.int64


def test_per_class_accuracy_is_nan_for_a_class_without_an_image():
    confusion = torch.tensor([[1, 1, 0], [0, 0, 0], [0, 1, 3]])
    percent = per_class_accuracy(confusion).tolist()
    assert percent[0] == 50
    assert math.isnan(percent[1])
    assert percent[2] == 75


def test_meter_gives_percent_and_the_mean_loss_whatever_the_batches():
    generator = torch.Generator().manual_seed(2)
    scores = torch.randn(30, 9, generator=generator)
    labels = torch.randint(9, (30,), generator=generator)
    whole, parts = AccuracyMeter(), AccuracyMeter()
    whole.update(scores, labels)
    for rows in (slice(0, 7), slice(7, 8), slice(8, 30)):
        parts.update(scores[rows], labels[rows])
    expected = {
        "top1": 100 * (scores.argmax(dim=1) == labels).float().mean().item(),
        "top5": 100 * top_k_correct(scores, labels, 5).float().mean().item(),
        "loss": F.cross_entropy(scores, labels).item(),
    }
    assert whole.result() == pytest.approx(expected, rel=1e-5)
    assert parts.result() == pytest.approx(expected, rel=1e-5)


def test_meter_takes_the_losses_it_is_given():
    meter = AccuracyMeter()
    meter.update(torch.eye(2), torch.tensor([0, 0]), torch.tensor([1.0, 4.0]))
    assert meter.result() == {"top1": 50.0, "top5": 100.0, "loss": 2.5}


def test_the_sums_of_two_processes_add_up():
    first, second = AccuracyMeter(), AccuracyMeter()
    first.update(torch.eye(3), torch.tensor([0, 1, 2]), torch.ones(3))
    second.update(torch.eye(3)[:1], torch.tensor([2]), torch.tensor([5.0]))
    first.sums += second.sums
    assert first.result() == {"top1": 75.0, "top5": 100.0, "loss": 2.0}


def test_meter_without_an_image_gives_nan():
    assert all(math.isnan(value) for value in AccuracyMeter().result().values())


def test_no_value_is_read_by_the_host_before_the_end():
    """Tensors on the meta device have no values, so whatever waits for one fails there."""
    meter = AccuracyMeter("meta")
    scores, labels = torch.empty(2, 7, device="meta"), torch.empty(2, dtype=torch.int64, device="meta")
    meter.update(scores, labels)
    assert per_class_accuracy(confusion_matrix(labels, labels, 7)).shape == (7,)
