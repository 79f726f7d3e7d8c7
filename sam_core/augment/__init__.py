"""Training and test views of stored images: `views` draws them, `operations` changes them, `rendering` makes pixels."""

from sam_core.augment.operations import OPERATIONS
from sam_core.augment.rendering import centre_views, normalise, ten_crop_views, train_views
from sam_core.augment.views import View, draw_view, view_box

__all__ = [
    "OPERATIONS", "View", "centre_views", "draw_view", "normalise", "ten_crop_views", "train_views", "view_box",
]  # fmt: skip
