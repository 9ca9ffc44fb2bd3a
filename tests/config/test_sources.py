from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlmba.config import RunConfig, dump_config, keys, load_config, preset_names, sources, yaml12
from rlmba.errors import UsageError


@pytest.fixture
def presets(tmp_path, monkeypatch):
    folder = tmp_path / "presets"
    folder.mkdir()
    (folder / "toy.yaml").write_text(
        "rounds: 3\nepochs: 4\nseed: 1\nbatch_size: 7\n"
        "strategy: rlmba\nstrategy_options: {kappa: 9}\n"
        "model: {width: 32, encoders: {image: {name: cnn, channels: 8}}}\n"
    )
    monkeypatch.setattr(sources, "_presets", lambda: folder)
    return folder


def config_file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    return file


def test_nothing_given_is_the_schema(presets):
    assert load_config() == RunConfig()


def test_each_source_beats_the_one_below(tmp_path, presets):
    file = config_file(
        tmp_path, "dataset: toy\nepochs: 5\nseed: 2\nbatch_size: 8\nmodel: {dropout: 0}\n"
    )
    config = load_config(
        file=file,
        overrides={"seed": 3, "batch_size": 9, "strategy": None},
        settings=["batch_size=10"],
    )
    assert (config.rounds, config.epochs, config.seed, config.batch_size) == (3, 5, 3, 10)
    assert (config.model.width, config.model.dropout) == (32, 0.0)
    assert config.strategy_options == {"kappa": 9}
    assert load_config(settings=["epochs=2", "epochs=3"]).epochs == 3


@pytest.mark.parametrize("how", ["file", "flag", "set"])
def test_the_preset_follows_the_data_set_that_wins(tmp_path, presets, how):
    given = {
        "file": {"file": config_file(tmp_path, "dataset: toy")},
        "flag": {"overrides": {"dataset": "toy"}},
        "set": {"overrides": {"dataset": "digits"}, "settings": ["dataset=toy"]},
    }[how]
    config = load_config(**given)
    assert (config.dataset, config.rounds) == ("toy", 3)
    assert preset_names() == ("toy",)


def test_options_go_with_the_name_they_belong_to(presets):
    def load(*settings):
        return load_config(overrides={"dataset": "toy"}, settings=settings)

    assert load("strategy=random").strategy_options == {}
    assert load("strategy=rlmba").strategy_options == {"kappa": 9}
    assert load("strategy=random", "strategy_options.x=1").strategy_options == {"x": 1}
    assert load("model.encoders.image=mlp").model.encoders["image"].options == {}
    image = load("model.encoders.image.depth=2").model.encoders["image"]
    assert (image.name, image.options) == ("cnn", {"channels": 8, "depth": 2})


def test_bundled_presets_load_and_name_their_data_set():
    for name in preset_names():
        assert load_config(preset=name).dataset == name.removesuffix("-bmmal")


def test_the_name_of_a_strategy_preset_stands_for_its_settings(tmp_path):
    plain = load_config(overrides={"strategy": "rlmba"})
    by_flag = load_config(overrides={"strategy": "rlmba-evidential"})
    assert (by_flag.strategy, by_flag.label) == ("rlmba", "rlmba-evidential")
    assert (plain.training.loss, by_flag.training.loss) == ("cross-entropy", "evidential")
    same = {"label": None, "training": plain.training}
    assert by_flag.model_copy(update=same) == plain  # the data set's preset stays in effect
    file = config_file(tmp_path, "strategy: rlmba-evidential\ntraining: {min_steps: 7}\n")
    found = load_config(file=file, settings=["training.evidential.kl_weight=0.5", "label=mine"])
    assert (found.training.loss, found.training.min_steps) == ("evidential", 7)
    assert (found.training.evidential.kl_weight, found.label) == (0.5, "mine")
    resumed = load_config(base=("config.yaml", by_flag.model_dump(mode="json")))
    assert resumed == by_flag


def test_a_preset_by_name_takes_the_place_of_the_data_sets_own(tmp_path, presets):
    (presets / "toy-long.yaml").write_text("dataset: toy\nrounds: 9\n")
    config = load_config(preset="toy-long", settings=["seed=5"])
    assert (config.dataset, config.rounds, config.epochs, config.seed) == ("toy", 9, None, 5)
    assert load_config(preset="toy").rounds == 3
    same = config_file(tmp_path, "dataset: toy\nepochs: 2\n")
    assert load_config(preset="toy-long", file=same).epochs == 2
    # As a data set's name it is none: no preset is taken, and loading will say so.
    assert load_config(overrides={"dataset": "toy-long"}).rounds is None


