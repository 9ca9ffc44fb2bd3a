"""`rlmba predict`: a run's network on samples that it has never met."""

from __future__ import annotations

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from rlmba.cli.app import application
from rlmba.config import RunConfig
from rlmba.data import load_features
from rlmba.errors import (
    DataError,
    RlmbaWarning,
    RunFolderError,
    StorageError,
    UsageError,
)
from rlmba.learner import Trained, run
from rlmba.project import network_outputs
from rlmba.project import predict as module
from rlmba.project.predict import describe_samples, predict_file, read_new
from rlmba.tables import write_table
from rlmba.training import Loader, predict
from tests.helpers.float64_runs import networks_in_float64
from tests.helpers.trained_runs import CLASSES, new_samples, small_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("predict"))


@pytest.fixture
def new(tmp_path):
    return new_samples(tmp_path / "new.npz")


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_a_sample(folder, new, tmp_path):
    summary = predict_file(folder, tmp_path / "out.csv", data=new, every_class=True)
    rows = rows_of(tmp_path / "out.csv")
    given = np.load(new)
    assert [row["id"] for row in rows] == given["ids"].tolist()
    assert list(rows[0]) == [
        *("id", "class", "probability", "p_low", "p_mid", "p_high"),
        *("difficulty", "weight_sound", "weight_motion", "unreadable"),
    ]
    weights = Trained.load(folder).weights
    for row, (sound, motion) in zip(rows, given["present"], strict=True):
        each = {name: float(row[f"p_{name}"]) for name in CLASSES}
        assert sum(each.values()) == pytest.approx(1)
        assert row["class"] == max(each, key=each.get)
        assert float(row["probability"]) == max(each.values())
        assert 0 < float(row["difficulty"]) < 0.25
        shares = (float(row["weight_sound"]), float(row["weight_motion"]))
        expected = weights if sound and motion else (float(sound), float(motion))
        assert shares == pytest.approx(tuple(expected))
        assert row["unreadable"] == ""
    assert summary.samples == 50
    assert sum(summary.by_class.values()) == 50


def test_of_the_runs_own_samples_it_says_what_the_run_found(folder, tmp_path):
    """Test Top-1 from the file is the one in the run's log, with labels and split left out of the file."""
    from rlmba.learner import read_run

    view = read_run(folder)
    own = np.load(view.config.data)
    plain = {k: own[k] for k in ("sound", "motion", "present")}
    np.savez(tmp_path / "again.npz", **plain)
    predict_file(folder, tmp_path / "out.csv", data=tmp_path / "again.npz")
    said = np.array([CLASSES.index(row["class"]) for row in rows_of(tmp_path / "out.csv")])
    test = own["split"] == 1
    assert (said == own["y"])[test].mean() == pytest.approx(view.records[-1].test.mm.top1)


def test_calibrated_probabilities_and_difficulty_by_hand(folder, new):
    """softmax of what the predictor adds up, and the mean variance of a Dirichlet, sample by sample."""
    trained = Trained.load(folder)
    dataset = read_new(trained, data=new)
    with Loader(dataset, torch.device("cpu")) as loader:
        outputs = predict(trained.model, loader, np.arange(len(dataset)), batch_size=9)
    rows = describe_samples(trained, outputs, dataset.present, every_class=True)
    for i in (0, 1, 2, 3, 4, 5, 6, 7):
        there = outputs.present[i]
        heads = [(outputs.fused_logits[i], trained.fused_temperature, True)]
        heads += [
            (outputs.logits[m][i], t, ok)
            for m, t, ok in zip(("sound", "motion"), trained.temperatures, there, strict=True)
        ]
        total = np.zeros(3)
        for logits, temperature, ok in heads:
            z = logits.astype(np.float64) / temperature
            total += ok * (z - np.log(np.exp(z).sum()))
        p = np.exp(total) / np.exp(total).sum()
        assert [rows[f"p_{c}"][i] for c in CLASSES] == pytest.approx(p.tolist())
        w = trained.weights * there / (trained.weights * there).sum()
        alpha = 1 + sum(
            share * np.log1p(np.exp(outputs.logits[m][i].astype(np.float64) / t))
            for m, t, share in zip(("sound", "motion"), trained.temperatures, w, strict=True)
        )
        a0 = alpha.sum()
        variance = alpha * (a0 - alpha) / (a0**2 * (a0 + 1))
        assert rows["difficulty"][i] == pytest.approx(variance.mean(), rel=1e-5)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_other_files_say_the_same(folder, new, tmp_path, suffix):
    predict_file(folder, tmp_path / "out.csv", data=new)
    predict_file(folder, tmp_path / f"out{suffix}", data=new)
    if suffix == ".jsonl":
        text = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.splitlines()]
    else:
        rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    plain = [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows]
    assert plain == rows_of(tmp_path / "out.csv")
    assert rows[0]["unreadable"] is None


