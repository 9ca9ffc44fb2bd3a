"""Rounds in turn, how a project stands, and what the commands say of it."""

from __future__ import annotations

import csv
import threading

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from rlmba.cli.app import application
from rlmba.errors import AnnotatorError
from rlmba.learner.inputs import prepared
from rlmba.learner.settings import PREFERRED
from rlmba.method.herding import first_batch
from rlmba.project import loop, status
from rlmba.runfolder.store import read_run
from tests.helpers.people_data import asked, fill, made, rows_of, taken, write_manifest


class Watching:
    def __init__(self):
        self.stages, self.batches, self.waits, self.rounds = [], [], [], []
        self.urls = []
        self.counted = {}

    def serving(self, url):
        self.urls.append(url)

    def stage(self, name, done=0, total=0):
        self.stages.append(name)
        if total:
            self.counted.setdefault(name, []).append((done, total))

    def asked(self, query):
        self.batches.append(query.batch)

    def waiting(self, answered, asked, trouble):
        self.waits.append((answered, asked, trouble))

    def collected(self, found):
        self.rounds.append(found.record.round)


@pytest.fixture
def oracle(tmp_path):
    """Settings of a project whose labels come from a table; manifest and truth."""
    rows, truth = rows_of()
    table = tmp_path / "truth.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("id", "label"), *truth.items()])
    manifest = write_manifest(tmp_path / "m.jsonl", rows)
    return {"annotator": "oracle", "annotator_options": {"truth": str(table)}}, manifest, truth