def test_a_preset_that_is_not_there_or_of_another_data_set(presets):
    with pytest.raises(UsageError, match=r"preset: expected one of toy, got 'tow'"):
        load_config(preset="tow")
    with pytest.raises(
        UsageError, match=r"preset 'toy' is for data set 'toy', got 'digits' \(--set\)"
    ):
        load_config(preset="toy", settings=["dataset=digits"])


PROTOCOL = {
    # preset: labels at the end, b, epochs, optimizer, encoders with their weights and rates
    "food101": (7000, 1000, 15, "adamw", {"text": 1e-5, "image": 1e-4}),
    "food101-bmmal": (7000, 1000, 15, "adamw", {"text": 1e-5, "image": 1e-4}),
    "kineticssound": (7000, 1000, 15, "adamw", {"video": 2e-3, "audio": 1e-3}),
    "kineticssound-bmmal": (7000, 1000, 45, "adam", {"video": 2e-3, "audio": 1e-3}),
    "vggsound": (7000, 1000, 15, "adamw", {"video": 1e-3, "audio": 1e-3}),
    "vggsound-bmmal": (14000, 2000, 45, "adam", {"video": 1e-3, "audio": 1e-3}),
}
WEIGHTS = {
    "food101": {
        "text": ("bert-base", "bert-base-uncased"),
        "image": ("resnet101", "IMAGENET1K_V1"),
    },
    "kineticssound": {"video": ("r2plus1d-18", "random"), "audio": ("audio-resnet18", "random")},
    "vggsound": {"video": ("r2plus1d-18", "KINETICS400_V1"), "audio": ("audio-resnet18", "random")},
}


@pytest.mark.parametrize("preset", PROTOCOL)
def test_presets_of_the_papers(preset):
    labels, b, epochs, optimizer, rates = PROTOCOL[preset]
    config = load_config(preset=preset)
    training = config.training
    assert config.initial_labels + config.rounds * config.batch_size == labels
    assert (config.initial_labels, config.batch_size, config.epochs) == (b, b, epochs)
    assert (training.minibatch_size, training.learning_rate) == (32, 1e-3)
    assert (training.optimizer, training.encoder_learning_rates) == (optimizer, rates)
    encoders = config.model.encoders
    assert {m: (e.name, e.options["weights"]) for m, e in encoders.items()} == WEIGHTS[
        config.dataset
    ]
    if optimizer == "adam":
        assert (training.weight_decay, training.betas) == (1e-4, (0.95, 0.999))
        assert (training.milestones, training.warmup_epochs) == ([20, 30, 40], 10)
    else:
        assert (training.weight_decay, training.milestones) == (0.01, [10])
    bmmal = preset.endswith("-bmmal")
    assert (config.strategy, config.fusion) == (("bmmal", "concat") if bmmal else ("rlmba", "amcb"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("-2.5E+4", -25000.0),
        (".5", 0.5),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("no", "no"),
        ("off", "off"),
        ("y", "y"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("[a, 1, 2.0]", ["a", 1, 2.0]),
        ("{a: 1}", {"a": 1}),
        ("'1'", "1"),
        (".inf", float("inf")),
        ("word with spaces", "word with spaces"),
    ],
)
def test_values_are_yaml_1_2(text, value):
    found = load_config(settings=[f"strategy_options.x={text}"]).strategy_options["x"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["rouns=3"], r"unknown key 'rouns' \(--set\); did you mean 'rounds'\?"),
        (["tau=3"], r"did you mean 'amcb.tau'\?"),
        (["amcb.taw=3"], r"did you mean 'amcb.tau'\? Keys of amcb: enabled, floor, tau"),
        (["zzz.q=1"], r"unknown key 'zzz' \(--set\)\. Keys: adaptive_penalty, amcb"),
        (["epochs=many"], r"epochs: expected an integer >= 1 or null, got 'many' \(--set\)"),
        (["epochs=true"], "epochs: expected an integer >= 1 or null, got True"),
        (["epochs=-1"], "epochs: expected an integer >= 1 or null, got -1"),
        (["batch_size=0"], "batch_size: expected an integer >= 1 or null, got 0"),
        (["model.dropout=1"], "model.dropout: expected a number >= 0 and < 1, got 1"),
        (["training.learning_rate=.nan"], "expected a number > 0, got nan"),
        (["fusion=best"], "expected one of amcb, adaptive, uniform, concat, got 'best'"),
        (["training=3"], "training: expected a section"),
        (["reward.curves=a"], "reward.curves: expected a list"),
        (["reward.curves=[a, 1]"], "reward.curves.1: expected a path, got 1"),
        (["training.encoder_learning_rates.image=x"], "image: expected a number, got 'x'"),
        (["model.encoders.image.name=3"], "model.encoders.image.name: expected text, got 3"),
        (["reward.kind=relative"], "rlmba compare --strategies gcnal,badge,bmmal"),
        (["rounds"], "'rounds': expected KEY=VALUE"),
        (["rounds="], "KEY=null for no value"),
        (["=3"], "expected KEY=VALUE"),
        (["a..b=3"], "expected KEY=VALUE"),
        (["rounds=[1"], r"--set 'rounds=\[1', line 1, column 3: not valid YAML"),
        (["strategy_options={a: 1, a: 2}"], "key 'a' is given twice"),
        (["strategy_options.x=!!python/name:os.system"], "not valid YAML"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(UsageError, match=message):
        load_config(settings=settings)


def test_a_file_whose_name_is_not_utf_8():
    with pytest.raises(UsageError, match=r"expected settings in UTF-8.*\\udcff\.npz.*rename"):
        load_config(overrides={"data": Path("x\udcff.npz")})


def test_every_problem_is_told_at_once_with_its_source(tmp_path):
    file = config_file(tmp_path, "epochs: 0\namcb: {tau: 0}\n")
    with pytest.raises(UsageError) as caught:
        load_config(file=file, overrides={"seed": -1}, settings=["model.width=x"])
    lines = sorted(str(caught.value).splitlines())
    assert lines == [
        f"amcb.tau: expected a number > 0, got 0 ({file})",
        f"epochs: expected an integer >= 1 or null, got 0 ({file})",
        "model.width: expected an integer >= 1, got 'x' (--set)",
        "seed: expected an integer >= 0, got -1 (command line)",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rounds: 3\nseed: [1\n", r"config.yaml, line 3, column 1: not valid YAML"),
        ("rounds: 3\nepochs: 2\nrounds: 4\n", "line 3, column 1: .*'rounds' is given twice"),
        ("- rounds\n", "expected keys and values .*, got a list"),
        ("a: &x [*x]\n", "not valid YAML|unknown key|refers to itself"),
        ("? [a]\n: 1\n", "expected a word as key"),
    ],
)
def test_malformed_files(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        load_config(file=config_file(tmp_path, text))


def test_unreadable_files(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere.yaml: cannot read"):
        load_config(file=tmp_path / "nowhere.yaml")
    with pytest.raises(UsageError, match="cannot read"):
        load_config(file=tmp_path)
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="UTF-8"):
        load_config(file=binary)
    assert load_config(file=config_file(tmp_path, "")) == load_config()


def test_dump_is_read_back_equal_and_stable(tmp_path, presets):
    config = load_config(
        overrides={"dataset": "toy", "data": Path("a/b c.npz")},
        settings=["strategy=random", "reward.curves=[a, 'no']", "training.learning_rate=1e-7"],
    )
    text = dump_config(config)
    again = load_config(file=config_file(tmp_path, text))
    assert again == config
    assert dump_config(again) == text


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1),
        st.one_of(
            st.sampled_from(
                ["1e-3", "no", "010", "null", "1:30", "", "~", "0x1", "2024-01-01", ".5"]
            ),
            st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"))),
            st.floats(allow_nan=False),
            st.integers(),
            st.booleans(),
            st.none(),
        ),
    )
)
def test_property_yaml_round_trip(values):
    assert yaml12.parse(yaml12.dump(values), "test") == values