def test_chunks_change_nothing(folder, new, tmp_path, monkeypatch):
    networks_in_float64(monkeypatch)
    predict_file(folder, tmp_path / "whole.csv", data=new)
    seen = []
    monkeypatch.setattr(network_outputs, "CHUNK", 14)
    predict_file(
        folder, tmp_path / "parts.csv", data=new, batch_size=7, progress=lambda *at: seen.append(at)
    )
    assert seen == sorted(seen)
    assert {(14, 50), (28, 50), (42, 50), (50, 50)} <= set(seen)
    for a, b in zip(rows_of(tmp_path / "whole.csv"), rows_of(tmp_path / "parts.csv"), strict=True):
        assert (a["id"], a["class"]) == (b["id"], b["class"])
        assert float(a["probability"]) == pytest.approx(float(b["probability"]))


def test_samples_that_cannot_be_read(folder, new, tmp_path):
    """What turns out to be absent when it is read: a note; nothing left: no class either."""
    trained = Trained.load(folder)
    dataset = read_new(trained, data=new)
    said = np.ones((50, 2), np.bool_)
    said[3] = False
    found = said.copy()
    found[1, 0] = found[2] = False
    dataset.present = found  # as if reading had found them missing
    with Loader(dataset, torch.device("cpu")) as loader:
        outputs = predict(trained.model, loader, np.arange(50), batch_size=50)
    rows = describe_samples(trained, outputs, said, every_class=True)
    assert rows["unreadable"][:5] == [None, "sound", "sound, motion", "no modality", None]
    for name, column in rows.items():
        if name not in ("id", "unreadable"):
            assert column[2] is None, name
            assert column[3] is None, name
            assert None not in column[4:], name
    assert rows["weight_sound"][1] == 0
    assert rows["weight_motion"][1] == 1
    summary = module.Summary(tmp_path / "x.csv")
    summary.add(rows)
    assert summary.unread == [str(i) for i in dataset.ids[2:4]]
    assert summary.partly == 1
    assert summary.lines()[2].startswith(
        "2 have no class, because no modality could be read: new 2"
    )
    assert "1 were predicted without" in summary.lines()[3]
    write_table(tmp_path / "x.parquet", [rows], texts=("id", "class", "unreadable"), size=0)
    assert pq.read_table(tmp_path / "x.parquet").to_pydict() == rows


def test_one_modality_alone_is_enough(folder, new, tmp_path):
    np.savez(tmp_path / "one.npz", sound=np.load(new)["sound"])
    summary = predict_file(folder, tmp_path / "out.csv", data=tmp_path / "one.npz")
    rows = rows_of(tmp_path / "out.csv")
    assert {(row["weight_sound"], row["weight_motion"]) for row in rows} == {("1.0", "0.0")}
    assert rows[7]["id"] == "one-000007"
    assert not summary.unread


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sound": np.zeros((4, 9))}, r"shape \[3\].*got \[9\]"),
        ({"sound": np.full((4, 3), np.nan)}, "sound"),
        ({"other": np.zeros((4, 3))}, r"expected an array of \['sound', 'motion'\]"),
        ({"sound": np.zeros((4, 3)), "motion": np.zeros((5, 5, 4))}, "one row per sample"),
        ({"sound": np.zeros((4, 3)), "ids": np.array(["a", "b", "a", "c"])}, "'a'"),
    ],
)
def test_data_that_is_not_what_the_network_takes(folder, tmp_path, change, message):
    np.savez(tmp_path / "new.npz", **change)
    with pytest.raises(DataError, match=message):
        predict_file(folder, tmp_path / "out.csv", data=tmp_path / "new.npz")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "--manifest FILE or"),
        ({"manifest": "a.csv"}, "the run was on arrays"),
        ({"manifest": "a.csv", "data": "b.npz"}, "--manifest FILE or"),
        ({"data": "b.npz", "out": "out.xlsx"}, r"ending in \.csv"),
        ({"data": "b.npz", "out": "no/such/out.csv"}, "no such folder"),
        ({"data": "b.npz", "batch_size": 0}, "batch_size"),
    ],
)
def test_requests_that_cannot_be_met(folder, tmp_path, arguments, message):
    arguments = {k: tmp_path / v if isinstance(v, str) else v for k, v in arguments.items()}
    out = arguments.pop("out", tmp_path / "out.csv")
    with pytest.raises((UsageError, StorageError), match=message):
        predict_file(folder, out, **arguments)


def test_a_run_that_cannot_say_how_it_read(folder, new, tmp_path):
    from dataclasses import replace

    with pytest.raises(UsageError, match="does not say how other files"):
        read_new(replace(Trained.load(folder), reading={}), data=new)


