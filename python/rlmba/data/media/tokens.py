"""Convert texts to token ids: transformers' tokenizers, and a word tokenizer that needs no files."""

from __future__ import annotations

import functools
import hashlib
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlmba import packaged_weights
from rlmba.data.media.content import Recipe
from rlmba.data.media.open_clip_text import OpenClipTokenizer
from rlmba.errors import RlmbaError, UsageError
from rlmba.hub import out_of_reach

__all__ = [
    "CharacterTokenizer",
    "PackagedTokenizer",
    "WordTokenizer",
    "cached_tokenizer",
    "length_of",
    "load_tokenizer",
    "same_ids",
    "tokenize",
    "vocabulary_of",
    "with_vocabulary",
    "without_spaces",
]

_WORD = re.compile(r"\w+")
# Thai, Lao, Burmese, Khmer, kana, and Chinese characters with their extensions.
_SPACELESS = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]+)"
)


_CHARACTERS_PER_TOKEN = 500
"""Texts are cut before they are tokenized. Tokens have a few characters, so this cuts nothing in practice."""


class WordTokenizer:
    """Splits texts into lowercase words and hashes each into one of 30,000 ids.

    It needs no files and is not trained: a word has the same id everywhere. Different words may share
    an id; the probability for two given words is 1/30,000.

    Examples
    --------
    >>> WordTokenizer()("Apple pie, apple crumble") == WordTokenizer()("apple PIE apple crumble")
    True
    """

    vocabulary = 30_000

    def __call__(self, text: str) -> list[int]:
        """Ids of a text's words in order."""
        return [_word_id(word) for word in _WORD.findall(text.lower())]


class CharacterTokenizer(WordTokenizer):
    """Splits texts in scripts without spaces into characters and pairs of neighbors, others into words.

    The scripts are those of Chinese, Japanese, Thai, Lao, Khmer and Burmese. Ids are hashes, as those of
    :class:`WordTokenizer`.

    Examples
    --------
    >>> len(CharacterTokenizer()("天气好 today"))  # three characters, two pairs, a word
    6
    """

    def __call__(self, text: str) -> list[int]:
        """Ids of a text's characters, pairs and words in order."""
        ids = []
        for word in _WORD.findall(text.lower()):
            for part in _SPACELESS.split(word):
                if not _SPACELESS.fullmatch(part):
                    ids += [_word_id(part)] if part else []
                    continue
                ids.append(_word_id(part[0]))
                for first, second in itertools.pairwise(part):
                    ids += [_word_id(first + second), _word_id(second)]
        return ids


def without_spaces(texts: Sequence[str]) -> bool:
    """Whether a third or more of the letters of texts belong to scripts without spaces between words."""
    letters = sum(c.isalpha() for text in texts for c in text)
    return 3 * sum(len(run) for text in texts for run in _SPACELESS.findall(text)) > letters


@functools.lru_cache(maxsize=100_000)
def _word_id(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % WordTokenizer.vocabulary


def load_tokenizer(name: str, *, fetch: bool = True) -> Any:
    """Load a tokenizer by name.

    Parameters
    ----------
    name : str
        "words" for :class:`WordTokenizer`; "characters" for :class:`CharacterTokenizer`;
        "all-minilm-l6-v2" or "wordllama" for that of the encoder of this name; "open_clip:NAME" for
        that of a network of open_clip; otherwise a local folder or a hub name of a transformers
        tokenizer. Its fast form is used if there is one.
    fetch : bool
        Whether files that are not on this machine may be fetched.

    Raises
    ------
    UsageError
        If there is no such tokenizer, or it is neither cached nor reachable.
    """
    if name in _HASHED:
        return _HASHED[name]()
    if name in _PACKAGED:
        return PackagedTokenizer(name)
    if not name:
        raise UsageError(f"text needs a tokenizer, but none is named; {_WAYS_OUT}")
    if name.startswith(_OPEN_CLIP):
        member = name.removeprefix(_OPEN_CLIP)
        return OpenClipTokenizer(member, functools.partial(_read, fetch=fetch))
    from transformers import AutoTokenizer

    # Otherwise transformers may ask on the terminal whether to run a repository's code.
    load = functools.partial(
        AutoTokenizer.from_pretrained, name, use_fast=True, trust_remote_code=False
    )
    return _read(name, load, fetch=fetch)


def _read(name: str, load: Callable[..., Any], *, fetch: bool) -> Any:
    """Load a tokenizer of transformers from a folder, the hub's cache, or the hub."""

    def refuse(why: object) -> UsageError:
        where = "in the folder" if Path(name).is_dir() else "under the name"
        line = " ".join(str(why).split())[:200]
        return UsageError(f"no tokenizer was found {where} {name!r} ({line}); {_WAYS_OUT}")

    def attempt(**options: bool) -> Any:
        try:
            return load(**options)
        except MemoryError:
            raise
        except Exception as error:  # the hub, the network and files raise many kinds
            raise refuse(error) from error

    try:
        return attempt(local_files_only=True)
    except UsageError:
        if Path(name).exists() or not fetch:
            raise
    why = out_of_reach(name)
    if why:
        raise refuse(why)
    return attempt()


_OPEN_CLIP = "open_clip:"

_HASHED = {"words": WordTokenizer, "characters": CharacterTokenizer}

_PACKAGED = ("all-minilm-l6-v2", "wordllama")
"""Encoders whose package carries their tokenizer."""


class PackagedTokenizer:
    """The tokenizer of an encoder whose package carries it, without importing transformers.

    Parameters
    ----------
    name : str
        "all-minilm-l6-v2" or "wordllama".
    """

    def __init__(self, name: str) -> None:
        from tokenizers import Tokenizer

        (path,) = packaged_weights.require(name, only=1)
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        # The vectors of wordllama were trained without special tokens.
        self._special = name != "wordllama"
        self.vocabulary = self._tokenizer.get_vocab_size()

    def __call__(self, texts: Sequence[str], length: int) -> list[list[int]]:
        """Ids of each text, at most ``length``; special tokens are kept."""
        self._tokenizer.enable_truncation(length)
        found = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=self._special)
        return [text.ids for text in found]


