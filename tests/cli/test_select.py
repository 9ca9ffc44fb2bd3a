from __future__ import annotations

import csv
import subprocess
import sys

import numpy as np
import pytest

import rlmba
from rlmba.cli import main

N = 300


def select(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "rlmba", "select", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def arrays(rng):
    return {
        "features": rng.normal(size=(N, 8)).astype(np.float32),
        "logits": rng.normal(size=(N, 5)).astype(np.float32),
        "ids": np.array([f"s{i}" for i in range(N)]),
    }


@pytest.fixture
def pool(tmp_path, arrays):
    np.savez(tmp_path / "outputs.npz", **arrays)
    return tmp_path / "outputs.npz"


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_is_select_on_files(tmp_path, pool, arrays):
    out = tmp_path / "batch.csv"
    done = select("--strategy", "rlmba-x", "--pool", pool, "-n", 20, "--out", out, "-o", "kappa=3")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "pool: 300 samples, features of width 8, 5 classes; 20 kB"
    assert lines[1].startswith("estimate for 20 by rlmba-x: about ")
    assert lines[2].startswith("selected 20 samples by rlmba-x in ")
    assert lines[3] == str(out)
    expected = rlmba.select("rlmba-x", n=20, rng=0, kappa=3, **arrays)
    assert [r["id"] for r in rows(out)] == expected.ids.tolist()
    assert [int(r["position"]) for r in rows(out)] == expected.positions.tolist()
    assert [float(r["score"]) for r in rows(out)] == expected.scores.tolist()

    # The selection is labeled from now on; the same command refuses to overwrite the first batch.
    more = ("--pool", pool, "-n", 25, "--labeled", out, "--seed", 4)
    second = tmp_path / "second.csv"
    assert select(*more, "--out", second).returncode == 0
    assert not {r["id"] for r in rows(out)} & {r["id"] for r in rows(second)}
    again = select(*more, "--out", second)
    assert (again.returncode, "--force" in again.stderr) == (2, True)
    assert select(*more, "--out", second, "--force").returncode == 0
    third = select(*more, "--labeled", second, "--dry-run")
    assert third.stdout.startswith("pool: 255 samples, features of width 8, 5 classes, 45 labeled")


def test_dry_run_prints_the_estimate_and_writes_nothing(tmp_path, pool):
    before = sorted(tmp_path.iterdir())
    done = select("--pool", pool, "-n", 5, "--dry-run", "--out", tmp_path / "batch.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("estimate for 5 by rlmba-x: about 0.0")
    assert sorted(tmp_path.iterdir()) == before


def test_npy_with_ids_beside_it(tmp_path, arrays):
    np.save(tmp_path / "z.npy", arrays["logits"])
    (tmp_path / "ids.txt").write_text("\n".join(arrays["ids"]) + "\n")
    given = ("--pool", tmp_path / "z.npy", "--npy-holds", "logits", "--ids", tmp_path / "ids.txt")
    done = select(*given, "-n", 3, "--strategy", "margin", "--out", tmp_path / "b.npy")
    assert done.returncode == 0, done.stderr
    expected = rlmba.select("margin", n=3, logits=arrays["logits"], ids=arrays["ids"])
    assert np.load(tmp_path / "b.npy").tolist() == expected.ids.tolist()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-n", "301"], 2, "-n: expected 0 to 300, the unlabeled samples of the pool, got 301"),
        (["-n", "-1"], 2, "-n: expected 0 to 300"),
        (["-n", "5", "--strategy", "entropi"], 2, "unknown strategy 'entropi'"),
        (["-n", "5", "-o", "kappa"], 2, "expected KEY=VALUE"),
        (["-n", "5", "-o", "kapa=3"], 2, "no option 'kapa'"),
        (["-n", "5", "--seed", "-3"], 2, "--seed"),
        (["-n", "5", "--out", "b.xls"], 2, "expected a name ending in .csv"),
        (["-n", "5", "--out", "nowhere/b.csv"], 1, "no such folder"),
        (["-n", "5", "--labeled", "nowhere.csv"], 1, "nowhere.csv"),
        (["-n", "5", "--pool", "nowhere.npz"], 1, "nowhere.npz: no such file"),
    ],
)
def test_bad_arguments_exit_before_the_work(
    pool, arguments, code, message, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    given = [] if "--pool" in arguments else ["--pool", pool]
    out = [] if "--out" in arguments else ["--out", "b.csv"]
    assert main(["select", *map(str, given), *out, *arguments]) == code
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.startswith("error: ")
    assert "selected" not in printed.out
    assert not (tmp_path / "b.csv").exists()


@pytest.mark.slow
def test_what_the_strategy_needs_is_named(tmp_path, arrays):
    np.savez(tmp_path / "f.npz", features=arrays["features"])
    done = select("--pool", tmp_path / "f.npz", "-n", 5, "--out", tmp_path / "b.csv")
    assert done.returncode == 2
    assert "strategy 'rlmba-x' needs more than was passed: pass logits=[N, C]" in done.stderr
    assert select("--pool", tmp_path / "f.npz", "-n", 5).returncode == 2


def test_nan_is_a_data_error_that_names_the_id(tmp_path, arrays):
    arrays["logits"][17, 2] = np.nan
    np.savez(tmp_path / "x.npz", **arrays)
    done = select("--pool", tmp_path / "x.npz", "-n", 5, "--out", tmp_path / "b.csv")
    assert done.returncode == 1
    assert "sample 's17'" in done.stderr
