"""The data set ``manifest``: a table of files, texts and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlmba.data.manifest.options import checked_options
from rlmba.reading.options import takes_options_of

if TYPE_CHECKING:
    from rlmba.data.manifest.dataset import ManifestDataset

__all__ = ["load_manifest"]


@takes_options_of(checked_options)
def load_manifest(
    path: str | Path, *, reading: Mapping[str, Any] | None = None, **options: Any
) -> ManifestDataset:
    """Your own data: a table (CSV, JSON Lines, Parquet) of files, texts and numbers, labels where known.

    Each row has an id and any of the modalities image, text, audio, video and features. An empty cell
    means that the row lacks the modality, and so does a file that is missing or unreadable. Rows without
    any modality are left out.

    Parameters
    ----------
    path : path
        The table; see :func:`rlmba.data.table.read_table`. Or a folder of images, sounds or videos with
        class folders, or with a table ``metadata.csv``, ``metadata.jsonl`` or ``metadata.parquet``, as
        ImageFolder and AudioFolder of the library datasets read them.
    id : str, default "id"
        The column of ids. Ids are distinct, one line each, and have at most 200 characters. Without a
        column "id", the column "file_name" has the ids.
    label : str, default "label"
        The column of classes, with an empty cell where the class is unknown. The table may lack it.
    split : str, default "split"
        The column of splits: train (also unlabeled, pool, or an empty cell), validation (val, dev) or
        test (eval). If the table lacks it, all rows are for training. Test rows without a label are
        left out.
    splits : mapping of str to str, optional
        What splits with other names mean: "train", "validation", "test", or None to leave them out, such
        as ``{"holdout": "test"}``. Names are case-insensitive.
    columns : mapping of modality to column, optional
        The column of each of "image", "text", "text_file", "audio" and "video", or of a modality with
        another name whose column holds a list of numbers in each row. None leaves a modality out. The
        other columns are recognized: media by their usual names in upper or lower case, and lists of
        numbers by their values, under the column's name.
    features : sequence of str, optional
        Columns of single numbers that together form the modality "features"; [] for none. The default
        is every column that holds only numbers, except row counters and columns named like a rank, a
        score or a class. A single empty cell is replaced by the column's mean over the training rows; a
        row whose numbers are all missing lacks the modality.
    root : path, optional
        The folder that relative paths start from; by default the table's folder, or the folder given.
        Relative paths may not lead out of it. Absolute paths are used as they are.
    classes : sequence of str, optional
        The classes in their order; any other label is an error. The default is all labels that occur,
        sorted, numerically if all of them are numbers.
    no_label : sequence of str or number, optional
        Values of the label column that mean that the class is unknown, such as [-1].
    unlabeled : {"keep", "drop"}, default "keep"
        What to do with training rows that have no label.
    sound : bool, default False
        Use the sound of the videos as the modality "audio". No column may be that modality then.
    audio : {"spectrogram", "waveform"}, default "spectrogram"
        Whether the network sees a log spectrogram of the sound, or the samples themselves, in [-1, 1), as
        pretrained networks of sounds expect them.
    tokenizer : str, optional
        "words" or "characters", which need no files; "all-minilm-l6-v2" or "wordllama" for the encoder of
        this name; "open_clip:NAME" for a network of open_clip; or a local folder or hub name of a
        transformers tokenizer. The default is "characters" for texts in scripts without spaces between
        words (Chinese, Japanese, Thai, ...), else "words". In runs and projects, the default is that of
        the weights of the text encoder.
    image_side : int, optional
        The shorter side of an image in pixels, at least 32. The network sees a square of 7/8 of it, at
        most 224 pixels. The default is the median of the images, between 32 and 128. Pretrained
        networks usually expect 256.
    frames : int, default 10
        Frames taken from a video; the network sees half of them at a time.
    seconds : float, optional
        How much of a sound or video is used, from its beginning. The default is a length that nine in
        ten files do not exceed, at most 5.
    sample_rate : int, default 16000
        Samples per second that sound is resampled to. An encoder of waveforms may need a certain rate.
    tokens : int, optional
        Tokens of a text; texts are cut or padded to it. The default is a length that 19 in 20 texts do
        not exceed, at most 100.
    encoding : str, optional
        The encoding of text files that are not UTF-8 and have no byte order mark, such as "gb18030". The
        default is guessed from all of them together.
    shown_columns : sequence of str, optional
        Columns that people who label see and the network does not read, such as a picture where the network
        reads its embedding. The cells are paths if all of them look like names of files and one of these
        exists, or if the column is called "image", "photo", "audio" or the like; otherwise they are texts.
        Missing files are counted, and change nothing else.
    hidden_columns : sequence of str, optional
        Columns that people do not see. The network reads them if it would otherwise.
    decimal : {"point", "comma"}, optional
        The decimal sign of columns whose numbers could have either, such as "1,234". Columns with "0,5" or
        "1,234.5" are recognized without it, each column by all of its rows.
    reading : mapping, optional
        The :meth:`~rlmba.data.MultimodalDataset.reading` of another data set. The rows are then read
        as that data set's were, and all of them are for training. Labels and splits are not read, and
        only the options ``id``, ``columns``, ``root`` and ``classes`` have an effect.

    Returns
    -------
    ManifestDataset
        Modalities in the order text, image, video, audio, features, lists of numbers. Unknown labels
        are -1.

    Warns
    -----
    RlmbaWarning
        If files are missing, rows are left out, or a column of lists cannot be used.

    Raises
    ------
    DataError
        If the table cannot be used; the message names the line.
    UsageError
        If an option is invalid, or is needed because two columns could be the same modality.
    """
    from rlmba.data.manifest.build import build
    from rlmba.data.manifest.media_folder import load_media_folder
    from rlmba.data.table import read_table

    sample_options, label_options = checked_options(**options)
    path = Path(path)
    if path.is_dir():
        return load_media_folder(path, sample_options, label_options, reading)
    return build(read_table(path), path.stem, sample_options, label_options, reading)
