"""Which frozen encoders a new project gets, and that its rounds read stored features."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rlmba import packaged_weights
from rlmba.cli import main
from rlmba.config import load_config
from rlmba.learner import frozen
from rlmba.project import encoders
from rlmba.project.encoders import chosen_encoders, language_of
from tests.helpers.media_files import write_image

ENGLISH = "The dog sat on the mat and looked at the cat."


@pytest.fixture
def nowhere(monkeypatch):
    """A machine without packaged weights, caches or a network."""
    monkeypatch.setattr(packaged_weights, "find", lambda _: None)
    monkeypatch.setattr(encoders, "_on_hub", lambda *_: None)
    monkeypatch.setattr(encoders, "_reaches", lambda _: False)
    monkeypatch.setenv("TORCH_HOME", "/nonexistent")


@pytest.fixture
def pool(tmp_path):
    lines = ["id,image,text"]
    for i in range(24):
        write_image(tmp_path / f"{i}.jpg", seed=i, label=i % 2, size=(40, 36))
        lines.append(f"s{i},{i}.jpg,{['a cat purrs', 'the dog barks'][i % 2]} {i}")
    (tmp_path / "pool.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "truth.csv").write_text(
        "id,label\n" + "".join(f"s{i},{['cat', 'dog'][i % 2]}\n" for i in range(26))
    )
    return tmp_path / "pool.csv"


def config_of(pool, *settings):
    return load_config(overrides={"dataset": "manifest", "data": pool}, settings=settings)


@pytest.mark.parametrize(
    ("texts", "language"),
    [
        ([ENGLISH], "English"),
        (["grinning face", "red apple"], "English"),
        ([], "English"),
        (["12345", "!?"], "English"),
        (["Der Hund sitzt auf der Matte und sieht die Katze an."], "not English"),
        (["El perro se sienta en la alfombra y mira a los gatos de la casa."], "not English"),
        (["股市大涨，央行宣布降息"], "Chinese or Japanese"),
        (["Сегодня хорошая погода"], "Cyrillic"),
        (["오늘 날씨가 좋습니다"], "Korean"),
        (["วันนี้อากาศดี"], "Thai"),
    ],
)
def test_language(texts, language):
    assert language_of(texts) == language


def test_without_weights_features_are_fixed(pool, nowhere):
    settings, chosen = chosen_encoders(config_of(pool))
    assert settings["model.frozen"] is True
    names = [c.encoder["name"] for c in chosen]
    assert names == ["ngrams", "image-statistics"]
    assert all('pip install "rlmba[pretrained]"' in c.line for c in chosen)
    with pytest.raises(encoders.UsageError, match="for every modality"):
        encoders.require_pretrained(chosen)


def test_texts_of_another_language_get_no_english_encoder(pool, nowhere, monkeypatch):
    monkeypatch.setattr(packaged_weights, "find", lambda name: (name,))
    text = pool.read_text().replace("a cat purrs", "猫在叫").replace("the dog barks", "狗在叫")
    pool.write_text(text)
    _, (words, image) = chosen_encoders(config_of(pool))
    assert words.encoder["name"] == "ngrams"
    assert "Chinese" in words.line
    assert image.encoder["name"] != "ngrams"


def test_encoders_that_were_named_stay(pool):
    config = config_of(pool, "model.encoders.text={name: ngrams, width: 64}")
    assert chosen_encoders(config) == ({}, [])


def _init(folder, pool, *more):
    truth = f"truth={pool.parent / 'truth.csv'}"
    given = ["--manifest", str(pool), "--annotator", "oracle", "--annotator-option", truth]
    small = ["batch_size=4", "initial_labels=6", "project.validation_labels=6", "device=cpu"]
    sets = [word for s in small for word in ("--set", s)]
    return main(["init", str(folder), *given, *sets, *more])


def test_rounds_read_stored_features(tmp_path, pool, nowhere, capsys, monkeypatch):
    folder = tmp_path / "p"
    assert _init(folder, pool) == 0
    assert "encoder of image: statistics of colors" in capsys.readouterr().out
    assert main(["next", str(folder)]) == 0
    assert main(["collect", str(folder)]) == 0

    def fail(*_, **__):
        raise AssertionError("features are computed again")

    with monkeypatch.context() as patch:
        patch.setattr(frozen, "compute_features", fail)
        patch.setattr(frozen.FrozenEncoders, "built", fail)
        assert main(["next", str(folder)]) == 0
        assert main(["collect", str(folder)]) == 0
    # Only the new samples are computed, and the features of the others do not change.
    write_image(pool.parent / "24.jpg", seed=24, label=0, size=(40, 36))
    with pool.open("a") as file:
        file.write("s24,24.jpg,a cat purrs 24\n")
    computed = []
    real = frozen.compute_features
    monkeypatch.setattr(
        frozen,
        "compute_features",
        lambda e, loader, positions, *a, **k: (
            computed.extend(loader.dataset.ids[positions].tolist()),
            real(e, loader, positions, *a, **k),
        ),
    )
    assert main(["next", str(folder)]) == 0
    assert main(["collect", str(folder)]) == 0
    assert computed == ["s24"]
    rounds = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    assert len(rounds) == 3


def test_from_scratch(tmp_path, pool, nowhere, capsys):
    assert _init(tmp_path / "p", pool, "--from-scratch") == 0
    assert "frozen: false" in (tmp_path / "p" / "config.yaml").read_text()
    capsys.readouterr()
    assert _init(tmp_path / "q", pool, "--from-scratch", "--pretrained") == 2
    assert "exclude each other" in capsys.readouterr().err
    assert not (tmp_path / "q").exists()


def test_changed_files_have_other_features(pool, nowhere):
    settings, _ = chosen_encoders(config_of(pool))
    config = load_config(
        overrides={"dataset": "manifest", "data": pool, "device": "cpu", **settings}
    )
    group = frozen.ProcessGroup.open("cpu", "fp32")
    positions = np.arange(3)

    def features():
        data = frozen.load_data(config, group)
        return data.load(positions, train=False, generator=None).inputs["image"]

    before = features()
    write_image(pool.parent / "1.jpg", seed=99, label=0, size=(40, 36))
    after = features()
    assert (before != after).any(dim=1)[1]


@pytest.mark.parametrize("name", ["timm:resnet10t", "resnet18"])
def test_random_weights_of_another_seed_have_other_features(pool, name):
    if name.startswith("timm"):
        pytest.importorskip("timm")
    image = {"name": name, "weights": "random"}

    def features(seed):
        settings = {"model.frozen": True, "model.encoders.image": image, "seed": seed}
        config = load_config(
            overrides={"dataset": "manifest", "data": pool, "device": "cpu", **settings}
        )
        data = frozen.load_data(config, frozen.ProcessGroup.open("cpu", "fp32"))
        return data.load(np.arange(6), train=False, generator=None).inputs["image"]

    first = features(0)
    assert (features(1) != first).any(dim=1).all()
    assert (features(0) == first).all()


def test_features_of_another_precision_are_not_used(pool, nowhere):
    settings, _ = chosen_encoders(config_of(pool))
    config = load_config(
        overrides={"dataset": "manifest", "data": pool, "device": "cpu", **settings}
    )
    folder = pool.parent / "features"
    config = config.model_copy(
        update={"model": config.model.model_copy(update={"features_folder": folder})}
    )
    for precision in ("bf16", "fp32"):
        frozen.load_data(config, frozen.ProcessGroup.open("cpu", precision))
    names = [path.stem for path in folder.iterdir()]
    assert len(names) == 4
    assert sum(name.endswith("-bf16") for name in names) == 2
