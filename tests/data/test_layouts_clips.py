from __future__ import annotations

import csv
import shutil
from collections import Counter

import pytest

from rlmba.data.media.layouts import find_catalogue
from rlmba.data.media.layouts.clips import parse_name
from rlmba.errors import DataError
from tests.helpers import media_sets
from tests.helpers.layout_helpers import SHORT, by_id, notes, touch, vgg_list


@pytest.mark.parametrize(("name", "make"), [("kineticssound", "clips"), ("vggsound", "clips")])
def test_damaged_clips_are_found_and_missing_ones_named_where_a_list_does(tmp_path, name, make):
    maker = getattr(media_sets, f"make_{name}")
    made = maker(tmp_path, make, damages=media_sets.CLIP_DAMAGES, **SHORT)
    found = find_catalogue(name, tmp_path)
    samples = by_id(found)
    for m in made:
        if m.damage == "missing":
            assert (m.id in samples) == (name == "vggsound")
        else:
            assert samples[m.id].complete
            assert samples[m.id].sources["video"] is samples[m.id].sources["audio"]
    if name == "vggsound":
        (missing,) = [s for s in found.samples if not s.complete]
        assert set(missing.sources.values()) == {None}


def test_kineticssound_listed_clips_that_are_not_there_are_samples(tmp_path):
    made = media_sets.make_kineticssound(tmp_path, "csv", damages=("missing",), **SHORT)
    found = find_catalogue("kineticssound", tmp_path)
    (lost,) = [s for s in found.samples if not s.complete]
    assert lost.id == made[-1].id
    assert lost.sources == {"video": None, "audio": None}


def test_kineticssound_frames_without_sound_and_sound_without_frames(tmp_path):
    made = media_sets.make_kineticssound(tmp_path, "frames", damages=("no-audio",), **SHORT)
    shutil.rmtree(tmp_path / "train" / "video" / made[0].class_name / made[0].id)
    samples = by_id(find_catalogue("kineticssound", tmp_path))
    assert samples[made[-1].id].sources["audio"] is None
    assert samples[made[-1].id].sources["video"].form == "frames"
    assert samples[made[0].id].sources["video"] is None
    assert samples[made[0].id].sources["audio"].form == "wav"


def test_kineticssound_takes_its_31_classes_out_of_all_of_kinetics(tmp_path):
    touch(tmp_path / "train" / "Laughing" / "aaaaaaaaaaa_000001_000011.mp4")
    touch(tmp_path / "train" / "laughing" / "notes.mp4")
    touch(tmp_path / "train" / "zumba" / "bbbbbbbbbbb_000001_000011.mp4")
    touch(tmp_path / "test" / "archery" / "ccccccccccc_000001_000011.mp4")
    touch(tmp_path / "val" / "tap_dancing" / "ddddddddddd_000001_000011.mp4")
    found = find_catalogue("kineticssound", tmp_path)
    assert [s.id[0] + str(s.test) for s in found.samples] == ["aFalse", "dTrue"]
    assert notes(found, "folders not entered") == (
        "folders not entered: 2 (test/archery, train/zumba)"
    )
    assert notes(found, "files that are not clips").endswith("(train/laughing/notes.mp4)")


def test_kineticssound_tests_on_the_test_split_before_the_validation_split(tmp_path):
    for split, c in (("train", "a"), ("val", "b"), ("test", "c")):
        touch(tmp_path / split / "laughing" / f"{c * 11}_000001_000011.mp4")
    found = find_catalogue("kineticssound", tmp_path)
    assert [(s.id[0], s.test) for s in found.samples] == [("a", False), ("c", True)]
    assert notes(found, "split 'val', not used with 'test'").endswith("(" + "b" * 11 + ")")


def test_kineticssound_lists_with_other_classes_and_lines_that_cannot_be_read(tmp_path):
    touch(tmp_path / "k400" / "aaaaaaaaaaa_000001_000011.mp4")
    touch(tmp_path / "k400" / "ccccccccccc.mp4")
    touch(tmp_path / "k400" / "zzzzzzzzzzz_000001_000011.mp4")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (tmp_path / "all.csv").write_text(
        "label,youtube_id,time_start,time_end,split,is_cc\n"
        "laughing,aaaaaaaaaaa,1,11,train,0\n"
        "archery,bbbbbbbbbbb,1,11,train,0\n"
        '"playing drums",ccccccccccc,5,15,validate,0\n'
        "laughing,ddddddddddd,soon,11,train,0\n"
        "laughing,eeeeeeeeeee\n",
        encoding="utf-8",
    )
    found = find_catalogue("kineticssound", tmp_path)
    assert [(s.id, s.test, s.complete) for s in found.samples] == [
        ("aaaaaaaaaaa_000001_000011", False, True),
        ("ccccccccccc_000005_000015", True, True),
    ]
    assert "all.csv: 1 clips of other Kinetics classes are not used" in found.notes
    assert notes(found, "lines of lists").endswith("2 (all.csv:5, all.csv:6)")
    assert notes(found, "that are not in the list").endswith("(zzzzzzzzzzz_000001_000011.mp4)")
    with pytest.raises(DataError, match="columns label, youtube_id"):
        find_catalogue("kineticssound", tmp_path, annotations=tmp_path / "other.csv")


