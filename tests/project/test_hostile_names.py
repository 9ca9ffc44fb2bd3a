"""Projects and runs whose folder, modalities and classes have names that look like markup."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest

from rlmba.cli import main
from tests.helpers.people_data import QUICK, rows_of

CLASSES = {"cat": "$cat_$", "dog": "[bold]dog", "owl": "=owl|`x`"}
MODALITIES = {"a": "$a", "b": "_b [red]"}


@pytest.fixture
def manifest(tmp_path):
    rows, truth = rows_of()
    path = tmp_path / "m $x$.jsonl"
    made = [
        {
            "id": row["id"],
            **{MODALITIES[m]: row[m] for m in MODALITIES},
            **({"label": CLASSES[truth[row["id"]]]} if i < 60 else {}),
        }
        for i, row in enumerate(rows)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def settings(*more):
    return [word for s in (*QUICK, *more) for word in ("--set", s)]


def hints(out):
    (line,) = [line for line in out.splitlines() if line.startswith("next: ")]
    return [shlex.split(hint) for hint in line.removeprefix("next: ").split("   or   ")]


def test_a_project(tmp_path, manifest, capsys):
    folder = tmp_path / "my $project; [x]"
    columns = ["--set", "dataset_options.id=id", "--set", "dataset_options.label=label"]
    assert main(["init", str(folder), "--manifest", str(manifest), *columns, *settings()]) == 0
    out = capsys.readouterr().out
    assert hints(out) == [["rlmba", "next", str(folder)], ["rlmba", "loop", str(folder)]]
    assert "[bold]dog" in out
    assert main(["status", str(folder)]) == 0
    out = capsys.readouterr().out
    # Those of the validation set are labels too.
    assert out.startswith("labels: 60 (")
    assert "[bold]dog" in out
    (hint,) = hints(out)
    assert main(hint[1:]) == 0
    assert shlex.quote(str(folder)) in capsys.readouterr().out


def test_a_run_ends_with_its_report(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    data = tmp_path / "cost $ (x_$).npz"
    arrays = {
        name: (rng.normal(size=(120, 4)) + np.eye(3, 4)[y]).astype(np.float32)
        for name in MODALITIES.values()
    }
    np.savez(data, **arrays, y=y, split=(np.arange(120) % 4 == 0).astype(np.uint8))
    output = tmp_path / "run $1 $"
    run = ["run", "--dataset", "features", "--data", str(data), "--output", str(output)]
    few = [
        "rounds=1",
        "batch_size=6",
        "initial_labels=12",
        "epochs=1",
        "model.width=8",
        "device=cpu",
    ]
    assert main([*run, *(word for s in few for word in ("--set", s))]) == 0
    assert (output / "report" / "learning_curve.png").stat().st_size > 1000
