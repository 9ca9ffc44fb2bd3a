"""Files, tables and caches that several test files read."""

from __future__ import annotations

import pytest

from tests.helpers import cache_media, manifest_helpers, prepare_helpers
from tests.helpers.media_files import write_clip, write_image, write_wav


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("media")
    return cache_media.make_files(root, missing=(3,), broken=(5,), no_text=(9,), gray=(10,))


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """The files of a cache that was prepared without interruption."""
    out = tmp_path_factory.mktemp("whole") / "c"
    prepare_helpers.make(source, out)
    return prepare_helpers.content(out)


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Ids in the order in which they were decoded."""
    file = tmp_path / "decoded"
    monkeypatch.setenv(cache_media.LOG, str(file))
    return lambda: file.read_text().split() if file.exists() else []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve images and sounds, and two clips with sound."""
    root = tmp_path_factory.mktemp("files")
    for i in range(manifest_helpers.N):
        write_image(root / f"{i}.jpg", seed=i, label=i % 2)
        write_wav(root / "wav" / f"{i}.wav", seed=i, label=i % 2, seconds=0.8, rate=8000)
    for i in range(2):
        write_clip(root / f"{i}.mp4", seed=i, label=i, seconds=1.2)
    return root
