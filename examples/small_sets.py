"""Reduce real multimodal data sets to flat features: images, sounds and sensors, averaged over cells.

Reads raw arrays (.npz with one array per modality, y, split) and writes arrays that one layer learns
within seconds, so that a comparison of many strategies and seeds takes an hour and not a week.

    python examples/small_sets.py av_digits.npz utd_mhad.npz wiki.npz --output sets
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Cells of neighboring values that are averaged, by axis after the first; other arrays stay unchanged.
CELLS = {
    "av_digits": {"image": (2, 2), "logmel": (2, 2)},
    "utd_mhad": {"depth": (1, 4, 4), "skeleton": (4, 1), "inertial": (4, 1)},
}
# Arrays that are not used: the raw form of another array, or another split.
LEFT_OUT = {"av_digits": {"audio", "split_speaker"}}


def averaged(x: NDArray[np.generic], cells: tuple[int, ...]) -> NDArray[np.float32]:
    """Average an array [N, ...] over cells and flatten it: float32 [N, D]."""
    shape = [len(x)]
    for size, cell in zip(x.shape[1:], cells, strict=True):
        shape += [size // cell, cell]
    axes = tuple(range(2, len(shape), 2))
    return x.astype(np.float32).reshape(shape).mean(axis=axes).reshape(len(x), -1)


def prepare(source: Path, folder: Path) -> Path:
    """Write the features of one data set into a folder."""
    with np.load(source) as file:
        arrays = {k: file[k] for k in file if k not in LEFT_OUT.get(source.stem, ())}
    for name, cells in CELLS.get(source.stem, {}).items():
        arrays[name] = averaged(arrays[name], cells)
    target = folder / source.name
    np.savez_compressed(target, **arrays)
    shapes = {k: v.shape[1:] for k, v in arrays.items() if v.ndim > 1}
    print(f"{target}: {len(arrays['y'])} samples, {shapes}")
    return target


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="raw arrays; without any, this text")
    parser.add_argument("--output", type=Path, default=Path("sets"))
    given = parser.parse_args()
    if not given.files:
        parser.print_help()
        parser.exit()
    given.output.mkdir(parents=True, exist_ok=True)
    for file in given.files:
        prepare(file, given.output)
