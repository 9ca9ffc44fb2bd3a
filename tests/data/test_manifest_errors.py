"""Mistakes in a manifest, and their messages."""

from __future__ import annotations

import json
import warnings

import pytest

from rlmba.data import load_dataset, load_manifest
from rlmba.errors import DataError, RlmbaWarning, UsageError
from tests.helpers.media_files import write_image


@pytest.fixture
def table(tmp_path):
    """Writes a manifest with a header and rows, next to two images."""
    for i in range(2):
        write_image(tmp_path / f"{i}.jpg", seed=i)

    def write(*lines, name="m.csv"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


def refused(path, error, match, **options):
    with pytest.raises(error, match=match):
        load_manifest(path, **options)


@pytest.mark.parametrize(
    ("id_", "match"),
    [
        (
            "../x",
            "line 3: id '../x': expected names between slashes, none of them empty, '.' or '..'",
        ),
        ("a/../../b", "expected names between slashes"),
        ("a\\..\\b", "expected names between slashes"),
        ("./a", "expected names between slashes"),
        ("a//b", "expected names between slashes"),
        ("/etc/passwd", "expected a name, not an absolute path"),
        ("\\\\server\\x", "expected a name, not an absolute path"),
        ("C:\\x", "expected a name, not an absolute path"),
        ("a\x00b", "one line without control characters"),
        ("a\x1bb", "one line without control characters"),
        ("a\u2028b", "one line without control characters"),
        ("x" * 201, "expected at most 200 characters, got 201"),
        ("", "expected an id in column 'id', got an empty cell"),
    ],
)
def test_ids_that_are_no_names(tmp_path, id_, match):
    import json

    path = tmp_path / "m.jsonl"
    rows = [{"id": "first", "n": 1.5}, {"id": "second", "n": 1}, {"id": id_, "n": 2}]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError) as caught:
        load_manifest(path)
    assert match.replace("line 3", f"{path}, line 3") in str(caught.value)
    assert "line 3" in str(caught.value)


@pytest.mark.parametrize("id_", ["a/b.jpg", "a..b", "ü ñ", "x" * 200, "..a/b", "<script>"])
def test_honest_ids_are_taken(table, id_):
    dataset = load_manifest(table("id,n", f"{id_},1.5", "other,2"))
    assert dataset.ids[0] == id_


def test_the_same_id_twice_with_different_labels(table):
    path = table("id,n,label", "a,1,cat", "b,2,dog", "a,1,dog")
    refused(
        path,
        DataError,
        "line 4: expected distinct ids, but 'a' is already in line 2, labeled 'cat' and 'dog'",
    )
    path = table("id,n,label", "a,1,cat", "b,2,dog", "a,7,cat")
    refused(path, DataError, "'a' is already in line 2; keep one of them")


def test_no_column_of_ids_suggests_one(table):
    path = table("name,group,n", "x,g,1", "y,g,2")
    refused(
        path,
        DataError,
        r"expected a column 'id' .*'name', 'n' can be used: `--set dataset_options.id=name`",
    )
    assert load_manifest(path, id="name").ids.tolist() == ["x", "y"]
    refused(table("name,n", "x,1", "x,1"), DataError, "none of them has distinct values")
    assert load_manifest(table("ID,n", "x,1.5", "y,1")).ids.tolist() == ["x", "y"]


def test_labels_outside_the_classes(table):
    path = table("id,n,label", "a,1,cat", "b,2,", "c,3,Dgo")
    refused(
        path,
        DataError,
        "line 4: label 'Dgo' is not one of the classes; did you mean 'dog'. The classes are 'cat', 'dog'",
        classes=["cat", "dog"],
    )
    refused(
        table("id,n,label", "a,1,c\x07t", "b,2,x"), DataError, "line 2: label .* control characters"
    )
    refused(
        table("id,n,label", "a,1," + "x" * 201, "b,2,x"),
        DataError,
        "line 2: label 'x{80}' in column 'label': expected at most 200 characters, got 201; give the class",
    )
    refused(
        path, UsageError, "option classes: class 'a.nb': expected one line", classes=["a\nb", "c"]
    )
    refused(path, UsageError, "option classes: expected distinct, non-empty", classes=["a", "a"])
    refused(path, UsageError, "option classes: expected a list of class names", classes="cat")


