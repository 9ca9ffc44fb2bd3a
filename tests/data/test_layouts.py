from __future__ import annotations

import csv
import json
import os
import pickle
import random

import pytest

from rlmba.data.media.content import Recipe
from rlmba.data.media.layouts import (
    LAYOUTS,
    NAMES,
    common,
    find_catalogue,
    published_classes,
    recipe_of,
)
from rlmba.data.media.layouts.food101 import ingredients
from rlmba.errors import DataError, UsageError
from tests.helpers import media_files, media_sets
from tests.helpers.layout_helpers import SHORT, by_id, notes, touch

VARIANTS = {
    "food101": {
        "folders": ("folders", media_sets.make_food101, {"layout": "folders"}),
        "json": ("json", media_sets.make_food101, {"layout": "json"}),
        "titles": ("titles", media_sets.make_food101, {"layout": "titles"}),
        "titles-bare-flat": (
            "titles",
            media_sets.make_food101,
            {"layout": "titles", "header": False, "flat": True},
        ),
    },
    "kineticssound": {
        "frames": ("frames", media_sets.make_kineticssound, {"layout": "frames"}),
        "clips": ("clips", media_sets.make_kineticssound, {"layout": "clips"}),
        "clips-avi-val": (
            "clips",
            media_sets.make_kineticssound,
            {"layout": "clips", "suffix": ".avi", "test_name": "val", "underscores": True},
        ),
        "csv": ("clips", media_sets.make_kineticssound, {"layout": "csv"}),
        "csv-validate": (
            "clips",
            media_sets.make_kineticssound,
            {"layout": "csv", "suffix": ".mkv", "test_name": "validate"},
        ),
    },
    "vggsound": {
        "flat": ("clips", media_sets.make_vggsound, {"place": "flat"}),
        "video": ("clips", media_sets.make_vggsound, {"place": "video", "suffix": ".webm"}),
        "split": ("clips", media_sets.make_vggsound, {"place": "split"}),
        "frames": ("frames", media_sets.make_vggsound, {"layout": "frames"}),
        "frames-unlisted": (
            "frames",
            media_sets.make_vggsound,
            {"layout": "frames", "listed": False},
        ),
        "frames-by-kind": (
            "frames",
            media_sets.make_vggsound,
            {"layout": "frames", "place": "kind", "listed": False},
        ),
    },
}


def options(name):
    return {"train": 2, "test": 1} if name == "food101" else SHORT


@pytest.mark.parametrize(
    ("name", "count"), [("food101", 101), ("kineticssound", 31), ("vggsound", 309)]
)
def test_class_lists_are_sorted_and_distinct_whatever_the_spelling(name, count):
    classes = published_classes(name)
    assert len(classes) == count
    assert list(classes) == sorted(set(classes))
    assert len({common.class_key(c) for c in classes}) == count
    assert all(c == c.strip() and c for c in classes)


def test_labels_of_vggsound_are_spelled_as_in_its_list():
    classes = set(published_classes("vggsound"))
    assert {"playing violin, fiddle", "bee, wasp, etc. buzzing", "police car (siren)"} <= classes
    assert {"horse clip-clop", "eletric blender running", "playing tympani"} <= classes


@pytest.mark.parametrize(
    ("name", "variant"), [(n, v) for n, variants in VARIANTS.items() for v in variants]
)
def test_every_layout_is_read(tmp_path, name, variant):
    layout, make, how = VARIANTS[name][variant]
    made = make(tmp_path, **how, **options(name))
    found = find_catalogue(name, tmp_path)
    assert found.layout == layout
    assert found.name == name
    assert found.root == tmp_path
    assert found.classes == published_classes(name)
    assert found.modalities == (("text", "image") if name == "food101" else ("video", "audio"))
    assert found.published == common.PUBLISHED[name]
    assert found.notes == ()
    assert {(s.id, found.classes[s.label], s.test) for s in found.samples} == {
        (m.id, m.class_name, m.test) for m in made
    }
    assert len(found.samples) == 9
    order = [(s.test, s.label, s.id) for s in found.samples]
    assert order == sorted(order)
    for sample in found.samples:
        assert sample.complete
        assert tuple(sample.sources) == found.modalities
        for source in sample.sources.values():
            if source.form == "text":
                assert source.text
                assert source.path is None
            else:
                assert source.path.is_dir() if source.form == "frames" else source.path.is_file()
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize("name", NAMES)
def test_ids_and_splits_are_the_same_in_every_layout(tmp_path, name):
    answers = []
    for variant, (_, make, how) in VARIANTS[name].items():
        make(tmp_path / variant, **how, **options(name))
        found = find_catalogue(name, tmp_path / variant)
        answers.append([(s.id, s.label, s.test) for s in found.samples])
    assert all(a == answers[0] for a in answers)


