"""Training on pictures with augmentation in the main process (before) and in the workers (after).

    python -m bench.study_augmenting_workers [--pairs 5] [--steps 16] [--threads 1] [--out FILE.json]

The default encoder for images is trained on pictures from memory, with two workers, in pairs of the same
training. Reported are the medians of before over after: wall seconds, and CPU seconds of the main process,
which do not depend on what else the machine does. The weights must be bit-identical.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from bench.common import write_results
from rlmba.config import ModelConfig, TrainingConfig
from rlmba.data.manifest.options import crop_of
from rlmba.data.media.content import Recipe
from rlmba.data.media.dataset import MediaDataset
from rlmba.data.media.transforms import Image
from rlmba.models import build_classifier
from rlmba.training import Loader, fit, loading

SAMPLES, CLASSES, BATCH = 256, 9, 32
SIDES = 64, 128


class Arrays:
    """Pictures in memory, as a reader of decoded media returns them."""

    def __init__(self, recipe):
        rng = np.random.default_rng(0)
        side = recipe.image_side
        self.pictures = rng.integers(0, 256, (SAMPLES, side, side, 3), np.uint8)

    def read(self, position):
        return {"image": self.pictures[position]}


def training(data, steps, threads, in_workers):
    """Wall and main-process CPU seconds of a training, and its weights."""
    loading._Reader._has_room = lambda *_: in_workers
    torch.set_num_threads(threads)
    model = build_classifier(data.modalities, CLASSES, ModelConfig(), "uniform", seed=0)
    config = TrainingConfig(minibatch_size=BATCH, min_steps=steps)
    with Loader(data, workers=2) as loader:
        list(loader.batches([np.arange(2)] * 2))  # the processes have started
        start, busy = time.perf_counter(), time.process_time()
        fit(
            model,
            loader,
            data.train_positions,
            data.labels[data.train_positions],
            config,
            epochs=1,
            seed=0,
        )
        spent = time.perf_counter() - start, time.process_time() - busy
    return spent, torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def pictures(side):
    """A data set of random pictures of a size to which a manifest's pictures are resized."""
    recipe = Recipe(image_side=side)
    return MediaDataset(
        "bench",
        Arrays(recipe),
        ids=[str(i) for i in range(SAMPLES)],
        labels=np.arange(SAMPLES) % CLASSES,
        classes=[str(c) for c in range(CLASSES)],
        test=np.zeros(SAMPLES, np.bool_),
        modalities=["image"],
        recipe=recipe,
        forms={"image": Image(recipe, crop_of(recipe.image_side))},
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    figures = {}
    for side in SIDES:
        data, pairs = pictures(side), []
        for k in range(given.pairs):
            order = (False, True) if k % 2 else (True, False)
            found = {where: training(data, given.steps, given.threads, where) for where in order}
            assert torch.equal(found[False][1], found[True][1])
            pairs.append({"before": found[False][0], "after": found[True][0]})
        ratios = [[p["before"][i] / p["after"][i] for p in pairs] for i in (0, 1)]
        figures[side] = {
            "wall_ratio": round(statistics.median(ratios[0]), 3),
            "main_cpu_ratio": round(statistics.median(ratios[1]), 3),
            "pairs": pairs,
        }
        print(side, json.dumps(figures[side], indent=1), flush=True)
    if given.out is not None:
        write_results(
            given.out,
            steps=given.steps,
            minibatch=BATCH,
            threads=given.threads,
            sides=figures,
        )


if __name__ == "__main__":
    main()