def test_nothing_is_replaced_unasked_nor_half_written(folder, new, tmp_path, monkeypatch):
    out = tmp_path / "out.csv"
    out.write_text("precious")
    with pytest.raises(UsageError, match="--force"):
        predict_file(folder, out, data=new)
    monkeypatch.setattr(network_outputs, "CHUNK", 10)

    def stops(done, total):
        if done >= 20:
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="unchanged"):
        predict_file(folder, out, data=new, overwrite=True, batch_size=10, progress=stops)
    assert out.read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new.npz", "out.csv"]
    predict_file(folder, out, data=new, overwrite=True)
    assert len(rows_of(out)) == 50


def test_command(folder, new, tmp_path):
    runner = CliRunner()
    arguments = ["predict", str(folder), "--data", str(new), "--out", str(tmp_path / "o.csv")]
    done = runner.invoke(application(), [*arguments, "--all", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "50 samples" in done.output
    assert "p_mid" in (tmp_path / "o.csv").read_text().partition("\n")[0]


def test_no_run(new, tmp_path):
    with pytest.raises(RunFolderError, match="run folder"):
        predict_file(tmp_path / "nowhere", tmp_path / "o.csv", data=new)


def test_images_tokens_and_sound_are_read_as_the_runs_own(tmp_path):
    """Statistics of the run's training samples, not of the new ones: the same tensors, bit by bit."""
    rng = np.random.default_rng(0)
    n = 40
    given = {
        "image": rng.integers(0, 256, (n, 9, 8, 3), dtype=np.uint8),
        "wave": rng.integers(-9000, 9000, (n, 1200), dtype=np.int16),
        "text": rng.integers(0, 30, (n, 6)),
        "mel": rng.normal(size=(n, 7, 9)).astype(np.float32),
    }
    y, split = np.arange(n) % 2, np.arange(n) >= 30
    np.savez(tmp_path / "all.npz", **given, y=y, split=split)
    dataset = load_features(tmp_path / "all.npz")
    reading = json.loads(json.dumps(dataset.reading()))
    some = np.arange(33, 40)
    np.savez(tmp_path / "some.npz", **{k: v[some] for k, v in given.items()})
    again = load_features(tmp_path / "some.npz", reading=reading)
    assert again.modalities == dataset.modalities
    wanted = dataset.batch(some, train=False, generator=None)
    got = again.batch(np.arange(7), train=False, generator=None)
    for name in given:
        assert torch.equal(got.inputs[name], wanted.inputs[name]), name
    assert again.labels.tolist() == [-1] * 7
    given["text"][35, 0] = 30
    np.savez(tmp_path / "more.npz", **{k: v[some] for k, v in given.items()})
    with pytest.raises(DataError, match=r"below 30.*'more-000002' has 30"):
        load_features(tmp_path / "more.npz", reading=reading)


def test_a_manifest_of_pictures_and_texts(tmp_path):
    """Predicted by what its own checkpoint says of reading, whatever is wrong with a row."""
    rng = np.random.default_rng(0)
    words = ["red fox", "blue sea"]

    def table(name, columns, rows):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(rows)

    for i in range(24):
        shade = rng.normal(60 + 120 * (i % 2), 9, (16, 16, 3)).clip(0, 255)
        Image.fromarray(shade.astype(np.uint8)).save(tmp_path / f"{i}.png")
    own = [[f"s{i}", f"{i}.png", words[i % 2], "ab"[i % 2], ["train", "test"][i > 15]]
           for i in range(24)]  # fmt: skip
    table("own.csv", ["id", "image", "text", "label", "split"], own)
    settings = {
        "dataset": "manifest",
        "data": tmp_path / "own.csv",
        "rounds": 0,
        "epochs": 2,
        "model": {"width": 8},
        "training": {"workers": 0},
        "device": "cpu",
    }
    folder = run(RunConfig.model_validate(settings), tmp_path / "run").path
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    new = [[f"n{i}", f"{i}.png", words[i % 2]] for i in range(4)]
    new += [["torn", "damaged.png", words[0]], ["ghost", "gone.png", ""], ["text", "", words[1]]]
    table("new.csv", ["id", "image", "text"], new)
    with pytest.warns(RlmbaWarning):
        summary = predict_file(folder, tmp_path / "out.csv", manifest=tmp_path / "new.csv")
    rows = {row["id"]: row for row in rows_of(tmp_path / "out.csv")}
    assert set(rows) == {"n0", "n1", "n2", "n3", "torn", "ghost", "text"}
    assert (rows["torn"]["unreadable"], rows["torn"]["weight_image"]) == ("image", "0.0")
    assert rows["torn"]["class"] in "ab"
    assert rows["ghost"]["class"] == ""
    assert rows["ghost"]["unreadable"]
    assert rows["text"]["unreadable"] == ""
    assert summary.unread == ["ghost"]
    with pytest.raises(UsageError, match="--manifest"):
        predict_file(folder, tmp_path / "other.csv", data=tmp_path / "new.npz")
