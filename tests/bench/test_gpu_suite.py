"""The GPU benches at tiny sizes: on a GPU, or interpreted and emulated under a wall clock."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.gpu import __main__ as command
from bench.gpu import case as cases
from bench.gpu import machine, table
from rlmba import kernels
from tests.helpers import accelerated

ROOT = Path(__file__).parents[2]
CEILINGS = {"copy_bytes_per_second": 4e12, "matmul_operations_per_second": 8e14}
ids = pytest.mark.parametrize("case", command.CASES, ids=lambda c: c.name)


def run(case, backend, **options):
    return cases.run(case, accelerated.device(), CEILINGS, tiny=True, backends=[backend], **options)


def has(op, backend):
    """Whether an operation has a source of its own for a GPU backend."""
    folder = ROOT / "kernels" / op
    return any(folder.glob("triton_impl.py" if backend == "triton" else "*.cu"))


def on_gpu(op):
    return (ROOT / "kernels" / op / "on_device.py").exists()


@pytest.mark.slow
@ids
def test_answers_of_the_compiled_code_and_of_peers_pass(case):
    if torch.cuda.is_available():
        pytest.skip("arrays lie on the GPU, which the backend 'cpu' does not serve")
    rows = run(case, "cpu")
    assert [r.problem for r in rows] == [None] * len(rows)
    assert len(rows) >= 2
    assert sum(r.ours for r in rows) == 1
    for r in rows:
        assert r.p20 <= r.p50 <= r.p80
        assert r.fraction_of_copy == pytest.approx(r.bytes / r.p50 / 4e12)
        assert r.fraction_of_matmul == pytest.approx(r.operations / r.p50 / 8e14)


@pytest.mark.thorough
@ids
@pytest.mark.parametrize("backend", accelerated.BACKENDS)
def test_answers_of_gpu_backends_pass(case, backend):
    (row,) = run(case, backend, peers=False)
    if row.status == "absent":
        if len(case.ops) == 1:
            assert not has(case.ops[0], backend)
        else:
            assert not all(on_gpu(op) for op in case.ops)
        pytest.skip(row.problem)
    assert row.problem is None, row.trace
    assert row.status == "timed"
    assert row.p50 > 0


def corrupted(answer):
    """An answer of the same form that is wrong in its first array."""
    first = answer if isinstance(answer, torch.Tensor) else answer[0]
    wrong = first + 1 if first.is_floating_point() else (first + 1) % (first.max() + 1)
    if isinstance(answer, torch.Tensor):
        return wrong
    rest = tuple(answer)[1:]
    return type(answer)(wrong, *rest) if hasattr(answer, "_fields") else (wrong, *rest)


@ids
def test_a_wrong_answer_is_not_timed(case):
    if torch.cuda.is_available():
        pytest.skip("arrays lie on the GPU, which the backend 'cpu' does not serve")
    torch.manual_seed(0)
    work = case.make(case.tiny, case.torch_dtype, torch.device("cpu"))
    answer = work.ours("cpu")
    work.check(answer, True)
    with pytest.raises(AssertionError):
        work.check(corrupted(answer), True)


@pytest.mark.slow
def test_a_form_that_fails_is_reported_and_the_others_go_on(monkeypatch):
    def broken(x, **options):
        if options["backend"] == "cpu":
            raise ZeroDivisionError("by zero")
        return torch.zeros_like(x)

    monkeypatch.setattr(kernels, "minmax", broken)
    (case,) = (c for c in command.CASES if c.name == "minmax")
    rows = cases.run(case, torch.device("cpu"), CEILINGS, tiny=True, backends=["cpu", "reference"])
    assert [r.status for r in rows] == ["failed", "failed", "timed"]
    assert rows[0].problem == "ZeroDivisionError: by zero"
    assert "broken" in rows[0].trace
    assert rows[1].problem.startswith("AssertionError: minmax: off by")
    assert [r.p50 is None for r in rows] == [True, True, False]
    said = table.failures([r.to_dict() for r in rows])
    assert said[0] == "minmax, rlmba cpu: ZeroDivisionError: by zero"
    assert len(said) == 2


def test_a_case_that_nothing_serves_is_a_failure():
    (case,) = (c for c in command.CASES if c.name == "minmax")
    (row,) = run(case, "nonsense", peers=False)
    assert row.status == "absent"
    assert table.failures([row.to_dict()]) == ["minmax: no backend serves it"]


@pytest.mark.parametrize(
    ("aim", "met", "not_met"),
    [
        (cases.Aim("milliseconds", 10), 0.01, 0.0101),
        (cases.Aim("copy", 0.5), 0.002, 0.0021),
        (cases.Aim("matmul", 0.5), 0.004, 0.0041),
        (cases.Aim("times", 3, "peer"), 0.09, 0.11),
    ],
)
def test_aims(aim, met, not_met):
    def row(form, seconds):
        found = cases.Row(
            case="c", form=form, ours=form != "peer", shape={}, dtype="float32",
            bytes=4_000_000_000, operations=1_600_000_000_000, aim=str(aim), p50=seconds,
        )  # fmt: skip
        found.fraction_of_copy = found.bytes / seconds / 4e12
        found.fraction_of_matmul = found.operations / seconds / 8e14
        return found

    peers = [row("peer", 0.3)]
    assert aim.met(row("rlmba cuda", met), peers) is True
    assert aim.met(row("rlmba cuda", not_met), peers) is False
    missing = row("rlmba cuda", met)
    missing.p50 = None
    assert aim.met(missing, peers) is None


def test_the_larger_of_two_times_is_the_floor():
    assert cases.Floor(4_000, 8_000).seconds(1e3, 1e3) == 8
    assert cases.Floor(4_000, 8_000).seconds(1e2, 1e3) == 40


@pytest.mark.slow
def test_command_writes_json_and_table(tmp_path):
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "bench.gpu", "run", tmp_path, "--tiny", "--groups", "score"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    found = json.loads((tmp_path / command.RESULT).read_text())
    assert done.returncode == int(bool(table.failures(found["rows"]))), done.stderr
    assert {r["case"] for r in found["rows"]} == {"minmax", "minmax and score", "fused_score"}
    assert found["machine"]["torch"] == torch.__version__
    assert found["ceilings"]["copy_bytes_per_second"] > 0
    served = {r["form"]: r for r in found["rows"] if r["case"] == "minmax"}
    for form in ("rlmba triton", "torch"):
        assert served[form]["p50"] > 0
        assert served[form]["shape"] == {"rows": 1_025}
    if not torch.cuda.is_available():
        assert "no measurement of a GPU" in found["machine"]["clock"]

    steps = tmp_path / "steps.tsv"
    steps.write_text("ok\t12\tbuild\t\nFAILED\t3\ttests\t1 failed\n")
    assert command.main(["table", str(tmp_path), "--steps", str(steps)]) == 0
    again = json.loads((tmp_path / command.RESULT).read_text())
    assert [s["status"] for s in again["steps"]] == ["ok", "FAILED"]
    assert again["rows"] == found["rows"]
    printed = list(table.lines(again))
    assert any(line.startswith("minmax") and "rlmba triton" in line for line in printed)
    assert any(line.startswith("FAILED") and line.endswith("1 failed") for line in printed)
    assert max(map(len, printed)) <= 140


def test_a_process_that_dies_leaves_failed_rows(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    rows = command._in_own_process("gradients", CEILINGS, 60, tiny=True)
    assert [(r["case"], r["status"]) for r in rows] == [("badge", "failed"), ("bmmal", "failed")]
    assert rows[0]["problem"] == "its process ended with 1: no word"
    late = command._in_own_process("gradients", CEILINGS, 0, tiny=True)
    assert late[0]["problem"] == "out of time before it began"
    assert len(table.failures(late)) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_full_sizes_need_a_gpu(tmp_path, capsys):
    assert command.main(["run", str(tmp_path / "out")]) == 2
    assert "expected a GPU that torch sees, found none" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_script_reports_steps_it_has_no_time_for(tmp_path):
    done = subprocess.run(
        ["bash", ROOT / "bench" / "gpu_suite.sh", tmp_path / "out"],
        env={**os.environ, "PYTHON": sys.executable, "RLMBA_SUITE_SECONDS": "4"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stdout.split("\t") == ["FAILED", "0", "build", "no time left for it\n"]


def test_description_of_the_machine_is_json():
    described = machine.describe(machine.here())
    assert json.loads(json.dumps(described)) == described


def table_rows(heading):
    """Rows of the table in kernels/README.md that begins with ``heading``, as lists of cells."""
    lines = (ROOT / "kernels" / "README.md").read_text(encoding="utf-8").splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith(f"| {heading} |")) + 2
    rows = []
    for line in lines[begin:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_readme_has_the_floors():
    expected = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.floors(command.CASES)
    ]
    assert [row[:-1] for row in table_rows("case")] == expected


def backends_of(op):
    """Names of backends in the tuples and dicts of an operation's source."""
    found = set()
    source = (ROOT / "kernels" / op / "__init__.py").read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        items = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", ())
        found |= {i.value for i in items if isinstance(i, ast.Constant)}
    return {"cuda", "triton", "cpu", "reference"} & found


def test_readme_names_every_operation_and_its_backends():
    folders = {p.parent.name for p in (ROOT / "kernels").glob("*/reference.py")}
    told = {row[0].strip("`"): set(row[2].split(", ")) for row in table_rows("operation")}
    assert told == {op: backends_of(op) for op in folders}
