"""Strategies, encoders, data sets and annotators from elsewhere are found, checked and refused alike."""

from __future__ import annotations

import importlib
import json
import shutil
import sys

import pytest

from rlmba import annotators, strategies, trust
from rlmba.cli import main
from rlmba.data import Modality, load_dataset
from rlmba.data import names as dataset_names
from rlmba.errors import PluginError, TrustError, UsageError
from rlmba.models import build_encoder, encoder_names

CODE = '''
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rlmba.data import InMemoryDataset, MultimodalDataset
from rlmba.models import Encoder
from rlmba.strategies import Choice, Strategy

(Path(__file__).parent / "imported").touch()


class Points(InMemoryDataset):
    """Points around corners.

    More on them.
    """

    def __init__(self, data: Path | None = None, *, corners: int = 3, spoil: str = ""):
        rng = np.random.default_rng(0)
        y = np.arange(90) % corners
        near = np.eye(corners)[y] * 2 + rng.normal(size=(90, corners))
        super().__init__(
            "points" if spoil != "name" else "../points",
            {"a": near, "b": near[:, :2] + 1},
            kinds={"a": "features", "b": "features"},
            labels=y,
            classes=[f"corner {c}" for c in range(corners)],
            ids=[f"p{i}" for i in range(90)],
            split=np.arange(90) >= 60,
        )
        if spoil == "labels":
            self.labels = self.labels[1:]
        if spoil == "shape":
            self.modalities = self.modalities[::-1]
        if spoil == "raises":
            raise KeyError("corner")


class Bare(MultimodalDataset):
    def __init__(self, data, data_root):
        pass


class Sum(Encoder):
    """Sums, scaled."""

    kinds = ("features", "sequence")

    def __init__(self, modality, *, scale: float = 1.0, spoil: str = ""):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((modality.shape[0],), scale))
        self.out_features = "one" if spoil == "width" else 1
        self.spoil = spoil
        if spoil == "raises":
            raise KeyError("scale")

    def forward(self, x):
        if self.spoil == "later" and self.training:
            raise IndexError("no such band")
        y = (x * self.weight).sum(dim=1)
        return y if self.spoil == "shape" else y[:, None]


@dataclass(kw_only=True)
class First(Strategy):
    name = "first"
    summary = "Takes the first."
    reverse: bool = False

    def choose(self, pool, context, n, stages):
        positions = np.arange(n) if not self.reverse else np.arange(n)[::-1].copy()
        return Choice(positions, np.ones(n))


class Constant:
    def __init__(self, folder, *, answer="cat"):
        self.answer = answer

    def request(self, batch):
        return f"round_{batch.round:03d}"

    def collect(self, ticket):
        return {}


class Unrelated:
    pass
'''
CLASSES = {"strategies": "First", "encoders": "Sum", "datasets": "Points", "annotators": "Constant"}
BROKEN = {
    "not-there": ("elsewhere:Missing", "has no attribute 'Missing'"),
    "no-module": ("elsewhere_gone:Missing", "found no module 'elsewhere_gone'"),
    "raising": (
        "elsewhere_raising:First",
        "importing the module elsewhere_raising raised ZeroDivisionError",
    ),
    "unrelated": ("elsewhere:Unrelated", "expected a class "),
}
NOUNS = {
    "strategies": "strategy",
    "encoders": "encoder",
    "datasets": "data set",
    "annotators": "annotator",
}
FEATURES = Modality("a", "features", (3,))
MAKE = {
    "strategies": strategies.create,
    "encoders": lambda name, **options: build_encoder(name, FEATURES, options),
    "datasets": lambda name, **given: load_dataset(name, options=given),  # noqa: PLW0108
    "annotators": lambda name, **options: annotators.create(name, ".", options),
}
NAMES = {
    "strategies": strategies.names,
    "encoders": encoder_names,
    "datasets": dataset_names,
    "annotators": annotators.names,
}
KINDS = sorted(MAKE)
QUICK = [
    *("--set", "rounds=1", "--set", "epochs=1", "--set", "training.min_steps=1"),
    *("--set", "model.width=8", "--set", "device=cpu", "--set", "batch_size=6"),
]


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    """An installed distribution with a class of each kind; returns the file that importing it makes."""
    place = tmp_path / "site"
    info = place / "elsewhere_package-1.0.dist-info"
    info.mkdir(parents=True)
    (place / "elsewhere.py").write_text(CODE)
    (place / "elsewhere_raising.py").write_text("1 / 0")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere-package\nVersion: 1.0\n")
    groups = [
        f"[rlmba.{kind}]\nmine = elsewhere:{CLASSES[kind]}\n"
        + "".join(f"{name} = {target}\n" for name, (target, _) in BROKEN.items())
        for kind in KINDS
    ]
    (info / "entry_points.txt").write_text("\n".join(groups))
    (info / "top_level.txt").write_text("elsewhere\n")
    monkeypatch.syspath_prepend(place)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    importlib.invalidate_caches()
    yield place / "imported"
    forget()


