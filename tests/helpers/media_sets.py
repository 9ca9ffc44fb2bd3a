"""Whole data sets of small media files, in the layouts that people have on disk, also damaged.

The media are those of :mod:`tests.helpers.media_files`, and the words of a text depend on its class.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.helpers.media_files import truncate, write_clip, write_frames, write_image, write_wav

FOOD101 = ("apple_pie", "baby_back_ribs", "baklava")
KINETICSSOUND = ("laughing", "playing drums", "playing piano")
VGGSOUND = ("dog barking", "playing violin, fiddle", "thunder")

CLIP_DAMAGES = (
    "no-audio",
    "truncated",
    "still",
    "short",
    "wrong-extension",
    "empty-file",
    "missing",
)
FOOD_DAMAGES = (
    "non-utf8",
    "crlf-bom",
    "empty-text",
    "no-ingredients",
    "missing-text",
    "missing-image",
    "truncated",
    "empty-file",
    "gray",
    "alpha",
    "cmyk",
    "palette",
    "rotated",
)

WORDS = [
    "flour",
    "sugar",
    "butter",
    "apple",
    "cinnamon",
    "pastry",
    "pork",
    "ribs",
    "smoke",
    "sauce",
    "honey",
    "pepper",
    "walnut",
    "syrup",
    "filo",
    "beef",
    "raw",
    "capers",
    "beet",
    "goat",
    "cheese",
    "rice",
    "egg",
    "sesame",
]


@dataclass(frozen=True)
class Made:
    """A sample and its damage, or "" if it is intact."""

    id: str
    class_name: str
    test: bool
    damage: str


def video_id(seed):
    """11 characters as of YouTube: some begin with a hyphen, some hold or end in underscores."""
    letters = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789"
    name = list(np.random.default_rng([seed, 3]).choice(list(letters), 11))
    if seed % 4 == 1:
        name[0] = "-"
    if seed % 4 == 2:
        name[5] = "_"
    if seed % 4 == 3:
        name[10] = "_"
    return "".join(name)


def _plan(classes, train, test, damages):
    """(class, test, number within the data set, damage): healthy ones, then one a damage, in train."""
    plan = []
    for label in range(len(classes)):
        plan += [(label, False, "")] * train + [(label, True, "")] * test
    plan += [(k % len(classes), False, damage) for k, damage in enumerate(damages)]
    return [(label, is_test, k, damage) for k, (label, is_test, damage) in enumerate(plan)]


def text_words(seed, label):
    """Twelve ingredients, most of them the class's own."""
    rng = np.random.default_rng([seed, 4])
    own = [WORDS[(3 * label + k) % len(WORDS)] for k in range(3)]
    return list(rng.choice(own, 9)) + list(rng.choice(WORDS, 3))


def page_text(seed, label, class_name):
    """The text of a recipe's page: chatter, "Ingredients:", and the class's words."""
    words = text_words(seed, label)
    title = class_name.replace("_", " ").title()
    return (
        f"Best {title} Recipe | Yum!\nSee all ingredients here. INGREDIENTS: {', '.join(words)}\n"
    )


