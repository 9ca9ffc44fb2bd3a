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


@pytest.mark.parametrize(
    ("cells", "read", "told"),
    [
        (["0,5", "1,25", None], [0.5, 1.25, np.nan], "1 with a decimal comma"),
        (["1.234,5", "-7", "NA"], [1234.5, -7, np.nan], "1 with a decimal comma"),
        (["1,234.5", "1,234", "2"], [1234.5, 1234, 2], "1 with commas between thousands"),
        (["45 %", "7%", "100\u00a0%"], [45, 7, 100], "1 with a percent sign"),
        (["4,5 %", "7 %", None], [4.5, 7, np.nan], "1 with a decimal comma, 1 with a percent sign"),
        (["0,500", "0,250", "0,125"], [0.5, 0.25, 0.125], "1 with a decimal comma"),
        (["1.234", "2.500", "3"], [1.234, 2.5, 3], "'dose';"),
    ],
)
def test_numbers_as_people_write_them(folder, cells, read, told):
    dataset = load_manifest(written(folder, dose=cells * (N // 3), age=None, weight=None), **SMALL)
    assert told in next(line for line in dataset.found() if line.startswith("features"))
    expected = np.array(read * (N // 3))
    np.testing.assert_array_equal(dataset._shown_numbers["dose"], expected)
    if not np.isnan(expected).any():
        training = expected[:9]
        np.testing.assert_allclose(
            values(dataset).inputs["features"][:, 0],
            (expected - training.mean()) / training.std(),
            rtol=1e-5,
        )


def test_a_table_as_a_german_spreadsheet_saves_it(tmp_path):
    path = tmp_path / "m.csv"
    lines = ["id;Preis;Anteil;text", "a;1.234,50;4,5 %;eins", "b;0,99;100 %;zwei", "c;;;drei"]
    path.write_text("\r\n".join(lines), encoding="utf-8-sig")
    dataset = load_manifest(path)
    assert dataset.found()[2].startswith(
        "features: 2 columns of numbers: 'Preis', 'Anteil' (2 with a decimal comma, 1 with a percent"
    )
    assert dataset.shown(0) == {"text": "eins", "features": "Preis: 1234.5\nAnteil: 4.5 %"}
    assert dataset.shown(2) == {"text": "drei"}


def test_a_comma_that_could_mean_both_is_an_error_until_the_option_decides(folder):
    path = written(folder, "m.csv", dose=["1,234", "5", "12,500"] * (N // 3))
    with pytest.raises(DataError, match=r"line 2: .*'1,234'.*dataset_options\.decimal=comma"):
        load_manifest(path, **SMALL)
    for decimal, first in (("comma", 1.234), ("point", 1234)):
        dataset = load_manifest(path, decimal=decimal, **SMALL)
        assert dataset._shown_numbers["dose"][0] == first
        assert list(dataset.reading()["notations"]) == ["dose"]
    assert "dose" not in load_manifest(path, features=["age"], **SMALL)._shown_numbers
    # A column that is used otherwise, or not at all, needs no decision.
    assert load_manifest(path, shown_columns=["dose"], **SMALL).shown(0)["dose"] == "1,234"
    with pytest.raises(UsageError, match="option decimal: expected point, comma or null, got ','"):
        load_manifest(path, decimal=",", **SMALL)


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        (["0.5", "0,5", "2"], "line 2: .*'0,5', but '0.5' in an earlier row, and their decimal"),
        (["1.234.567", "3", "0.5"], "line 3: .*'0.5', but '1.234.567' in an earlier row, and"),
        (["45 %", "0.5", "2"], "line 2: .*'0.5', but '45 %' in an earlier row, and only one of"),
        (["3", "45 %", "2"], "line 2: .*'45 %', but '3' in an earlier row, and only one of them"),
    ],
)
def test_a_column_with_two_ways_to_write_numbers_is_named(folder, cells, problem):
    path = written(folder, dose=cells * (N // 3))
    with pytest.warns(RlmbaWarning, match=problem + ".*the column is not used"):
        dataset = load_manifest(path, **SMALL)
    assert "'dose' (holds " in dataset.found()[-1]
    with pytest.raises(DataError, match=problem):
        load_manifest(path, features=["dose"], **SMALL)


def test_the_cell_that_is_no_number_is_named_whatever_the_others_are_like(folder):
    path = written(folder, dose=["0,5"] * 4 + ["much"] + ["0,5"] * (N - 5))
    told = load_manifest(path, **SMALL).found()[-1]
    assert "'dose' (not all numbers: holds 'much' in line 5)" in told
    with pytest.raises(DataError, match="line 5: column 'dose' holds 'much'"):
        load_manifest(path, features=["dose"], **SMALL)


def test_new_tables_are_read_in_the_notation_of_the_training_data(folder):
    dose = ["0,5", "1,25", "3"] * (N // 3)
    share = ["10 %", "20 %", "45 %"] * (N // 3)
    trained = load_manifest(written(folder, dose=dose, share=share), **SMALL)
    reading = json.loads(json.dumps(trained.reading()))
    expected = values(trained).inputs["features"]

    def features(**changes):
        new = written(folder, "new.jsonl", **{"dose": dose, "share": share, **changes})
        return values(quiet(new, reading=reading)).inputs["features"]

    torch.testing.assert_close(features(), expected)
    # Programs write numbers with a point: then nothing is in doubt either.
    torch.testing.assert_close(features(dose=[0.5, 1.25, 3.0] * (N // 3)), expected)
    torch.testing.assert_close(features(dose=["0.5", "1.25", "3"] * (N // 3)), expected)
    # Taken alone, these cells could mean thousands; the training data decide.
    written_dose = features(dose=["1,250"] * N)[:, trained.reading()["numbers"].index("dose")]
    torch.testing.assert_close(written_dose, expected[1, -2].expand(N))
    with pytest.raises(DataError, match="line 2: column 'dose' holds 'much', expected a number or"):
        features(dose=["0,5", "much"] * (N // 2))
    with pytest.raises(
        DataError, match=r"line 1: column 'share' holds 0.1, expected a number with a"
    ):
        features(share=[0.1] * N)
    del reading["notations"]
    with pytest.raises(
        DataError, match=r"line 1: column 'share' holds '10 %', expected a number or"
    ):
        features()
    with pytest.raises(UsageError, match="option reading"):
        quiet(folder / "new.jsonl", reading={**reading, "notations": {"dose": {"decimal": "x"}}})


def test_columns_that_are_only_shown_and_columns_that_are_hidden(folder):
    whole = load_manifest(
        written(folder, note=["n"] * N), image_side=32, sample_rate=4000, tokens=8
    )
    path = written(
        folder,
        note=[f"note {i}" for i in range(N)],
        photo=[f"{i}.jpg" if i else "gone.jpg" for i in range(N)],
        score=[0.5 * i for i in range(N)],
        words=["words.txt"] * N,
        mixed=["0.jpg"] + ["no file"] * (N - 1),
    )
    (folder / "words.txt").write_text("from a file")
    shown = {"shown_columns": ["Note", "photo", "score", "words", "mixed"]}
    with pytest.warns(
        RlmbaWarning, match=r"shown column 'photo': 1 files.*gone\.jpg: no such file"
    ):
        dataset = load_manifest(path, hidden_columns=["caption", "AGE"], **shown, **SMALL)
    assert [m.name for m in dataset.modalities] == [m.name for m in whole.modalities]
    assert dataset.fingerprint() == whole.fingerprint()
    assert dataset.reading() == whole.reading()
    assert dataset.settled == whole.settled
    for a, b in zip(values(dataset).inputs.values(), values(whole).inputs.values(), strict=True):
        assert torch.equal(a, b)
    assert dataset.shown(2) == {
        "image": folder / "2.jpg",
        "audio": folder / "wav/2.wav",
        "features": "weight: 2",
        "note": "note 2",
        "photo": folder / "2.jpg",
        "score": "1",
        "words": "from a file",
        "mixed": "no file",
    }
    assert "photo" not in dataset.shown(0)
    assert dataset.text(2, "text") == "<b>sample</b> number 2"
    assert dataset.text(2, "image") is None
    told = "\n".join(dataset.found())
    assert "shown to people, not read by the network: 'note' (texts), 'photo' (files, 1 of" in told
    assert "hidden from people: 'caption', 'age'" in told
    assert pickle.loads(pickle.dumps(dataset)).shown(2) == dataset.shown(2)


def test_a_picture_for_people_and_vectors_for_the_network(folder):
    path = folder / "m.jsonl"
    rows = [{"id": f"s{i}", "image": f"{i}.jpg", "emb": [i, 1.0 * i]} for i in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = load_manifest(path, shown_columns=["image"])
    assert [m.name for m in dataset.modalities] == ["emb"]
    assert dataset.shown(1) == {"image": folder / "1.jpg"}
    for row in rows:
        row["image"] = "gone/" + row["image"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.warns(RlmbaWarning, match="shown column 'image': 6 files"):
        assert load_manifest(path, shown_columns=["image"]).shown(1) == {}


def test_a_shown_column_with_the_name_of_a_modality_has_another_name(folder):
    path = written(folder, text=["for people"] * N)
    dataset = load_manifest(
        path,
        columns={"text": "caption"},
        shown_columns=["text"],
        hidden_columns=["caption"],
        **SMALL,
    )
    assert "text" not in dataset.shown(0)
    assert dataset.shown(0)["text_"] == "for people"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"shown_columns": ["label"]}, "shown_columns: .*'label', which is used as 'label'"),
        ({"shown_columns": ["phto"]}, "shown_columns: .*no column 'phto'"),
        ({"shown_columns": ["age", "Age"]}, "'age', which is listed twice"),
        (
            {"shown_columns": ["wav"], "columns": {"audio": "wav"}},
            "'wav', which is used as 'audio'",
        ),
        ({"shown_columns": ["age"], "features": ["age"]}, "features: .*used as 'shown_columns'"),
        (
            {"shown_columns": ["age"], "hidden_columns": ["age"]},
            "hidden_columns: .*'age', which is",
        ),
        ({"hidden_columns": ["id"]}, "hidden_columns: .*'id', which is used as 'id'"),
        ({"hidden_columns": "age"}, "hidden_columns: expected a list of columns"),
    ],
)
def test_shown_and_hidden_columns_are_checked(folder, options, problem):
    with pytest.raises(UsageError, match=problem):
        load_manifest(written(folder), **options, **SMALL)


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