def test_kineticssound_tests_on_the_validation_split_where_no_test_clip_is_there(tmp_path):
    rows = [
        ("laughing", c * 11, 1, 11, s) for c, s in (("a", "train"), ("b", "val"), ("c", "test"))
    ]
    with (tmp_path / "all.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("label", "youtube_id", "time_start", "time_end", "split"), *rows]
        )
    for c in "ab":
        touch(tmp_path / f"{c * 11}_000001_000011.mp4")
    found = find_catalogue("kineticssound", tmp_path)
    assert [(s.id[0], s.test, s.complete) for s in found.samples] == [
        ("a", False, True),
        ("b", True, True),
    ]
    assert notes(found, "split 'test', not used with 'val'").endswith("(" + "c" * 11 + ")")


def test_kineticssound_of_the_clips_of_kinetics_those_of_bmmals_lists_are_taken(tmp_path):
    for c in "abc":
        touch(tmp_path / "train" / "laughing" / f"{c * 10}__000001_000011.mp4")
    touch(tmp_path / "test" / "laughing" / "eeeeeeeeeee_000001_000011.mp4")
    listed = [f"{c * 10}__1,10,21\n" for c in "acd"]
    (tmp_path / "my_train.txt").write_text("".join(listed), encoding="utf-8")
    found = find_catalogue("kineticssound", tmp_path)
    assert [(s.id[0], s.test) for s in found.samples] == [("a", False), ("c", False), ("e", True)]
    assert set(found.notes) == {
        "clips that are not in my_train.txt, left out: 1 (bbbbbbbbbb__000001_000011)",
        "videos in my_train.txt that were not found: 1 (dddddddddd_)",
    }


def test_a_clip_of_both_splits_stays_in_training(tmp_path):
    name = "aaaaaaaaaaa_000001_000011.mp4"
    for place in ("test/laughing", "train/playing drums", "train/laughing"):
        touch(tmp_path / place / name)
    touch(tmp_path / "test" / "laughing" / "bbbbbbbbbbb_000001_000011.mp4")
    found = find_catalogue("kineticssound", tmp_path)
    first = found.samples[0]
    assert (found.classes[first.label], first.test) == ("laughing", False)
    assert first.sources["video"].path == tmp_path / "train" / "laughing" / name
    assert len(found.samples) == 2
    assert notes(found, "in more than one file").endswith("1 (aaaaaaaaaaa_000001_000011)")


def test_vggsound_names_of_videos():
    assert parse_name("-0BIyqJj9ZU_000030") == ("-0BIyqJj9ZU", 30, -1)
    assert parse_name("7L5ceYe0f_s_000120") == ("7L5ceYe0f_s", 120, -1)
    assert parse_name("abcd_123456_000030") == ("abcd_123456", 30, -1)
    assert parse_name("abcdefghij__7_17") == ("abcdefghij_", 7, 17)
    assert parse_name("abcdefghijk") == ("abcdefghijk", -1, -1)
    assert parse_name("abcdefghij_000030") is None
    assert parse_name("notes") is None


def test_vggsound_clips_under_other_suffixes_and_in_several_files(tmp_path):
    vgg_list(tmp_path, ["-bcdefghij_", 7, "thunder", "train"], ["bbbbbbbbbbb", 30, "hail", "test"])
    for suffix in (".webm", ".avi"):
        touch(tmp_path / "video" / f"-bcdefghij__000007{suffix}")
    touch(tmp_path / "bbbbbbbbbbb_000030.MKV")
    touch(tmp_path / "bbbbbbbbbbb_000031.mp4")
    touch(tmp_path / "bbbbbbbbbbb_000030.part")
    found = find_catalogue("vggsound", tmp_path)
    assert [(s.id, s.sources["video"].path.name) for s in found.samples] == [
        ("-bcdefghij__000007", "-bcdefghij__000007.webm"),
        ("bbbbbbbbbbb_000030", "bbbbbbbbbbb_000030.MKV"),
    ]
    assert notes(found, "in more than one file").endswith("1 (-bcdefghij__000007)")
    assert notes(found, "that are not in the list").endswith("1 (bbbbbbbbbbb_000031.mp4)")