def test_columns_that_do_not_exist(table):
    path = table("id,picture,labels", "a,0.jpg,x", "b,1.jpg,y")
    refused(
        path,
        UsageError,
        "option label: .* has no column 'lable'; did you mean 'labels'",
        label="lable",
    )
    refused(
        path,
        UsageError,
        "option columns: image: .* has no column 'photo'",
        columns={"image": "photo"},
    )
    refused(path, UsageError, "option features: .* has no column 'age'", features=["age"])
    refused(path, UsageError, "option split: .* has no column 'part'", split="part")
    refused(path, UsageError, "a different column for each .* 'picture' for both 'text' and 'image'",
            columns={"image": "picture", "text": "picture"})  # fmt: skip
    refused(path, UsageError, "got 'id' for both 'image' and 'id'", columns={"image": "id"})
    refused(path, UsageError, "expected 'smell' to be one of", columns={"smell": "picture"})
    refused(path, UsageError, "option columns: expected modalities", columns=["picture"])


def test_two_columns_that_could_be_the_image(table):
    path = table("id,img,photo,label", "a,0.jpg,1.jpg,x", "b,1.jpg,0.jpg,y")
    refused(
        path, UsageError, r"'img', 'photo' could each be the modality 'image'; .*columns.image=img"
    )
    assert load_manifest(path, columns={"image": "photo"}).shown(0)["image"].name == "1.jpg"
    path = table("id,image,photo", "a,0.jpg,1.jpg", "b,1.jpg,0.jpg")
    assert load_manifest(path).shown(0)["image"].name == "0.jpg"


def test_nothing_to_learn_from(table):
    refused(
        table("id,notes,label", "a,x y,c", "b,z,d"),
        UsageError,
        "expected a column of images, texts",
    )
    refused(table("id,n"), DataError, "m.csv")


def test_features_that_are_no_numbers(table):
    path = table("id,n,m", "a,1,2", "b,x,3")
    refused(
        path,
        DataError,
        "line 3: column 'n' holds 'x', expected a number or an empty cell",
        features=["n"],
    )
    refused(path, UsageError, "expected columns without another use, got 'id'", features=["id"])
    refused(path, UsageError, "option features: expected a list", features="n")
    path = table("id,n,m", "a,1e400,2", "b,2,3.5")
    refused(path, DataError, "line 2: column 'n' holds '1e400'", features=["n"])


@pytest.mark.parametrize(
    ("name", "problem"),
    [("v\0", "one line without control"), ("v" * 201, "at most 200 characters")],
)
def test_a_list_whose_column_cannot_name_a_modality(table, name, problem):
    path = table(json.dumps({"id": "a", "text": "x", name: [1, 2]}), name="m.jsonl")
    refused(path, UsageError, f"cannot be its name: expected {problem}.*; rename the column")


def test_lists_of_different_length_are_not_used_unless_asked_for(table):
    path = table("id,n,emb", "a,1,'[1;2]'", "b,2.5,x")
    path = table(
        '{"id": "a", "n": 1, "emb": [1, 2]}', '{"id": "b", "n": 2.5, "emb": [1]}', name="m.jsonl"
    )
    with pytest.warns(
        RlmbaWarning, match="line 2: column 'emb' has a list of 1 numbers, the first list has 2"
    ):
        dataset = load_manifest(path)
    assert [m.name for m in dataset.modalities] == ["features"]
    refused(path, DataError, "line 2: column 'emb' has a list of 1", columns={"emb": "emb"})
    path = table('{"id": "a", "n": 1.5, "features": [1, 2]}', '{"id": "b", "n": 2, "features": [1, 4]}',
                 name="m.jsonl")  # fmt: skip
    refused(
        path,
        UsageError,
        r"column 'features' would be the modality 'features'.*columns.embedding=features",
    )
    path = table('{"id": "a", "mm": [1, 2]}', '{"id": "b", "mm": [1, 4]}', name="m.jsonl")
    refused(path, UsageError, "'mm' cannot be the name of a modality")


@pytest.mark.parametrize(
    ("cell", "match"),
    [
        (
            "../secret.jpg",
            "expected a path below .*, got '../secret.jpg', which leads out of it; .*root=FOLDER",
        ),
        ("a\\..\\..\\b.jpg", "which leads out of it"),
        ("https://x.org/0.jpg", "expected the path of a local file, got the address"),
        ("0\x00.jpg", "without control characters"),
    ],
)
def test_paths_with_tricks(tmp_path, cell, match):
    import json

    write_image(tmp_path / "0.jpg")
    path = tmp_path / "m.jsonl"
    path.write_text(
        "\n".join(json.dumps({"id": i, "image": c}) for i, c in enumerate(["0.jpg", cell]))
    )
    with pytest.raises(DataError, match=match) as caught:
        load_manifest(path)
    assert "line 2: column 'image'" in str(caught.value)


