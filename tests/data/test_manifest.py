"""Tables as data sets: what is found, shown and read, and reading other tables alike."""

from __future__ import annotations

import json
import pickle

import numpy as np
import PIL.Image
import pytest
import torch
from scipy.io import wavfile

from rlmba.data import load_dataset, load_manifest
from rlmba.errors import DataError, RlmbaWarning, UsageError
from rlmba.tables import write_table
from rlmba.training.loading import Loader
from tests.helpers.manifest_helpers import SMALL, N, columns, quiet, values, written


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
def test_every_format_gives_the_same_data(folder, name):
    dataset = load_manifest(written(folder, name), **SMALL)
    assert [m.name for m in dataset.modalities] == ["text", "image", "audio", "features", "emb"]
    assert [m.kind for m in dataset.modalities][:3] == ["tokens", "image", "spectrogram"]
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels.tolist() == [1, 0] * 6
    assert dataset.test_positions.tolist() == [9, 10, 11]
    assert dataset.validation_positions is None
    assert dataset.present is None
    shapes = {m: tuple(x.shape[1:]) for m, x in values(dataset, [0, 5]).inputs.items()}
    assert shapes == {m.name: m.shape for m in dataset.modalities}
    assert shapes["image"] == (3, 28, 28)
    assert shapes["features"] == (2,)
    assert shapes["emb"] == (3,)


def test_numbers_are_standardized_over_training_rows(folder):
    dataset = load_manifest(written(folder), **SMALL)
    inputs = values(dataset).inputs
    age = 1.5 * np.arange(N)
    np.testing.assert_allclose(
        inputs["features"][:, 0], (age - age[:9].mean()) / age[:9].std(), rtol=1e-5
    )
    assert inputs["features"][3, 1] == 0  # an empty cell has the mean
    emb = np.array([[i, -1.0, i * i] for i in range(N)])
    np.testing.assert_allclose(
        inputs["emb"][:, 2], (emb[:, 2] - emb[:9, 2].mean()) / emb[:9, 2].std(), rtol=1e-5
    )
    assert (inputs["emb"][:, 1] == 0).all()  # constant


def test_only_features_get_noise_in_training_and_parts_of_a_batch_agree(folder):
    dataset = load_manifest(written(folder), **SMALL)
    at = np.arange(6)

    def loaded(rows=None):
        generator = torch.Generator().manual_seed(1)
        return dataset.finish(
            dataset.load(at, train=True, generator=generator, rows=rows), torch.device("cpu")
        ).inputs

    whole, part, plain = loaded(), loaded(slice(2, 5)), values(dataset, at).inputs
    for m in whole:
        torch.testing.assert_close(part[m], whole[m][2:5])
    assert torch.equal(whole["text"], plain["text"])
    noise = whole["features"] - plain["features"]
    assert 0.01 < noise.std() < 0.3


