"""What the tests of the cache share: a cache that is switched on, files that changed long ago, decodes that count."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sam_core.datasets import reading


@pytest.fixture
def cache_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder of the data root `tmp_path / "data"`, with the cache switched on."""
    monkeypatch.delenv("SAM_CACHE_GB")
    return tmp_path / "data" / ".cache"


@pytest.fixture
def settle() -> Callable[[Path], Path]:
    """Gives the files below a folder an old time of change: one that is seconds old is read once more to be sure."""

    def settle(folder: Path) -> Path:
        for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
            os.utime(path, ns=(10**18 + number, 10**18 + number))
        return folder

    return settle


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The image files opened so far, in order."""
    names: list[Path] = []
    original = reading.open_file

    def counting(path: Path) -> object:
        names.append(path)
        return original(path)

    monkeypatch.setattr(reading, "open_file", counting)
    return names
