"""Write a folder of images and captions with almost no labels, for docs/tutorial.md. Needs no network.

The images are scikit-learn's scans of the handwritten digits 1 to 9. The captions are invented notes about
their strokes, some of them vague or wrong. Some images and some captions are missing.

    python examples/small_catalog.py catalog

writes `manifest.csv` (400 samples without labels, 100 of a test split with labels), `new.csv` (40 more
samples), `images/`, and `truth.csv`, the labels of `manifest.csv`, which only a rehearsal may use.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

SEED = 20_140_611
POOL, TEST, NEW = 400, 100, 40
SIDE = 32
MISSING_IMAGE, MISSING_CAPTION = 0.04, 0.06

# Several digits share each word, so a caption alone does not determine the digit.
STROKES = {
    1: ("upright", "line", "thin", "flag"),
    2: ("bow", "foot", "flat", "swan"),
    3: ("bow", "open", "twice", "left"),
    4: ("corner", "line", "crossing", "upright"),
    5: ("flat", "bow", "open", "corner"),
    6: ("loop", "below", "tail", "left"),
    7: ("flat", "line", "slanted", "corner"),
    8: ("loop", "twice", "crossing", "closed"),
    9: ("loop", "above", "tail", "closed"),
}
FILLERS = ("blue ink", "pencil", "smudged", "form B", "a bit faint", "page 2")


def caption(digit: int, rng: np.random.Generator) -> str:
    """Two words for the digit's strokes, one time in five for another digit's, and a meaningless one."""
    about = digit if rng.random() < 0.8 else int(rng.integers(1, 10))
    words = rng.choice(STROKES[about], 2, replace=False)
    return f"{words[0]}, {words[1]}, {rng.choice(FILLERS)}"


def save_picture(scan: np.ndarray, path: Path) -> None:
    """Save a scan of 8 x 8 pixels in 17 shades as an enlarged gray PNG."""
    pixels = np.rint(255 - scan * (255 / 16)).astype(np.uint8)
    Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)


def write(path: Path, header: str, rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([tuple(header.split(",")), *rows])


def make(folder: Path) -> None:
    """Write the catalog into a folder; the same files every time."""
    rng = np.random.default_rng(SEED)
    scans, labels = load_digits(return_X_y=True)
    chosen = rng.permutation(np.flatnonzero(labels > 0))[: POOL + TEST + NEW]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    manifest, new, truth = [], [], []
    for i, position in enumerate(chosen):
        digit = int(labels[position])
        name, image, text = f"fig-{i:04d}", f"images/fig-{i:04d}.png", caption(digit, rng)
        save_picture(scans[position].reshape(8, 8), folder / image)
        lack = rng.random()
        if lack < MISSING_IMAGE:
            (folder / image).unlink()
            image = ""
        elif lack < MISSING_IMAGE + MISSING_CAPTION:
            text = ""
        if i < POOL + TEST:
            test = i >= POOL
            manifest.append((name, image, text, *(("test", str(digit)) if test else ("", ""))))
            truth.append((name, str(digit)))
        else:
            new.append((name, image, text))
    write(folder / "manifest.csv", "id,image,text,split,label", manifest)
    write(folder / "new.csv", "id,image,text", new)
    write(folder / "truth.csv", "id,label", truth)
    print(
        f"{folder}: {POOL} samples to label, {TEST} of a test split, {NEW} new ones; "
        f"{sum(not row[1] for row in manifest)} without picture, "
        f"{sum(not row[2] for row in manifest)} without caption"
    )


if __name__ == "__main__":
    make(Path(sys.argv[1] if len(sys.argv) > 1 else "catalog"))