def test_absolute_paths_and_root(table, tmp_path):
    folder = tmp_path / "elsewhere"
    write_image(folder / "sub" / "9.jpg")
    path = table("id,image", f"a,{folder / 'sub' / '9.jpg'}", "b,0.jpg")
    assert load_manifest(path).shown(0)["image"] == folder / "sub" / "9.jpg"
    path = table("id,image", "a,sub/9.jpg", "b,sub\\9.jpg")
    dataset = load_manifest(path, root=folder)
    assert dataset.present is None
    assert dataset.shown(1)["image"] == folder / "sub" / "9.jpg"
    refused(path, UsageError, "option root: expected a folder", root=folder / "nowhere")
    refused(
        path,
        DataError,
        r"none of the 2 files of column 'image' \(image\) can be used; the first is .*sub/9.jpg "
        r"\(no such file\).*root=FOLDER.*columns.image=null",
    )


def test_files_inside_a_table_point_to_huggingface(table):
    path = table('{"id": "a", "image": {"bytes": "x"}}', name="m.jsonl")
    refused(path, DataError, "expected the path of a file, got a dict; .* data set huggingface")


def test_unknown_splits(table):
    path = table("id,n,split", "a,1.5,train", "b,2,tset")
    refused(path, DataError, "line 3: column 'split': expected a split among train.*got 'tset'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RlmbaWarning)
        refused(
            table("id,n,label,split", "a,1.5,x,test", "b,2,y,test"),
            DataError,
            "expected rows to train on",
        )
        path = table("id,n,split", "a,1.5,test", "b,2,test")
        refused(
            path,
            DataError,
            "none of its 2 rows can be used: 2 left out .a test row without a label",
        )


@pytest.mark.parametrize(
    ("option", "value", "match"),
    [
        ("unlabeled", "drpo", 'expected "keep" or "drop"'),
        ("image_side", 8, "expected an integer >= 32, got 8"),
        ("tokens", True, "expected an integer >= 1, got True"),
        ("frames", 1, "expected an integer >= 2"),
        ("seconds", 0, "expected a number above 0"),
        ("seconds", float("nan"), "expected a number above 0"),
        ("sound", "yes", "expected true or false"),
        ("id", "", "expected the name of a column"),
        ("sound", True, "expected a column of videos"),
        ("tokenizer", "/no/such/folder", "no tokenizer was found"),
    ],
)
def test_options_that_cannot_be(table, option, value, match):
    path = table("id,text", "a,hello", "b,world")
    refused(path, UsageError, match, **{option: value})
    with pytest.raises(UsageError, match="has no option 'lable'"):
        load_dataset("manifest", data=path, options={"lable": "x"})


def test_numbers_beyond_float32_are_named(table):
    rows = [f"{i},{i % 2},{1.5 * i}" for i in range(8)]
    path = table("id,label,size", *rows, "8,0,1e39")
    refused(
        path,
        DataError,
        r"line 10: column 'size' holds '1e39', which exceeds float32",
        features=["size"],
    )
    refused(path, UsageError, "'size' not used .*1e39', which exceeds float32.* in line 10")
    path = table("id,label,size", "8,0,1e39", *rows)
    refused(path, UsageError, "'size' not used .*1e39', which exceeds float32.* in line 2")


def test_lists_with_a_number_beyond_float32_are_named(table):
    lines = [f'{{"id": "{i}", "label": {i % 2}, "emb": [1, {i}]}}' for i in range(8)]
    path = table(*lines, '{"id": "8", "label": 0, "emb": [1, -4e38]}', name="m.jsonl")
    problem = "line 9.*emb.*-4e\\+38 at position 1 of its list, which exceeds float32"
    refused(path, DataError, problem, columns={"emb": "emb"})
    with pytest.warns(RlmbaWarning, match=problem + ".*the column is not used"):
        refused(path, UsageError, "expected a column of images, texts")


def test_numbers_too_far_from_the_others_are_named(table):
    lines = [
        f'{{"id": "{i}", "label": {i % 2}, "emb": [1, {i}e-9], "split": "train"}}' for i in range(8)
    ]
    far = '{"id": "far", "label": 0, "emb": [1, 3e38], "split": "test"}'
    path = table(*lines, far, name="m.jsonl")
    refused(path, DataError, "sample 'far': expected numbers within float32 after standardization")