def test_food101_has_the_same_words_in_folders_and_in_lists(tmp_path):
    media_sets.make_food101(tmp_path / "a", "folders")
    media_sets.make_food101(tmp_path / "b", "json")
    texts = [
        {s.id: s.sources["text"].text for s in find_catalogue("food101", tmp_path / r).samples}
        for r in "ab"
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]["apple_pie_0"].split()) == 12


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_directories_plays_no_part(tmp_path, name, monkeypatch):
    first = next(iter(VARIANTS[name]))
    _, make, how = VARIANTS[name][first]
    damages = media_sets.FOOD_DAMAGES if name == "food101" else ("missing", "no-audio")
    make(tmp_path, **how, **options(name), damages=damages)
    for k in range(9):
        touch(tmp_path / ("images/train" if name == "food101" else "train") / f"no class {k}" / "x")
    expected = find_catalogue(name, tmp_path)
    assert expected.notes
    real = os.scandir

    class Shuffled:
        def __init__(self, path):
            with real(path) as entries:
                self.entries = list(entries)
            random.Random(str(path)).shuffle(self.entries)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(common.os, "scandir", Shuffled)
    assert find_catalogue(name, tmp_path) == expected


def test_food101_damages_are_counted_and_never_fatal(tmp_path):
    made = media_sets.make_food101(tmp_path, damages=media_sets.FOOD_DAMAGES)
    found = find_catalogue("food101", tmp_path)
    samples = by_id(found)
    ids = {m.damage: m.id for m in made if m.damage}
    lacking = {s.id: {m for m, x in s.sources.items() if x is None} for s in found.samples}
    for damage in ("empty-text", "no-ingredients", "missing-text"):
        assert lacking.pop(ids[damage]) == {"text"}
    assert ids["missing-image"] not in samples
    assert not any(lacking.values())
    assert notes(found, "text file is empty").endswith(f": 1 ({ids['empty-text']})")
    assert notes(found, "no words after 'ingredients'").endswith(f"({ids['no-ingredients']})")
    assert notes(found, "samples without a text file").endswith(f"({ids['missing-text']})")
    assert notes(found, "texts without an image").endswith(f"({ids['missing-image']})")
    assert notes(found, "read as Windows-1252").endswith(f"({ids['non-utf8']})")
    assert len(found.notes) == 5
    assert samples[ids["non-utf8"]].sources["text"].text.endswith("pâté")
    plain = samples[ids["crlf-bom"]].sources["text"].text
    assert plain == " ".join(plain.split())


def test_food101_file_names_that_are_not_utf8_are_counted(tmp_path):
    media_sets.make_food101(tmp_path, train=1, test=1)
    image = next((tmp_path / "images" / "train").rglob("*.jpg"))
    foreign = os.fsencode(image.parent) + b"/name\xe9.jpg"
    try:
        os.link(image, foreign)
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    found = find_catalogue("food101", tmp_path)
    assert r"name\udce9" in notes(found, "file name is not UTF-8")
    assert "name" not in "".join(s.id for s in found.samples)


def test_food101_text_that_cannot_be_opened_is_counted(tmp_path):
    media_sets.make_food101(tmp_path, train=1, test=1)
    text = tmp_path / "texts_txt" / "baklava" / "baklava_4.txt"
    text.unlink()
    text.mkdir()
    found = find_catalogue("food101", tmp_path)
    assert notes(found, "cannot be read").endswith(": 1 (baklava_4)")
    assert by_id(found)["baklava_4"].sources["text"] is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"Ingredients: 2 Eggs, 1/2 cup (milk)", "2 eggs 1 2 cup milk"),
        (b"ingredients a Ingredients b", "b"),
        (b"ingredients a ingredients", "a ingredients"),
        (b"see the ingredientslist, noingredients: x", ""),
        (b"ingredients", ""),
        (b"ingredients...", ""),
        (b"", ""),
        (b"ingredients\r\n1 cup?\r\n", "1 cup ?"),
        ("ingredients: 100 g Käse Ü".encode(), "100 g käse ü"),
        (b"\xef\xbb\xbfingredients x", "x"),
        ("ingredients x é".encode("utf-16"), "x é"),
    ],
)
def test_ingredients_are_the_words_after_the_last_of_the_name(data, words):
    assert ingredients(data) == (words, False)


