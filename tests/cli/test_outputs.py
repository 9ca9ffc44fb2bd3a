"""`rlmba outputs`: a network's outputs as a pool in shards."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

import rlmba
from rlmba.cli.app import application
from rlmba.config import RunConfig
from rlmba.data.pool_file import read_pool
from rlmba.data.shard_files import SHARDS, find_shard_list
from rlmba.data.shards import ShardedPool
from rlmba.errors import DataError, NonFiniteError, RlmbaWarning, StorageError, UsageError
from rlmba.learner import Trained, run
from rlmba.project import network_outputs
from rlmba.project.outputs import ARRAYS, LEFT_OUT, write_outputs
from rlmba.project.predict import predict_file
from rlmba.training import head_log_probs
from rlmba.types import PoolOutputs
from tests.helpers.trained_runs import CLASSES, new_samples, shards, small_run

# A sum's last bits depend on the number of threads; the processes that `script` starts have one as well.
pytestmark = pytest.mark.usefixtures("one_thread")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="module")
def later(folder, tmp_path_factory):
    """A run of the same name with another round."""
    return small_run(tmp_path_factory.mktemp("later"), rounds=2)


@pytest.fixture
def new(tmp_path):
    return new_samples(tmp_path / "new.npz", 100)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(network_outputs, "CHUNK", 20)


def write(folder, out, new, **arguments):
    given = {"data": [new], "rows_per_shard": 30, "batch_size": 10, **arguments}
    return write_outputs(folder, out, **given)


def whole(pool):
    """All rows of all columns."""
    opened = ShardedPool(pool)
    found = [block for _, block in opened.blocks(list(opened.columns))]
    return {name: np.concatenate([b[name] for b in found]) for name in opened.columns}


def test_outputs_are_those_of_predict(folder, new, tmp_path):
    summary = write(folder, tmp_path / "pool", new)
    assert (summary.rows, summary.shards, summary.found, summary.left_out) == (100, 4, 0, 0)
    found = whole(tmp_path / "pool")
    outputs = PoolOutputs(
        ids=found["ids"],
        features={m: found[f"features/{m}"] for m in ("sound", "motion")},
        logits={m: found[f"logits/{m}"] for m in ("sound", "motion")},
        fused_features=found["features"],
        fused_logits=found["logits"],
        present=found["present"],
    )
    trained = Trained.load(folder)
    probabilities = np.exp(
        head_log_probs(outputs, predictor="pooled", temperatures=trained.head_temperatures)["mm"]
    )
    predict_file(folder, tmp_path / "all.parquet", data=new, every_class=True)
    said = pq.read_table(tmp_path / "all.parquet").to_pydict()
    assert said["id"] == found["ids"].tolist()
    for column, name in enumerate(CLASSES):
        np.testing.assert_allclose(probabilities[:, column], said[f"p_{name}"], rtol=1e-5)
    given = np.load(new)
    np.testing.assert_array_equal(found["present"], given["present"])
    lacks = ~given["present"][:, 0]
    assert not found["features/sound"][lacks].any()
    assert found["features/sound"][~lacks].any(axis=1).all()
    assert found["features"].dtype == np.float32


@pytest.mark.parametrize("lacking", [0.0, 0.2])
def test_a_selection_from_shards_is_that_from_arrays(folder, tmp_path, lacking):
    new = new_samples(tmp_path / "new.npz", 100, lacking=lacking)
    write(folder, tmp_path / "pool", new)
    found = whole(tmp_path / "pool")
    given = read_pool(tmp_path / "pool" / ARRAYS).arguments
    by_name = {
        kind: {m: found[f"{kind}/{m}"] for m in ("sound", "motion")} | {"mm": found[kind]}
        for kind in ("features", "logits")
    }
    complete = ("coreset", "badge", "rlmba-x") if not lacking else ()
    for strategy in ("random", "margin", "deepfool", "bmmal", *complete):
        options = {"n": 12, "rng": 0, **given}
        here = rlmba.select(
            strategy, ids=found["ids"], present=found["present"], **by_name, **options
        )
        there = rlmba.select(strategy, pool=ShardedPool(tmp_path / "pool"), **options)
        assert list(here.ids) == list(there.ids), strategy


KILLED = """
import os, signal, sys
from pathlib import Path
from rlmba.project import network_outputs
from rlmba.project.outputs import write_outputs

