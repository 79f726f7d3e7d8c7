"""Views are drawn from three numbers."""

from __future__ import annotations

from sam_core.augment.views import View, draw_view, view_box


def view(key: str, augment: str = "randaugment") -> View:
    return draw_view(key, augment=augment, side=64, size=56, crop_scale=0.2)


def test_a_view_depends_on_its_key_alone():
    assert view("0/1/2") == view("0/1/2")
    assert len({view(f"0/1/{index}") for index in range(20)}) == 20


def test_crops_stay_inside_and_keep_at_least_the_smallest_area():
    for index in range(500):
        drawn = view(str(index), "crop")
        assert drawn.top >= 0
        assert drawn.left >= 0
        assert drawn.top + drawn.height <= 64
        assert drawn.left + drawn.width <= 64
        assert drawn.height * drawn.width >= 0.18 * 64 * 64  # whole pixels round a little


def test_half_of_the_views_are_mirrored():
    mirrored = sum(view(str(index), "flip").mirrored for index in range(1000))
    assert 440 < mirrored < 560


def test_the_view_box_is_the_centre_in_fractions():
    assert view_box(256, 224) == (0.0625, 0.0625, 0.875, 0.875)
