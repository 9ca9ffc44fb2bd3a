"""All options that messages name exist in the command that prints them."""

from __future__ import annotations

import ast
import re
import sys
import warnings
from pathlib import Path

import pytest

import rlmba
from rlmba.annotators.browser import start
from rlmba.cli import main
from rlmba.cli.failures import describe
from rlmba.cli.option_hints import _OPTION, _SETTINGS, option_hint, options_of
from rlmba.errors import AnnotatorError, RlmbaWarning, StorageError, UsageError
from rlmba.storage import make_folder

ROOT = Path(rlmba.__file__).parent
RUNS = ("run", "compare", "train-policy")
# The commands that print the messages of a file or folder; the longest prefix counts.
PRINTED_BY = {
    "annotators/file.py": ("collect",),
    "actors.py": ("outputs",),
    "annotators/labelstudio/protocol.py": ("label-studio serve",),
    "adapters/files.py": ("select",),
    "adapters/shards": ("select",),
    "cli/compare.py": ("compare",),
    "clusters.py": ("compare", "outputs", "select"),
    "data/arrays.py": ("select",),
    "data/pool_file.py": ("select",),
    "data/media/check.py": ("data check",),
    "data/media/folder.py": ("data check",),
    "data/media/prepare.py": ("data prepare",),
    "data/media/report.py": ("data check", "data prepare"),
    "experiments/policy_training/": ("train-policy",),
    "experiments/report.py": ("report",),
    "hub.py": ("export",),
    "experiments/scope.py": ("report",),
    "experiments/sweep/": ("compare",),
    "runfolder/store.py": RUNS[:1],
    "project/export.py": ("export",),
    "project/output_folder.py": ("outputs",),
    "project/output_shards.py": ("outputs",),
    "project/outputs.py": ("outputs",),
    "project/graph.py": ("export",),
    "project/live.py": ("label-studio serve",),
    "project/predict.py": ("predict",),
    "project/shared.py": ("export",),
    "learner/rounds.py": ("collect",),
    "project/encoders.py": ("init",),
    "project/starting.py": ("init",),
    "strategies/sharded/": ("select",),
    "tables.py": ("predict", "select"),
}
# In the text that goes with an exported network.
OF_PREDICT = {("project/export.py", "--data"), ("project/export.py", "--manifest")}
# Told by the command at hand: `describe` puts them together.
AT_HAND = ("cli/failures.py", "cli/option_hints.py")


def texts(path):
    """Strings of a file that are not docstrings, with replacement fields as X."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in n.values}
    inner |= {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(v.value if isinstance(v, ast.Constant) else "X" for v in node.values)
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner
        ):
            yield node.value


FILES = [p for p in sorted(ROOT.rglob("*.py")) if "kernels" not in p.parts]
# In backticks, or a line of its own.
QUOTED = re.compile(
    r"(?:`|^)rlmba ([a-z-]+(?: (?:check|prepare|features|serve))?)([^`\n]*)", re.MULTILINE
)


def test_commands_that_messages_quote_have_their_options():
    wrong, seen = [], 0
    for path in FILES:
        for text in texts(path):
            for name, rest in QUOTED.findall(text):
                for option in _OPTION.findall(rest):
                    seen += 1
                    if option not in options_of().get(name, ()):
                        wrong.append(f"{path}: rlmba {name} {option}")
    assert wrong == []
    assert seen > 20


def test_options_that_messages_name_are_those_of_the_commands_that_print_them():
    known = set().union(*options_of().values())
    wrong = []
    for path in FILES:
        place = path.relative_to(ROOT).as_posix()
        if place in AT_HAND:
            continue
        prefix = max((p for p in PRINTED_BY if place.startswith(p)), key=len, default="")
        if place.startswith("cli/") and not prefix:
            continue  # a command's own options and their help
        for text in texts(path):
            for option in _OPTION.findall(QUOTED.sub("", text)):
                lacks = [c for c in PRINTED_BY.get(prefix, ()) if option not in options_of()[c]]
                told = option == "--set" or option in _SETTINGS or (place, option) in OF_PREDICT
                if option in known and not told and (lacks or not prefix):
                    wrong.append(f"{place}: {option} ({', '.join(lacks) or 'say who prints it'})")
    assert wrong == []


@pytest.mark.parametrize(
    ("message", "command", "expected"),
    [
        (
            "take `--set dataset_options.id=X`",
            "next P",
            "`rlmba next` has no --set: write the setting",
        ),
        ("take `--set dataset_options.id=X`", "run", ""),
        ("take `--set dataset_options.id=X`", "init P", ""),
        ("give another with --port", "label P", ""),
        ("give another with --port", "loop P", "project.annotator_options.port into config.yaml"),
        ("give another --index", "data check food101 DIR", ""),
        ("give another --index", "run --seed 1", "give --set dataset_options.index=..."),
        ("`rlmba collect P --labels FILE`", "next P", ""),
        ("a path /x--set/y, docker: --shm-size", "next P", ""),
        ("--set", "", ""),
        ("--set", "nonsense", ""),
    ],
)
def test_a_command_without_the_option_says_where_it_is_set(message, command, expected):
    told = option_hint(message, command.split())
    assert (told == "") == (expected == "")
    assert expected in told
    if expected:
        assert describe(UsageError(message), command.split()).message.endswith(told)


def test_advice_on_memory_names_what_the_command_has():
    for command, options in options_of().items():
        advice = describe(MemoryError(), command.split()).message
        for option in _OPTION.findall(advice):
            assert option in options, (command, advice)


def test_a_port_that_is_taken_under_loop_and_a_folder_that_cannot_be_made(tmp_path):
    folder = tmp_path / "my project"
    folder.mkdir()
    with start(folder, port=0) as server, pytest.raises(AnnotatorError) as raised:
        start(folder, port=server.port)
    for command in ("label", "loop"):
        said = describe(raised.value, [command, str(folder)]).message
        assert f"`rlmba label '{folder}' --port 0`" in said
        assert f"project.annotator_options.port in {folder}/config.yaml" in said
        assert "has no" not in said
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"could not create the folder .*name another one"):
        make_folder(tmp_path / "file" / "folder")


def test_a_warning_says_so_too(monkeypatch, capsys):
    def advise(arguments):
        warnings.warn("take `--set dataset_options.id=X`", RlmbaWarning, stacklevel=1)
        return 0

    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(warnings, "showwarning", _written)
    monkeypatch.setattr("rlmba.cli._invoke", advise)
    assert main(["next", "P"]) == 0
    assert "X`; `rlmba next` has no --set: write the setting into" in capsys.readouterr().err


def _written(message, category, filename, lineno, file=None, line=None):
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))