def test_ingredients_stop_after_a_hundred_words_and_say_when_not_utf8():
    text, foreign = ingredients(b"ingredients " + b" ".join(b"w%d" % k for k in range(300)))
    assert text.split() == [f"w{k}" for k in range(100)]
    assert not foreign
    assert ingredients("ingredients crème".encode("cp1252")) == ("crème", True)
    assert ingredients(b"ingredients \x81x") == ("\x81x", True)


def test_food101_lists_made_elsewhere_find_their_images(tmp_path):
    def entry(k, path, label="pizza", tokens=("a", "b")):
        return {
            "id": f"{label}_pizza_{k}.jpg",
            "label": label,
            "text_tokens": list(tokens),
            "img_path": path,
        }

    for k in range(3):
        media_files.write_image(tmp_path / "images" / "train" / "pizza" / f"pizza_{k}.jpg")
    media_files.write_image(tmp_path / "elsewhere" / "pizza_3.jpg")
    entries = [
        entry(0, "/workspace/UPMC_Food101/images/train/pizza/pizza_0.jpg"),
        entry(1, "images/train/pizza/pizza_1.jpg", tokens=("a", "b", "half of \ud83d")),
        entry(2, r"D:\food\images\train\pizza\pizza_2.jpg"),
        entry(3, str(tmp_path / "elsewhere" / "pizza_3.jpg")),
        entry(4, "images/train/pizza/pizza_4.jpg"),
        entry(5, "images/train/pizza/pizza_5.jpg", tokens=()),
        entry(6, "images/train/fondue/fondue_6.jpg", label="fondue"),
        {"id": "x"},
        "nothing",
    ]
    (tmp_path / "train.json").write_text(json.dumps(entries), encoding="utf-8")
    found = find_catalogue("food101", tmp_path)
    samples = by_id(found)
    assert sorted(samples) == [f"pizza_{k}" for k in range(6)]
    for k in range(4):
        assert samples[f"pizza_{k}"].sources["image"].path.name == f"pizza_{k}.jpg"
        assert samples[f"pizza_{k}"].sources["image"].path.is_file()
        assert samples[f"pizza_{k}"].sources["text"].text == ("a b half of ?" if k == 1 else "a b")
    assert samples["pizza_4"].sources["image"] is None
    assert samples["pizza_5"].sources["text"] is None
    assert "there is no test.json: the test split is empty" in found.notes
    assert notes(found, "samples without an image").endswith(": 2 (pizza_4, pizza_5)")
    assert notes(found, "not published").endswith(": 1 (train.json[6])")
    assert notes(found, "without label").endswith(": 2 (train.json[7], train.json[8])")


@pytest.mark.parametrize("text", ["[{", '{"id": 1}', ""])
def test_food101_broken_lists_are_named(tmp_path, text):
    (tmp_path / "train.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.json is damaged .*expected a list of"):
        find_catalogue("food101", tmp_path)


def test_food101_titles_may_lie_anywhere_and_lack_lines(tmp_path):
    root, lists = tmp_path / "food", tmp_path / "titles.csv"
    for split, k in (("train", 0), ("train", 1), ("test", 2)):
        media_files.write_image(root / "images" / split / "pho" / f"pho_{k}.jpg")
    rows = [
        ["class", "image", "title"],
        ["pho", "pho_0.jpg", 'Pho, "the soup"'],
        ["pho", "images/train/pho/pho_1.jpg", "Crème de pho"],
        ["pho", "pho_2.jpg", ""],
        ["pho", "pho_3.jpg", "lost"],
        ["fondue", "fondue_1.jpg", "x"],
        ["pho"],
    ]
    with lists.open("w", newline="", encoding="cp1252") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(DataError, match=r"train_titles\.csv"):
        find_catalogue("food101", root)
    found = find_catalogue("food101", root, annotations=lists)
    assert found.layout == "titles"
    assert [(s.id, s.test, s.complete) for s in found.samples] == [
        ("pho_0", False, True),
        ("pho_1", False, True),
        ("pho_2", True, False),
    ]
    assert found.samples[0].sources["text"].text == 'Pho, "the soup"'
    assert found.samples[1].sources["text"].text == "Crème de pho"
    assert notes(found, "lines without a split").endswith("(titles.csv:5)")
    assert notes(found, "not published").endswith("(titles.csv:6)")
    assert notes(found, "without image, title and class").endswith("(titles.csv:7)")
    assert "titles.csv is not UTF-8; it was read as Windows-1252" in found.notes