def test_keys_cover_the_schema():
    names = [key.name for key in keys()]
    assert len(names) == len(set(names))
    assert {n.split(".")[0] for n in names} == set(RunConfig.model_fields)
    assert all(key.meaning for key in keys())


class TestBudgets:
    def test_they_replace_rounds_of_lower_sources(self):
        config = load_config(settings=["budgets=[20, 40, 80]"])
        assert config.budgets == [20, 40, 80]
        assert (config.rounds, config.batch_size, config.initial_labels) == (None, None, None)
        assert (config.label_counts, config.last_round) == ((20, 40, 80), 2)

    def test_rounds_of_a_higher_source_replace_them(self):
        layers = [("low", {"budgets": [5, 9]}), ("middle", {"budgets_per_class": [1, 2]})]
        assert load_config(layers=layers).budgets is None
        config = load_config(layers=layers, settings=["rounds=2"])
        assert (config.budgets, config.budgets_per_class, config.rounds) == (None, None, 2)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            (["budgets=[9, 20]", "rounds=3"], "got rounds, budgets together"),
            (
                ["budgets=[9, 20]", "budgets_per_class=[1]"],
                "got budgets, budgets_per_class together",
            ),
            (["budgets=[20, 20]"], r"budgets: expected strictly increasing .* got \[20, 20\]"),
            (
                ["budgets_per_class=[]"],
                r"budgets_per_class: expected strictly increasing .* got \[\]",
            ),
            (["budgets=[0, 4]"], "budgets.0: expected an integer >= 1, got 0"),
        ],
    )
    def test_refused(self, settings, message):
        with pytest.raises(UsageError, match=message):
            load_config(settings=settings)
