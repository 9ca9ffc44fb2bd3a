"""A small catalogue of real image and text files, and decoders that worker processes can import."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
from PIL import Image

from rlmba.data.media.catalogue import Catalogue, Sample, Source
from rlmba.data.media.content import MediaContent, Recipe
from rlmba.errors import UsageError

CLASSES = ("ant", "bee", "cat")
RECIPE = Recipe(image_side=16, tokens=6)
LOG = "RLMBA_TEST_DECODED"
"""Environment variable: a file to which decoders append the id of each sample they read."""


def make_files(root, n=60, *, missing=(), broken=(), no_text=(), gray=()):
    """Files of n samples by number: some without files, with a broken image, without text, gray."""
    for k in range(n):
        if k in missing:
            continue
        rng = np.random.default_rng(k)
        folder = root / CLASSES[k % 3]
        folder.mkdir(parents=True, exist_ok=True)
        size = (int(rng.integers(16, 24)), 16)
        mode, shape = ("L", size[::-1]) if k in gray else ("RGB", (*size[::-1], 3))
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        image = folder / f"s{k:03d}.jpg"
        Image.fromarray(pixels, mode).save(image)
        if k in broken:
            image.write_bytes(image.read_bytes()[:40])
        if k not in no_text:
            (folder / f"s{k:03d}.txt").write_text(f"sample number {k} of class {k % 3}")
    return catalogue(root, n)


def catalogue(root, n=60):
    """The catalogue of n samples in this folder."""
    samples = []
    for k in range(n):
        image = root / CLASSES[k % 3] / f"s{k:03d}.jpg"
        text = image.with_suffix(".txt")
        sources = {
            "text": Source("text", text) if text.exists() else None,
            "image": Source("image", image) if image.exists() else None,
        }
        samples.append(Sample(f"s{k:03d}", k % 3, k % 5 == 4, sources))
    samples.sort(key=lambda s: (s.test, s.label, s.id))
    published = {"train": 48, "test": 12}
    return Catalogue(
        "food101", root, "folders", ("text", "image"), CLASSES, samples, published, ("a note",)
    )


def decode(sample, recipe):
    """Pillow for images, lengths of words for text."""
    if LOG in os.environ:
        with Path(os.environ[LOG]).open("a") as log:
            log.write(f"{sample.id}\n")
    image, text = sample.sources["image"], sample.sources["text"]
    return {
        "image": MediaContent(None) if image is None else read_image(image.path),
        "text": MediaContent(None) if text is None else read_text(text.path, recipe),
    }


def read_image(path):
    try:
        with Image.open(path) as image:
            flags = () if image.mode == "RGB" else ("converted",)
            return MediaContent(np.asarray(image.convert("RGB")), flags=flags)
    except OSError as error:
        return MediaContent(None, f"Pillow: {error}")


def read_text(path, recipe):
    lengths = [len(w) for w in path.read_text().split()][: recipe.tokens]
    ids = np.full(recipe.tokens, -1, np.int32)
    ids[: len(lengths)] = lengths
    return MediaContent(ids)


def decode_slowly(sample, recipe):
    time.sleep(0.05)
    return decode(sample, recipe)


def die_at_rename(count, number, when):
    """Kill this process and its relatives before or after rename ``number`` of them all, from 0."""
    replace = os.replace

    def dying(old, new):
        with Path(count).open("ab") as file:
            file.write(b".")
            last = file.tell() == number + 1
        if last and when == "before":
            os.killpg(0, signal.SIGKILL)
        replace(old, new)
        if last:
            os.killpg(0, signal.SIGKILL)

    os.replace = dying


def decode_forever(sample, recipe):
    with Path(os.environ[LOG]).open("a") as log:
        log.write(f"{sample.id}\n")
    time.sleep(600)


def leave_half_a_file(sample, recipe):
    """Stops everything, with a file in the folder of the log that a process was writing."""
    log = Path(os.environ[LOG])
    (log.parent / "c" / "shards" / ".00003.safetensors.0123abcd.tmp").write_bytes(b"half")
    raise UsageError("stop")


def decode_or_die(sample, recipe):
    """Kills its own process on two samples, as a broken library does."""
    if sample.id in ("s007", "s031"):
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(sample, recipe)


def decode_or_raise(sample, recipe):
    if sample.id == "s007":
        raise ZeroDivisionError("of the\ncodec")
    return decode(sample, recipe)


def decode_wrong_shape(sample, recipe):
    contents = decode(sample, recipe)
    return {**contents, "text": MediaContent(np.zeros(3, np.int32))}


def decode_without_tokenizer(sample, recipe):
    raise UsageError("no tokenizer there")


def die_at_once(sample, recipe):
    os._exit(3)


def decode_large(sample, recipe):
    """Images of half a megabyte each, whatever the file."""
    contents = decode(sample, recipe)
    return {**contents, "image": MediaContent(np.full((400, 400, 3), 7, np.uint8))}
