from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rlmba.cli import failures
from rlmba.errors import DataError, UsageError


def rlmba(*arguments, **options):
    return run([sys.executable, "-m", "rlmba", *map(str, arguments)], **options)


def python(code, **options):
    return run([sys.executable, "-c", textwrap.dedent(code)], **options)


def run(command, **options):
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **options}
    return subprocess.run(
        command, stderr=subprocess.PIPE, text=True, timeout=120, check=False, **options
    )


# A command that fails as asked, registered as any other.
COMMAND = """
    import errno, os, signal, sys, time
    from rlmba import errors
    from rlmba.cli import app, main
    app.COMMANDS = ()
    @app.app.command()
    def run(output: str = "") -> None:
        {body}
    @app.app.command()
    def other() -> None:
        pass
    sys.exit(main([{arguments}]))
"""


def fails(body, *arguments):
    quoted = ", ".join(repr(a) for a in ("run", *arguments))
    return python(textwrap.dedent(COMMAND).format(body=body, arguments=quoted))


def test_the_console_script_prints_the_version():
    script = shutil.which("rlmba", path=str(Path(sys.executable).parent))
    assert script is not None
    done = run([script, "--version"])
    assert (done.returncode, done.stdout[:6], done.stderr) == (0, "rlmba ", "")


def test_help_lists_commands_quickly_and_without_torch():
    code = """
        import sys, time
        from rlmba.cli import main
        assert main(["--help"]) == 0
        print(time.process_time(), "torch" in sys.modules, "numpy" in sys.modules)
    """
    lines = [python(code).stdout.splitlines() for _ in range(3)]
    text = "\n".join(lines[0])
    for command in ("report", "select", "datasets", "strategies", "encoders", "doctor"):
        assert f"  {command} " in text
    answers = [line[-1].split() for line in lines]
    assert {tuple(a[1:]) for a in answers} == {("False", "False")}
    assert min(float(a[0]) for a in answers) < 0.5


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["report"], ["report", "--nonsense", "x"], ["--nonsense"]]
)
def test_usage_errors_of_the_parser_exit_2(arguments):
    done = rlmba(*arguments)
    assert done.returncode == 2
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr


def test_data_errors_exit_1_with_one_message(tmp_path):
    done = rlmba("report", tmp_path / "nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {tmp_path / 'nowhere'}: expected a run folder")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--debug", "report", "{}"], ["report", "{}", "--debug"]])
@pytest.mark.slow
def test_debug_shows_the_traceback_wherever_it_stands(tmp_path, arguments):
    done = rlmba(*(a.format(tmp_path / "nowhere") for a in arguments))
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "RunFolderError" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.slow
def test_debug_after_two_dashes_is_an_argument():
    done = rlmba("report", "--", "--debug")
    assert (done.returncode, done.stderr.startswith("error: --debug: expected a run")) == (1, True)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("raise errors.UsageError('one\\ntwo')", 2, "error: one\n       two\n"),
        ("raise errors.BackendError('no')", 2, "error: no\n"),
        ("raise errors.DataError('bad')", 1, "error: bad\n"),
        ("raise errors.StorageError('disk')", 1, "error: disk\n"),
        ("open('/nowhere/x')", 1, "error: No such file or directory: /nowhere/x\n"),
        (
            "raise OSError(errno.ENOSPC, 'full', 'a/b')",
            1,
            "error: no space left on the disk: a/b; ",
        ),
        ("raise MemoryError", 1, "error: out of memory; lower training.predict_batch_size"),
        (
            "raise KeyError('k')",
            1,
            "error: unexpected KeyError: 'k'\n       This is a bug in rlmba",
        ),
    ],
)
def test_every_failure_is_one_message(body, code, message):
    done = fails(body)
    assert done.returncode == code
    assert done.stderr.startswith(message)
    assert "Traceback" not in done.stderr


def test_interrupt_exits_130_and_says_how_to_resume():
    # Background jobs of a shell start with SIGINT ignored, and so would this child.
    body = "signal.signal(signal.SIGINT, signal.default_int_handler); "
    body += "os.kill(os.getpid(), signal.SIGINT); time.sleep(30)"
    done = fails(body, "--output", "my run")
    assert done.returncode == 130
    expected = "interrupted; continue with: rlmba run --output 'my run' --resume"
    assert done.stderr.strip() == expected
    assert done.stdout == ""


def test_resume_hints():
    def message(*arguments):
        return failures.describe(KeyboardInterrupt(), arguments).message

    assert message("run", "--resume", "--output=a") == (
        "interrupted; continue with: rlmba run --output=a --resume"
    )
    assert "--output DIR --resume (DIR: the run folder named above)" in message("run")
    assert message("report", "x") == "interrupted"
    full = failures.describe(OSError(errno.ENOSPC, "full"), ["run", "--output", "a"]).message
    assert full.endswith("Free some space; continue with: rlmba run --output a --resume")


def test_out_of_memory_as_torch_says_it():
    cpu = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
    assert failures.describe(cpu, []).message.startswith("error: out of memory")
    assert "--dry-run" in failures.describe(MemoryError(), ["select", "-n", "3"]).message
    assert failures.describe(UsageError("x"), []).code == 2
    assert failures.describe(DataError("x"), []).code == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_behind_standard_output():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = rlmba("strategies", stdout=full)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no space left on the disk")
    assert len(done.stderr.splitlines()) == 1


def test_a_closed_pipe_is_quiet():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = rlmba("strategies", stdout=closed)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.slow
def test_run_takes_a_preset_by_name(tmp_path):
    done = rlmba("run", "--preset", "food102")
    assert done.returncode == 2
    assert "preset: expected one of digits, features, food101, food101-bmmal, " in done.stderr
    done = rlmba("run", "--preset", "vggsound-bmmal", "--data-root", tmp_path)
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr
    assert "vggsound" in done.stderr


@pytest.mark.parametrize(
    ("command", "expected"),
    [("strategies", "rlmba-x: "), ("datasets", "digits"), ("encoders", "mlp")],
)
@pytest.mark.slow
def test_lists(command, expected):
    done = rlmba(command)
    assert (done.returncode, done.stderr) == (0, "")
    assert any(line.startswith(expected) for line in done.stdout.splitlines())
