"""UPMC Food-101: an image of a dish and the text of the web page that it comes from."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rlmba.data.encoding import decode_text, is_marked
from rlmba.data.media.catalogue import Catalogue, Sample, Source
from rlmba.data.media.layouts.common import (
    Remarks,
    catalogue,
    class_key,
    class_labels,
    csv_rows,
    list_folder,
    not_found,
    published_classes,
    read_list,
    split_name,
)
from rlmba.reading.structured import parse_json

__all__ = ["LAYOUTS", "MAX_WORDS", "ingredients", "read"]

NAME = "food101"
MODALITIES = ("text", "image")
LAYOUTS: Mapping[str, str] = {
    "json": "train.json and test.json (BMMAL's: id, label, text_tokens, img_path), images/...",
    "folders": "images/{train,test}/<class>/<class>_<n>.jpg, texts_txt/<class>/<class>_<n>.txt",
    "titles": "train_titles.csv and test_titles.csv (image, title, class), images/...",
}
SOURCE = (
    "UPMC Food-101 (Wang et al., Recipe recognition with large multimodal food dataset, 2015), from "
    "the project page visiir.isir.upmc.fr; it has the folders images/ and texts_txt/."
)
MARKS = ("images", "texts_txt", "train.json", "train_titles.csv")
MAX_WORDS = 100
"""Words that are kept of a text. BERT's tokenizer makes at least one token of each, and 100 are used."""

_SPLITS = ("train", "test")
_IMAGES = (".jpg", ".jpeg", ".png")
_NUMBER = re.compile(r"_([0-9-]+)$")
_READERS_AT_ONCE = 16
_READ = 1 << 18

# Punctuation becomes spaces and letters become lower case, as in BMMAL's lists. Bytes above 127 stay,
# since in UTF-8 they are never part of an ASCII character.
_PLAIN = bytearray(range(256))
for _byte in b"<>/\\+=-_[]{}'\";:.,()*&^%$#@!~`|\t\r\n":
    _PLAIN[_byte] = 32
for _byte in range(ord("A"), ord("Z") + 1):
    _PLAIN[_byte] = _byte + 32
_INGREDIENTS = b"ingredients"


def ingredients(data: bytes) -> tuple[str, bool]:
    """The words after the last occurrence of "ingredients" that is followed by words.

    Parameters
    ----------
    data : bytes
        A text file, in UTF-8 or Windows-1252.

    Returns
    -------
    (str, bool)
        At most MAX_WORDS words in lower case without punctuation, separated by single spaces; "" if
        there are none. And whether they are not UTF-8.
    """
    if is_marked(data):
        data = decode_text(data).text.encode("utf-8", "replace")
    plain = data.translate(_PLAIN)
    start = len(plain)
    while (start := plain.rfind(_INGREDIENTS, 0, start)) >= 0:
        end = start + len(_INGREDIENTS)
        if plain[start - 1 : start].isalnum() or plain[end : end + 1].isalnum():
            continue
        found = decode_text(plain[end:].replace(b"?", b" ? "))
        words = found.text.lower().split(None, MAX_WORDS)[:MAX_WORDS]
        if words:
            return " ".join(words), found.bad is not None
    return "", False


def read(root: Path, layout: str | None, lists: tuple[Path, ...]) -> Catalogue:
    """Catalogue of a folder of Food-101; see :func:`rlmba.data.media.layouts.find_catalogue`."""
    there = _layouts(root, lists)
    if not there or (layout is not None and layout not in there):
        wanted = LAYOUTS if layout is None else {layout: LAYOUTS[layout]}
        raise not_found(NAME, root, wanted, MARKS, SOURCE)
    chosen = layout or there[0]
    notes = Remarks()
    if layout is None and there[1:]:
        notes.say(
            f"layout {chosen!r} is read; the folder also has {', '.join(map(repr, there[1:]))}"
        )
    readers: dict[str, Callable[[], Iterator[Sample]]] = {
        "json": lambda: _from_json(root, notes),
        "folders": lambda: _from_folders(root, notes),
        "titles": lambda: _from_titles(root, lists or _title_files(root), notes),
    }
    return catalogue(
        NAME, root, readers[chosen](), layout=chosen, modalities=MODALITIES, notes=notes
    )


def _title_files(root: Path) -> tuple[Path, ...]:
    return tuple(p for s in _SPLITS if (p := root / f"{s}_titles.csv").is_file())


