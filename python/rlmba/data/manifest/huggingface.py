"""The data set ``huggingface``: rows of a `datasets` folder, a folder of media, or a data set on the hub."""

from __future__ import annotations

import inspect
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlmba.cells import id_names
from rlmba.data.manifest.options import LabelOptions, checked_options, set_option
from rlmba.errors import DataError, RlmbaWarning, UsageError
from rlmba.hub import out_of_reach
from rlmba.progress import counted
from rlmba.reading.options import takes_options_of
from rlmba.storage import cache_folder

if TYPE_CHECKING:
    from rlmba.data.manifest.dataset import ManifestDataset
    from rlmba.data.table import Table

__all__ = ["load_huggingface"]

_ROWS_AT_ONCE = 1000
_SAVED = ("dataset_dict.json", "dataset_info.json", "state.json")
"""Files that save_to_disk writes."""


@takes_options_of(checked_options, without=("root",))
def load_huggingface(
    path: str | Path | None = None,
    *,
    name: str | None = None,
    subset: str | None = None,
    media: str | Path | None = None,
    reading: Mapping[str, Any] | None = None,
    **options: Any,
) -> ManifestDataset:
    """Your own data: a `datasets` folder (``save_to_disk``, ImageFolder, AudioFolder), or a name of the hub.

    Needs the extra ``hf``, except for folders of media. All options of :func:`rlmba.data.load_manifest`
    except ``root`` can be given; only those that mean something else here are listed.

    Parameters
    ----------
    path : path, optional
        A folder that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote, or a folder of
        images, sounds or videos as :func:`rlmba.data.load_manifest` reads it.
    name : str, optional
        The name of a data set on the hub, instead of a folder. It needs a network, or
        ``HF_HUB_OFFLINE=1`` and the data set in the hub's cache.
    subset : str, optional
        The configuration, if the data set on the hub has several.
    media : path, optional
        Folder into which images, sounds and videos inside the rows are written as files, named by a
        checksum of their content; by default a folder in the user's cache folder. Files that are there
        already are not written again.
    id : str, default "id"
        The column of ids. Without one, rows are named by split and number, such as ``train-000017``.
        Later rows of an id that is repeated get a number: ``7``, ``7-2``.
    label : str, default "label"
        The column of classes. The integers of a ``ClassLabel`` become its names. If there is no column
        "label", the only ``ClassLabel`` is used.
    splits : mapping of str to str, optional
        What splits of other names mean: "train", "validation", "test", or None to leave them out, such
        as ``{"validation_matched": "validation"}``.

    Warns
    -----
    RlmbaWarning
        If ids are repeated.

    Raises
    ------
    DataError
        If the data cannot be read or used; the message names the row.
    UsageError
        If ``datasets`` is not installed, the name is unknown, there is no network, or an option is
        invalid.
    """
    from rlmba.data.manifest.build import build

    sample_options, label_options = checked_options(root=None, **options)
    if (path is None) == (name is None):
        raise UsageError(
            "data set 'huggingface': expected a folder (`rlmba run --data-root FOLDER`, `rlmba init DIR "
            "--huggingface FOLDER`) or a name of the hub "
            f"({set_option('name', 'NAME')}), got {'neither' if path is None else 'both'}"
        )
    if path is not None and Path(path).is_dir() and not _is_saved(Path(path)):
        from rlmba.data.manifest.media_folder import load_media_folder

        return load_media_folder(Path(path), sample_options, label_options, reading)
    parts = _from_hub(name, subset) if name is not None else _from_disk(Path(str(path)))
    where = Path(str(path if name is None else name))
    folder = cache_folder() / "huggingface" if media is None else Path(media)
    label_options = _with_classes(parts, label_options)
    table = _table(where, parts, folder.absolute(), sample_options.id, label_options)
    if list(parts) != [""]:  # the table has the names that they mean
        label_options = replace(label_options, splits={})
    return build(table, where.name, sample_options, label_options, reading)


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UsageError(
            "data set 'huggingface' needs the library datasets, which is not installed; "
            'pip install "rlmba[hf]"'
        ) from error
    return datasets


def _is_saved(path: Path) -> bool:
    return any((path / name).exists() for name in _SAVED)


def _from_disk(path: Path) -> dict[str, Any]:
    datasets = _library()
    if not path.is_dir():
        raise DataError(
            f"{path}: no such folder; expected one that save_to_disk wrote. To use a data set of the hub, "
            f"name it with {set_option('name', 'NAME')} instead of `rlmba run --data-root`, or with "
            "`rlmba init DIR --huggingface NAME`"
        )
    try:
        return _parts(datasets.load_from_disk(str(path)))
    except MemoryError:
        raise
    except Exception as error:  # Arrow, JSON and the library raise many kinds
        if "needs to be installed" in str(error):
            raise UsageError(
                f"{path}: saved in a format whose library is not installed ({_line(error)}); install it, or "
                "save the data set again after with_format(None)"
            ) from error
        raise DataError(
            f"{path}: expected a folder that save_to_disk wrote, with rows in every part, but it cannot be "
            f"read ({_line(error)}); write it again"
        ) from error


