"""Tokenizers, and texts as token ids."""

import json
import subprocess
import sys

import numpy as np
import pytest

from rlmba.data.media.tokens import (
    WordTokenizer,
    cached_tokenizer,
    load_tokenizer,
    tokenize,
    vocabulary_of,
)
from rlmba.errors import UsageError

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*SPECIAL, "apple", "pie", "bak", "##lava", "sugar"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A BERT tokenizer as transformers saves it."""
    from transformers import BertTokenizerFast

    path = tmp_path_factory.mktemp("bert")
    (path / "vocab.txt").write_text("\n".join(VOCABULARY))
    saved = path / "saved"
    ids = {token: k for k, token in enumerate(VOCABULARY)}
    BertTokenizerFast(vocab=ids, do_lower_case=True).save_pretrained(saved)
    return saved


def test_transformers_tokenizer(folder):
    tokenizer = load_tokenizer(str(folder))
    ids = tokenize(tokenizer, ["Apple baklava", "", "sugar " * 9], 6)
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(
        ids, [[2, 5, 7, 8, 3, -1], [2, 3, -1, -1, -1, -1], [2, 9, 9, 9, 9, 3]]
    )
    assert vocabulary_of(tokenizer) == len(VOCABULARY)
    tokenizer.add_tokens(["cinnamon"])
    assert vocabulary_of(tokenizer) == len(VOCABULARY) + 1


def test_no_texts(folder):
    assert tokenize(load_tokenizer("words"), [], 5).shape == (0, 5)
    assert tokenize(load_tokenizer(str(folder)), [], 5).shape == (0, 5)


def test_words():
    words = load_tokenizer("words")
    assert isinstance(words, WordTokenizer)
    ids = tokenize(words, ["Apple, PIE! apple", "Crème brûlée 2", "?", "a " * 9], 4)
    assert ids[0, 0] == ids[0, 2]
    assert ids[0, 3] == -1
    assert (ids[1, :3] >= 0).all()
    assert (ids[2] == -1).all()
    assert (ids[3] == ids[3, 0]).all()
    assert ids.max() < vocabulary_of(words) == 30_000


def test_words_are_the_same_everywhere():
    script = (
        "from rlmba.data.media.tokens import WordTokenizer; import json;"
        "print(json.dumps(WordTokenizer()('apple pie')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert json.loads(done.stdout) == WordTokenizer()("apple pie") == [27318, 27105]


def test_words_seldom_share_an_id():
    ids = WordTokenizer()(" ".join(f"w{k}" for k in range(3_000)))
    # 3,000 words in 30,000 ids: 2,855 distinct ones are expected.
    assert 2_800 < len(set(ids)) < 2_910


def test_loaded_once(folder):
    assert cached_tokenizer(str(folder)) is cached_tokenizer(str(folder))


@pytest.mark.parametrize("name", ["", "no-such-organization/no-such-tokenizer", "folder"])
def test_none_found(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    name = str(tmp_path) if name == "folder" else name
    with pytest.raises(UsageError) as caught:
        load_tokenizer(name)
    message = str(caught.value)
    for way in ("a local folder", "a hub name", '"words"'):
        assert way in message
    assert name in message


@pytest.mark.parametrize("name", ["words", "characters", "folder"])
def test_a_long_text_is_cut_before_it_is_tokenized(folder, name):
    tokenizer = load_tokenizer(str(folder) if name == "folder" else name)
    seen = []

    class Watching(type(tokenizer)):
        def __call__(self, text, *args, **options):
            seen.extend([text] if isinstance(text, str) else text)
            return super().__call__(text, *args, **options)

    tokenizer.__class__ = Watching
    text = "apple baklava " * 100_000
    ids = tokenize(tokenizer, [" " * 100_000 + text, "apple"], 6)
    np.testing.assert_array_equal(ids[0], tokenize(tokenizer, [text[:1000]], 6)[0])
    assert max(map(len, seen)) == 3000
    assert "apple" in seen


def test_length():
    with pytest.raises(UsageError, match="at least 1"):
        tokenize(load_tokenizer("words"), ["a"], 0)
