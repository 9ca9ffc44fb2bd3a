"""open_clip's towers, compared with the library's own network."""

from __future__ import annotations

import json

import pytest
import torch

from rlmba.data import Modality
from rlmba.errors import UsageError
from rlmba.models import build_encoder, seeded
from tests.helpers.backbones import SMALL, make, sample, texts, trained

open_clip = pytest.importorskip("open_clip")

WORDS = Modality("words", "tokens", (12,), "int64", vocabulary=99, padding=-1)
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 99, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture
def network(tmp_path, monkeypatch):
    """A tiny network under a name of its own, and the file of its weights."""
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {"tiny-clip": TINY})
    with seeded(4):
        made = open_clip.create_model("tiny-clip", load_weights=False).eval()
    torch.save(made.state_dict(), tmp_path / "w.pt")
    return made, str(tmp_path / "w.pt")


def test_both_towers_are_the_librarys(network):
    library, file = network
    image = make("open_clip:tiny-clip", Modality("photo", "image", (3, 32, 32)), weights=file)
    x = sample(SMALL)
    torch.testing.assert_close(image.eval()(x), library.encode_image(x))
    text = make("open_clip:tiny-clip", WORDS, weights=file)
    ids = texts([12, 5])
    padded = torch.zeros(2, 16, dtype=torch.int64)
    padded[:, :12] = ids.masked_fill(ids == -1, 0)
    torch.testing.assert_close(text.eval()(ids), library.encode_text(padded))
    for encoder, modality in ((image, SMALL), (text, WORDS)):
        assert trained(encoder)
        blueprint = json.loads(json.dumps(encoder.blueprint()))
        again = build_encoder("open_clip:tiny-clip", modality, blueprint=blueprint)
        again.load_state_dict(encoder.state_dict())


def test_images_of_another_size(network):
    _, file = network
    larger = Modality("photo", "image", (3, 48, 48))
    encoder = make("open_clip:tiny-clip", larger, weights=file)
    own = make("open_clip:tiny-clip", SMALL, weights=file)
    places, before = (e.network.positional_embedding for e in (encoder, own))
    assert len(places) == 1 + 6 * 6
    torch.testing.assert_close(places[0], before[0])
    torch.testing.assert_close(places[1], before[1], rtol=0.5, atol=0.5)
    assert encoder.eval()(sample(larger)).shape == (2, 16)


def test_unknown_names_and_weights_are_refused(network):
    with pytest.raises(UsageError, match="did you mean tiny-clip"):
        make("open_clip:tinyclip", SMALL)
    with pytest.raises(UsageError, match="publishes none"):
        make("open_clip:tiny-clip/none", SMALL)
    long = Modality("w", "tokens", (20,), "int64", vocabulary=99)
    with pytest.raises(UsageError, match="at most 16 tokens"):
        make("open_clip:tiny-clip", long, weights="random")
