"""Models of transformers, as people have them on disk."""

from __future__ import annotations

import pytest

from rlmba.models import seeded

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Folders of tiny models, written by transformers itself."""
    import transformers as t

    root = tmp_path_factory.mktemp("models")
    text = {**SIZES, "vocab_size": 99, "max_position_embeddings": 16}
    vision = {**SIZES, "image_size": 32, "patch_size": 8}
    ends = {"eos_token_id": 98, "bos_token_id": 97, "pad_token_id": 98, "projection_dim": 16}
    models = {
        "bert": lambda: t.BertForPreTraining(t.BertConfig(**text)),
        "bert-bare": lambda: t.BertModel(t.BertConfig(**text), add_pooling_layer=False),
        "roberta": lambda: t.RobertaModel(t.RobertaConfig(**text)),
        "t5": lambda: t.T5Model(
            t.T5Config(vocab_size=99, d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2)
        ),
        "vit": lambda: t.ViTModel(t.ViTConfig(**vision)),
        "dino": lambda: t.Dinov2Model(t.Dinov2Config(**{**vision, "mlp_ratio": 2})),
        "convnext": lambda: t.ConvNextModel(
            t.ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
        ),
        "clip": lambda: t.CLIPModel(
            t.CLIPConfig(
                text_config={**text, **ends},
                vision_config={**vision, "projection_dim": 16},
                projection_dim=16,
            )
        ),
        "siglip": lambda: t.SiglipModel(
            t.SiglipConfig(text_config={**text, "projection_size": 32}, vision_config=vision)
        ),
    }
    with seeded(5):
        for name, build in models.items():
            build().save_pretrained(root / name)
    return root