network_outputs.CHUNK = 20

def killed(done, total):
    if done >= 50:
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    folder, out, new = map(Path, sys.argv[1:])
    write_outputs(folder, out, data=[new], rows_per_shard=30, batch_size=10, progress=killed)
"""


def script(text, path, *arguments):
    path.write_text(text)
    return subprocess.run(
        [sys.executable, path, *map(str, arguments)],
        check=False, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_a_killed_command_continues(folder, new, tmp_path):
    """Killed in the second shard, after its first block: the first shard stays, the others are computed."""
    pool = tmp_path / "pool"
    assert script(KILLED, tmp_path / "killed.py", folder, pool, new).returncode == -signal.SIGKILL
    assert len(list(pool.glob(".part-00001.*.tmp"))) == 1
    assert list(shards(pool)) == ["part-00000.parquet"]
    with pytest.raises(DataError, match=r"pool is incomplete: .*run that command again"):
        ShardedPool(pool)
    first = (pool / "part-00000.parquet").stat()
    summary = write(folder, pool, new)
    assert (summary.found, summary.shards, summary.rows) == (1, 4, 100)
    assert (pool / "part-00000.parquet").stat().st_mtime_ns == first.st_mtime_ns
    assert not list(pool.glob(".*"))
    write(folder, tmp_path / "other", new)
    assert shards(pool) == shards(tmp_path / "other")
    before = {p: p.stat().st_mtime_ns for p in pool.glob("part-*")}
    assert write(folder, pool, new).found == 4
    (pool / "part-00002.parquet").unlink()
    assert write(folder, pool, new).found == 3
    after = {p.name for p, time in before.items() if p.stat().st_mtime_ns != time}
    assert after == {"part-00002.parquet"}
    assert shards(pool) == shards(tmp_path / "other")


def test_an_error_leaves_no_half_shard(folder, new, tmp_path):
    def stops(done, total):
        if done >= 50:
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"part-00001\.parquet"):
        write(folder, tmp_path / "pool", new, progress=stops)
    assert sorted(p.name for p in tmp_path.glob("pool/*part*")) == ["part-00000.parquet"]
    assert not list(tmp_path.glob("pool/.*"))


def test_other_arguments_are_refused(folder, later, new, tmp_path):
    pool = tmp_path / "pool"
    write(folder, pool, new)
    kept = shards(pool)
    other = new_samples(tmp_path / "other.npz", 100, seed=9)
    for arguments, message in (
        ({"rows_per_shard": 20}, "begun with --rows-per-shard 30; repeat .* --force"),
        ({"data": [other]}, "begun with other samples"),
        ({"data": [new, other]}, "begun with other samples"),
        ({"folder": later}, r"another network \(round 1 with 24 labels; this is round 2 with 36 labels\)"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            write(**{"folder": folder, "out": pool, "new": new, **arguments})
        assert shards(pool) == kept
    moved = new.rename(tmp_path / "moved.npz")
    assert write(folder, pool, moved, batch_size=20).found == 4
    summary = write(folder, pool, moved, rows_per_shard=60, overwrite=True)
    assert (summary.found, summary.shards) == (0, 2)
    assert list(shards(pool)) == ["part-00000.parquet", "part-00001.parquet"]
    listed = json.loads((pool / SHARDS).read_text())
    (pool / SHARDS).write_text(json.dumps(listed | {"rlmba": "0.0.1"}))
    with pytest.raises(UsageError, match=r"begun with version 0\.0\.1 of rlmba"):
        write(folder, pool, moved, rows_per_shard=60)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": []}, "--manifest FILE or"),
        ({"manifest": [Path("a.csv")]}, "--manifest FILE or"),
        ({"rows_per_shard": 0}, "rows_per_shard"),
        ({"processes": 0}, "--num-processes"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_requests_that_cannot_be_met(folder, new, tmp_path, arguments, message):
    with pytest.raises(UsageError, match=message):
        write(folder, tmp_path / "pool", new, **arguments)
    assert not (tmp_path / "pool").exists()


def test_folders_with_other_files_are_left_alone(folder, new, tmp_path):
    (tmp_path / "precious.txt").touch()
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"expected an empty folder.*found 'new\.npz'"):
            write(folder, tmp_path, new, overwrite=overwrite)
    assert (tmp_path / "precious.txt").exists()


def test_ids_of_several_files_are_distinct(folder, new, tmp_path):
    with np.load(new) as held:
        given = dict(held)
    second = tmp_path / "second.npz"
    np.savez(second, **{**given, "ids": np.array([f"b{i}" for i in range(100)])})
    summary = write(folder, tmp_path / "pool", new, data=[new, second])
    assert (summary.rows, summary.shards) == (200, 8)
    np.savez(second, **{**given, "ids": np.array([given["ids"][5], *range(99)])})
    with pytest.raises(
        DataError, match=r"second\.npz: expected distinct ids.*'new 5, é 8' again.*new\.npz"
    ):
        write(folder, tmp_path / "other", new, data=[new, second])


def test_a_network_with_outputs_that_are_not_finite(folder, new, tmp_path, monkeypatch):
    load = Trained.load

    def broken(*arguments, **options):
        trained = load(*arguments, **options)
        trained.model.fused_head.bias.data[1] = float("nan")
        return trained

    monkeypatch.setattr(Trained, "load", broken)
    with pytest.raises(NonFiniteError, match="NaN or infinity in logits of the sample 'new 0"):
        write(folder, tmp_path / "pool", new)


def test_samples_of_which_nothing_can_be_read(tmp_path):
    def table(name, columns, rows):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(rows)

    rng = np.random.default_rng(0)
    for i in range(24):
        shade = rng.normal(60 + 120 * (i % 2), 9, (16, 16, 3)).clip(0, 255)
        Image.fromarray(shade.astype(np.uint8)).save(tmp_path / f"{i}.png")
    own = [[f"s{i}", f"{i}.png", "ab"[i % 2], ["train", "test"][i > 15]] for i in range(24)]
    table("own.csv", ["id", "image", "label", "split"], own)
    settings = {
        "dataset": "manifest", "data": tmp_path / "own.csv", "rounds": 0, "epochs": 1,
        "model": {"width": 8}, "training": {"workers": 0}, "device": "cpu",
    }  # fmt: skip
    folder = run(RunConfig.model_validate(settings), tmp_path / "run").path
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    new = [[f"n{i}", f"{i}.png"] for i in range(4)]
    table("new.csv", ["id", "image"], [*new, ["torn", "damaged.png"], ["ghost", "gone.png"]])
    with pytest.warns(RlmbaWarning):
        summary = write_outputs(
            folder, tmp_path / "pool", manifest=[tmp_path / "new.csv"], rows_per_shard=4
        )
    assert (summary.rows, summary.shards, summary.left_out) == (4, 2, 2)
    found = whole(tmp_path / "pool")
    assert list(found) == [
        "ids",
        "features",
        "logits",
    ]  # of one modality, the fused ones are enough
    assert found["ids"].tolist() == ["n0", "n1", "n2", "n3"]
    with (tmp_path / "pool" / LEFT_OUT).open(encoding="utf-8") as file:
        reasons = {row["id"]: row["reason"] for row in csv.DictReader(file)}
    assert list(reasons) == ["ghost", "torn"]
    assert reasons["torn"] == "no modality could be read"
    assert "left_out.csv" in summary.lines()[-1]


def damage(path):
    """Change some bytes of the second row group, which opening does not read."""
    at = pq.read_metadata(path).row_group(1).column(1).data_page_offset + 60
    data = bytearray(path.read_bytes())
    data[at : at + 8] = bytes(b ^ 0xFF for b in data[at : at + 8])
    path.write_bytes(data)


def copied(path):
    shutil.copy(path, path.with_name("part-00099.parquet"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Path.unlink, r"part-00001\.parquet: shards\.json lists this shard, but it is missing"),
        (copied, r"part-00099\.parquet: shards\.json does not list this shard"),
        (lambda p: os.truncate(p, 900), r"part-00001\.parquet: expected [\d,]+ bytes as in .*, found 900"),
        (lambda p: p.write_bytes(b"x" * p.stat().st_size), "expected the SHA-256 that"),
        (lambda p: p.with_name(SHARDS).write_text("{"), r"shards\.json is damaged"),
    ],
)  # fmt: skip
def test_a_pool_that_is_not_the_listed_one(folder, new, tmp_path, change, message):
    write(folder, tmp_path / "pool", new)
    change(tmp_path / "pool" / "part-00001.parquet")
    with pytest.raises(DataError, match=message):
        ShardedPool(tmp_path / "pool")


def test_a_damaged_shard_is_named(folder, new, tmp_path):
    write(folder, tmp_path / "pool", new)
    ShardedPool(tmp_path / "pool").verify()
    damage(tmp_path / "pool" / "part-00002.parquet")
    pool = ShardedPool(tmp_path / "pool")
    message = r"part-00002\.parquet: expected the SHA-256 that shards\.json lists, found another"
    with pytest.raises(DataError, match=message):
        pool.verify()
    with pytest.raises(DataError, match=message):
        list(pool.blocks(list(pool.columns)))
    (tmp_path / "pool" / SHARDS).unlink()
    with pytest.raises(DataError, match=r"part-00002\.parquet: not a readable shard"):
        list(ShardedPool(tmp_path / "pool").blocks(list(pool.columns)))
    with pytest.raises(UsageError, match=r"expected a folder with shards\.json"):
        ShardedPool(tmp_path / "pool").verify()


def test_the_list_of_shards(folder, new, tmp_path):
    write(folder, tmp_path / "pool", new)
    listed = find_shard_list(tmp_path / "pool")
    assert [file.rows for file in listed.shards] == [30, 30, 30, 10]
    assert listed.columns["logits/sound"] == "3 x float32"
    assert listed.origin["samples"][0]["samples"] == 100
    assert find_shard_list(tmp_path) is None


DYING = """
import os, signal, sys
from pathlib import Path
from rlmba.errors import WorkerError
from rlmba.project import network_outputs, output_shards
from rlmba.project.outputs import write_outputs

