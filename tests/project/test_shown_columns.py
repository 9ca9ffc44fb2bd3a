"""Columns that people see and the network does not read, and the reverse, with every annotator."""

from __future__ import annotations

import csv

import numpy as np

from rlmba.annotators.browser.page_state import PageState
from rlmba.annotators.labelstudio.media import InlineMedia
from rlmba.annotators.labelstudio.tasks import columns, tasks
from rlmba.cli import main
from rlmba.learner.trained import Trained
from rlmba.project.predict import predict_file
from rlmba.runfolder.settings import read_config
from tests.helpers.media_files import write_image
from tests.helpers.people_data import QUICK, asked, fill, rows_of, taken, write_manifest


def test_people_see_the_shown_columns_and_the_network_reads_the_hidden_ones(tmp_path, capsys):
    rows, truth = rows_of()
    for i, row in enumerate(rows):
        row |= {"photo": f"p/{i}.png", "notes": f"note {i}", "age": float(i % 7)}
    (tmp_path / "p").mkdir()
    for i in range(100):  # the others are missing
        write_image(tmp_path / f"p/{i}.png", seed=i, label=0, size=(8, 6))
    manifest = write_manifest(tmp_path / "m.jsonl", rows)
    folder = tmp_path / "project"
    shown = ["--show", "photo", "--show", "notes", "--hide", "age", "--annotator", "browser"]
    settings = [word for setting in QUICK for word in ("--set", setting)]
    assert main(["init", str(folder), "--manifest", str(manifest), *shown, *settings]) == 0
    out = capsys.readouterr().out
    assert "shown to people, not read by the network: 'photo' (files, 20 of them missing)" in out
    assert "hidden from people: 'age'" in out
    config = read_config(folder)
    assert config.dataset_options["shown_columns"] == ["photo", "notes"]
    assert config.dataset_options["hidden_columns"] == ["age"]
    assert config.dataset_options["features"] == ["age"]

    ids = asked(folder).batch.ids
    page = PageState(folder).current()
    assert page.modalities == ("photo", "notes")
    numbers = {row["id"]: i for i, row in enumerate(rows)}
    for id_, question in page.questions.items():
        i = numbers[id_]
        assert question.texts == {"notes": f"note {i}"}
        assert question.files == ({"photo": str(tmp_path / f"p/{i}.png")} if i < 100 else {})
    assert [c.title for c in columns(page.content)] == ["photo", "notes"]
    made = tasks(page.content, page.content.questions, InlineMedia(), ())
    assert all(task["data"]["notes_text"].startswith("note ") for task in made)
    assert all("age" not in task["data"] for task in made)

    config_text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config_text.replace("browser", "file"))
    assert asked(folder).batch.ids == ids
    with (folder / "to_label.csv").open(encoding="utf-8-sig", newline="") as file:
        written = list(csv.DictReader(file))
    assert {row["notes"] for row in written} == {f"note {numbers[i]}" for i in ids}
    assert "photo" in written[0]
    assert "age" not in written[0]
    assert "features" not in written[0]
    fill(folder, truth)
    assert taken(folder).record is not None
    assert [m.name for m in Trained.load(folder).modalities] == ["features", "a", "b"]

    # New samples need none of the columns that were only shown.
    new, _ = rows_of(10, seed=1, start=500)
    new = [{**row, "age": 1.0} for row in new]
    out_file = tmp_path / "predicted.csv"
    predict_file(folder, out_file, manifest=write_manifest(tmp_path / "new.jsonl", new))
    assert len(out_file.read_text().splitlines()) == 11
    assert np.isfinite([float(r["probability"]) for r in csv.DictReader(out_file.open())]).all()
