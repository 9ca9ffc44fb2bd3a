"""Decode a sample's media files to arrays."""

from __future__ import annotations

from pathlib import Path

from rlmba.data.encoding import read_text
from rlmba.data.media.catalogue import Sample, Source
from rlmba.data.media.clips import read_clip
from rlmba.data.media.content import MediaContent, Recipe
from rlmba.data.media.frames import read_frames
from rlmba.data.media.images import read_image
from rlmba.data.media.problems import MISSING, missing_or_empty, reason, unusable
from rlmba.data.media.tokens import cached_tokenizer, tokenize
from rlmba.errors import UsageError

__all__ = ["decode_sample"]


def decode_sample(sample: Sample, recipe: Recipe) -> dict[str, MediaContent]:
    """Read and decode every modality of a sample.

    Parameters
    ----------
    sample : Sample
        Where its modalities are stored. Modalities in the same file are read in one pass over it.
    recipe : Recipe
        What is taken from the files.

    Returns
    -------
    dict of modality to MediaContent
        In the sample's order. A modality that is missing or unreadable has a problem instead of an
        array; this raises no error.

    Raises
    ------
    UsageError
        If the recipe's tokenizer cannot be loaded, or a source of this form cannot hold the modality.
    """
    contents: dict[str, MediaContent] = {}
    clips: dict[Path, list[str]] = {}
    for modality, source in sample.sources.items():
        contents[modality] = unusable(MISSING)
        if source is None:
            continue
        if source.form == "text":
            contents[modality] = _text(source, recipe)
        elif source.path is None:
            raise UsageError(
                f"sample {sample.id!r}: its {modality} is a {source.form} without a path"
            )
        elif source.form == "image":
            contents[modality] = read_image(source.path, recipe.image_side)
        elif source.form == "frames":
            contents[modality] = read_frames(source.path, recipe)
        elif modality in {"video", "audio"}:
            clips.setdefault(source.path, []).append(modality)
        else:
            raise UsageError(
                f"sample {sample.id!r}: a {source.form} holds video and audio, not {modality!r}"
            )
    for path, modalities in clips.items():
        contents.update(read_clip(path, recipe, modalities))
    return contents


def _text(source: Source, recipe: Recipe) -> MediaContent:
    tokenizer = cached_tokenizer(recipe.tokenizer)
    text = source.text
    flags: tuple[str, ...] = ()
    if text is None:
        if source.path is None:
            return unusable(MISSING)
        if problem := missing_or_empty(source.path):
            return unusable(problem)
        try:
            read = read_text(source.path, recipe.encoding)
        except OSError as error:
            return unusable(reason(error))
        text, flags = read.text, () if read.bad is None else ("converted",)
    if not text.strip():
        return unusable("the text is empty")
    ids = tokenize(tokenizer, [text], recipe.tokens)[0]
    if ids[0] < 0:
        return unusable("the text holds no word")
    return MediaContent(ids, flags=flags)
