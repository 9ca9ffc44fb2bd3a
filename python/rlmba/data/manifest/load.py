"""``manifest``: a table of files, texts and numbers as a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlmba.data.manifest.options import LabelOptions, Options

if TYPE_CHECKING:
    from rlmba.data.manifest.dataset import ManifestDataset

__all__ = ["load_manifest"]


def load_manifest(
    path: str | Path,
    *,
    id: str = "id",  # noqa: A002 - the name of the column, as people write it
    label: str = "label",
    split: str = "split",
    columns: Mapping[str, str | None] | None = None,
    features: Sequence[str] | None = None,
    root: str | Path | None = None,
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
    """Your own data: a table (CSV, JSON Lines, Parquet) of files, texts and numbers, labels where known.

    A row has an id and any of image, text, audio, video and features; an empty cell, and a file that
    is missing or cannot be read, mean that it lacks that modality. Rows that have none are left out.

    Parameters
    ----------
    path : path
        The table: see :func:`rlmba.data.table.read_table`.
    id : str
        The column of ids, distinct names of one line and at most 200 characters.
    label : str
        The column of classes, empty where nobody knows. It may be missing.
    split : str
        The column of splits: train (also unlabeled, pool, or nothing), validation (val, dev), test
        (eval). It may be missing: then all is for training. Rows of test without a label are left out.
    columns : mapping of modality to column, optional
        Which column is "image", "text", "text_file", "audio", "video", or a modality of another name
        that holds a list of numbers in each row; null for a modality that is not wanted. Others are found:
        media by the usual names of their columns, in any case, lists of numbers by their values, under the
        column's name.
    features : sequence of str, optional
        Columns of single numbers that together are the modality "features"; [] for none. By default
        all that hold nothing but numbers, but for counts of rows and those named like a rank, a score
        or a class. A single empty cell gets the column's mean over the training rows; a row without
        any of them lacks the modality.
    root : path, optional
        Where relative paths begin; the table's folder by default. They may not lead out of it;
        absolute paths are taken as they are.
    classes : sequence of str, optional
        The classes in their order; a label outside is an error. By default those that occur, sorted,
        as numbers where all are.
    unlabeled : {"keep", "drop"}
        What becomes of training rows without a label.
    sound : bool
        The sound of videos is the modality "audio", where no column is.
    tokenizer : str
        "words", which needs no files, or a local folder or hub name of a transformers tokenizer.
    image_side : int, optional
        Pixels of an image's shorter side, 32 or more; a square of seven eighths of it is what the
        network sees, 224 at most. By default that of half of the images here, 32 to 128. 256 is usual
        for networks that were trained before.
    frames : int
        Frames taken from a video; half of them are seen at a time.
    seconds : float, optional
        Length of sounds and videos that is looked at, from their beginning. By default what suffices for
        nine in ten of those here, 5 at most.
    sample_rate : int
        Samples per second that sound is brought to.
    tokens : int, optional
        Tokens of a text, cut or padded. By default what suffices for 19 in 20 of those here, 100 at
        most.
    reading : mapping, optional
        :meth:`~rlmba.data.MultimodalDataset.reading` of another data set: rows are read as its were,
        and are all for training. Labels and splits are not looked at; of the options only ``id``,
        ``columns``, ``root`` and ``classes`` count.

    Returns
    -------
    ManifestDataset
        Modalities in the order text, image, video, audio, features, lists of numbers; labels -1 where
        unknown.

    Warns
    -----
    RlmbaWarning
        Where files are missing, rows are left out, or a column of lists cannot be used.

    Raises
    ------
    DataError
        If the table cannot be used; the message names the line.
    UsageError
        If an option is wrong, or has to be given because two columns could be the same.
    """
    from rlmba.data.manifest.build import build
    from rlmba.data.table import read_table

    options = Options.checked(
        id=id,
        columns=columns,
        features=features,
        root=root,
        sound=sound,
        tokenizer=tokenizer,
        image_side=image_side,
        frames=frames,
        seconds=seconds,
        sample_rate=sample_rate,
        tokens=tokens,
    )
    labels = LabelOptions.checked(label, split, classes, unlabeled)
    path = Path(path)
    return build(read_table(path), path.stem, options, labels, reading)