_WAYS_OUT = (
    "give a local folder with a transformers tokenizer (tokenizer.json or vocab.txt), a hub name that is "
    'cached or reachable, or "words" or "characters", which need no files'
)


@functools.lru_cache(maxsize=8)
def cached_tokenizer(name: str) -> Any:
    """:func:`load_tokenizer`, once per process."""
    return load_tokenizer(name)


def tokenize(tokenizer: Any, texts: Sequence[str], length: int) -> NDArray[np.int32]:
    """Token ids of texts, special tokens included.

    Parameters
    ----------
    tokenizer
        From :func:`load_tokenizer`.
    texts : sequence of str [n]
    length : int
        Tokens per text. The tokenizer truncates longer texts and keeps special tokens. Of a text, it
        sees at most 500 characters per token.

    Returns
    -------
    int32 array [n, length]
        Padded with -1; those of open_clip's tokenizers have the network's own padding.

    Raises
    ------
    UsageError
        If ``length`` is below 1.
    """
    if length < 1:
        raise UsageError(f"tokens: expected a length of at least 1, got {length}")
    # Tokenizers process the whole text before they truncate it, with gigabytes of memory for 10 MB.
    most = _CHARACTERS_PER_TOKEN * length
    texts = [text if len(text) <= most else text.lstrip()[:most] for text in texts]
    # transformers' tokenizers fail on an empty list of texts.
    if isinstance(tokenizer, WordTokenizer) or not texts:
        rows = [tokenizer(text)[:length] for text in texts]
    elif isinstance(tokenizer, PackagedTokenizer | OpenClipTokenizer):
        rows = tokenizer(texts, length)
    else:
        rows = tokenizer(
            texts,
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
    """A number that is larger than every id of a tokenizer, including added tokens."""
    if isinstance(tokenizer, WordTokenizer | PackagedTokenizer | OpenClipTokenizer):
        return tokenizer.vocabulary
    return max(len(tokenizer), 1 + max(tokenizer.get_vocab().values(), default=0))


def length_of(tokenizer: Any) -> int | None:
    """The number of tokens that a tokenizer makes of every text; None if texts differ."""
    return tokenizer.length if isinstance(tokenizer, OpenClipTokenizer) else None


_PROBES = (
    "A dog chases the red ball.",
    "Café Zürich: 3 × 12.50 €, isn't it?",
    "UPPER case, under_score & <tag>",
    "天气好 Привет",
)
"""Texts that tokenizers of different networks divide differently."""


def same_ids(name: str, other: str) -> bool:
    """Whether two tokenizers by name make the same ids of a few texts, up to padding.

    True also if they cannot be compared, because the files of one of them are not on this machine.
    """
    if name == other:
        return True
    if _HASHED.keys() & {name, other}:
        return False
    try:
        first, second = (load_tokenizer(n, fetch=False) for n in (name, other))
    except RlmbaError:
        return True
    length = length_of(first) or length_of(second) or 64
    ids, others = (tokenize(t, _PROBES, length).clip(min=0) for t in (first, second))
    return bool((ids == others).all())


def with_vocabulary(recipe: Recipe) -> Recipe:
    """The recipe with its tokenizer's vocabulary and length; the recipe itself if there is no text.

    This loads the tokenizer, so that a missing one is reported before any work, and not in each worker.

    Raises
    ------
    UsageError
        As :func:`load_tokenizer`.
    """
    if not recipe.tokenizer:
        return recipe
    tokenizer = cached_tokenizer(recipe.tokenizer)
    tokens = length_of(tokenizer) or recipe.tokens
    return replace(recipe, vocabulary=vocabulary_of(tokenizer), tokens=tokens)
