"""``huggingface``: rows of a `datasets` folder, or of a set on the hub, as a data set."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlmba.data.manifest.options import LabelOptions, Options, set_option
from rlmba.errors import DataError, UsageError
from rlmba.hub import out_of_reach
from rlmba.storage import cache_folder

if TYPE_CHECKING:
    from rlmba.data.manifest.dataset import ManifestDataset
    from rlmba.data.table import Table

__all__ = ["load_huggingface"]

_ROWS_AT_ONCE = 1000


def load_huggingface(
    path: str | Path | None = None,
    *,
    name: str | None = None,
    subset: str | None = None,
    media: str | Path | None = None,
    id: str = "id",  # noqa: A002 - the name of the column, as people write it
    label: str = "label",
    split: str = "split",
    columns: Mapping[str, str | None] | None = None,
    features: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    unlabeled: str = "keep",
    sound: bool = False,
    tokenizer: str = "words",
    image_side: int | None = None,
    frames: int = 10,
    seconds: float | None = None,
    sample_rate: int = 16_000,
    tokens: int | None = None,
    reading: Mapping[str, Any] | None = None,
) -> ManifestDataset:
    """Your own data: a `datasets` folder (``save_to_disk``), or a data set of the Hugging Face hub by name.

    Needs the extra ``hf``. Options that are not listed are those of :func:`rlmba.data.load_manifest`.

    Parameters
    ----------
    path : path, optional
        What ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote; splits by their names.
    name : str, optional
        A name of the hub in its place, where there is a network, or with ``HF_HUB_OFFLINE=1`` a data
        set that is in its cache.
    subset : str, optional
        The configuration of a data set of the hub that has several.
    media : path, optional
        Folder that images, sounds and videos inside the rows are written to as files, named by their
        content; by default one in the user's cache folder. Those that are there are not written again.
    id : str
        The column of ids; without one, rows are named by split and number, ``train-000017``.
    label : str
        The column of classes: integers of a ``ClassLabel`` get their names. Where there is no column
        "label", it is the only ``ClassLabel``.

    Raises
    ------
    DataError
        If it cannot be read or used; the message names the row.
    UsageError
        If ``datasets`` is not installed, there is no such name or no network, or an option is wrong.
    """
    from rlmba.data.manifest.build import build

    options = Options.checked(
        id=id,
        columns=columns,
        features=features,
        root=None,
        sound=sound,
        tokenizer=tokenizer,
        image_side=image_side,
        frames=frames,
        seconds=seconds,
        sample_rate=sample_rate,
        tokens=tokens,
    )
    labels = LabelOptions.checked(label, split, classes, unlabeled)
    if (path is None) == (name is None):
        raise UsageError(
            "data set 'huggingface': expected a folder (`rlmba run --data-root FOLDER`, `rlmba init DIR "
            "--huggingface FOLDER`) or a name of the hub "
            f"({set_option('name', 'NAME')}), got {'neither' if path is None else 'both'}"
        )
    parts = _from_hub(name, subset) if name is not None else _from_disk(Path(str(path)))
    where = Path(str(path if name is None else name))
    folder = cache_folder() / "huggingface" if media is None else Path(media)
    labels = _with_classes(parts, labels)
    table = _table(where, parts, folder.absolute(), options.id, labels)
    return build(table, where.name, options, labels, reading)


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UsageError(
            "data set 'huggingface' needs the library datasets, which is not installed; "
            'pip install "rlmba[hf]"'
        ) from error
    return datasets


def _from_disk(path: Path) -> dict[str, Any]:
    datasets = _library()
    if not path.is_dir():
        raise DataError(
            f"{path}: no such folder; expected one that save_to_disk wrote. A data set of the hub is named "
            f"with {set_option('name', 'NAME')} and no `rlmba run --data-root`, or with `rlmba init DIR "
            "--huggingface NAME`"
        )
    try:
        return _parts(datasets.load_from_disk(str(path)))
    except MemoryError:
        raise
    except Exception as error:  # of Arrow, of JSON, of the library: all mean it cannot be read
        if "needs to be installed" in str(error):
            raise UsageError(
                f"{path}: saved in a format whose library is not installed ({_line(error)}); install it, or "
                "save the data set again after with_format(None)"
            ) from error
        raise DataError(
            f"{path}: not a folder that save_to_disk wrote, or damaged, or with a part without rows "
            f"({_line(error)}); write it again"
        ) from error


def _from_hub(name: str, subset: str | None) -> dict[str, Any]:
    datasets = _library()
    from huggingface_hub import constants

    def refuse(why: str) -> UsageError:
        return UsageError(
            f"option name: the data set {name!r} could not be had from the hub ({why}); check the name, the "
            "option subset and the network, set HF_HUB_OFFLINE=1 to take it from the cache, or write it to "
            "a folder where there is a network (save_to_disk) and give that (`rlmba run --data-root FOLDER`, "
            "`rlmba init DIR --huggingface FOLDER`)"
        )

    why = "" if constants.HF_HUB_OFFLINE else out_of_reach(name, dataset=True)
    if why:
        raise refuse(why)
    try:
        # Its versions before 4 run a repository's own code unless told not to.
        known = inspect.signature(datasets.load_dataset).parameters
        no_code = {"trust_remote_code": False} if "trust_remote_code" in known else {}
        return _parts(datasets.load_dataset(name, subset, **no_code))
    except MemoryError:
        raise
    except Exception as error:  # of the network, of the hub, of the library
        raise refuse(_line(error)) from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _parts(loaded: Any) -> dict[str, Any]:
    """Splits by name; "" for a data set without."""
    return dict(loaded) if isinstance(loaded, dict) else {"": loaded}


def _with_classes(parts: Mapping[str, Any], labels: LabelOptions) -> LabelOptions:
    """Labels from a ``ClassLabel``: its column where none is named so, its names as the classes."""
    features = next(iter(parts.values())).features
    named = {c: list(f.names) for c, f in features.items() if type(f).__name__ == "ClassLabel"}
    if labels.label == "label" and "label" not in features and named:
        if len(named) > 1:
            raise UsageError(
                f"expected one column of classes, got {list(named)}; say which is the label with "
                f"{set_option('label', next(iter(named)))}"
            )
        labels = replace(labels, label=next(iter(named)))
    if labels.classes is None and labels.label in named:
        labels = replace(labels, classes=tuple(named[labels.label]))
    return labels


def _table(
    where: Path, parts: Mapping[str, Any], folder: Path, id_column: str, labels: LabelOptions
) -> Table:
    """All splits' rows as one table, what is inside rows written to files."""
    from rlmba.data.manifest.rows import is_split
    from rlmba.data.table import Table

    for split in parts:
        if not is_split(split):
            raise DataError(
                f"{where}: expected parts named train, validation or test, got {list(parts)}; rename or "
                f"remove {split!r} and save the others"
            )
    names = list(dict.fromkeys(c for part in parts.values() for c in part.column_names))
    columns: dict[str, list[Any]] = {name: [] for name in names}
    given = id_column in names
    ids: list[str] = []
    splits: list[str] = []
    for split, part in parts.items():
        ids += [f"{split or 'row'}-{row:06d}" for row in range(len(part))]
        splits += [split] * len(part)
        for name in names:
            there = name in part.column_names
            columns[name] += _values(part, name, folder) if there else [None] * len(part)
    if not given and id_column == "id":
        columns = {"id": ids, **columns}
    if list(parts) != [""]:
        columns[labels.split] = splits
    return Table(where, columns, list(range(1, len(ids) + 1)), "row")


def _values(part: Any, name: str, folder: Path) -> list[Any]:
    """A column's cells as a table has them: class names, paths, texts, numbers, lists.

    They are read as they are stored: whatever format the data set was saved with, and nothing decoded.
    """
    from rlmba.data.manifest.embedded import as_file

    feature = part.features[name]
    kind = type(feature).__name__
    stored = part.with_format("arrow").select_columns([name])
    cells = [v for rows in stored.iter(_ROWS_AT_ONCE) for v in rows[name].to_pylist()]
    if kind == "ClassLabel":
        return [None if v is None or v < 0 else feature.names[v] for v in cells]
    if kind in ("Image", "Audio", "Video"):
        return [as_file(v, folder) for v in cells]
    return cells