network_outputs.CHUNK = 20
folder, out, new, times = *map(Path, sys.argv[1:4]), int(sys.argv[4])
columns = output_shards._columns

def dying(found):
    # The processes that have the second shard in hand die after its first block.
    marks = out.parent / "marks"
    marks.mkdir(exist_ok=True)
    if "new 50, \\u00e9 8" in found.ids and len(list(marks.iterdir())) < times:
        (marks / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return columns(found)

output_shards._columns = dying

if __name__ == "__main__":
    try:
        summary = write_outputs(
            folder, out, data=[new], rows_per_shard=30, batch_size=10, processes=2
        )
    except WorkerError as error:
        sys.exit(str(error))
    print(summary.lost, summary.rows)
"""


def test_processes_that_die_are_replaced(folder, new, tmp_path):
    write(folder, tmp_path / "alone", new)
    found = script(DYING, tmp_path / "dying.py", folder, tmp_path / "pool", new, 2)
    assert found.stdout.split() == ["2", "100"], found.stderr
    assert shards(tmp_path / "pool") == shards(tmp_path / "alone")
    assert not list(tmp_path.glob("pool/.*"))


def test_a_shard_that_ends_every_process_ends_the_command(folder, new, tmp_path):
    found = script(DYING, tmp_path / "dying.py", folder, tmp_path / "pool", new, 9)
    assert found.returncode == 1
    assert "3 processes that computed" in found.stderr
    assert "part-00001.parquet have died, the last one by SIGKILL" in found.stderr
    assert not list(tmp_path.glob("pool/.*"))
    assert len(list(tmp_path.glob("marks/*"))) == 3
    write(folder, tmp_path / "pool", new)
    assert ShardedPool(tmp_path / "pool").rows == 100


def test_command(folder, new, tmp_path):
    runner, pool = CliRunner(), tmp_path / "pool"
    arguments = ["outputs", str(folder), "--data", str(new), "--out", str(pool), "--device", "cpu"]
    done = runner.invoke(application(), [*arguments, "--rows-per-shard", "40"])
    assert done.exit_code == 0, done.output
    assert "100 samples in 3 shards" in done.output
    batch = tmp_path / "batch.csv"
    select = ["select", "--pool", str(pool), "-n", "5", "--strategy", "margin", "--out", str(batch)]
    chosen = runner.invoke(application(), select)
    assert chosen.exit_code == 0, chosen.output
    with batch.open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 5
