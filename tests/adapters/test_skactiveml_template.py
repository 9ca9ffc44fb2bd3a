"""scikit-activeml's own template tests, for each strategy.

Releases up to 0.6.0 contain these tests; RLMBA_SKACTIVEML_TESTS is the path of the wheel of such a release.
The tests run against the installed version.
"""

from __future__ import annotations

import os
import unittest
import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

pytest.importorskip("skactiveml", reason="scikit-activeml is not installed")

import skactiveml
from skactiveml.classifier import SklearnClassifier

from rlmba import strategies
from rlmba.adapters.skactiveml import RlmbaStrategy

N, LABELED = 12, 4


@pytest.fixture(scope="module")
def template():
    wheel = os.environ.get("RLMBA_SKACTIVEML_TESTS")
    if not wheel:
        pytest.skip(
            "set RLMBA_SKACTIVEML_TESTS to a wheel of scikit-activeml 0.6.0, which has its tests"
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(skactiveml, "__path__", [*skactiveml.__path__, f"{wheel}/skactiveml"])
        from skactiveml.tests import template_query_strategy

        yield template_query_strategy


def cases(template, name):
    """The template's tests of a strategy; it leaves those of our own parameters to us."""

    class Cases(template.TemplateSingleAnnotatorPoolQueryStrategy, unittest.TestCase):
        def setUp(self):
            rng = np.random.default_rng(0)
            x = rng.normal(size=(N, 3)) + 2 * np.resize([0, 1], N)[:, None]
            y = np.where(np.arange(N) < LABELED, np.resize([0.0, 1.0], N), np.nan)
            clf = SklearnClassifier(LogisticRegression(), classes=[0, 1], random_state=0)
            given = {"X": x, "y": y, "clf": clf}
            if "dropout" in strategies.create(name).needs:
                given["dropout_logits"] = rng.normal(size=(5, N, 2))
            super().setUp(
                qs_class=RlmbaStrategy,
                init_default_params={"strategy": name},
                query_default_params_clf=given,
            )

        def test_init_param_strategy(self):
            self._test_param(
                "init", "strategy", [(3, TypeError), ("none", ValueError), (name, None)]
            )

        def test_init_param_options(self):
            self._test_param(
                "init", "options", [(3, ValueError), ({"none": 1}, ValueError), ({}, None)]
            )

        def test_query_param_clf(self):
            super().test_query_param_clf(test_cases=[])

        def test_query_param_embeddings(self):
            given = [("string", ValueError), (np.ones((N + 1, 2)), ValueError), (np.eye(N), None)]
            # The head reads the features themselves, so other embeddings cannot be given.
            needs_head = "head" in strategies.create(name).needs
            self._test_param("query", "embeddings", given[: 2 if needs_head else 3])

        def test_query_param_dropout_logits(self):
            self._test_param("query", "dropout_logits", [("string", (TypeError, ValueError))])

        def test_query(self):
            query = RlmbaStrategy(name, random_state=0).query
            (pick,) = query(**self.query_default_params_clf)
            assert pick >= LABELED

    return unittest.defaultTestLoader.loadTestsFromTestCase(Cases)


@pytest.mark.slow
@pytest.mark.parametrize("name", strategies.names())
def test_the_template_of_scikit_activeml(template, name):
    result = unittest.TestResult()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases(template, name).run(result)
    assert result.testsRun >= 20
    assert [f"{case}: {trace}" for case, trace in (*result.failures, *result.errors)] == []
