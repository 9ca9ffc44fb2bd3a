from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

from rlmba import environment, kernels
from rlmba.cli import main


def doctor(prelude=""):
    """In a process of its own, which ends with a line of some modules that were imported."""
    code = f"""
import os, sys
os.environ.pop("TRITON_INTERPRET", None)
{prelude}
from rlmba.cli import main
code = main(["doctor"])
print(sorted({{"sklearn", "transformers", "torchmetrics"}} & set(sys.modules)))
sys.exit(code)
"""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )


def backends(output):
    """The lines of the backends, split into mark, name and detail, by name."""
    section = output.split("Backends of the kernels\n")[1].split("\n\n")[0]
    return {line.split()[1]: line.split(maxsplit=2) for line in section.splitlines()}


@pytest.mark.slow
def test_a_whole_installation_passes_without_importing_everything():
    done = doctor()
    assert (done.returncode, done.stderr) == (0, "")
    assert "Everything needed works.\n[]\n" in done.stdout
    for name in ("numpy", "torch", "torchvision", "torchaudio", "_core", "_cuda"):
        assert f"  {name} " in done.stdout
    if kernels.instruction_set() is not None:
        assert f"instruction set {kernels.instruction_set()} in use" in done.stdout
    if importlib.util.find_spec("rlmba._cuda") is None:
        assert "  --  _cuda          not built\n" in done.stdout
    lines = backends(done.stdout)
    assert set(lines) == {"cpu", "reference", "cuda", "triton"}
    assert lines["reference"] == ["ok", "reference", "NumPy"]
    assert lines["cpu"][0] == ("--" if kernels.instruction_set() is None else "ok")
    if not environment.inspect().devices:
        for name in ("cuda", "triton"):
            mark, _, detail = lines[name]
            assert (mark, detail[:5]) == ("--", "needs")
            assert detail.endswith("a GPU")


def test_an_interpreted_backend_is_named_as_such(monkeypatch, capsys):
    if environment.inspect().devices or environment.versions().get("triton") is None:
        pytest.skip("Triton is interpreted where there is no GPU")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    main(["doctor"])
    mark, _, detail = backends(capsys.readouterr().out)["triton"]
    assert (mark, detail[:11]) == ("ok", "interpreted")


@pytest.mark.slow
def test_without_the_extension_it_works_and_says_how_to_get_it():
    done = doctor("sys.modules['rlmba._core'] = None")
    assert done.returncode == 0
    assert "--  _core" in done.stdout
    assert "reinstall where GCC (g++) is present" in done.stdout
    section = done.stdout.split("Backends")[1]
    assert "  --  cpu            needs the extension _core\n" in section
    assert "  ok  reference" in section


def test_a_package_that_cannot_be_imported_fails_and_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    assert main(["doctor"]) == 1
    output = capsys.readouterr().out
    assert "!!  torchaudio" in output
    assert 'pip install --upgrade rlmba "torchaudio"' in output
    assert "1 needed part does not work." in output


def test_a_package_whose_module_is_gone_fails(monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.delitem(sys.modules, "accelerate", raising=False)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "accelerate" else found(name)
    )
    assert main(["doctor"]) == 1
    assert "has no module accelerate; its installation is incomplete" in capsys.readouterr().out


def test_environment_is_json():
    found = environment.inspect()
    assert json.loads(json.dumps(found.to_dict()))["cores"] >= 1
    assert [p.needed for p in found.problems()] == sorted(
        (p.needed for p in found.problems()), reverse=True
    )


def test_versions_import_nothing():
    code = (
        "import sys; from rlmba import environment; v = environment.versions();"
        "print(sorted({'torch', 'numpy'} & set(sys.modules)), 'torch' in v, 'python' in v)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "True", "True"]