def _layouts(root: Path, lists: tuple[Path, ...]) -> list[str]:
    """The layouts of a folder, in the order of LAYOUTS; lists that are given are titles."""
    if lists:
        return ["titles"]
    there = []
    if any((root / f"{split}.json").is_file() for split in _SPLITS):
        there.append("json")
    if (root / "texts_txt").is_dir() and any((root / "images" / s).is_dir() for s in _SPLITS):
        there.append("folders")
    if _title_files(root):
        there.append("titles")
    return there


def _sample(
    name: str, label: int, split: str, *, text: str, image: str | None, notes: Remarks
) -> Sample:
    if not image:
        notes.add("samples without an image", name)
    return Sample(
        name,
        label,
        split == "test",
        {
            "text": Source("text", text=text) if text else None,
            "image": Source("image", Path(image)) if image else None,
        },
    )


def _sample_id(class_name: str, stem: str) -> str:
    """The id ``<class>_<n>`` of a file with this name, or with only a number as its name."""
    number = _NUMBER.search(stem)
    if number:
        return f"{class_name}_{number[1]}"
    return stem if stem.startswith(f"{class_name}_") else f"{class_name}_{stem}"


def _from_folders(root: Path, notes: Remarks) -> Iterator[Sample]:
    labels = class_labels(NAME)
    folders: list[tuple[int, str, str]] = []
    for split in _SPLITS:
        for entry in list_folder(root / "images" / split):
            label = labels.get(class_key(entry.name))
            if label is not None and entry.is_dir():
                folders.append((label, split, entry.path))
            elif entry.is_dir():
                notes.add("folders of classes that were not published", f"{split}/{entry.name}")
    texts = {
        labels[key]: entry.path
        for entry in list_folder(root / "texts_txt")
        if (key := class_key(entry.name)) in labels
    }
    with ThreadPoolExecutor(_READERS_AT_ONCE) as pool:
        jobs = [pool.submit(_read_class, *f, texts.get(f[0])) for f in folders]
        used: set[str] = set()
        for (label, split, _), job in zip(folders, jobs, strict=True):
            samples, remarks = job.result()
            for remark, instance in remarks:
                notes.add(remark, instance)
            for sample, text, image in samples:
                used.add(sample)
                yield _sample(sample, label, split, text=text, image=image, notes=notes)
    classes = published_classes(NAME)
    for label, path in sorted(texts.items()):
        for entry in list_folder(path):
            stem, suffix = split_name(entry.name)
            if suffix == ".txt" and _sample_id(classes[label], stem) not in used:
                notes.add("texts without an image, and so without a split, left out", stem)


def _read_class(
    label: int, split: str, images: str, texts: str | None
) -> tuple[list[tuple[str, str, str]], list[tuple[str, str]]]:
    """(id, text, image) of the images of a class and split, and remarks. It runs in a thread."""
    class_name = published_classes(NAME)[label]
    samples, remarks = [], []
    available = {
        _sample_id(class_name, split_name(e.name)[0]): e.path
        for e in (list_folder(texts) if texts else ())
        if e.name.lower().endswith(".txt")
    }
    for entry in list_folder(images):
        stem, suffix = split_name(entry.name)
        if suffix not in _IMAGES:
            remarks.append(("files that are not images", f"{split}/{class_name}/{entry.name}"))
            continue
        sample = _sample_id(class_name, stem)
        text, problem = _read_text(available.get(sample))
        if problem:
            remarks.append((problem, sample))
        samples.append((sample, text, entry.path))
    return samples, remarks


def _read_text(path: str | None) -> tuple[str, str]:
    """Ingredients from a text file, and a remark about it or ""."""
    if path is None:
        return "", "samples without a text file"
    try:
        # Plain descriptors are faster, and opening dominates for 90,000 small files.
        descriptor = os.open(path, os.O_RDONLY)
        try:
            data = part = os.read(descriptor, _READ)
            while len(part) == _READ:
                part = os.read(descriptor, _READ)
                data += part
        finally:
            os.close(descriptor)
    except OSError:
        return "", "samples whose text file cannot be read"
    if not data.strip():
        return "", "samples whose text file is empty"
    text, foreign = ingredients(data)
    if not text:
        return "", "samples whose text has no words after 'ingredients'"
    return text, "texts that are not UTF-8, read as Windows-1252" if foreign else ""


