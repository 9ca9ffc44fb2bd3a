"""Texts as token ids: transformers' tokenizers, and one of words that needs no files."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba.data.media.content import Recipe
from rlmba.errors import UsageError
from rlmba.hub import out_of_reach

__all__ = [
    "WordTokenizer",
    "cached_tokenizer",
    "load_tokenizer",
    "tokenize",
    "vocabulary_of",
    "with_vocabulary",
]

_WORD = re.compile(r"\w+")


class WordTokenizer:
    """Splits texts into lowercase words and hashes each into one of 30,000 ids.

    Needs no files and nothing learned: the same word has the same id everywhere. Words may share an
    id: two given words do with probability 1/30,000.

    Examples
    --------
    >>> WordTokenizer()("Apple pie, apple crumble") == WordTokenizer()("apple PIE apple crumble")
    True
    """

    vocabulary = 30_000

    def __call__(self, text: str) -> list[int]:
        """Ids of a text's words, in order."""
        return [_word_id(word) for word in _WORD.findall(text.lower())]


@functools.lru_cache(maxsize=100_000)
def _word_id(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % WordTokenizer.vocabulary


def load_tokenizer(name: str) -> Any:
    """A tokenizer by name.

    Parameters
    ----------
    name : str
        "words" for :class:`WordTokenizer`; else a local folder or a hub name of a transformers
        tokenizer, of which the fast form is taken where there is one.

    Raises
    ------
    UsageError
        If there is none, or it is neither here nor within reach.
    """
    if name == "words":
        return WordTokenizer()
    if not name:
        raise UsageError(f"text needs a tokenizer, and none is named; {_WAYS_OUT}")
    from transformers import AutoTokenizer

    def refuse(why: object) -> UsageError:
        where = "in the folder" if Path(name).is_dir() else "under the name"
        line = " ".join(str(why).split())[:200]
        return UsageError(f"no tokenizer was found {where} {name!r} ({line}); {_WAYS_OUT}")

    def read(**options: bool) -> Any:
        try:
            # Said aloud, or transformers may ask on the terminal whether to run a repository's code.
            return AutoTokenizer.from_pretrained(
                name, use_fast=True, trust_remote_code=False, **options
            )
        except MemoryError:
            raise
        except Exception as error:  # of the hub, of the network, of files: all mean there is none
            raise refuse(error) from error

    try:
        return read(local_files_only=True)
    except UsageError:
        if Path(name).exists():
            raise
    why = out_of_reach(name)
    if why:
        raise refuse(why)
    return read()


_WAYS_OUT = (
    "give a local folder that holds a transformers tokenizer (tokenizer.json or vocab.txt), a hub name "
    'with a network or an already filled cache, or "words", which hashes words and needs no files'
)


@functools.lru_cache(maxsize=8)
def cached_tokenizer(name: str) -> Any:
    """:func:`load_tokenizer`, once a process."""
    return load_tokenizer(name)


def tokenize(tokenizer: Any, texts: Sequence[str], length: int) -> NDArray[np.int32]:
    """Token ids of texts, special tokens included.

    Parameters
    ----------
    tokenizer
        Of :func:`load_tokenizer`.
    texts : sequence of str [n]
    length : int
        Tokens of a text: longer ones are cut as the tokenizer does (special tokens stay).

    Returns
    -------
    int32 array [n, length]
        -1 where a text has no more tokens.

    Raises
    ------
    UsageError
        If ``length`` is below 1.
    """
    if length < 1:
        raise UsageError(f"a text has to have at least 1 token, got {length}")
    # transformers' tokenizers fail where there is no text at all.
    if isinstance(tokenizer, WordTokenizer) or not len(texts):
        rows = [tokenizer(text)[:length] for text in texts]
    else:
        rows = tokenizer(
            list(texts),
            truncation=True,
            max_length=length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
    ids = np.full((len(texts), length), -1, np.int32)
    for out, row in zip(ids, rows, strict=True):
        out[: len(row)] = row
    return ids


def vocabulary_of(tokenizer: Any) -> int:
    """Number that every id of a tokenizer lies below, tokens that were added to it included."""
    if isinstance(tokenizer, WordTokenizer):
        return WordTokenizer.vocabulary
    return max(len(tokenizer), 1 + max(tokenizer.get_vocab().values(), default=0))


def with_vocabulary(recipe: Recipe) -> Recipe:
    """A recipe that knows its tokenizer's vocabulary; itself where there is no text.

    Loading the tokenizer shows that it is there, before any work and not in each worker.

    Raises
    ------
    UsageError
        As :func:`load_tokenizer`.
    """
    if not recipe.tokenizer:
        return recipe
    return replace(recipe, vocabulary=vocabulary_of(load_tokenizer(recipe.tokenizer)))