def make_food101(
    root,
    layout="folders",
    *,
    classes=FOOD101,
    train=4,
    test=2,
    damages=(),
    size=(64, 48),
    header=True,
    flat=False,
):
    """UPMC Food-101 as "folders", "json" (BMMAL's lists) or "titles" (CSV files).

    ``train`` and ``test`` count the healthy samples of a class; each of ``damages`` (of
    FOOD_DAMAGES) is one more training sample, in the classes by turns. Returns all as Made, the
    missing included. ``header`` and ``flat`` (images in one folder) concern "titles".
    """
    root = Path(root)
    made, rows = [], {"train": [], "test": []}
    for label, is_test, k, damage in _plan(classes, train, test, damages):
        name = classes[label]
        split = "test" if is_test else "train"
        sample = f"{name}_{k}"
        made.append(Made(sample, name, is_test, damage))
        folder = root / "images" if flat else root / "images" / split / name
        image = folder / f"{sample}.jpg"
        _food_image(image, damage, k, label, size)
        data = _food_text(damage, k, label, name)
        title = "" if damage == "empty-text" else f'{" ".join(text_words(k, label)[:5])}, "{name}"'
        rows[split].append((sample, name, image, data, title))
    if layout == "folders":
        for entries in rows.values():
            for sample, name, _, data, _ in entries:
                path = root / "texts_txt" / name / f"{sample}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                if data is not None:
                    path.write_bytes(data)
    elif layout == "json":
        for split, entries in rows.items():
            _write_food_json(root / f"{split}.json", entries)
    else:
        for split, entries in rows.items():
            with (root / f"{split}_titles.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                if header:
                    writer.writerow(["image", "title", "class"])
                for sample, name, _, data, title in entries:
                    writer.writerow([f"{sample}.jpg", "" if data is None else title, name])
    return made


def _food_image(path, damage, seed, label, size):
    mode = {"gray": "L", "alpha": "RGBA", "cmyk": "CMYK", "palette": "P"}.get(damage, "RGB")
    orientation = 6 if damage == "rotated" else None
    if damage != "missing-image":
        write_image(
            path, seed=seed, label=label, size=size, mode=mode, exif_orientation=orientation
        )
    if damage == "truncated":
        truncate(path)
    elif damage == "empty-file":
        path.write_bytes(b"")


def _food_text(damage, seed, label, class_name):
    """Bytes of a text file, None where it is missing."""
    text = page_text(seed, label, class_name)
    if damage == "no-ingredients":
        text = text.lower().replace("ingredients", "parts")
    if damage == "non-utf8":
        return (text.replace("Yum", "Crème brûlée") + "pâté").encode("cp1252")
    if damage == "crlf-bom":
        return b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()
    if damage == "empty-text":
        return b""
    return None if damage == "missing-text" else text.encode()


def _write_food_json(path, rows):
    """A list as BMMAL's preprocessing writes it, without samples that have no text."""
    entries = []
    for sample, name, image, data, _ in rows:
        text = (data or b"").decode("cp1252").lower()
        if "ingredients: " not in text:
            continue
        tokens = text.split("ingredients: ")[-1].replace(",", " ").split()
        entries.append(
            {
                "id": f"{name}_{sample}.jpg",
                "label": name,
                "text_tokens": tokens,
                # As it lay where the list was made, which is not where it lies now.
                "img_path": f"/workspace/UPMC_Food101/{image.relative_to(path.parent)}",
            }
        )
    path.write_text(json.dumps(entries), encoding="utf-8")


def _damage_clip(path, damage, seed, label, seconds, size, fps):
    """Write a clip with its damage."""
    if damage == "missing":
        return
    options = {
        "no-audio": {"audio": False},
        "still": {"still": True},
        "wrong-extension": {"kind": ".webm" if path.suffix != ".webm" else ".mkv"},
    }.get(damage, {})
    write_clip(path, seed=seed, label=label, seconds=seconds, size=size, fps=fps, **options)
    if damage == "truncated":
        truncate(path)
    elif damage == "empty-file":
        path.write_bytes(b"")


def _damage_frames(frames, sounds, name, damage, seed, label, seconds, size):
    """Write a clip with its damage, as a folder of frames in ``frames`` and a sound file in ``sounds``."""
    if damage == "missing":
        return
    frames, wav = frames / name, sounds / f"{name}.wav"
    write_frames(frames, seed=seed, label=label, size=size, still=damage == "still")
    if damage == "no-audio":
        return
    write_wav(wav, seed=seed, label=label, seconds=seconds)
    if damage == "truncated":
        truncate(wav, 0.5)
        truncate(frames / "frame_3.jpg", 0.5)
    elif damage == "empty-file":
        wav.write_bytes(b"")
        (frames / "frame_0.jpg").write_bytes(b"")


def make_kineticssound(
    root,
    layout="frames",
    *,
    classes=KINETICSSOUND,
    train=4,
    test=2,
    damages=(),
    seconds=3.0,
    size=(64, 48),
    fps=10,
    suffix=".mp4",
    test_name="test",
    underscores=False,
):
    """KineticsSound as "frames" (and sound files), "clips" (by split and class) or "csv" (flat).

    Samples as in :func:`make_food101`. ``short`` clips have 3 s, or a third of ``seconds`` where
    that is less. ``test_name`` is the name of the test split, ``underscores`` writes class folders
    without blanks.
    """
    root = Path(root)
    made, rows = [], []
    for label, is_test, k, damage in _plan(classes, train, test, damages):
        split = test_name if is_test else "train"
        name, video, start = classes[label], video_id(k), 7 * k
        sample = f"{video}_{start:06d}_{start + 10:06d}"
        made.append(Made(sample, name, is_test, damage))
        rows.append([name, video, start, start + 10, split, 0])
        folder = name.replace(" ", "_") if underscores else name
        length = min(3.0, seconds / 3) if damage == "short" else seconds
        if layout == "frames":
            frames, sounds = root / split / "video" / folder, root / split / "audio" / folder
            _damage_frames(frames, sounds, sample, damage, k, label, length, size)
            continue
        place = root / split / folder if layout == "clips" else root
        _damage_clip(place / f"{sample}{suffix}", damage, k, label, length, size, fps)
    if layout == "csv":
        for split in {"train", test_name}:
            with (root / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["label", "youtube_id", "time_start", "time_end", "split", "is_cc"])
                writer.writerows(row for row in rows if row[4] == split)
    return made


def make_vggsound(
    root,
    layout="clips",
    *,
    classes=VGGSOUND,
    train=4,
    test=2,
    damages=(),
    seconds=3.0,
    size=(64, 48),
    fps=10,
    suffix=".mp4",
    place="flat",
    listed=True,
):
    """VGGSound as "clips" with ``vggsound.csv``, or "frames" and sound files by split and class.

    Samples as in :func:`make_food101`, ``short`` as in :func:`make_kineticssound`. ``place`` of clips
    is "flat", "video" (a folder of that name) or "split"; of frames "split" (split above kind, as of
    KineticsSound) or "kind" (``frames/<split>/<class>``, as BMMAL's). ``listed`` writes the CSV.
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    made, rows = [], []
    for label, is_test, k, damage in _plan(classes, train, test, damages):
        split = "test" if is_test else "train"
        name, video, start = classes[label], video_id(1000 + k), 30 + 10 * k
        sample = f"{video}_{start:06d}"
        made.append(Made(sample, name, is_test, damage))
        rows.append([video, start, name, split])
        length = min(3.0, seconds / 3) if damage == "short" else seconds
        if layout == "frames":
            # Folders are named without the labels' commas there.
            folder = name.replace(",", "")
            by_kind = root / "frames" / split, root / "audio" / split
            by_split = root / split / "video", root / split / "audio"
            frames, sounds = by_kind if place == "kind" else by_split
            _damage_frames(frames / folder, sounds / folder, sample, damage, k, label, length, size)
            continue
        folder = {"flat": root, "video": root / "video", "split": root / split}[place]
        _damage_clip(folder / f"{sample}{suffix}", damage, k, label, length, size, fps)
    if listed:
        with (root / "vggsound.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    return made