class _Images:
    """Finds images by listing each folder once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, dict[str, str]] = {}

    def _listed(self, folder: str, name: str) -> str | None:
        if folder not in self._names:
            self._names[folder] = {e.name: e.path for e in list_folder(folder)}
        return self._names[folder].get(name)

    def find(self, name: str, class_name: str, splits: tuple[str, ...]) -> tuple[str | None, str]:
        """The path of an image below ``images/`` and its split; the split is "" if it is not known."""
        images = str(self._root / "images")
        for split in splits:
            for folder in (f"{images}/{split}/{class_name}", f"{images}/{split}"):
                if found := self._listed(folder, name):
                    return found, split
        for folder in (f"{images}/{class_name}", images, str(self._root)):
            if found := self._listed(folder, name):
                return found, splits[0] if len(splits) == 1 else ""
        return None, splits[0] if len(splits) == 1 else ""

    def at(self, path: str) -> str | None:
        """The image at a path that is absolute or relative to the root; None if there is none."""
        folder, name = os.path.split(str(self._root / path))
        return self._listed(folder, name)


def _from_json(root: Path, notes: Remarks) -> Iterator[Sample]:
    labels, classes = class_labels(NAME), published_classes(NAME)
    images = _Images(root)
    for split in _SPLITS:
        path = root / f"{split}.json"
        if not path.is_file():
            notes.say(f"there is no {path.name}: the {split} split is empty")
            continue
        for position, entry in enumerate(_entries(path)):
            where = f"{path.name}[{position}]"
            fields = _fields(entry)
            if fields is None:
                notes.add("entries without label, img_path and text_tokens, left out", where)
                continue
            class_name, image_path, text = fields
            label = labels.get(class_key(class_name))
            if label is None:
                notes.add("entries of classes that were not published, left out", where)
                continue
            folder, _, file_name = image_path.rpartition("/")
            sample = _sample_id(classes[label], split_name(file_name)[0])
            # Paths in these lists come from the machine that made them, so look in this folder first.
            image = images.find(file_name, folder.rpartition("/")[2], (split,))[0]
            if not text:
                notes.add("samples without text", sample)
            image = image or images.at(image_path)
            yield _sample(sample, label, split, text=text, image=image, notes=notes)


def _entries(path: Path) -> list[Any]:
    advice = (
        "expected a list of {id, label, text_tokens, img_path}, as BMMAL writes it; the file may be cut off: "
        "make it again"
    )
    text = decode_text(read_list(path)).text
    return parse_json(text, list[Any], str(path), advice=advice, finite=False, surrogates=True)


def _fields(entry: object) -> tuple[str, str, str] | None:
    """Class, image path and text of an entry in BMMAL's lists; None if one is missing."""
    if not isinstance(entry, dict):
        return None
    label, image, tokens = entry.get("label"), entry.get("img_path"), entry.get("text_tokens")
    if not isinstance(label, str) or not isinstance(image, str):
        return None
    if isinstance(tokens, list):
        tokens = " ".join(map(str, tokens))
    if not isinstance(tokens, str):
        return None
    words = " ".join(tokens.split(None, MAX_WORDS)[:MAX_WORDS])
    # Tokenizers and checksums do not accept lone surrogates.
    return label, image.replace("\\", "/"), words.encode("utf-8", "replace").decode("utf-8")


def _from_titles(root: Path, files: tuple[Path, ...], notes: Remarks) -> Iterator[Sample]:
    labels, classes = class_labels(NAME), published_classes(NAME)
    images = _Images(root)
    for path in files:
        named = tuple(s for s in _SPLITS if s in path.stem.lower())
        splits = named if len(named) == 1 else _SPLITS
        columns = (0, 1, 2)
        for k, (line, row) in enumerate(csv_rows(path, notes)):
            where = f"{path.name}:{line}"
            cells = [cell.strip() for cell in row]
            names = [cell.lower() for cell in cells]
            if k == 0 and {"image", "title", "class"} <= set(names):
                columns = (names.index("image"), names.index("title"), names.index("class"))
                continue
            if len(cells) <= max(columns):
                notes.add("lines without image, title and class, left out", where)
                continue
            file_name, title, class_name = (cells[c] for c in columns)
            label = labels.get(class_key(class_name))
            if label is None:
                notes.add("lines of classes that were not published, left out", where)
                continue
            base = file_name.replace("\\", "/").rpartition("/")[2]
            sample = _sample_id(classes[label], split_name(base)[0])
            image, split = images.find(base, classes[label], splits)
            image = image or images.at(file_name)
            if not split:
                notes.add("lines without a split, left out (name the files train_ or test_)", where)
                continue
            if not title:
                notes.add("samples without text", sample)
            text = " ".join(title.split(None, MAX_WORDS)[:MAX_WORDS])
            yield _sample(sample, label, split, text=text, image=image, notes=notes)
