from __future__ import annotations

import json
import subprocess
import sys

from rlmba import environment, kernels


def doctor(prelude=""):
    code = f"import sys\n{prelude}\nfrom rlmba.cli import main\nsys.exit(main(['doctor']))"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )


def test_a_whole_installation_passes():
    done = doctor()
    assert (done.returncode, done.stderr) == (0, "")
    assert "Everything needed works." in done.stdout
    for name in ("numpy", "torch", "torchvision", "torchaudio", "_core", "_cuda"):
        assert f"  {name} " in done.stdout
    if kernels.instruction_set() is not None:
        assert f"instruction set {kernels.instruction_set()} in use" in done.stdout


def test_backends_say_what_they_run_on_or_what_they_lack():
    for interpret in (
        "os.environ.pop('TRITON_INTERPRET', 0)",
        "os.environ['TRITON_INTERPRET'] = '1'",
    ):
        section = (
            doctor(f"import os; {interpret}")
            .stdout.split("Backends of the kernels\n")[1]
            .split("\n\n")[0]
        )
        lines = {line.split()[1]: line.split(maxsplit=2) for line in section.splitlines()}
        assert set(lines) == {"cpu", "reference", "cuda", "triton"}
        assert lines["reference"] == ["ok", "reference", "NumPy"]
        assert lines["cpu"][0] == ("--" if kernels.instruction_set() is None else "ok")
        if environment.inspect().devices:
            continue
        mark, _, detail = lines["cuda"]
        assert mark == "--"
        assert detail.endswith("a GPU")
        mark, _, detail = lines["triton"]
        if environment.versions().get("triton") and "= '1'" in interpret:
            assert (mark, detail[:11]) == ("ok", "interpreted")
        else:
            assert (mark, detail[:5]) == ("--", "needs")


def test_backends_without_the_compiled_code():
    section = doctor("sys.modules['rlmba._core'] = None").stdout.split("Backends")[1]
    assert "  --  cpu            needs the extension _core\n" in section
    assert "  ok  reference" in section


def test_a_package_that_does_not_import_fails_and_says_what_to_do():
    done = doctor("sys.modules['torchaudio'] = None")
    assert done.returncode == 1
    assert "!!  torchaudio" in done.stdout
    assert 'pip install --upgrade rlmba "torchaudio"' in done.stdout
    assert "1 needed part does not work." in done.stdout


def test_without_the_extension_it_works_and_says_how_to_get_it():
    done = doctor("sys.modules['rlmba._core'] = None")
    assert done.returncode == 0
    assert "--  _core" in done.stdout
    assert "reinstall where a C++20 compiler is present" in done.stdout


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