def test_food101_with_several_layouts_reads_the_first_or_the_one_asked_for(tmp_path):
    media_sets.make_food101(tmp_path, "json", damages=("no-ingredients",))
    media_sets.make_food101(tmp_path, "folders", damages=("no-ingredients",))
    found = find_catalogue("food101", tmp_path)
    assert found.layout == "json"
    assert "layout 'json' is read; the folder also has 'folders'" in found.notes
    other = find_catalogue("food101", tmp_path, layout="folders")
    assert len(other.samples) == len(found.samples) + 1
    with pytest.raises(DataError, match=r"titles: train_titles\.csv") as error:
        find_catalogue("food101", tmp_path, layout="titles")
    assert "texts_txt/<class>" not in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_root_that_is_something_else_says_what_was_looked_for(tmp_path, name):
    for k in range(7):
        (tmp_path / f"thing{k}").mkdir()
    with pytest.raises(DataError) as error:
        find_catalogue(name, tmp_path)
    text = str(error.value)
    for layout, what in LAYOUTS[name].items():
        assert f"{layout}: {what}" in text
    assert "Found instead: thing0/, thing1/, thing2/, thing3/, thing4/, ... (7 in all)" in text
    assert "The data: " in text
    assert str(tmp_path) in text


@pytest.mark.parametrize("name", NAMES)
def test_empty_missing_and_misnamed_roots(tmp_path, name):
    with pytest.raises(DataError, match="Found instead: an empty folder"):
        find_catalogue(name, tmp_path)
    with pytest.raises(DataError, match="nothing there; check the path"):
        find_catalogue(name, tmp_path / "nowhere")
    with pytest.raises(DataError, match="got a file; check the path"):
        find_catalogue(name, touch(tmp_path / "file"))


def test_a_folder_above_the_right_one_is_told_so(tmp_path):
    media_sets.make_food101(tmp_path / "UPMC_Food101", train=1, test=1)
    with pytest.raises(DataError, match=r"It may be .*UPMC_Food101: give that folder"):
        find_catalogue("food101", tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_layout_without_a_single_sample_is_an_error(tmp_path, name):
    if name == "food101":
        (tmp_path / "texts_txt").mkdir()
        touch(tmp_path / "images" / "train" / "fondue" / "fondue_1.jpg")
    elif name == "kineticssound":
        touch(tmp_path / "laughing" / "aaaaaaaaaaa_000001_000011.mp4")
    else:
        touch(tmp_path / "train" / "hail" / "aaaaaaaaaaa.mp4")
    with pytest.raises(DataError, match="found none with a published class"):
        find_catalogue(name, tmp_path)


def test_unknown_names_and_layouts(tmp_path):
    with pytest.raises(UsageError, match="food101, kineticssound, vggsound, got 'digits'"):
        find_catalogue("digits", tmp_path)
    with pytest.raises(
        UsageError, match="layout of food101: expected one of json, folders, titles"
    ):
        find_catalogue("food101", tmp_path, layout="clips")


def test_recipes():
    assert recipe_of("food101") == Recipe(tokenizer="bert-base-uncased")
    assert recipe_of("food101", "/models/bert").tokenizer == "/models/bert"
    for name in ("kineticssound", "vggsound"):
        recipe = recipe_of(name)
        assert (recipe.frames, recipe.frame_size, recipe.seconds) == (10, (128, 171), 10.0)
        assert (recipe.sample_rate, recipe.tokenizer) == (16_000, "")
        with pytest.raises(UsageError, match="has no text"):
            recipe_of(name, "bert-base-uncased")
    with pytest.raises(UsageError, match="expected a data set of"):
        recipe_of("digits")