def test_a_missing_value_as_text_is_a_class_with_a_warning(folder):
    labels = ["cat", "dog", "None"] * (N // 3)
    with pytest.warns(
        RlmbaWarning, match="'None' in column 'label' counts as a class; if it means"
    ):
        dataset = load_manifest(written(folder, label=labels), **SMALL)
    assert dataset.classes == ("None", "cat", "dog")


def test_a_decimal_comma_is_named_where_it_leaves_a_column_out(folder):
    commas = ["1,5", "2,25", "-3,5"] * (N // 3)
    with pytest.warns(
        RlmbaWarning, match="column 'dose' is not used: its numbers have a decimal comma"
    ):
        dataset = load_manifest(written(folder, dose=commas), **SMALL)
    assert (
        "'dose' (its numbers have a decimal comma: write them with a point)" in dataset.found()[-1]
    )


def test_found_says_what_is_taken_and_what_is_not(folder):
    path = written(
        folder,
        index=[7 * i for i in range(N)],
        count=[1 + i for i in range(N)],
        category=[i % 3 for i in range(N)],
        notes=["some words"] * N,
        mixed=[1.0] * 5 + ["five"] + [2.0] * 6,
    )
    dataset = load_manifest(path, **SMALL)
    told = "\n".join(dataset.found())
    assert "12 rows, 12 of them usable (9 train, 3 test)" in told
    assert "image: files of column 'Image_Path'; 12 of 12 rows have it" in told
    assert "text: texts of column 'caption'" in told
    assert "features: 2 columns of numbers: 'age', 'weight'" in told
    assert "emb: lists of 3 numbers" in told
    assert "12 of 12 rows have one (cat 6, dog 6)" in told
    assert "'index' (named like a row counter or a score)" in told
    assert "'count' (counts the rows)" in told
    assert "'category' (named like a label)" in told
    assert "'mixed' (not all numbers: holds 'five' in line 6)" in told
    assert dataset.settled == {
        "columns": {"text": "caption", "image": "Image_Path", "audio": "wav", "emb": "emb"},
        "features": ["age", "weight"],
        "seconds": 1.0,
        "image_side": 32,
        "tokens": 8,
        "tokenizer": "words",
    }
    again = load_manifest(path, **{**SMALL, **dataset.settled})
    assert again.fingerprint() == dataset.fingerprint()


def test_sounds_as_waveforms(folder, tmp_path):
    path = written(folder)
    options = {"audio": "waveform", "sample_rate": 8000, "seconds": 1.0}
    dataset, spectrograms = quiet(path, **options), quiet(path, seconds=1.0)
    (sound,) = (m for m in dataset.modalities if m.name == "audio")
    assert (sound.kind, sound.shape, sound.sample_rate) == ("waveform", (8000,), 8000.0)
    for train in (False, True):
        batch = dataset.batch(np.arange(N), train=train, generator=torch.Generator().manual_seed(0))
        for i, x in enumerate(batch.inputs["audio"].numpy()):
            _, samples = wavfile.read(folder / "wav" / f"{i}.wav")
            np.testing.assert_array_equal(x[:6400], (samples / 2**15).astype(np.float32))
            assert not x[6400:].any()
    assert dataset.fingerprint() == quiet(path, **options).fingerprint()
    again = quiet(path, sample_rate=8000, seconds=1.0)
    assert dataset.fingerprint() != again.fingerprint()
    assert set(dataset.sample_keys()["audio"]).isdisjoint(again.sample_keys()["audio"])
    # A new table is read in the same way, also by a reading from before there was a choice.
    reading = json.loads(json.dumps(dataset.reading()))
    assert load_manifest(path, reading=reading).modalities == dataset.modalities
    reading = {k: v for k, v in spectrograms.reading().items() if k != "audio"}
    assert load_manifest(path, reading=reading).modalities == spectrograms.modalities
    with pytest.raises(UsageError, match=r"option reading: .*audio: melody"):
        load_manifest(path, reading={**reading, "audio": "melody"})
    with pytest.raises(UsageError, match="option audio: expected 'spectrogram' or 'waveform', got"):
        load_manifest(path, audio=True)
    with pytest.raises(UsageError, match="sound: expected 2 samples or more"):
        quiet(path, audio="waveform", seconds=1e-4)


def test_the_sound_of_videos_as_waveforms(folder, tmp_path):
    path = folder / "clips.csv"
    path.write_text("id,video,label\na,0.mp4,x\nb,1.mp4,y\n")
    dataset = load_manifest(path, sound=True, audio="waveform", sample_rate=4000, seconds=1.0)
    assert [m.kind for m in dataset.modalities] == ["video", "waveform"]
    assert values(dataset).inputs["audio"].abs().amax(dim=1).gt(0.01).all()


def test_options_choose_columns_and_leave_them_out(folder):
    path = written(folder)
    dataset = load_manifest(path, columns={"audio": None, "emb": None}, features=[], **SMALL)
    assert [m.name for m in dataset.modalities] == ["text", "image"]
    dataset = load_manifest(
        path, columns={"embedding": "EMB", "text": None}, features=["age"], **SMALL
    )
    assert {m.name: m.shape for m in dataset.modalities}["features"] == (1,)
    assert "embedding" in {m.name for m in dataset.modalities}
    assert "text" not in {m.name for m in dataset.modalities}


def test_empty_cells_and_missing_files_are_absent_modalities(folder):
    images = [f"{i}.jpg" for i in range(N)]
    images[0], images[1], images[2] = "", "gone.jpg", "wav"
    path = written(
        folder,
        Image_Path=images,
        wav=None,
        emb=None,
        age=[None if i in (0, 4) else 1.0 * i**2 for i in range(N)],
        weight=None,
        caption=["" if i == 1 else "word" for i in range(N)],
    )
    with pytest.warns(
        RlmbaWarning, match="2 files named in the table cannot be used: 's/1' .*gone.jpg: no such"
    ):
        dataset = load_manifest(path, **SMALL)
    assert [m.name for m in dataset.modalities] == ["text", "image", "features"]
    assert dataset.present[0].tolist() == [True, False, False]
    assert dataset.present[1].tolist() == [False, False, True]
    assert dataset.present[2].tolist() == [True, False, True]
    assert dataset.present[3:].sum() == 9 * 3 - 1
    batch = values(dataset)
    assert batch.present.equal(torch.from_numpy(dataset.present))
    assert all(torch.isfinite(x).all() for x in batch.inputs.values())
    assert not dataset.problems
    assert "image" not in dataset.shown(1)


def test_rows_without_anything_are_left_out_even_labeled_ones(folder):
    some = dict.fromkeys(("caption", "wav", "emb", "age", "weight"))
    images = [f"{i}.jpg" for i in range(N)]
    images[0], images[5] = "vanished.jpg", None
    path = written(folder, Image_Path=images, **some)
    with pytest.warns(RlmbaWarning) as caught:
        dataset = load_manifest(path, **SMALL)
    said = " ".join(str(w.message) for w in caught)
    assert "of 12 rows 1 left out (none of its files is there): 's/0'" in said
    assert "1 left out (all of its cells are empty): 's/5'" in said
    assert len(dataset) == 10
    assert set(dataset.left_out) == {"s/0", "s/5"}
    assert "s/0" not in dataset.ids.tolist()


def test_files_that_turn_out_unreadable_are_absent_and_the_cause_is_named(folder):
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff" + bytes(100))
    # Small on disk, and more pixels than are ever decoded.
    PIL.Image.new("1", (12_000, 6_000)).save(folder / "bomb.png")
    images = ["broken.jpg", "bomb.png"] + [f"{i}.jpg" for i in range(2, N)]
    dataset = load_manifest(written(folder, Image_Path=images), **SMALL)
    assert dataset.present is None
    with pytest.warns(
        RlmbaWarning, match=r"2 of 12 samples .*The first: image .*broken.jpg: not a read"
    ):
        batch = values(dataset)
    assert batch.present[:2, 1].tolist() == [False, False]
    assert batch.present[2:].all()
    dataset = load_manifest(written(folder, Image_Path=images[1:2] * 2 + images[2:]), **SMALL)
    with pytest.warns(RlmbaWarning, match=r"bomb.png: 12000 x 6000 pixels, .* too many"):
        values(dataset)


def test_sounds_and_images_of_nan_are_absent_and_named(folder):
    bad = np.full((40, 40), np.nan, np.float32)
    PIL.Image.fromarray(bad).save(folder / "nan.tif")
    wavfile.write(folder / "nan.wav", 8000, bad.reshape(-1))
    images = ["nan.tif"] + [f"{i}.jpg" for i in range(1, N)]
    sounds = ["nan.wav"] + [f"wav/{i}.wav" for i in range(1, N)]
    dataset = load_manifest(written(folder, Image_Path=images, wav=sounds), **SMALL)
    named = r"audio .*nan.wav: .* NaN, infinity or .*; image .*nan.tif: .* NaN or infinity"
    with pytest.warns(RlmbaWarning, match=named):
        batch = values(dataset)
    assert batch.present.sum(dim=1).tolist() == [3] + [5] * (N - 1)
    assert all(torch.isfinite(x).all() for x in batch.inputs.values() if x.is_floating_point())


def test_a_list_with_nan_is_named(folder):
    lists = [[float(i), float("nan") if i == 4 else 1.0] for i in range(N)]
    with pytest.warns(RlmbaWarning, match=r"row 5: column 'emb' has a number that is not finite"):
        dataset = load_manifest(written(folder, "m.parquet", emb=lists), **SMALL)
    assert "emb" not in {m.name for m in dataset.modalities}
    assert any("'emb' (has a number that is not finite" in line for line in dataset.found())
    with pytest.raises(DataError, match=r"row 5: column 'emb' has a number that is not finite"):
        load_manifest(folder / "m.parquet", columns={"emb": "emb"}, **SMALL)


def test_shown_gives_texts_files_and_numbers(folder):
    dataset = load_manifest(written(folder), **SMALL)
    shown = dataset.shown(3)
    assert shown["text"] == "<b>sample</b> number 3"
    assert shown["image"] == (folder / "3.jpg")
    assert shown["image"].is_absolute()
    assert shown["audio"] == folder / "wav" / "3.wav"
    assert shown["features"] == "age: 4.5"
    assert "emb" not in shown


def test_texts_may_be_files_by_name_or_by_value(folder):
    for i in range(N):
        (folder / f"t{i}.txt").write_text(f"hello {i} " + "x" * (30_000 if i == 1 else 0))
    names = [f"t{i}.txt" for i in range(N)]
    inline = quiet(written(folder, caption=[f"hello {i}" for i in range(N)]))
    by_value = quiet(written(folder, caption=names))
    by_name = quiet(written(folder, caption=None, text_file=names))
    for dataset in (by_value, by_name):
        assert dataset.shown(2)["text"] == "hello 2 "
        assert len(dataset.shown(1)["text"]) == 20_001
        assert torch.equal(
            values(dataset, [2, 3]).inputs["text"], values(inline, [2, 3]).inputs["text"]
        )
        assert dataset.reading()["text_is_file"]
    assert by_name.settled["columns"]["text_file"] == "text_file"
    assert quiet(written(folder, caption=["not there.txt"] * N)).shown(0)["text"] == "not there.txt"


def test_videos_and_their_sound(folder):
    clips = {"id": ["a", "b"], "clip": ["0.mp4", "1.mp4"], "label": ["x", "y"]}
    path = folder / "clips.csv"
    write_table(path, clips)
    silent = load_manifest(path, frames=4, **SMALL)
    assert [m.name for m in silent.modalities] == ["video"]
    dataset = load_manifest(path, frames=4, sound=True, **SMALL)
    assert [m.name for m in dataset.modalities] == ["video", "audio"]
    assert dataset.settled["seconds"] == 1.5
    batch = values(dataset)
    assert batch.present is None
    assert batch.inputs["video"].shape == (2, 3, 2, 112, 112)
    assert batch.inputs["audio"].std() > 0
    assert set(dataset.shown(0)) == {"video"}
    again = load_manifest(path, reading=json.loads(json.dumps(dataset.reading())))
    assert torch.equal(values(again).inputs["audio"], batch.inputs["audio"])


def test_reading_reads_other_rows_into_the_same_tensors(folder):
    first = load_manifest(written(folder), **SMALL)
    reading = json.loads(json.dumps(first.reading()))
    # The same rows in another order, without labels and splits, and with other columns.
    order = np.random.default_rng(0).permutation(N)
    table = {k: [v[i] for i in order] for k, v in columns(label=None, split=None).items()}
    table["new"] = list(range(N))
    path = folder / "new.csv"
    write_table(
        path,
        {k: [json.dumps(x) if isinstance(x, list) else x for x in v] for k, v in table.items()},
    )
    second = load_manifest(path, reading=reading)
    assert second.modalities == first.modalities
    assert second.reading() == first.reading()
    assert (second.labels == -1).all()
    assert second.train_positions.tolist() == list(range(N))
    ours, theirs = values(first, order).inputs, values(second).inputs
    assert all(torch.equal(ours[m], theirs[m]) for m in ours)


def test_reading_a_table_that_lacks_columns(folder):
    reading = load_manifest(written(folder), **SMALL).reading()
    path = folder / "few.jsonl"
    write_table(
        path,
        {"id": ["n1", "n2"], "caption": ["word", None], "age": [1.0, 2.0], "label": ["?", "?"]},
    )
    with pytest.warns(
        RlmbaWarning, match=r"lacks the columns \['Image_Path', 'wav', 'emb', 'weight'\]"
    ):
        dataset = load_manifest(path, reading=reading)
    assert [m.name for m in dataset.modalities] == ["text", "image", "audio", "features", "emb"]
    assert dataset.present.tolist() == [
        [True, False, False, True, False],
        [False] * 3 + [True, False],
    ]
    assert values(dataset).inputs["image"].shape == (2, 3, 28, 28)
    write_table(path, {"id": ["n1"], "words": ["a"]})
    with pytest.raises(DataError, match=r"expected columns .*, as in the training data"):
        load_manifest(path, reading=reading)
    assert load_manifest(path, reading=reading, columns={"text": "words"}).shown(0) == {"text": "a"}
    write_table(path, {"id": ["n1"], "emb": [[1.0]]})
    with pytest.raises(
        DataError, match=r"expected lists of 3 numbers in column 'emb', .* got lists of 1"
    ):
        load_manifest(path, reading=reading)
    with pytest.raises(
        UsageError, match="option reading: expected the reading\\(\\) of a data set"
    ):
        load_manifest(path, reading={"recipe": {}})


def test_fingerprint_changes_with_what_matters_only(folder, tmp_path):
    base = load_manifest(written(folder), **SMALL)
    assert load_manifest(written(folder), **SMALL).fingerprint() == base.fingerprint()
    changes = [
        {"label": ["cat"] * 3 + ["dog"] * 9},
        {"caption": ["other"] * N},
        {"age": [1.5 * i + (i == 4) for i in range(N)]},
        {"split": ["val" if i == 1 else "test" if i >= 9 else "" for i in range(N)]},
        {"Image_Path": [f"{(i + 1) % N}.jpg" for i in range(N)]},
    ]
    prints = [load_manifest(written(folder, **c), **SMALL).fingerprint() for c in changes]
    assert len({base.fingerprint(), *prints}) == 6


def test_registered_and_read_by_processes(folder):
    dataset = load_dataset("manifest", data=written(folder), options=SMALL)
    assert not dataset.in_memory
    assert load_manifest(written(folder), columns={"image": None, "audio": None}).in_memory
    copy = pickle.loads(pickle.dumps(dataset))
    with Loader(copy, workers=1) as loader:
        (batch,) = loader.batches([np.arange(4)])
    ours = values(dataset, range(4)).inputs
    assert all(torch.equal(batch.inputs[m], ours[m]) for m in ours)


@pytest.mark.parametrize(
    ("sides", "expected"), [((40, 48, 500), 48), ((300, 200), 128), ((9,), 32)]
)
def test_images_are_as_large_as_half_of_them_are(tmp_path, sides, expected):
    rows = []
    for i, side in enumerate(sides):
        PIL.Image.new("RGB", (side, side + 10)).save(tmp_path / f"{i}.png")
        rows.append({"id": i, "image": f"{i}.png"})
    table = {key: [row[key] for row in rows] for key in rows[0]}
    write_table(tmp_path / "m.jsonl", table)
    dataset = load_manifest(tmp_path / "m.jsonl")
    assert dataset.settled["image_side"] == expected
    crop = round(expected * 7 / 8)
    assert dataset.modalities[0].shape == (3, crop, crop)


@pytest.mark.parametrize(("words", "expected"), [((3, 3, 2), 8), ((9, 13, 2), 16), ((300,), 100)])
def test_texts_are_as_long_as_most_of_them_are(tmp_path, words, expected):
    table = {"id": list(range(len(words))), "text": ["word " * n for n in words]}
    write_table(tmp_path / "m.jsonl", table)
    dataset = load_manifest(tmp_path / "m.jsonl")
    assert dataset.settled["tokens"] == expected
    assert dataset.modalities[0].shape == (expected,)
