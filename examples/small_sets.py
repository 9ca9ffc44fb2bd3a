"""Reduce real multimodal data sets to flat features: images, sounds and sensors, averaged over cells.

Reads raw arrays (.npz with one array per modality, y, split) and writes arrays that one layer learns
within seconds, so that a comparison of many strategies and seeds takes an hour and not a week.

    python examples/small_sets.py av_digits.npz utd_mhad.npz wiki.npz --output sets

With --trouble, it also writes copies of each set with one kind of trouble, such as wiki-noise.npz:

    missing     30 % of the training samples lack the last modality
    long-tail   the largest class has 20 times as many training samples as the smallest
    duplicates  each training sample is there in five noisy copies
    noise       10 % of the training samples have a wrong label

Test samples stay unchanged. The validation set is drawn from the training samples, so it has the same
trouble, as it would have in practice.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.generic]]

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


def modalities(arrays: Arrays) -> list[str]:
    """Names of the modalities, in the order of the file."""
    return [name for name, a in arrays.items() if a.ndim > 1 and name != "present"]


def missing(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    """Remove the last modality from 30 % of the training samples."""
    train = np.flatnonzero(arrays["split"] == 0)
    lacking = rng.choice(train, round(0.3 * len(train)), replace=False)
    names = modalities(arrays)
    present = np.ones((len(arrays["y"]), len(names)), np.uint8)
    present[lacking, -1] = 0
    emptied = arrays[names[-1]].copy()
    emptied[lacking] = 0
    return {**arrays, names[-1]: emptied, "present": present}


def long_tail(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    """Thin out the training samples so that the sizes of classes fall geometrically, from 20 to 1.

    The order of classes by size stays the same. Every class keeps at least three samples, so that both the
    validation set and the pool contain it.
    """
    y, train = arrays["y"], arrays["split"] == 0
    counts = np.bincount(y[train])
    order = np.argsort(-counts, kind="stable")
    shares = 20.0 ** -np.linspace(0, 1, len(order))
    head = (counts[order] / shares).min()
    keep = ~train
    for c, share in zip(order, shares, strict=True):
        rows = np.flatnonzero(train & (y == c))
        n = min(len(rows), max(3, round(head * share)))
        keep[rng.choice(rows, n, replace=False)] = True
    return {name: a[keep] for name, a in arrays.items()}


def duplicates(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    """Replace each training sample by five copies with noise of a tenth of each column's deviation."""
    train = arrays["split"] == 0
    rows = np.concatenate([np.repeat(np.flatnonzero(train), 5), np.flatnonzero(~train)])
    copied = {name: a[rows] for name, a in arrays.items()}
    noisy = copied["split"] == 0
    for name in modalities(arrays):
        x = copied[name].astype(np.float32)
        noise = rng.normal(size=(noisy.sum(), x.shape[1])).astype(np.float32)
        x[noisy] += 0.1 * arrays[name][train].astype(np.float32).std(axis=0) * noise
        copied[name] = x
    return copied


def noise(arrays: Arrays, rng: np.random.Generator) -> Arrays:
    """Give 10 % of the training samples the label of another class."""
    y = arrays["y"].copy()
    train, classes = np.flatnonzero(arrays["split"] == 0), int(y.max()) + 1
    wrong = rng.choice(train, round(0.1 * len(train)), replace=False)
    y[wrong] = (y[wrong] + rng.integers(1, classes, size=len(wrong))) % classes
    return {**arrays, "y": y}


TROUBLES: Mapping[str, Callable[[Arrays, np.random.Generator], Arrays]] = {
    "missing": missing,
    "long-tail": long_tail,
    "duplicates": duplicates,
    "noise": noise,
}


def prepare(source: Path, folder: Path, troubles: list[str]) -> None:
    """Write the features of one data set into a folder, also with each kind of trouble."""
    with np.load(source) as file:
        arrays = {k: file[k] for k in file if k not in LEFT_OUT.get(source.stem, ())}
    for name, cells in CELLS.get(source.stem, {}).items():
        arrays[name] = averaged(arrays[name], cells)
    write(folder / source.name, arrays)
    for trouble in troubles:
        made = TROUBLES[trouble](arrays, np.random.default_rng(0))
        write(folder / f"{source.stem}-{trouble}.npz", made)


def write(target: Path, arrays: Arrays) -> None:
    """Write arrays and print what they are."""
    np.savez_compressed(target, **arrays)
    shapes = {name: arrays[name].shape[1:] for name in modalities(arrays)}
    print(f"{target}: {len(arrays['y'])} samples, {shapes}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "files", nargs="*", type=Path, help="raw arrays; without any, this text is printed"
    )
    parser.add_argument("--output", type=Path, default=Path("sets"))
    parser.add_argument("--trouble", action="append", choices=[*TROUBLES, "all"], default=[])
    given = parser.parse_args()
    if not given.files:
        parser.print_help()
        parser.exit()
    given.output.mkdir(parents=True, exist_ok=True)
    wanted = list(TROUBLES) if "all" in given.trouble else given.trouble
    for file in given.files:
        prepare(file, given.output, wanted)
