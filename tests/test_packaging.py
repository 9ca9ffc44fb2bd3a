"""The build: what CMake decides, what a wheel and an installation hold."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def cmake() -> str:
    """The cmake of this environment, or one on PATH."""
    beside = shutil.which("cmake", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("cmake")
    if found is None and importlib.util.find_spec("cmake") is not None:
        import cmake as wheel

        found = str(Path(wheel.CMAKE_BIN_DIR) / "cmake")
    if found is None:
        pytest.skip("no cmake; the extra `test` brings one")
    return found


def configure(
    folder: Path, cuda: str, environment: dict[str, str] | None = None, source: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Configure ``source`` in ``folder``, by default where no CUDA compiler can be found."""
    if importlib.util.find_spec("pybind11") is None:
        pytest.skip("no pybind11; the extra `test` brings it")
    import pybind11

    hidden = {k: v for k, v in os.environ.items() if not k.startswith(("CUDA", "CMAKE"))}
    return subprocess.run(
        [
            cmake(), "-S", str(source), "-B", str(folder), f"-DRLMBA_CUDA={cuda}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", f"-DPython_EXECUTABLE={sys.executable}",
        ],
        env={**hidden, **(environment or {"CUDACXX": str(folder / "no-such-nvcc")})},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def chosen(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in (done.stdout + done.stderr).splitlines() if "CUDA extension" in line]


@pytest.mark.parametrize("value", ["AUTO", "auto", "OFF"])
def test_without_nvcc_one_line_says_what_was_chosen(tmp_path, value):
    done = configure(tmp_path, value)
    assert done.returncode == 0, done.stderr
    (line,) = chosen(done)
    assert line.startswith(f"-- rlmba: CUDA extension OFF (RLMBA_CUDA={value.upper()}, ")
    assert line.endswith("no CUDA compiler used; CPU kernels are built)")


def test_on_without_nvcc_is_an_error(tmp_path):
    done = configure(tmp_path, "ON")
    assert done.returncode != 0
    assert "RLMBA_CUDA=ON but no working nvcc was found" in done.stderr
    assert chosen(done) == []


def test_another_value_is_an_error(tmp_path):
    done = configure(tmp_path, "MAYBE")
    assert done.returncode != 0
    assert "RLMBA_CUDA=MAYBE: expected AUTO, ON or OFF" in done.stderr


def test_another_compiler_is_an_error(tmp_path):
    other = tmp_path / "clang++"  # CMake does not recognize this compiler as GCC
    other.write_text('#!/bin/sh\nexec g++ -D__clang__ "$@"\n')
    other.chmod(0o755)
    done = configure(tmp_path / "build", "OFF", {"CXX": str(other)})
    assert done.returncode != 0
    message = " ".join(done.stderr.split())
    assert f"expected g++, found {other}." in message
    assert "set CXX=g++" in message


@pytest.mark.parametrize(
    ("capabilities", "variables", "expected"),
    [
        ([], {}, None),  # with nvcc but without a GPU, no CUDA code is compiled
        (["7.0"], {}, None),
        (["9.0", "9.0", "8.6"], {}, "90;86"),
        (["99.0"], {}, "90"),  # newer than the compiler
        ([], {"CUDAARCHS": "80"}, "80"),
    ],
)
def test_auto_builds_for_the_gpus_of_this_machine(tmp_path, capabilities, variables, expected):
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc on PATH")
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("\n".join(["#!/bin/sh", *(f"echo {c}" for c in capabilities)]) + "\n")
    smi.chmod(0o755)
    path = f"{smi.parent}{os.pathsep}{os.environ['PATH']}"
    done = configure(tmp_path / "build", "AUTO", {"PATH": path, **variables})
    assert done.returncode == 0, done.stderr
    (line,) = chosen(done)
    if expected is None:
        assert "OFF (RLMBA_CUDA=AUTO, no GPU of compute capability 8.0 or later;" in line
    else:
        assert line.endswith(f", architectures {expected})")


def test_cuda_sources_compile_for_both_architectures_and_warnings_are_errors(tmp_path):
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc on PATH")
    pybind11 = pytest.importorskip("pybind11")
    command = [
        cmake(), "-S", str(ROOT), "-B", str(tmp_path), "-DRLMBA_CUDA=ON", "-DRLMBA_WERROR=ON",
        "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        f"-DPython_EXECUTABLE={sys.executable}",
    ]  # fmt: skip
    clean = {k: v for k, v in os.environ.items() if k not in ("CUDAARCHS", "CUDAFLAGS")}
    done = subprocess.run(
        command, env=clean, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    commands = json.loads((tmp_path / "compile_commands.json").read_text())
    given = {Path(c["file"]): c["command"] for c in commands if c["file"].endswith(".cu")}
    assert set(given) == {*ROOT.glob("kernels/*/*.cu"), *ROOT.glob("csrc/cuda/*.cu")}
    for words in given.values():
        for wanted in ("sm_80", "sm_90", "-Werror=all-warnings", "-Xcompiler=-Werror"):
            assert wanted in words


def test_a_built_cuda_extension_holds_machine_code():
    found = importlib.util.find_spec("rlmba._cuda")
    if found is None or found.origin is None:
        pytest.skip("the CUDA extension was not built")
    triton = importlib.util.find_spec("triton")
    beside = Path(triton.origin).parent if triton and triton.origin else ROOT
    program = shutil.which("cuobjdump") or shutil.which(
        "cuobjdump", path=str(beside / "backends" / "nvidia" / "bin")
    )
    if program is None:
        pytest.skip("no cuobjdump, neither on PATH nor with triton")
    done = subprocess.run(
        [program, "--list-elf", found.origin],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert "sm_" in done.stdout


def test_a_source_archive_builds_alone(tmp_path):
    """Unpacked elsewhere, the archive builds the same wheel as the repository, and CMake configures it."""
    if importlib.util.find_spec("scikit_build_core") is None:
        pytest.skip("no scikit-build-core; the extra `test` brings it")

    def built(what: str, source: Path, folder: Path) -> Path:
        code = (
            f"import sys; from scikit_build_core.build import build_{what} as build;"
            "build(sys.argv[1], {'wheel.cmake': 'false'})"
        )
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-c", code, str(folder)], cwd=source, check=True, timeout=300
        )
        (path,) = folder.iterdir()
        return path

    archive = built("sdist", ROOT, tmp_path / "sdist")
    shutil.unpack_archive(archive, tmp_path / "unpacked")
    (source,) = (tmp_path / "unpacked").iterdir()
    assert not (source / ".git").exists()
    wheels = [built("wheel", ROOT, tmp_path / "one"), built("wheel", source, tmp_path / "two")]
    contents = [{(i.filename, i.CRC) for i in zipfile.ZipFile(w).infolist()} for w in wheels]
    differing = {name for name, _ in contents[0] ^ contents[1]}
    assert {name for name in differing if not name.endswith("/RECORD")} == set()
    done = configure(tmp_path / "build", "OFF", source=source)
    assert done.returncode == 0, done.stderr
    assert list(source.glob("csrc/cpu/*.cpp"))


def test_the_conda_recipe_has_what_the_package_requires():
    tomllib = pytest.importorskip("tomllib")
    import jinja2
    import yaml

    def load_file_data(name: str, from_recipe_dir: bool = False):
        assert from_recipe_dir
        return tomllib.loads((ROOT / "recipe" / name).read_text(encoding="utf-8"))

    text = (ROOT / "recipe" / "meta.yaml").read_text(encoding="utf-8")
    given = {"load_file_data": load_file_data, "PYTHON": "python"}
    words = {"compiler": lambda language: f"{language}_compiler", "stdlib": lambda c: f"{c}_stdlib"}
    recipe = yaml.safe_load(
        jinja2.Template(text, undefined=jinja2.StrictUndefined).render(given | words)
    )
    project = load_file_data("../pyproject.toml", from_recipe_dir=True)["project"]
    assert recipe["package"] == {"name": "rlmba", "version": project["version"]}
    run = recipe["requirements"]["run"]
    assert len(run) == 1 + len(project["dependencies"])
    assert "pytorch>=2.6,<2.15" in run
    assert {"torchaudio>=2.6,<2.12", "numpy>=1.24"} <= set(run)
    assert not [d for d in run if d.startswith("torch>")]
    names = (recipe["build"]["entry_points"], [f"{k} = {v}" for k, v in project["scripts"].items()])
    assert names[0] == names[1]


def test_release_notes_are_a_section_of_the_changelog():
    def notes(version: str) -> subprocess.CompletedProcess[str]:
        script = [sys.executable, str(ROOT / ".ci" / "release_notes.py"), version]
        return subprocess.run(script, capture_output=True, text=True, timeout=60, check=False)

    done = notes("Unreleased")
    assert done.returncode == 0
    assert done.stdout.startswith("### ")
    assert "\n## " not in done.stdout
    missing = notes("99.0.0")
    assert missing.returncode != 0
    assert "expected a section '## [99.0.0] - YYYY-MM-DD'" in missing.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> list[str]:
    """Names in a wheel made without compiling."""
    if importlib.util.find_spec("scikit_build_core") is None:
        pytest.skip("no scikit-build-core; the extra `test` brings it")
    folder = tmp_path_factory.mktemp("wheel")
    code = (
        "import sys; from scikit_build_core.build import build_wheel;"
        "build_wheel(sys.argv[1], {'wheel.cmake': 'false'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_a_wheel_holds_the_package_its_kernels_and_its_data(wheel):
    names = set(wheel)
    assert {"rlmba/__init__.py", "rlmba/py.typed", "rlmba/cli/__init__.py"} <= names
    for source in (ROOT / "kernels").rglob("*.py"):
        assert f"rlmba/kernels/{source.relative_to(ROOT / 'kernels').as_posix()}" in names
    for kind in ("*.yaml", "*.yml", "*.txt", "*.js", "*.css", "*.html", "*.jinja"):
        data = list((ROOT / "python" / "rlmba").rglob(kind))
        assert data
        for source in data:
            assert f"rlmba/{source.relative_to(ROOT / 'python' / 'rlmba').as_posix()}" in names
    assert any(name.endswith("entry_points.txt") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_a_wheel_holds_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"rlmba"}
    assert not [name for name in wheel if "__pycache__" in name or name.endswith((".npz", ".log"))]


def test_the_installation_has_its_data_files():
    package = resources.files("rlmba")
    assert (package / "py.typed").is_file()
    assert (package / "config" / "presets").is_dir()


def test_readme_has_the_two_commands():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert "pip install . && rlmba run" in lines
    assert 'pip install ".[test]" && pytest' in lines