def test_vggsound_lines_that_cannot_be_read_and_other_classes(tmp_path):
    (tmp_path / "vggsound.csv").write_text(
        "id,start,label,split\n"
        'aaaaaaaaaaa,1,"playing violin, fiddle",train\n'
        "bbbbbbbbbbb,2,playing violin, fiddle,test\n"
        "ccccccccccc,3,playing the fool,train\n"
        "ddddddddddd,x,thunder,train\n"
        "eeeeeeeeeee,5,thunder\n"
        "aaaaaaaaaaa,1,thunder,test\n",
        encoding="utf-8",
    )
    found = find_catalogue("vggsound", tmp_path)
    fiddle = found.classes.index("playing violin, fiddle")
    assert [(s.id, s.label, s.test, s.complete) for s in found.samples] == [
        ("aaaaaaaaaaa_000001", fiddle, False, False),
        ("bbbbbbbbbbb_000002", fiddle, True, False),
    ]
    assert notes(found, "cannot be read").endswith("3 (line 1, line 5, line 6)")
    assert notes(found, "not published").endswith("1 (line 4)")
    assert notes(found, "occur again").endswith("1 (aaaaaaaaaaa_000001)")


def test_vggsound_the_list_may_lie_beside_the_clips_or_elsewhere(tmp_path):
    clip = touch(tmp_path / "clips" / "aaaaaaaaaaa_000001.mp4")
    with pytest.raises(DataError, match=r"found clips, but neither vggsound\.csv"):
        find_catalogue("vggsound", clip.parent)
    vgg_list(tmp_path / "lists", ["aaaaaaaaaaa", 1, "hail", "train"])
    given = find_catalogue(
        "vggsound", clip.parent, annotations=str(tmp_path / "lists/vggsound.csv")
    )
    assert [s.complete for s in given.samples] == [True]
    assert find_catalogue("vggsound", tmp_path).samples == given.samples
    with pytest.raises(DataError, match=r"nowhere\.csv: no such file; give a list of samples"):
        find_catalogue("vggsound", tmp_path, annotations=[tmp_path / "nowhere.csv"])
    (tmp_path / "lists" / "vggsound.csv").write_text("a,b,c\n", encoding="utf-8")
    with pytest.raises(DataError, match="expected lines 'id,start second,label,split'"):
        find_catalogue("vggsound", tmp_path)


def test_vggsound_clips_sorted_by_class_need_no_list(tmp_path):
    touch(tmp_path / "video" / "train" / "bee wasp etc buzzing" / "aaaaaaaaaaa_000001_000011.avi")
    touch(tmp_path / "video" / "test" / "playing_violin__fiddle" / "bbbbbbbbbbb_000001.mp4")
    touch(tmp_path / "video" / "test" / "ccccccccccc_000001.mp4")
    found = find_catalogue("vggsound", tmp_path)
    assert [(s.id, found.classes[s.label], s.test) for s in found.samples] == [
        ("aaaaaaaaaaa_000001", "bee, wasp, etc. buzzing", False),
        ("bbbbbbbbbbb_000001", "playing violin, fiddle", True),
    ]
    assert notes(found, "that no list names").endswith("1 (ccccccccccc_000001.mp4)")


def test_vggsound_the_list_decides_class_and_split(tmp_path):
    vgg_list(tmp_path, ["aaaaaaaaaaa", 1, "hail", "train"], ["bbbbbbbbbbb", 1, "hail", "test"])
    touch(tmp_path / "test" / "thunder" / "aaaaaaaaaaa_000001.mp4")
    touch(tmp_path / "test" / "hail" / "bbbbbbbbbbb_000001.mp4")
    found = find_catalogue("vggsound", tmp_path)
    assert Counter((found.classes[s.label], s.test) for s in found.samples) == {
        ("hail", False): 1,
        ("hail", True): 1,
    }
    assert notes(found, "another class than").endswith("1 (aaaaaaaaaaa_000001)")
    assert notes(found, "another split than").endswith("1 (aaaaaaaaaaa_000001)")


def test_vggsound_of_a_clip_in_two_folders_that_of_the_listed_class_is_taken(tmp_path):
    vgg_list(tmp_path, ["aaaaaaaaaaa", 1, "hail", "test"])
    touch(tmp_path / "train" / "airplane" / "aaaaaaaaaaa_000001.mp4")
    own = touch(tmp_path / "test" / "hail" / "aaaaaaaaaaa_000001.mp4")
    found = find_catalogue("vggsound", tmp_path)
    assert [s.sources["audio"].path for s in found.samples] == [own]
    assert [n.split(":")[0] for n in found.notes] == [
        "clips in more than one file, the first is used"
    ]


def test_the_layout_with_more_complete_clips_is_read(tmp_path):
    made = media_sets.make_vggsound(tmp_path, "frames", **SHORT)
    touch(tmp_path / f"{made[0].id}.mp4")
    found = find_catalogue("vggsound", tmp_path)
    assert found.layout == "frames"
    assert "layout 'frames' is read; the folder also has 'clips'" in found.notes
    clips = find_catalogue("vggsound", tmp_path, layout="clips")
    assert [s.id for s in clips.samples] == [s.id for s in found.samples]
    assert [s.id for s in clips.samples if s.complete] == [made[0].id]
