"""Which pictures are the same picture saved again: in another size, format or quality, their bytes differ.

Compared are looks, small grey pictures of 16 x 16 pixels. Among 2,762 photographs (25 classes of CUB-200-2011 and the
17 of Oxford Flowers), with 3.8 million pairs, 67 pairs differ by less than 3 of 255, all of them one photograph in two
files, as a person sees; and after one at 5.7, a photograph cut and sharpened, no other pair differs by less than 13.6.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Two looks are of one picture if they differ by less than this, root mean square, of 255.
LARGEST_DIFFERENCE = 3.0
#: And by less than this share of their contrast (the standard deviation): much of nothing looks alike, such as sky.
LARGEST_SHARE = 0.1
#: Looks compared with all others at once.
_BLOCK = 256


def find_look_alikes(looks: Sequence[bytes]) -> list[tuple[int, int]]:
    """Pairs of places whose looks are of the same picture.

    Args:
        looks: as `reading.look_of` makes them.

    Returns:
        Pairs, the earlier place first. Of a picture that is there n times they are n - 1, and connect all of them.
    """
    if len(looks) < 2:
        return []
    pictures = np.frombuffer(b"".join(looks), np.uint8).reshape(len(looks), -1).astype(np.float32)  # (N, 256)
    # The means of two looks differ by no more than the looks do: in order of their means, only neighbours can match.
    means = pictures.mean(axis=1)
    order = np.argsort(means, kind="stable")
    pictures, means = pictures[order], means[order]
    contrast = pictures.std(axis=1)
    squares = (pictures**2).sum(axis=1)
    ends = np.searchsorted(means, means + LARGEST_DIFFERENCE, side="right")
    match = np.full(len(looks), -1)
    for start in range(0, len(looks), _BLOCK):
        stop = min(start + _BLOCK, len(looks))
        end = int(ends[stop - 1])
        products = pictures[start:stop] @ pictures[start:end].T  # (rows, columns)
        distances = squares[start:stop, None] + squares[None, start:end] - 2 * products
        difference = np.sqrt(np.maximum(distances, 0) / pictures.shape[1])
        allowed = np.minimum(LARGEST_DIFFERENCE, LARGEST_SHARE * contrast[start:stop])
        # One match for every look is enough, and keeps a film of ten thousand equal frames from being all pairs.
        matching = np.triu(difference < allowed[:, None], k=1)
        new = np.flatnonzero(matching.any(axis=0) & (match[start:end] < 0))
        match[start + new] = start + matching[:, new].argmax(axis=0)
    found = np.flatnonzero(match >= 0)
    pairs = zip(order[found].tolist(), order[match[found]].tolist(), strict=True)
    return sorted((min(pair), max(pair)) for pair in pairs)
