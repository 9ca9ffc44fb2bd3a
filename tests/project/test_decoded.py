"""Decoded media in the folder of a project whose encoders are trained."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from rlmba.data.media.reader import RawReader
from rlmba.learner import configure
from rlmba.project.starting import overrides, start
from tests.helpers.people_data import QUICK, asked, fill, taken

N = 40
LABELS = ("dark", "light")
NEXT = ("training.workers=0", "initial_labels=6", "project.validation_labels=6", "batch_size=4")


@pytest.fixture
def manifest(tmp_path):
    rng = np.random.default_rng(0)
    with (tmp_path / "pool.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("id", "image"))
        for i in range(N):
            pixels = rng.integers(0, 100, (32, 32, 3)) + 150 * (i % 2)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{i}.png")
            rows.writerow((i, f"{i}.png"))
    return tmp_path / "pool.csv"


@pytest.fixture
def decoded(monkeypatch):
    calls = []
    original = RawReader.decoded
    monkeypatch.setattr(
        RawReader, "decoded", lambda self, p: (calls.append(p), original(self, p))[1]
    )
    return calls


def begun(folder, manifest, *settings):
    chosen = overrides(manifest=manifest, classes=LABELS, annotator="file")
    return start(folder, configure(chosen, settings=[*QUICK, *NEXT, *settings]))


def test_commands_decode_a_file_once(manifest, tmp_path, decoded):
    folder = tmp_path / "project"
    started = begun(folder, manifest)
    size = f"{N * 32 * 32 * 3 * 4 / 3 / 1e6:,.0f} MB"
    assert f"decoded media are kept in {folder / 'decoded'}: about {size}" in started.lines
    truth = {str(i): LABELS[i % 2] for i in range(N)}
    asked(folder)
    assert sorted(decoded) == list(range(N))
    fill(folder, truth)
    taken(folder)
    asked(folder)
    assert len(decoded) == N
    assert len(list((folder / "decoded").glob("??/*.safetensors"))) == N


@pytest.mark.parametrize("setting", ["project.decoded_gigabytes=0", "model.frozen=true"])
def test_nothing_is_kept_if_nothing_is_allowed_or_features_are_stored(
    manifest, tmp_path, decoded, setting
):
    folder = tmp_path / "project"
    encoder = "model.encoders={image: {name: image-statistics}}"
    started = begun(folder, manifest, setting, encoder)
    kept = [line for line in started.lines if "decoded media" in line]
    assert [("project.decoded_gigabytes sets the limit" in line) for line in kept] == (
        [True] if "project" in setting else []
    )
    asked(folder)
    assert not list((folder / "decoded").glob("??/*"))
    assert decoded