class TestLoop:
    def test_rounds_with_an_oracle(self, tmp_path, oracle):
        options, manifest, _ = oracle
        folder = made(tmp_path / "p", manifest, **options)
        watching = Watching()
        assert "3 rounds" in loop(folder, watching, rounds=3)
        assert watching.rounds == [0, 1, 2]
        assert [len(b.questions) for b in watching.batches] == [21, 6, 6]
        for stage in ("train", "predict"):
            done, total = watching.counted[stage][-1]
            assert done == total > 0
        assert loop(folder, watching, rounds=1)
        assert [r.labels for r in read_run(folder).records] == [9, 15, 21, 27]

    def test_the_configuration_bounds_it(self, tmp_path, oracle):
        options, manifest, _ = oracle
        folder = made(tmp_path / "p", manifest, "rounds=2", **options)
        assert "all 2 rounds" in loop(folder, Watching())
        assert len(read_run(folder).records) == 3

    def test_label_counts(self, tmp_path, oracle):
        options, manifest, _ = oracle
        unset = ("batch_size=null", "initial_labels=null")
        folder = made(tmp_path / "p", manifest, *unset, "budgets=[9, 11, 20]", **options)
        assert status(folder).target == 9
        loop(folder, Watching(), rounds=2)
        assert status(folder).target == 20
        said = CliRunner().invoke(application(), ["status", str(folder)]).output
        assert "the next round has 20 labels" in said
        assert "last number of labels in `budgets`" in loop(folder, Watching())
        assert [r.labels for r in read_run(folder).records] == [9, 11, 20]
        assert status(folder).target is None
        assert status(folder).advice is not None

    def test_until_nothing_is_left(self, tmp_path, oracle):
        options, manifest, _ = oracle
        folder = made(tmp_path / "p", manifest, "batch_size=60", **options)
        assert "every sample" in loop(folder, Watching())

    def test_it_waits_for_people(self, tmp_path, oracle):
        _, manifest, truth = oracle
        folder = made(tmp_path / "p", manifest)
        watching, naps = Watching(), []

        def nap(seconds):
            naps.append(seconds)
            if len(naps) == 2:
                fill(folder, truth, most=4)
            if len(naps) == 4:
                fill(folder, truth)

        assert loop(folder, watching, rounds=1, sleep=nap)
        assert watching.waits == [(0, 21, ""), (4, 21, ""), (21, 21, "")]
        assert naps[1] > naps[0]
        assert naps[2] == naps[0]

    def test_trouble_is_waited_out(self, tmp_path, oracle):
        _, manifest, truth = oracle
        folder = made(tmp_path / "p", manifest)
        watching, file = Watching(), folder / "to_label.csv"

        def nap(_):
            if not watching.waits[-1][2]:
                asked(folder)
                file.rename(folder / "moved.csv")
            else:
                (folder / "moved.csv").rename(file)
                fill(folder, truth)

        assert loop(folder, watching, rounds=1, sleep=nap)
        assert "to_label.csv" in watching.waits[1][2]
        assert watching.rounds == [0]
        asked(folder)
        file.unlink()
        with pytest.raises(AnnotatorError, match="rlmba next"):
            taken(folder)

    def test_the_page_is_served_meanwhile(self, tmp_path, oracle):
        _, manifest, truth = oracle
        options = {"annotator": "browser", "annotator_options": {"port": 0}}
        folder = made(tmp_path / "p", manifest, **options)
        watching, http = Watching(), httpx.Client(follow_redirects=True, trust_env=False)

        def label(_):
            """Answer all that the page asks, as it would."""
            base = watching.urls[0].partition("/?")[0]
            http.get(watching.urls[0]).raise_for_status()
            state = http.get(f"{base}/api/state").json()
            for q in watching.batches[-1].questions:
                said = {"ticket": state["ticket"], "session": "s", "id": q.id, "base": 0}
                http.post(
                    f"{base}/api/answer",
                    json={**said, "label": truth[q.id]},
                    headers={"Origin": base},
                ).raise_for_status()

        assert loop(folder, watching, rounds=2, sleep=label)
        assert [r.labels for r in read_run(folder).records] == [9, 15]
        with pytest.raises(httpx.ConnectError):
            http.get(watching.urls[0])

    def test_two_loops_do_not_share_a_round(self, tmp_path, oracle):
        options, manifest, _ = oracle
        folder = made(tmp_path / "p", manifest, **options)
        outcomes = []

        def go():
            try:
                outcomes.append(loop(folder, Watching(), rounds=2))
            except Exception as error:
                outcomes.append(error)

        threads = [threading.Thread(target=go) for _ in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        records = read_run(folder).records
        assert [r.round for r in records] == list(range(len(records)))
        assert any(isinstance(o, str) for o in outcomes)


def test_the_first_batch_covers_the_pool(tmp_path):
    rows, _ = rows_of(40)
    folder = made(tmp_path / "p", write_manifest(tmp_path / "m.jsonl", rows))
    questions = asked(folder).batch.questions
    inside = [q.id for q in questions if q.purpose == "train"]
    aside = {q.id for q in questions if q.purpose == "validation"}
    arrays = {m: np.array([r[m] for r in rows], np.float32) for m in ("a", "b")}
    inputs = prepared(np.arange(len(rows)), arrays, np.ones((len(rows), 2), np.bool_))
    free = np.array([i for i, r in enumerate(rows) if r["id"] not in aside])
    found = first_batch(inputs.at(free).features, 9)
    assert inside == [rows[i]["id"] for i in free[found.indices]]


def test_status(tmp_path, oracle):
    _, manifest, truth = oracle
    folder = made(tmp_path / "p", manifest)
    new = status(folder)
    assert (new.records, new.by_class, new.asked, new.advice) == ([], {}, 0, None)
    assert new.classes == ()
    asked(folder)
    fill(folder, truth, most=3)
    some = status(folder)
    assert (some.annotator, some.answered, some.asked) == ("file", 3, 21)
    assert some.by_class == {}
    fill(
        folder,
        {
            i: "?" if i == some_id else c
            for some_id in [next(iter(truth))]
            for i, c in truth.items()
        },
    )
    taken(folder)
    after = status(folder)
    assert sum(after.by_class.values()) == 21
    assert after.asked == 0
    assert after.advice.text
    assert set(after.classes) == set(after.by_class) - {None}


def test_commands(tmp_path, oracle):
    _, manifest, truth = oracle
    runner, app, folder = CliRunner(), application(), tmp_path / "p"

    def say(*arguments, code=0):
        result = runner.invoke(app, [str(a) for a in arguments], catch_exceptions=code == 0)
        assert (result.exit_code == 0) == (code == 0), result.output
        return result.output

    settings = [
        part
        for key in (
            "epochs=2",
            "model.width=16",
            "device=cpu",
            "batch_size=6",
            "training.min_steps=20",
        )
        for part in ("--set", key)
    ]
    out = say(
        "init",
        folder,
        "--manifest",
        manifest,
        "--classes",
        "cat, dog,owl",
        "--annotator",
        "file",
        *settings,
    )
    assert "120" in out
    assert "10 to start from and 20 to validate with" in out
    assert f"next: rlmba next {folder}" in out
    out = say("next", folder)
    assert "30 samples to label: 10 to train on, 20 to validate with" in out
    assert str(folder / "to_label.csv") in out
    assert "still to label" in say("next", folder)
    fill(folder, truth, most=7)
    out = say("collect", folder)
    assert "7 new answers" in out
    assert "7 of 30" in out
    assert "--partial" in out
    assert "7 of 30 answered, with file" in say("status", folder)
    fill(folder, truth)
    out = say("collect", folder)
    assert "round 0: 10 labels; 20 validation samples: Top-1 " in out
    assert "largest class 0." in out
    out = say("loop", folder, "--rounds", 0, code=2)
    assert "round 1" in say("next", folder)
    fill(folder, truth)
    assert "round 1: 16 labels" in say("collect", folder)
    out = say("status", folder)
    assert "labels: 36" in out
    assert out.count("round ") >= 2
    config = (folder / "config.yaml").read_text()
    assert f"strategy: {PREFERRED['strategy']}" in config
    assert "fusion: adaptive" in config