def _from_hub(name: str, subset: str | None) -> dict[str, Any]:
    datasets = _library()
    from huggingface_hub import constants

    def refuse(why: str) -> UsageError:
        return UsageError(
            f"option name: the data set {name!r} could not be loaded from the hub ({why}); check the name, "
            "the option subset and the network, set HF_HUB_OFFLINE=1 to use the hub's cache, or save the "
            "data set to a folder on a machine with a network (save_to_disk) and give that folder (`rlmba "
            "run --data-root FOLDER`, `rlmba init DIR --huggingface FOLDER`)"
        )

    why = "" if constants.HF_HUB_OFFLINE else out_of_reach(name, dataset=True)
    if why:
        raise refuse(why)
    try:
        # Before version 4, datasets runs a repository's own code unless told not to.
        known = inspect.signature(datasets.load_dataset).parameters
        no_code = {"trust_remote_code": False} if "trust_remote_code" in known else {}
        return _parts(datasets.load_dataset(name, subset, **no_code))
    except MemoryError:
        raise
    except Exception as error:  # the network, the hub and the library raise many kinds
        raise refuse(_line(error)) from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _parts(loaded: Any) -> dict[str, Any]:
    """Splits by name; a data set without splits has the name ""."""
    return dict(loaded) if isinstance(loaded, dict) else {"": loaded}


def _with_classes(parts: Mapping[str, Any], labels: LabelOptions) -> LabelOptions:
    """The label options, with the column and the classes of a ``ClassLabel`` where none are given."""
    features = {c: f for part in [*parts.values()][::-1] for c, f in part.features.items()}
    named = {c: list(f.names) for c, f in features.items() if type(f).__name__ == "ClassLabel"}
    if labels.label == "label" and "label" not in features and named:
        if len(named) > 1:
            raise UsageError(
                f"expected one column of classes, got {list(named)}; choose the label with "
                f"{set_option('label', next(iter(named)))}"
            )
        labels = replace(labels, label=next(iter(named)))
    if labels.classes is None and labels.label in named:
        labels = replace(labels, classes=tuple(named[labels.label]))
    return labels


def _table(
    where: Path, parts: Mapping[str, Any], folder: Path, id_column: str, labels: LabelOptions
) -> Table:
    """The rows of all splits as one table; media inside the rows are written to files."""
    from rlmba.data.manifest.splits import NOT_USED, SPLITS, split_numbers
    from rlmba.data.table import Table

    named = list(parts) != [""]
    if named:
        numbers = split_numbers(dict.fromkeys(parts, str(where)), labels.splits)
        parts = {split: part for split, part in parts.items() if numbers[split] != NOT_USED}
    names = list(dict.fromkeys(c for part in parts.values() for c in part.column_names))
    columns: dict[str, list[Any]] = {name: [] for name in names}
    ids: list[str] = []
    splits: list[str] = []
    for split, part in parts.items():
        ids += [f"{split or 'row'}-{row:06d}" for row in range(len(part))]
        splits += [SPLITS[numbers[split]]] * len(part) if named else []
        for name in names:
            there = name in part.column_names
            columns[name] += _values(part, name, folder) if there else [None] * len(part)
    if id_column not in names and id_column == "id":
        columns = {"id": ids, **columns}
    if named:
        columns[labels.split] = splits
    table = Table(where, columns, list(range(1, len(ids) + 1)), "row")
    if id_column in names:
        columns[id_column] = _distinct(table, id_column)
    return table


def _distinct(table: Table, column: str) -> list[str | None]:
    """A column of ids, in which all rows of an id but the first get a number. A warning counts them."""
    texts = table.texts(column)
    names = iter(id_names([text for text in texts if text is not None]))
    ids = [None if text is None else next(names) for text in texts]
    taken, seen = set(ids), Counter[str | None]()
    repeated: dict[str, str] = {}
    again = 0
    for row, name in enumerate(ids):
        seen[name] += 1
        if name is None or seen[name] == 1:
            continue
        while (other := f"{name}-{seen[name]}") in taken:
            seen[name] += 1
        taken.add(other)
        ids[row] = other
        again += 1
        repeated.setdefault(name, other)
    if repeated:
        shown = ", ".join(f"{n!r} ({new!r})" for n, new in list(repeated.items())[:5])
        warnings.warn(
            f"{table.path}: {len(repeated):,} ids in column {column!r} are repeated; {again:,} later rows "
            f"got a number: {shown}{', ...' * (len(repeated) > 5)}. If they are the same samples, remove "
            "them from one of the splits",
            RlmbaWarning,
            stacklevel=4,
        )
    return ids


def _values(part: Any, name: str, folder: Path) -> list[Any]:
    """A column's cells as a table has them: class names, paths, texts, numbers or lists.

    Cells are read as they are stored: the format that the data set was saved with has no effect, and no
    media are decoded.
    """
    from rlmba.data.manifest.embedded_files import as_file

    feature = part.features[name]
    kind = type(feature).__name__
    stored = part.with_format("arrow").select_columns([name])
    cells = [v for rows in stored.iter(_ROWS_AT_ONCE) for v in rows[name].to_pylist()]
    if kind == "ClassLabel":
        return [None if v is None or v < 0 else feature.names[v] for v in cells]
    if kind in ("Image", "Audio", "Video"):
        return [as_file(v, folder) for v in counted(f"writing files ({name})", cells, len(cells))]
    return cells
