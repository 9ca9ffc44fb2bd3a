"""A project's rounds with a label file: start, ask, answer, correct, go on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from safetensors.numpy import load_file

from rlmba.errors import DataError, RlmbaWarning, RunFolderError, UsageError
from rlmba.learner import configure, run
from rlmba.method.policy_file import read_policy
from rlmba.project.answers import collect_answers
from rlmba.project.folder import open_project, read_project
from rlmba.project.starting import overrides, start
from rlmba.project.state import status
from rlmba.runfolder.labels import Answer, LabelLog
from rlmba.runfolder.store import read_run
from tests.helpers.people_data import (
    NAMES,
    QUICK,
    asked,
    fill,
    made,
    round_of,
    rows_of,
    taken,
    write_manifest,
)


@pytest.fixture
def data(tmp_path):
    rows, truth = rows_of()
    return write_manifest(tmp_path / "m.jsonl", rows), rows, truth


def labels_of(folder):
    return LabelLog(folder / "labels.jsonl").current()


def assert_same_round(one, other, name):
    for file in ("model.safetensors", "strategy.safetensors"):
        a, b = (load_file(folder / "checkpoints" / name / file) for folder in (one, other))
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


class TestFromNothing:
    def test_samples_that_lack_a_modality_are_not_asked_for_first(self, tmp_path):
        """5 of 300 lack one of two modalities; chance would ask for 0.15 of them."""
        rows, _ = rows_of(300)
        lacking = rows[::60]
        for k, row in enumerate(lacking):
            row["ab"[k % 2]] = None
        folder = made(tmp_path / "p", write_manifest(tmp_path / "m.jsonl", rows))
        ids = {q.id for q in asked(folder).batch.questions if q.purpose == "train"}
        assert len(ids & {row["id"] for row in lacking}) <= 1

    def test_rounds(self, tmp_path, data):
        manifest, _, truth = data
        folder = made(tmp_path / "p", manifest)
        first = asked(folder)
        purposes = [q.purpose for q in first.batch.questions]
        assert purposes == ["train"] * 9 + ["validation"] * 12
        assert first.batch.classes == NAMES
        assert not first.batch.open
        assert all(q.prediction is None for q in first.batch.questions)
        fill(folder, truth)
        record = taken(folder).record
        assert (record.round, record.labels, record.validation.size) == (0, 9, 12)
        second = asked(folder)
        assert [q.purpose for q in second.batch.questions] == ["train"] * 6
        for q in second.batch.questions:
            assert q.prediction in NAMES
            assert 1 / 3 < q.probability <= 1
            assert q.difficulty > 0
        assert sum(second.batch.weights.values()) == pytest.approx(1)
        earlier = {q.id for q in first.batch.questions}
        assert not earlier & {q.id for q in second.batch.questions}
        fill(folder, truth)
        record = taken(folder).record
        assert (record.round, record.labels, record.selected) == (1, 15, 6)
        assert record.raw_reward is not None
        view = read_run(folder)
        assert [r.round for r in view.records] == [0, 1]
        assert labels_of(folder) == {i: truth[i] for i in labels_of(folder)}
        for _ in range(3):
            record = round_of(folder, truth).record
        assert record.validation.mm.top1 > 0.8

    def test_the_same_again(self, tmp_path, data):
        manifest, _, truth = data
        folders = [made(tmp_path / name, manifest) for name in "ab"]
        for folder in folders:
            for _ in range(2):
                round_of(folder, truth)
        assert_same_round(*folders, "round_001")
        assert len({tuple(labels_of(f)) for f in folders}) == 1

    def test_the_cold_start_covers(self, tmp_path, data):
        manifest, rows, truth = data
        folder = made(tmp_path / "p", manifest, "initial_labels=12")
        train = [q for q in asked(folder).batch.questions if q.purpose == "train"]
        assert {truth[q.id] for q in train} == set(NAMES)
        x = {r["id"]: np.array(r["a"] + r["b"]) for r in rows}
        far = [min(np.linalg.norm(x[i] - x[q.id]) for q in train) for i in truth]
        rng = np.random.default_rng(0)
        drawn = [
            [min(np.linalg.norm(x[i] - x[j]) for j in rng.choice(list(truth), 12)) for i in truth]
            for _ in range(20)
        ]
        assert np.mean(far) < np.mean(drawn)

    def test_asking_again_changes_nothing(self, tmp_path, data):
        manifest, _, truth = data
        folder = made(tmp_path / "p", manifest)
        first = asked(folder)
        done = fill(folder, truth, most=5)
        again = asked(folder)
        assert again.repeated
        assert again.batch == first.batch
        taking = taken(folder)
        assert (taking.new, taking.answered, taking.asked) == (5, 5, 21)
        assert taking.record is None
        assert list(labels_of(folder)) == done

    def test_labels_in_parts_then_partial(self, tmp_path, data):
        manifest, _, truth = data
        folder = made(tmp_path / "p", manifest)
        round_of(folder, truth)
        batch = asked(folder).batch
        done = fill(folder, truth, most=4)
        assert taken(folder).record is None
        taking = taken(folder, partial=True)
        assert (taking.record.round, taking.record.selected, taking.record.labels) == (1, 4, 13)
        rest = {q.id for q in batch.questions} - set(done)
        with open_project(folder) as project:
            assert not rest & set(project.log.current())
        assert asked(folder).batch.round == 2

    def test_nothing_answered_is_no_round(self, tmp_path, data):
        folder = made(tmp_path / "p", data[0])
        asked(folder)
        assert taken(folder, partial=True).record is None
        assert "no label" in taken(folder).why

    @pytest.mark.slow
    def test_cannot_tell(self, tmp_path, data):
        manifest, _, truth = data
        folder = made(tmp_path / "p", manifest)
        unclear = {q.id for q in asked(folder).batch.questions[:2]}
        round_of(folder, {i: "?" if i in unclear else c for i, c in truth.items()})
        assert read_run(folder).records[0].labels == 7
        for _ in range(14):
            batch = asked(folder).batch
            if batch is None:
                break
            assert not unclear & {q.id for q in batch.questions}
            fill(folder, truth)
            taken(folder)
        current = labels_of(folder)
        assert {i for i, label in current.items() if label is None} == unclear

    def test_frozen_encoders(self, tmp_path, data):
        manifest, _, truth = data
        features = tmp_path / "features"
        settings = ("model.frozen=true", f"model.features_folder={features}")
        folder = made(tmp_path / "p", manifest, *settings, classes=None)
        records = [round_of(folder, truth).record for _ in range(2)]
        assert [r.labels for r in records] == [9, 15]
        assert len(list(features.glob("*.sqlite"))) == 1  # both modalities are passed on unchanged


class TestDiscovered:
    def test_classes_come_with_labels(self, tmp_path, data):
        manifest, _, truth = data
        folder = made(tmp_path / "p", manifest, classes=None)
        batch = asked(folder).batch
        assert batch.open
        assert batch.classes == ()
        round_of(folder, {i: "dog" if c == "owl" else c for i, c in truth.items()})
        assert asked(folder).batch.classes == ("cat", "dog")
        # From now on owls are told apart; the last network knows none.
        taking = round_of(folder, {i: "ant" if c == "owl" else c for i, c in truth.items()})
        assert taking.record.round == 1
        assert asked(folder).batch.classes == ("cat", "dog", "ant")
        head = json.loads((folder / "checkpoints/round_001/network.json").read_text())
        assert head["classes"] == ["cat", "dog", "ant"]

    def test_one_class_is_not_enough(self, tmp_path, data):
        manifest, _, truth = data
        folder = made(tmp_path / "p", manifest, classes=None)
        taking = round_of(folder, dict.fromkeys(truth, "dog"))
        assert taking.record is None
        assert "two classes" in taking.why
        assert asked(folder).batch.round == 0
        fill(folder, truth)
        assert taken(folder).record.round == 0


class TestLabelsThatExist:
    def test_they_are_the_start(self, tmp_path):
        rows, truth = rows_of(150)
        for i, row in enumerate(rows):
            row["label"] = truth[row["id"]] if i < 60 else None
            row["split"] = "test" if i < 20 else ""
        folder = made(tmp_path / "p", write_manifest(tmp_path / "m.jsonl", rows))
        split = read_project(folder).split()
        assert len(split["validation"]) == 12
        assert len(split["initial"]) == 28
        made_ready = asked(folder)
        assert made_ready.batch is None
        assert made_ready.ready
        record = taken(folder).record
        assert (record.labels, record.validation.size, record.test.size) == (28, 12, 20)
        assert len(asked(folder).batch.questions) == 6

    def test_validation_rows_of_the_manifest(self, tmp_path):
        rows, truth = rows_of(100)
        for i, row in enumerate(rows):
            row["split"] = "val" if i < 15 else "train"
            row["label"] = truth[row["id"]] if i < 10 else None
        folder = made(tmp_path / "p", write_manifest(tmp_path / "m.jsonl", rows))
        purposes = {q.id: q.purpose for q in asked(folder).batch.questions}
        wanted = {row["id"] for row in rows[10:15]}
        assert {i for i, p in purposes.items() if p == "validation"} == wanted
        fill(folder, truth)
        assert taken(folder).record.validation.size == 15

    def test_new_rows_and_new_labels(self, tmp_path, data):
        manifest, rows, truth = data
        folder = made(tmp_path / "p", manifest)
        round_of(folder, truth)
        more, more_truth = rows_of(40, seed=5, start=500)
        for row in more[:10]:
            row["label"] = more_truth[row["id"]]
        write_manifest(manifest, rows + more)
        record = round_of(folder, {**truth, **more_truth}).record
        assert record.labels == 9 + 6 + 10


class TestCorrections:
    def test_in_the_file_of_an_old_round(self, tmp_path, data):
        manifest, _, truth = data
        folder = made(tmp_path / "p", manifest)
        ids = [q.id for q in asked(folder).batch.questions]
        wrong = {**truth, ids[0]: next(c for c in NAMES if c != truth[ids[0]])}
        fill(folder, wrong)
        taken(folder)
        asked(folder)
        kept = folder / "labeled" / "round_000.csv"
        lines = kept.read_text(encoding="utf-8-sig").splitlines()
        at = next(i for i, line in enumerate(lines) if line.startswith(ids[0] + ","))
        lines[at] = lines[at].replace(wrong[ids[0]], truth[ids[0]], 1)
        kept.write_text("\n".join(lines) + "\n", encoding="utf-8")
        fill(folder, truth)
        taking = taken(folder)
        assert taking.corrected == 1
        assert labels_of(folder)[ids[0]] == truth[ids[0]]

    def test_an_annotator_of_the_past_that_is_silent(self, tmp_path, data):
        manifest, _, truth = data
        table = tmp_path / "truth.csv"
        table.write_text("id,label\n" + "".join(f"{i},{c}\n" for i, c in truth.items()))
        options = {"annotator": "oracle", "annotator_options": {"truth": str(table)}}
        folder = made(tmp_path / "p", manifest, **options)
        asked(folder)
        assert taken(folder).record.round == 0
        asked(folder)
        table.unlink()
        with pytest.raises(DataError, match=r"truth\.csv"):
            taken(folder)
        file = folder / "config.yaml"
        text = file.read_text().replace("annotator: oracle", "annotator: file")
        file.write_text(re.sub(r"annotator_options:\n.*\n", "annotator_options: {}\n", text))
        assert asked(folder).repeated
        fill(folder, truth)
        with pytest.warns(RlmbaWarning, match="annotator 'oracle', of earlier rounds"):
            assert taken(folder).record.round == 1

    def test_from_a_table(self, tmp_path, data):
        manifest, _, truth = data
        folder = made(tmp_path / "p", manifest)
        round_of(folder, truth)
        labeled = next(i for i in labels_of(folder))
        fresh = next(i for i in truth if i not in labels_of(folder))
        other = next(c for c in NAMES if c != truth[labeled])
        table = tmp_path / "c.csv"
        table.write_text(f"id;label\n{labeled};{other}\n{fresh};{truth[fresh]}\n")
        taking = taken(folder, labels=table)
        assert (taking.new, taking.corrected) == (2, 1)
        assert taking.record is None
        assert taken(folder, labels=table).new == 0
        assert taken(folder).new == 0, "what the old file said does not count again"
        record = round_of(folder, truth).record
        assert record.labels == 9 + 6 + 1
        assert labels_of(folder)[labeled] == other

    def test_names_that_people_gave_before_are_known(self, tmp_path, data):
        folder = made(tmp_path / "p", data[0], classes=None)
        table = tmp_path / "c.csv"
        table.write_text("id,label\ns/000,Red Panda\ns/001,3\n")
        with open_project(folder) as project:
            assert collect_answers(project, labels=table) == (2, 0)
            table.write_text("id,label\ns/000,red panda\ns/001,3.0\ns/002,RED  PANDA\n")
            assert collect_answers(project, labels=table) == (1, 0)
        assert set(labels_of(folder).values()) == {"Red Panda", "3"}

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ("nobody,cat", "nobody"),
            ("s/000,wolf", "wolf"),
            ("s/000,cat\ns/000,dog", "s/000"),
        ],
    )
    def test_bad_ones_change_nothing(self, tmp_path, data, row, message):
        folder = made(tmp_path / "p", data[0])
        table = tmp_path / "c.csv"
        table.write_text(f"id,label\n{row}\n")
        with pytest.raises(DataError, match=message):
            taken(folder, labels=table)
        assert labels_of(folder) == {}


class TestTrouble:
    def test_a_folder_in_use(self, tmp_path, data):
        folder = made(tmp_path / "p", data[0])
        with open_project(folder):
            code = f"from rlmba.project.folder import open_project; open_project({str(folder)!r})"
            code = textwrap.dedent(f"""
                from pathlib import Path
                from rlmba.project.folder import open_project
                with open_project(Path({str(folder)!r})):
                    pass
            """)
            other = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=False
            )
            assert other.returncode != 0
            assert f"process {os.getpid()}" in other.stderr
            assert f"process {os.getpid()}" in status(folder).holder
        assert status(folder).holder is None

    @pytest.mark.slow
    def test_kill_9_while_training(self, tmp_path, data):
        manifest, _, truth = data
        folders = [made(tmp_path / name, manifest, "strategy=rlmba") for name in ("a", "b")]
        for folder in folders:
            round_of(folder, truth)
            asked(folder)
            fill(folder, truth)
        code = textwrap.dedent(f"""
            import os, signal, sys
            sys.path[:] = {sys.path!r}
            from pathlib import Path
            from rlmba.learner import ActiveLearner
            from rlmba.project import collect, open_project
            def dead(*_, **__):
                os.kill(os.getpid(), signal.SIGKILL)
            ActiveLearner.conclude = dead
            with open_project(Path({str(folders[0])!r})) as project:
                collect(project)
        """)
        killed = subprocess.run([sys.executable, "-c", code], check=False)
        assert killed.returncode == -signal.SIGKILL
        assert len(read_run(folders[0]).records) == 1
        records = [taken(folder).record for folder in folders]
        assert [r.round for r in records] == [1, 1]
        assert records[0].advantage == records[1].advantage
        assert records[0].policy == records[1].policy
        assert_same_round(*folders, "round_001")
        a, b = (read_policy(f / "policy.safetensors", strategy="rlmba") for f in folders)
        assert a.facts == b.facts
        assert a.facts["rounds"] == 1
        for key, array in a.arrays.items():
            np.testing.assert_array_equal(array, b.arrays[key])

    def test_a_crash_after_the_round_leaves_no_open_batch(self, tmp_path, data):
        manifest, _, truth = data
        folder = made(tmp_path / "p", manifest)
        asked(folder)
        stale = (folder / "pending.json").read_text()
        fill(folder, truth)
        taken(folder)
        (folder / "pending.json").write_text(stale)
        assert read_project(folder).pending() is None
        assert asked(folder).batch.round == 1

    def test_samples_that_vanish(self, tmp_path, data):
        manifest, rows, truth = data
        folder = made(tmp_path / "p", manifest)
        round_of(folder, truth)
        gone = next(iter(labels_of(folder)))
        write_manifest(manifest, [r for r in rows if r["id"] != gone])
        with pytest.warns(RlmbaWarning, match=f"no longer in the data.*{gone}"):
            asked(folder)
        fill(folder, truth)
        with pytest.warns(RlmbaWarning, match="no longer"):
            record = taken(folder).record
        assert record.labels in (9 + 6 - 1, 9 + 6)
        write_manifest(manifest, rows)
        assert round_of(folder, truth).record.labels == 9 + 6 + 6

    def test_a_run_is_no_project_nor_the_other_way_round(self, tmp_path, data):
        folder = made(tmp_path / "p", data[0])
        with pytest.raises(RunFolderError, match="rlmba next"):
            run(read_project(folder).config, folder, resume=True)
        experiment = tmp_path / "run"
        run(configure({"rounds": 0, "epochs": 1, "training.min_steps": 0}), experiment)
        with pytest.raises(RunFolderError, match="rlmba init"):
            asked(experiment)
        with pytest.raises(UsageError, match="rlmba status"):
            made(folder, data[0])

    def test_settings_may_change_between_rounds_but_not_the_network(self, tmp_path, data):
        manifest, _, truth = data
        folder = made(tmp_path / "p", manifest)
        round_of(folder, truth)
        file = folder / "config.yaml"
        text = file.read_text()
        file.write_text(text.replace("batch_size: 6", "batch_size: 4"))
        assert len(asked(folder).batch.questions) == 4
        file.write_text(text.replace("width: 16", "width: 17"))
        fill(folder, truth)
        with pytest.raises(RunFolderError, match=r"model\.width"):
            taken(folder)
        file.write_text(text)
        assert taken(folder).record.round == 1

    def test_a_torn_line_of_the_log(self, tmp_path):
        log = LabelLog(tmp_path / "labels.jsonl")
        log.append([Answer("a", "cat", "x"), Answer("b", None, "x")])
        with log.path.open("ab") as file:
            file.write(b'{"id": "c", "la')
        log = LabelLog(log.path)
        assert log.current() == {"a": "cat", "b": None}
        log.append([Answer("a", "dog", "y")])
        assert LabelLog(log.path).current() == {"a": "dog", "b": None}
        assert LabelLog(log.path).said("x") == {"a": "cat", "b": None}
        log.path.write_text('{"id": 1}\n{"no": 2}\n')
        with pytest.raises(RunFolderError, match="line 1"):
            LabelLog(log.path)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({}, "expected --manifest or --huggingface, got neither"),
            ({"manifest": "m.csv", "huggingface": "x"}, "got both"),
            ({"manifest": "m.csv", "classes": ["a"]}, "two or more distinct names"),
            ({"manifest": "m.csv", "classes": ["a", "a"]}, "two or more distinct names"),
        ],
    )
    def test_what_init_refuses(self, given, message):
        with pytest.raises(UsageError, match=message):
            overrides(**given)

    def test_bad_options_before_any_work(self, tmp_path, data):
        for setting in ("project.annotator=nobody", "project.annotator_options.color=red"):
            chosen = overrides(manifest=data[0], annotator="file")
            with pytest.raises(UsageError, match=r"nobody|color"):
                start(tmp_path / "p", configure(chosen, settings=[*QUICK, setting]))
        assert not (tmp_path / "p").exists()

    def test_until_the_pool_is_empty(self, tmp_path):
        rows, truth = rows_of(30)
        folder = made(
            tmp_path / "p",
            write_manifest(tmp_path / "m.jsonl", rows),
            "batch_size=10",
            "project.validation_labels=4",
        )
        sizes = [round_of(folder, truth).record.labels for _ in range(3)]
        assert sizes == [9, 19, 26]
        last = asked(folder)
        assert last.batch is None
        assert "labeled" in last.why
