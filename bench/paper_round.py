"""One complete round at the size of Food-101 on generated recipes, by the stages of the paper's Table 3.

    python -m bench.paper_round [--train 45719] [--test 15294] [--set KEY=VALUE ...]

Writes JPEGs and texts into --work, prepares them, runs rounds 0 and 1 of `rlmba` with the preset food101
and untrained networks (BERT-base, ResNet-101), and prints the seconds of round 1 and those of the paper.
Existing files are reused. --json stores the figures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rlmba.config import load_config
from rlmba.data.media.folder import prepare_folder
from rlmba.data.media.layouts import published_classes
from rlmba.environment import processor
from rlmba.learner import run

PAPER = {"predict": 155.41, "select": 33.48, "policy": 0.23}
"""Seconds per round of RL-MBA on Food101, on one workstation GPU. The paper gives training and validation
only for GCNAL: 639.16 and 56.11."""
STAGES = ("predict", "select", "train", "validate", "policy")


def write_recipe(root: Path, split: str, name: str, number: int, label: int) -> None:
    """A detailed picture of 512 x 384, and a page of text."""
    image = root / "images" / split / name / f"{name}_{number}.jpg"
    if image.exists():
        return
    rng = np.random.default_rng([label, number])
    coarse = rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)
    picture = np.asarray(Image.fromarray(coarse).resize((512, 384), Image.Resampling.BICUBIC))
    noisy = picture.astype(np.int16) + rng.integers(-18, 19, picture.shape)
    noisy[: 24 * (1 + label % 10)] += label
    words = [f"word{k}" for k in rng.integers(0, 40, 60) + 17 * label]
    text = root / "texts_txt" / name / f"{name}_{number}.txt"
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_text(f"A page about {name}. Ingredients: {' '.join(words)}\n", encoding="utf-8")
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(image, quality=88)


def write_class(root: Path, label: int, name: str, train: int, test: int) -> None:
    for number in range(train + test):
        write_recipe(root, "train" if number < train else "test", name, number, label)


def share(total: int, of: int, number: int) -> int:
    return total // of + (number < total % of)


def write_all(root: Path, train: int, test: int) -> None:
    classes = published_classes("food101")
    with ProcessPoolExecutor() as pool:
        jobs = [
            pool.submit(
                write_class,
                root,
                label,
                name,
                share(train, len(classes), label),
                share(test, len(classes), label),
            )
            for label, name in enumerate(classes)
        ]
        for job in jobs:
            job.result()


def timed(what: str, function, *arguments, **options):
    start = time.perf_counter()
    result = function(*arguments, **options)
    seconds = time.perf_counter() - start
    print(f"{what}: {seconds:.1f} s", flush=True)
    return result, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=45_719)
    parser.add_argument("--test", type=int, default=15_294)
    parser.add_argument("--work", type=Path, help="kept; default: a temporary folder")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        root = work / f"food101-{given.train}-{given.test}"
        _, writing = timed("written", write_all, root, given.train, given.test)
        cache = root.with_name(f"{root.name}-cache")
        _, preparing = timed("prepared", prepare_folder, "food101", root, cache, tokenizer="words")
        config = load_config(
            overrides={"dataset": "food101", "data_root": cache, "rounds": 1},
            settings=[
                "dataset_options.tokenizer=words",
                "model.encoders.text.weights=random",
                "model.encoders.image.weights=random",
                *given.settings,
            ],
        )
        output = Path(temporary) / "run"
        result, _ = timed("rounds 0 and 1", run, config, output)
    record = result.records[1]
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else processor()
    print(f"\nround 1: {record.labels} labels, {given.train:,} + {given.test:,} samples, {where}")
    for stage in STAGES:
        paper = f"   paper {PAPER[stage]}" if stage in PAPER else ""
        print(f"{stage:>10} {record.seconds[stage]:10.2f} s{paper}")
    if given.json:
        figures = {
            "machine": where,
            "torch": torch.__version__,
            "train": given.train,
            "test": given.test,
            "settings": given.settings,
            "seconds": {"writing": writing, "preparing": preparing, **record.seconds},
            "select_seconds": dict(record.select_seconds),
        }
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
