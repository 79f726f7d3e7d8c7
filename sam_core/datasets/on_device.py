"""The images of a run on the device that computes with them, so that no step has to bring them there again."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sam_core.datasets.store import ImageStore
from sam_core.device import free_memory, send

#: The share of a device's free memory that images may take; the network, its gradients and activations need the rest.
MEMORY_SHARE = 0.35


class DeviceImages:
    """The images of a store as a device wants them.

    On a CPU they are taken from the store. Another device keeps every image that was once taken, as uint8, as long as
    it has room: the labelled ones are evaluated first, and so are the first to have a place. What has none is sent
    each time. Nothing here waits for the device.

    Args:
        store: the decoded images.
        device: where they are wanted.
        room: how many images may be kept; by default as many as fit into a share of the free memory.
    """

    def __init__(self, store: ImageStore, device: torch.device, *, room: int | None = None) -> None:
        self.store = store
        self.device = device
        self._labels = send(store.labels, device)
        if room is None:
            room = 0 if device.type == "cpu" else int(MEMORY_SHARE * free_memory(device)) // (3 * store.side**2)
        self.room = min(room, len(store))
        self._place = np.full(len(store), -1)
        """Where in `_kept` each image is, -1 for one that is not."""
        self._taken = 0
        self._kept: Tensor | None = None

    def take(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Images and labels at some places in the store, on the device.

        Args:
            positions: (B,), on the CPU, none of them twice.

        Returns:
            uint8 (B, 3, side, side), channels last in memory, and (B,).
        """
        labels = self._labels[send(positions, self.device)]
        if not self._keep(positions.numpy()):
            return send(self.store.take(positions), self.device), labels
        places = send(torch.from_numpy(self._place[positions.numpy()]), self.device)
        return self._kept[places].permute(0, 3, 1, 2), labels

    def _keep(self, positions: np.ndarray) -> bool:
        """Bring those to the device that are not there yet; False where there is no room for them."""
        new = positions[self._place[positions] < 0]
        if self._taken + len(new) > self.room or not len(positions):
            return False
        if len(new):
            if self._kept is None:
                side = self.store.side
                self._kept = torch.empty((self.room, side, side, 3), dtype=torch.uint8, device=self.device)
            images = self.store.take(torch.from_numpy(new)).permute(0, 2, 3, 1)
            self._kept[self._taken : self._taken + len(new)] = send(images, self.device)
            self._place[new] = np.arange(self._taken, self._taken + len(new))
            self._taken += len(new)
        return True