def forget():
    for name in [n for n in sys.modules if n.startswith("elsewhere")]:
        del sys.modules[name]


@pytest.mark.parametrize("kind", KINDS)
class TestNames:
    @pytest.mark.parametrize("name", ["mine", "elsewhere:{}"])
    def test_by_entry_point_and_by_class(self, kind, name):
        made = MAKE[kind](name.format(CLASSES[kind]))
        cls = type(getattr(made, "_annotator", made))
        assert (cls.__module__, cls.__name__) == ("elsewhere", CLASSES[kind])

    def test_all_names_are_listed_without_importing_anything(self, kind, package):
        assert {"mine", *BROKEN} < set(NAMES[kind]())
        assert not package.exists()

    @pytest.mark.parametrize("name", BROKEN)
    def test_a_broken_one_is_reported_with_its_package(self, kind, name):
        target, reason = BROKEN[name]
        with pytest.raises(UsageError) as caught:
            MAKE[kind](name)
        found = f"{NOUNS[kind]} {target!r} of the package 'elsewhere-package': "
        assert found in str(caught.value)
        assert reason in str(caught.value)
        with pytest.raises(UsageError) as caught:
            MAKE[kind](target)
        assert f"{NOUNS[kind]} {target!r}: " in str(caught.value)
        assert reason in str(caught.value)

    def test_an_unknown_name_says_where_it_was_looked_for(self, kind):
        with pytest.raises(UsageError) as caught:
            MAKE[kind]("mime")
        said = str(caught.value)
        assert f"unknown {NOUNS[kind]} 'mime': expected one of " in said
        assert f"entry points 'rlmba.{kind}' of installed packages), or module:Class" in said
        assert said.endswith("; did you mean 'mine'?")

    @pytest.mark.parametrize("name", ["../elsewhere:First", "elsewhere:First()"])
    def test_what_is_no_class_is_refused(self, kind, name, package):
        with pytest.raises(UsageError, match="expected a class, written as module:Class"):
            MAKE[kind](name)
        assert not package.exists()

    def test_an_unknown_option_is_named(self, kind):
        with pytest.raises(UsageError, match=f"{NOUNS[kind]} 'mine'.* has no option 'depth'"):
            MAKE[kind]("mine", depth=3)


