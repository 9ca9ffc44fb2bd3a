"""Tables as data and in their four formats."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from rlmba.errors import UsageError
from rlmba.experiments import paper, statistics
from rlmba.experiments.content import Cell, TableData
from rlmba.experiments.scope import StrategyVariant, is_variant, scopes
from rlmba.experiments.tables import accuracy, comparisons, conditions, quality, render, seconds
from rlmba.experiments.tables.assemble import scope_tables
from tests.helpers.made_groups import make_group

TABLE = TableData(
    key="table1_a b",
    title="50 % of A_1 & more",
    columns=("strategy", "a|b", "p"),
    rows=(
        (Cell("x_1"), Cell("0.50 ± 0.10", 0.5012345), Cell("3", 3.0)),
        (Cell(r"{y}~\^$#"), Cell("—"), Cell("< 0.001", 0.0004)),
    ),
    notes=("[1] amcb.enabled=False, κ ≥ 3", "second"),
    bold=frozenset({(0, 1)}),
)


def scope_of(*groups, budget=None):
    (scope,) = scopes(groups, budget)
    return scope


def column(table, name):
    k = table.columns.index(name)
    return [row[k] for row in table.rows]


def texts(table, name):
    return [cell.text for cell in column(table, name)]


class TestRender:
    def test_markdown(self):
        lines = render.markdown(TABLE).splitlines()
        assert lines[0] == "## 50 % of A_1 & more"
        assert lines[2] == r"| strategy | a\|b | p |"
        assert lines[3] == "|---|---:|---:|"
        assert lines[4] == "| x_1 | **0.50 ± 0.10** | 3 |"
        assert lines[-2:] == ["- [1] amcb.enabled=False, κ ≥ 3", "- second"]
        assert render.markdown(replace(TABLE, notes=("only",)), level=3).splitlines()[-1] == "only"

    def test_csv_is_unrounded_and_keeps_what_is_printed(self):
        header, *rows = csv.reader(io.StringIO(render.comma_separated(TABLE)))
        assert header == ["strategy", "a|b", "a|b as printed", "p", "p as printed"]
        assert rows[0] == ["x_1", "0.5012345", "0.50 ± 0.10", "3", "3"]
        assert rows[1] == [r"{y}~\^$#", "—", "—", "0.0004", "< 0.001"]

    def test_latex_is_escaped_and_balanced(self):
        text = render.latex(TABLE)
        body = text.splitlines()
        assert r"  \caption{50 \% of A\_1 \& more}" in body
        assert r"  \label{tab:table1_a-b}" in body
        assert r"  \begin{tabular}{lrr}" in body
        assert r"  x\_1 & \textbf{0.50 $\pm$ 0.10} & 3 \\" in body
        assert (
            r"  \{y\}\textasciitilde{}\textbackslash{}\textasciicircum{}\$\# & --- & $<$ 0.001 \\"
            in body
        )
        assert r"$\kappa$ $\geq$ 3" in text
        assert [line.strip() for line in body if "rule" in line] == [
            r"\toprule",
            r"\midrule",
            r"\bottomrule",
        ]
        bare = text.replace(r"\{", "").replace(r"\}", "").replace(r"\$", "")
        assert bare.count("{") == bare.count("}")
        assert bare.count("$") % 2 == 0
        assert text.isascii()

    def test_terminal(self):
        out = io.StringIO()
        Console(file=out, width=100).print(render.terminal(TABLE))
        assert "50 % of A_1 & more" in out.getvalue()
        assert "[1] amcb.enabled=False" in out.getvalue()  # no markup


class TestScope:
    def test_groups_of_another_fusion_or_predictor_are_apart(self):
        found = scopes(
            [
                make_group("random", [0.5]),
                make_group("random", [0.5], fusion="amcb"),
                make_group("random", [0.5], predictor="pooled"),
            ]
        )
        assert [s.key for s in found] == ["amcb", "uniform", "uniform_pooled"]
        assert found[2].heading == "uniform fusion, pooled predictor"

    def test_rows_are_in_the_order_of_the_paper(self):
        names = ["rlmba-x", "mine", "rlmba", "bmmal", "random", "amcb-only"]
        scope = scope_of(
            *(make_group(n, [0.5]) for n in names), make_group("rlmba", [0.5], variant="k=3")
        )
        assert [scope.name(r) for r in scope.rows] == [
            "random", "bmmal", "amcb-only", "rlmba", "rlmba [1]", "rlmba-x", "mine",
        ]  # fmt: skip
        assert "[1] k=3" in scope.notes()
        sets = [make_group("a", [0.5], dataset=d) for d in ("zoo", "vggsound:x", "food101")]
        assert scope_of(*sets).datasets == ("food101", "vggsound:x", "zoo")

    def test_ablations(self):
        ours = {"strategy": "rlmba"}
        groups = [
            make_group("random", [0.5]),
            make_group("rlmba", [0.5], options=ours),
            make_group("amcb-only", [0.5]),
            make_group("tau-2", [0.5], options=ours),
            make_group("mine", [0.5], options={"strategy": "badge"}),
        ]
        assert [g.strategy for g in groups if is_variant(g)] == ["amcb-only", "tau-2"]
        for name, options in (("rlmba-x", "kappa=3"), ("rlmba-h", "radius=nearest-labeled")):
            assert is_variant(make_group(name, [0.5], variant=f"strategy_options.{options}"))
            assert not is_variant(make_group(name, [0.5]))
        assert not is_variant(make_group("rlmba", [0.5], variant="labels 20 to 40 in 2 rounds"))
        scope = scope_of(*groups)
        assert [r.strategy for r in scope.main.rows] == ["random", "rlmba", "mine"]
        assert [r.strategy for r in scope.ablations.rows] == ["amcb-only", "rlmba", "tau-2"]
        assert scope_of(groups[0]).ablations is None
        # If there are only ablations, they count as the strategies.
        assert [r.strategy for r in scope_of(groups[2]).main.rows] == ["amcb-only"]

    def test_budgets(self):
        long, short = make_group("a", [0.5]), make_group("b", [0.5], labels=(20, 40, 60))
        scope = scope_of(long, short)
        assert scope.budget_of("a") == 40
        assert (scope.column_of(long), scope.column_of(short)) == (1, 1)
        asked = scope_of(long, short, budget=80)
        assert (asked.column_of(long), asked.column_of(short)) == (2, None)
        apart = scope_of(long, make_group("b", [0.5], labels=(30, 70)))
        assert apart.budget_of("a") is None
        assert texts(accuracy.table1(apart), "a at no shared budget") == ["—", "—"]
        with pytest.raises(UsageError, match=r"--budget 50: .* one of 20, 40, 60, 80"):
            scopes([long, short], 50)

    def test_what_a_reader_must_know(self):
        scope = scope_of(
            make_group("a", [0.5, 0.5]),
            make_group("b", [0.5], seeds=(1,), labels=(20, 40), on="validation"),
        )
        text = " ".join(scope.notes())
        assert "the strategies have different seeds (1 are shared)" in text
        assert "curves that end before 80 labels: b at 40" in text
        assert "measured on test, validation" in text
        assert scope.seeds() == "1 to 2"


class TestPaper:
    def test_numbers(self):
        assert paper.top1_of("vggsound:folder", "rlmba") == 0.2223
        assert paper.top1_of("food101", "efda-only", ablation=True) == 0.8637
        assert paper.top1_of("food101", "efda-only") is None
        assert paper.top1_of("digits", "rlmba") is None
        assert paper.seconds_of("food101", "rlmba", "select") == 33.48
        assert paper.seconds_of("food101", "rlmba", "train") is None
        assert paper.seconds_of("digits", "rlmba", "select") is None
        # The paper's own claim: best on all three sets.
        for k in range(3):
            assert max(paper.TABLE1, key=lambda name: paper.TABLE1[name][k]) == "rlmba"
            assert (
                sorted(paper.TABLE2.values(), key=lambda row: row[k])[-1] == paper.TABLE1["rlmba"]
            )

    def test_table1(self):
        scope = scope_of(
            make_group("random", [0.8, 0.82], dataset="food101"),
            make_group("mine", [0.9], dataset="food101"),
            make_group("random", [0.3, 0.3], dataset="wiki"),
        )
        table = accuracy.table1(scope)
        assert table.columns == (
            "strategy", "fusion", "predictor", "seeds", "food101 at 80", "food101 paper", "wiki at 80",
        )  # fmt: skip
        assert texts(table, "food101 at 80") == ["0.8100 ± 0.0141", "0.9000"]
        assert texts(table, "food101 paper") == ["0.8470", "—"]
        assert texts(table, "wiki at 80") == ["0.3000 ± 0.0000", "—"]
        assert set(texts(table, "fusion")) == {"uniform"}
        assert table.bold == {(1, 4)}  # a lone row has no best
        assert any("3,000 labels" in note for note in table.notes)

    def test_table2(self):
        names = ("random", "bmmal", "amcb-only", "rlmba")
        groups = [make_group(n, [0.5], dataset="kineticssound") for n in names]
        table = accuracy.table2(scope_of(*groups))
        assert texts(table, "strategy") == ["bmmal", "amcb-only", "rlmba"]
        assert texts(table, "kineticssound paper") == ["0.4745", "0.4771", "0.4841"]
        assert table.bold == frozenset()  # all equal
        assert accuracy.table2(scope_of(groups[0], groups[1], groups[3])) is None

    def test_table3(self):
        group = make_group("bmmal", [0.5, 0.5], dataset="food101:x")
        stages = {
            "predict": [1, 2],
            "select": [3, 3],
            "train": [5, 5],
            "validate": [1, 1],
            "policy": [0, 0],
        }
        timed = replace(group, seconds={s: np.array(v, dtype=float) for s, v in stages.items()})
        table = seconds.table3(scope_of(timed, make_group("mine", [0.5], dataset="food101:x")))
        assert texts(table, "Pred") == ["1.5", "—"]
        assert texts(table, "total") == ["10.5", "—"]
        assert texts(table, "paper Sel") == ["310.12", "—"]
        assert "paper Train" not in table.columns  # not printed for these strategies


def test_areas_and_labels_saved():
    random = make_group("random", [[0.2, 0.4, 0.6], [0.2, 0.4, 0.7]])
    better = make_group("rlmba", [[0.2, 0.5, 0.8], [0.2, 0.5, 0.8]])
    worse = make_group("entropy", [[0.1, 0.2, 0.3], [0.1, 0.2, 0.3]])
    scope = scope_of(random, better, worse)
    areas = accuracy.areas(scope)
    assert column(areas, "a AUBC")[2].value == pytest.approx(0.5)
    by_hand = (0.35 * 20 + 0.65 * 40) / 60
    assert column(areas, "a DeepAL+")[2] == Cell("0.5500 ± 0.0000", pytest.approx(by_hand))
    saved = accuracy.labels_saved(scope)
    # Random's mean curve ends at 0.65, which the other reaches halfway between 40 and 80.
    assert texts(saved, "a labels") == ["80", "—", "60"]
    assert texts(saved, "a share") == ["100%", "—", "75%"]
    assert saved.bold == {(2, 1)}
    assert accuracy.labels_saved(scope_of(better, worse)) is None


@pytest.fixture(scope="module")
def contest():
    rng = np.random.default_rng(0)
    level = {"random": 0.5, "badge": 0.51, "bmmal": 0.5, "rlmba": 0.52, "amcb-only": 0.49}
    return scope_of(
        *(
            make_group(name, mean + rng.normal(0, 0.002, (6, 3)), dataset=dataset)
            for dataset in ("a", "b")
            for name, mean in level.items()
        )
    )


class TestComparisons:
    def test_against(self, contest):
        assert [name for name, _ in comparisons.contests(contest)] == [
            "random", "badge", "bmmal", "rlmba",
        ]  # fmt: skip
        table = comparisons.against(contest.main, "random")
        assert texts(table, "data set") == ["a"] * 3 + ["b"] * 3
        assert texts(table, "strategy") == ["badge", "bmmal", "rlmba"] * 2
        (ours,) = [
            c
            for c in statistics.compare_to(contest.main.groups, "random")
            if (c.dataset, c.strategy) == ("b", "rlmba")
        ]
        assert column(table, "AUBC difference")[5].value == ours.test.difference
        assert column(table, "Holm")[5].value == ours.p_holm
        assert ours.verdict == texts(table, "verdict")[5] == "wins"
        assert (5, table.columns.index("verdict")) in table.bold
        final = statistics.compare_to(contest.main.groups, "random", measure="final")
        assert {c.value for c in column(table, "final Top-1 difference")} == {
            c.test.difference for c in final
        }

    def test_verdicts(self, contest):
        table = comparisons.verdicts(contest)
        rows = {(r[0].text, r[1].text): r for r in table.rows}
        assert ("rlmba", "amcb-only") in rows  # ablations meet the whole method only
        assert ("random", "amcb-only") not in rows
        won = dict(zip(table.columns, (c.text for c in rows["random", "rlmba"]), strict=True))
        assert (won["wins"], won["ties"], won["losses"], won["pooled pairs"]) == (
            "2",
            "0",
            "0",
            "12",
        )
        assert won["pooled verdict"] == "wins"
        lost = dict(zip(table.columns, (c.text for c in rows["rlmba", "amcb-only"]), strict=True))
        assert (lost["losses"], lost["pooled verdict"]) == ("2", "loses")
        assert comparisons.verdicts(contest.only([StrategyVariant("random", "")])) is None

    def test_ambiguous_reference_is_said_and_not_fatal(self):
        groups = [
            make_group("random", [0.5, 0.6], variant="k=1", options={"strategy_options.k": "1"}),
            make_group("random", [0.5, 0.6], variant="k=2", options={"strategy_options.k": "2"}),
            make_group("badge", [0.5, 0.6], options={"strategy_options.k": "1"}),
        ]
        table = comparisons.against(scope_of(*groups), "random")
        assert table.rows == ()
        assert any("Not tested against random" in note for note in table.notes)

    def test_wins_and_ranks(self, contest):
        wins = comparisons.win_table(contest)
        assert wins.columns == ("strategy", "1", "2", "3", "4", "mean")
        assert wins.rows[0][0].text == "1 rlmba"
        assert wins.rows[0][1] == Cell("")
        assert wins.rows[0][2].text == "1.00 (2)"
        assert wins.rows[0][-1].value == 1.0
        ranks = comparisons.rank_table(contest)
        assert texts(ranks, "strategy")[:2] == ["rlmba", "badge"]
        assert texts(ranks, "mean rank")[:2] == ["1.00", "2.00"]
        assert "badge" in texts(ranks, "not significantly different from")[0]
        assert any("Over 12 blocks" in note for note in ranks.notes)
        alone = contest.only([StrategyVariant("random", "")])
        assert comparisons.win_table(alone) is comparisons.rank_table(alone) is None


class TestQuality:
    def group(self, name, image, audio, ece):
        group = make_group(name, [0.8, 0.8])
        heads = {
            "mm": group.top1["mm"],
            "image": np.full((2, 3), image),
            "audio": np.full((2, 3), audio),
        }
        shares = {
            "image": np.array([[np.nan, 0.5, 0.5]] * 2),
            "audio": np.array([[np.nan, 0.5, 0.5]] * 2),
        }
        return replace(
            group,
            top1=heads,
            top1_macro={h: v - 0.01 for h, v in heads.items()},
            contributions=shares,
            metrics={"mm": {"ece": np.full((2, 3), ece), "nll": np.full((2, 3), 1.5)}},
        )

    def test_fairness(self):
        groups = self.group("random", 0.4, 0.7, 0.1), self.group("rlmba", 0.6, 0.5, 0.2)
        table = quality.fairness(scope_of(*groups))
        assert [c.value for c in column(table, "gap")] == pytest.approx([0.3, 0.1])
        assert texts(table, "weakest") == ["image", "audio"]
        assert texts(table, "balance, all rounds") == ["1.0000 ± 0.0000"] * 2
        assert (1, table.columns.index("gap")) in table.bold
        assert (0, table.columns.index("gap")) not in table.bold
        assert quality.fairness(scope_of(make_group("random", [0.5]))) is None

    def test_calibration_shows_what_is_known(self):
        groups = self.group("random", 0.4, 0.7, 0.1), self.group("rlmba", 0.6, 0.5, 0.2)
        table = quality.calibration(scope_of(*groups))
        assert table.columns == ("data set", "strategy", "labels", "ECE", "NLL", "macro Top-1")
        assert texts(table, "ECE") == ["0.1000 ± 0.0000", "0.2000 ± 0.0000"]
        assert table.bold == {(0, 3)}


def test_unknown_accuracies_are_dashes_not_errors(contest):
    unknown = make_group("bmmal-code", np.full((2, 3), np.nan), dataset="a")
    scope = scope_of(*contest.groups, unknown)
    tables = {t.key.split("_")[0]: t for t in scope_tables([scope])}
    assert [r[4].text for r in tables["table1"].rows if r[0].text == "bmmal-code"] == ["—"]
    assert "bmmal-code is left out, its Top-1 at 20 labels is NaN" in " ".join(tables["wins"].notes)
    for table in tables.values():
        assert "nan" not in render.markdown(table).split("\n\n")[1]


class TestConditions:
    def test_a_strategy_is_paired_with_itself_over_seeds_and_sets(self):
        rng = np.random.default_rng(0)
        plain = {d: rng.uniform(0.4, 0.6, 4) for d in "ab"}
        lift = {d: rng.normal(0.02, 0.005, 4) for d in "ab"}
        groups = [make_group("badge", plain[d], dataset=d) for d in "ab"]
        groups += [
            make_group("badge", plain[d] + lift[d], dataset=d, fusion="adaptive") for d in "ab"
        ]
        groups += [make_group("badge", plain["a"][1:], seeds=(1, 2, 3), predictor="pooled")]
        groups += [make_group("rlmba", plain["a"], fusion="adaptive")]  # nothing to pair it with
        table = conditions.conditions(scopes(groups))
        assert texts(table, "under fusion") == ["adaptive", "uniform"]
        assert texts(table, "under predictor") == ["fused", "pooled"]
        assert texts(table, "data sets") == ["2", "1"]
        assert texts(table, "pairs") == ["8", "3"]
        both = np.concatenate([lift["a"], lift["b"]])
        assert column(table, "AUBC difference")[0].value == pytest.approx(both.mean())
        means = sorted((lift["a"].mean(), lift["b"].mean()))
        assert column(table, "lowest data set")[0].value == pytest.approx(means[0])
        assert column(table, "highest data set")[0].value == pytest.approx(means[1])
        test = statistics.paired(both, np.zeros(8))
        assert column(table, "p")[0].value == pytest.approx(test.p)
        assert column(table, "Holm")[0].value == pytest.approx(2 * test.p)
        assert column(table, "AUBC difference")[1].value == 0
        assert table.bold == {(0, 5)}

    def test_nothing_in_common_makes_no_table(self):
        plain = make_group("badge", [0.5, 0.6])
        assert conditions.conditions(scopes([plain])) is None
        other = make_group("badge", [0.5, 0.6], fusion="amcb", labels=(20, 40, 60))
        assert conditions.conditions(scopes([plain, other])) is None
        elsewhere = make_group("badge", [0.5, 0.6], fusion="amcb", seeds=(7, 8))
        assert conditions.conditions(scopes([plain, elsewhere])) is None


def test_names_are_text_on_a_terminal():
    name = "[bold]:smile:[/] \x1b[31m"
    table = TableData("t", name, (name, "b"), ((Cell(name), Cell("1.0", 1.0)),), (name,))
    out = io.StringIO()
    # A console of another program, with markup and emoji codes.
    Console(file=out, width=120).print(render.terminal(table))
    assert out.getvalue().count(r"[bold]:smile:[/] \x1b[31m") == 4