@pytest.mark.parametrize("kind", ["strategies", "encoders", "datasets"])
def test_lists_go_on_without_what_is_broken(kind, capsys):
    assert main([kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, (_, reason) in BROKEN.items():
        (line,) = [x for x in lines if x.startswith(f"{name}: ")]
        assert line.startswith(f"{name}: cannot be used: {NOUNS[kind]} ")
        assert "'elsewhere-package'" in line
        assert reason in line
    assert {
        "strategies": "mine: Takes the first.",
        "datasets": "mine (--data): Points around corners.",
    }.get(kind, "mine (features, sequence): Sums, scaled.") in lines
    built_in = {"strategies": "random: ", "encoders": "mlp (", "datasets": "digits: "}[kind]
    assert any(x.startswith(built_in) for x in lines)


class TestDatasets:
    def test_where_it_is_read_from_and_its_options(self, tmp_path):
        assert len(load_dataset("mine", data=tmp_path, options={"corners": 5}).classes) == 5
        with pytest.raises(UsageError, match="'mine' reads data, got data_root"):
            load_dataset("mine", data_root=tmp_path)
        with pytest.raises(UsageError, match="option corners: expected a valid integer"):
            load_dataset("mine", options={"corners": "five"})

    @pytest.mark.parametrize(
        ("spoil", "said"),
        [
            ("labels", r"expected 90 labels, found \(89,\)"),
            ("shape", "expected a batch of one sample to hold"),
            ("name", "expected a name without a path"),
            ("raises", "from the package 'elsewhere-package', raised KeyError: 'corner'"),
        ],
    )
    def test_one_that_does_not_keep_the_contract(self, spoil, said):
        with pytest.raises(PluginError, match=f"data set 'mine'.*{said}"):
            load_dataset("mine", options={"spoil": spoil})

    @pytest.mark.parametrize(
        ("name", "found"),
        [("elsewhere:Bare", "both data and data_root"), ("rlmba.data:InMemoryDataset", "'name'")],
    )
    def test_a_constructor_that_nobody_can_call(self, name, found):
        with pytest.raises(UsageError, match=f"expected a class whose constructor.*found {found}"):
            load_dataset(name)


class TestEncoders:
    def test_options_and_kinds(self):
        assert build_encoder("mine", FEATURES, {"scale": 3.0}).weight.tolist() == [3.0] * 3
        with pytest.raises(UsageError, match=r"takes \['features', 'sequence'\], but modality 'p'"):
            build_encoder("mine", Modality("p", "image", (1, 4, 4)))

    @pytest.mark.parametrize(
        ("spoil", "said"),
        [
            ("width", "found out_features 'one'"),
            ("shape", r"found out_features 1 and the shape \(2,\)"),
            ("raises", "from the package 'elsewhere-package', raised KeyError: 'scale'"),
        ],
    )
    def test_one_that_does_not_keep_the_contract(self, spoil, said):
        with pytest.raises(PluginError, match=f"encoder 'mine' of 'a'.*{said}"):
            build_encoder("mine", FEATURES, {"spoil": spoil})


ARGUMENTS = [
    *("--dataset", "elsewhere:Points", "--strategy", "elsewhere:First"),
    *("--set", "model.encoders.a=elsewhere:Sum", "--set", "strategy_options.reverse=true"),
]
ACTS = ["run elsewhere:Points", "run elsewhere:First", "run elsewhere:Sum"]


def stranger(monkeypatch, tmp_path):
    """Another user, who has allowed nothing, in another process."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "strange"))
    forget()
    (tmp_path / "site" / "imported").unlink()


class TestRuns:
    @pytest.mark.slow
    def test_code_that_a_run_folder_names_runs_only_where_it_is_allowed(
        self, tmp_path, package, monkeypatch, capsys
    ):
        from rlmba.learner import Trained

        folder = tmp_path / "run"
        assert main(["run", *ARGUMENTS, *QUICK, "--output", str(folder)]) == 0
        assert trust.allowed() == {str(folder): ACTS}
        first = json.loads((folder / "selected" / "round_001.json").read_text())["ids"]
        weights = Trained.load(folder).model.encoders[0].weight.tolist()

        stranger(monkeypatch, tmp_path)
        resume = ["run", "--resume", "--output", str(folder)]
        for more in ([], ["--set", "rounds=1"]):
            capsys.readouterr()
            assert main([*resume, *more]) == 1
            assert (
                "asks to run elsewhere:Points; to run elsewhere:First; to"
                in capsys.readouterr().err
            )
        with pytest.raises(TrustError, match=r"asks to run elsewhere:Sum; .*rlmba trust"):
            Trained.load(folder)
        assert not package.exists()

        assert main(["trust", str(folder)]) == 0
        assert capsys.readouterr().out.split("\n    ")[1:] == [*ACTS[:2], f"{ACTS[2]}\n"]
        assert not package.exists()
        assert main(resume) == 0
        assert Trained.load(folder).model.encoders[0].weight.tolist() == weights
        assert json.loads((folder / "selected" / "round_001.json").read_text())["ids"] == first

        elsewhere = shutil.copytree(folder, tmp_path / "copy")
        with pytest.raises(TrustError, match="copy asks to run elsewhere:Sum"):
            Trained.load(elsewhere)

    @pytest.mark.slow
    def test_an_exported_network_asks_only_elsewhere(self, tmp_path, package, monkeypatch, capsys):
        from rlmba.learner import Trained

        folder, out = tmp_path / "run", tmp_path / "network"
        assert main(["run", *ARGUMENTS, *QUICK, "--output", str(folder)]) == 0
        assert main(["export", str(folder), "--out", str(out)]) == 0
        assert len(Trained.load(out).modalities) == 2
        stranger(monkeypatch, tmp_path)
        with pytest.raises(TrustError, match=r"asks to run elsewhere:Sum; none of this was done"):
            Trained.load(out)
        capsys.readouterr()
        assert main(["trust", str(out)]) == 0
        assert capsys.readouterr().out == f"allowed from now on:\n    {ACTS[2]}\n"
        assert not package.exists()
        assert len(Trained.load(out).modalities) == 2

    @pytest.mark.slow
    def test_installed_classes_need_no_leave(self, tmp_path, monkeypatch):
        folder = tmp_path / "run"
        named = ["--dataset", "mine", "--strategy", "mine", "--set", "model.encoders.a=mine"]
        assert main(["run", *named, *QUICK, "--output", str(folder)]) == 0
        assert trust.allowed() == {}
        stranger(monkeypatch, tmp_path)
        assert main(["run", "--resume", "--output", str(folder)]) == 0

    def test_what_it_raises_in_training_is_its_defect(self, tmp_path, capsys):
        encoder = "model.encoders.a={name: mine, spoil: later}"
        arguments = ["--dataset", "mine", "--set", encoder, *QUICK]
        assert main(["run", *arguments, "--output", str(tmp_path / "run")]) == 1
        assert (
            "unexpected IndexError: no such band\n       This is a bug in the package "
            "'elsewhere-package', not in rlmba; the same command with --debug"
        ) in capsys.readouterr().err

    def test_folders_are_named_by_the_class(self):
        from rlmba.learner import configure, default_output

        config = configure(
            {"dataset": "elsewhere:Points", "strategy": "elsewhere:First", "seed": 2}
        )
        assert str(default_output(config)) == "runs/Points-First-seed2"


def test_a_comparison_that_names_code_asks_as_well(tmp_path, package, monkeypatch, capsys):
    from rlmba.experiments.sweep import load_sweep, make_plan, open_folder, stored_sweep

    output = tmp_path / "comparison"
    wanted = {
        "datasets": "elsewhere:Points",
        "strategies": ["random", "elsewhere:First"],
        "seeds": "0",
        "settings": {"model.encoders.a": "elsewhere:Sum"},
    }
    plan = make_plan(load_sweep(wanted), output)
    assert [r.name for r in plan.runs][-1] == "cells/Points/amcb/First/seed0"
    with open_folder(output, plan, resume=False):
        pass
    assert stored_sweep(output) == plan.config

    stranger(monkeypatch, tmp_path)
    with pytest.raises(TrustError, match="asks to run elsewhere:Points; to run elsewhere:Sum; to"):
        stored_sweep(output)
    assert main(["trust", str(output)]) == 0
    assert "run elsewhere:First" in capsys.readouterr().out
    assert not package.exists()
    assert stored_sweep(output) == plan.config


class TestProjects:
    @pytest.fixture
    def manifest(self, tmp_path):
        rows = [
            {"id": f"s{i}", "a": [float(i), 1.0, 0.5], "label": "cat" if i % 2 else "dog"}
            for i in range(40)
        ]
        path = tmp_path / "m.jsonl"
        path.write_text("".join(json.dumps(r) + "\n" for r in rows))
        return path

    def test_code_in_its_configuration_is_asked_for(
        self, tmp_path, manifest, package, monkeypatch, capsys
    ):
        folder = tmp_path / "project"
        settings = ["--set", "strategy=elsewhere:First", *QUICK[2:], "--annotator", "mine"]
        assert main(["init", str(folder), "--manifest", str(manifest), *settings]) == 0
        assert trust.allowed() == {str(folder): ["run mine", "run elsewhere:First"]}
        stranger(monkeypatch, tmp_path)
        capsys.readouterr()
        assert main(["next", str(folder)]) == 1
        assert "asks to run elsewhere:First; none of this was done" in capsys.readouterr().err
        assert not package.exists()
        assert main(["trust", str(folder)]) == 0
        assert main(["next", str(folder)]) == 0
        assert package.exists()

    def test_a_folder_of_tickets_calls_no_installed_annotator(self, tmp_path, manifest):
        from rlmba.project import read_project

        folder = tmp_path / "project"
        settings = [*QUICK[2:], "--annotator", "file"]
        assert main(["init", str(folder), "--manifest", str(manifest), *settings]) == 0
        for name in ("file", "mine"):
            (folder / "tickets" / name).mkdir(parents=True)
            (folder / "tickets" / name / "round_000.json").write_text("{}")
        assert {name for name, _ in read_project(folder).tickets()} == {"file"}
