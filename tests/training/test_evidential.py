"""The evidential loss against its definition, in parts, in stacks, over steps, and after a restart."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.special import digamma, gammaln
from torch.nn import functional

from rlmba.config import ModelConfig, RunConfig, TrainingConfig
from rlmba.data import InMemoryDataset
from rlmba.errors import UsageError
from rlmba.method import efda
from rlmba.models import build_classifier
from rlmba.models.fusion import LARGEST_EXP_LOGIT, bounded, dirichlet
from rlmba.training import (
    FitCheckpoint,
    LabeledSamples,
    Loader,
    evaluate,
    fit,
    fit_stacked,
    fit_temperatures,
    head_log_probs,
    predict,
)
from rlmba.training.loss import (
    EvidentialTerm,
    evidential_loss,
    evidential_term,
    head_counts,
    multimodal_loss,
    part_loss,
)
from tests.helpers.float64 import in_float64

EVIDENCE = ["softplus", "exp", "relu"]
FORMS = ["digamma", "type-ii"]
C = 4


def configured(**evidential):
    return TrainingConfig(
        loss="evidential",
        evidential=evidential,
        minibatch_size=8,
        learning_rate=1e-2,
        precision="fp32",
    )


def naive(alpha, y, form, kl_weight):
    """The loss of one sample, in float64, term by term."""
    function = digamma if form == "digamma" else np.log
    loss = function(alpha.sum()) - function(alpha[y])
    wrong = np.where(np.arange(len(alpha)) == y, 1.0, alpha)
    total = wrong.sum()
    kl = gammaln(total) - gammaln(wrong).sum() - gammaln(len(alpha))
    for a in wrong:
        kl += (a - 1) * (digamma(a) - digamma(total))
    return loss + kl_weight * kl


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kl_weight", [0.0, 0.7])
def test_the_loss_is_its_definition(rng, form, kl_weight):
    alpha = 1 + rng.exponential(5, size=(20, C))
    alpha[0] = 1.0
    y = rng.integers(C, size=20)
    term = EvidentialTerm(form, kl_weight)
    expected = [naive(a, k, form, kl_weight) for a, k in zip(alpha, y, strict=True)]
    found = evidential_loss(torch.from_numpy(alpha), torch.from_numpy(y), term)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("evidence", EVIDENCE)
@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_finite_differences(rng, evidence, form):
    y = torch.from_numpy(rng.integers(C, size=5))
    present = torch.tensor([[1, 1], [1, 0], [0, 1], [1, 1], [0, 0]], dtype=torch.bool)
    w = torch.tensor([0.3, 0.7], dtype=torch.float64)

    def loss(a, b):
        heads = dirichlet({"a": bounded(a, evidence), "b": b}, w, present, evidence)
        return sum(evidential_loss(h, y, EvidentialTerm(form, 0.4)).sum() for h in heads.values())

    logits = [torch.from_numpy(rng.normal(size=(5, C))).requires_grad_() for _ in range(2)]
    assert torch.autograd.gradcheck(loss, logits)


@pytest.mark.parametrize("evidence", EVIDENCE)
@pytest.mark.parametrize("form", FORMS)
def test_loss_and_gradient_are_finite_for_extreme_logits(evidence, form):
    z = torch.tensor([[3e4, -3e4, 0.0], [-1e30, -1e30, -1e30], [1e4, 1e4, 1e4]])
    z.requires_grad_()
    alpha = dirichlet({"a": bounded(z, evidence)}, torch.ones(1), None, evidence)["a"]
    loss = evidential_loss(alpha, torch.tensor([1, 0, 2]), EvidentialTerm(form, 1.0))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(z.grad).all()
    assert float(z.grad.abs().max()) < 10
    if evidence == "exp":
        assert float(alpha.detach().max()) == pytest.approx(1 + np.exp(LARGEST_EXP_LOGIT))


@pytest.mark.parametrize("evidence", EVIDENCE)
def test_fusion_of_tensors_is_that_of_arrays(rng, evidence):
    """Eq 3 in training is Eq 3 in scoring, also for samples that lack a modality."""
    z = {m: rng.normal(size=(6, C)) for m in "ab"}
    w = np.array([0.2, 0.8])
    present = np.array([[1, 1], [1, 0], [0, 1], [1, 1], [1, 0], [1, 1]], dtype=bool)
    tensors = {m: torch.from_numpy(a) for m, a in z.items()}
    for there in (None, present):
        mask = None if there is None else torch.from_numpy(there)
        found = dirichlet(tensors, torch.from_numpy(w), mask, evidence)
        alphas = [efda.dirichlet(a, 1.0, evidence) for a in z.values()]
        expected = efda.fuse(alphas, efda.sample_weights(w, there))
        np.testing.assert_allclose(found["mm"], expected, rtol=1e-12)
        for alpha, m in zip(alphas, "ab", strict=True):
            np.testing.assert_allclose(found[m], alpha, rtol=1e-8)
    nothing = dirichlet(tensors, torch.from_numpy(w), torch.zeros(6, 2, dtype=torch.bool), evidence)
    assert (nothing["mm"] == 1).all()


def test_lambda_rises_over_the_share_of_steps():
    config = configured(kl_weight=0.4, annealing=0.5, form="digamma", fused_head=False)
    weights = [evidential_term(config, step, 20).kl_weight for step in range(20)]
    np.testing.assert_allclose(weights[:11], 0.4 * np.arange(11) / 10)
    assert set(weights[10:]) == {0.4}
    assert evidential_term(config, 0, 20)[0::2] == ("digamma", False)
    assert evidential_term(configured(kl_weight=0.4, annealing=0), 0, 20).kl_weight == 0.4
    assert evidential_term(TrainingConfig(), 3, 20) is None


def dataset(present=None, n=60):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    arrays = {
        "image": rng.normal(size=(n, 5)) + 2 * np.eye(3, 5)[labels],
        "text": rng.normal(size=(n, 6)) + labels[:, None],
    }
    return InMemoryDataset(
        "made",
        arrays,
        kinds=dict.fromkeys(arrays, "features"),
        labels=labels,
        classes=["a", "b", "c"],
        ids=[f"s{i}" for i in range(n)],
        split=np.arange(n) >= 50,
        present=present,
    )


def network(data, config, *, seed=0, fusion="amcb", weights=(0.3, 0.7), dropout=0.2):
    model = build_classifier(
        data.modalities,
        3,
        ModelConfig(width=8, dropout=dropout),
        fusion,
        seed=seed,
        evidential=config.evidential_heads,
    )
    model.set_fusion_weights(weights)
    return in_float64(model)


def partial(n=60):
    present = np.random.default_rng(1).random((n, 2)) < 0.6
    present[:, 0] |= ~present.any(axis=1)
    return present


@pytest.mark.parametrize("fused_head", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_the_loss_of_a_network_sums_its_heads_and_its_parts(fused_head, form):
    config = configured(fused_head=fused_head, form=form)
    term = EvidentialTerm(form, 0.3, fused_head)
    data = dataset(partial())
    model = network(data, config).eval()
    batch = data.load(np.arange(20), train=False, generator=torch.Generator())
    inputs = {m: x.double() for m, x in batch.inputs.items()}
    y, there = torch.from_numpy(data.labels[:20]), batch.present.clone()
    there[:3] = False  # their files turned out to be unreadable
    output = model(inputs, there)
    found = multimodal_loss(output, y, there, term=term)
    some = there.any(dim=1)
    parts = [(output.dirichlet["mm"], some)]
    parts += [(output.dirichlet[m], there[:, k]) for k, m in enumerate(model.names)]
    expected = sum(
        np.mean(
            [
                naive(a, k, form, 0.3)
                for a, k in zip(alpha[rows].detach().numpy(), y[rows], strict=True)
            ]
        )
        for alpha, rows in parts
    )
    if fused_head:
        expected += functional.cross_entropy(output.fused_logits[some], y[some]).item()
    else:
        alpha = output.dirichlet["mm"]
        torch.testing.assert_close(
            output.fused_logits.softmax(dim=1), alpha / alpha.sum(dim=1, keepdim=True)
        )
    assert float(found) == pytest.approx(expected, rel=1e-9)

    rows = [slice(0, 3), slice(3, 4), slice(4, 20)]
    counts = sum(head_counts(r.stop - r.start, there[r], 2, y) for r in rows)
    total = torch.zeros(())
    for r in rows:
        of_part = model({m: x[r] for m, x in inputs.items()}, there[r])
        total = total + part_loss(of_part, y[r], there[r], counts, term=term)
    torch.testing.assert_close(total, found)


@pytest.mark.parametrize("evidential", [{}, {"fused_head": False, "evidence": "softplus"}], ids=str)
def test_stacks_train_as_alone(evidential):
    config = configured(annealing=0.6, **evidential)
    data = dataset()
    weights = [(0.3, 0.7), (0.5, 0.5), (0.9, 0.1)]
    together = [network(data, config, seed=k, weights=w) for k, w in enumerate(weights)]
    alone = copy.deepcopy(together)
    rng = np.random.default_rng(5)
    drawn = [rng.permutation(50)[:20] for _ in together]
    samples = [LabeledSamples(p, data.labels[p], 10 + k) for k, p in enumerate(drawn)]
    found = fit_stacked(together, Loader(data), samples, config, epochs=4)
    for model, other, s, diagnostics in zip(together, alone, samples, found, strict=True):
        expected = fit(other, Loader(data), s.positions, s.labels, config, epochs=4, seed=s.seed)
        for name, values in other.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], values, msg=name)
        assert vars(diagnostics) == pytest.approx(vars(expected))


def learned(evidential, data=None, *, n=40, **more):
    data = dataset() if data is None else data
    config = configured(**evidential)
    model = network(data, config, dropout=0.0)
    fit(model, Loader(data), np.arange(n), data.labels[:n], config, epochs=20, seed=0, **more)
    return model, data


@pytest.mark.parametrize("evidence", EVIDENCE)
@pytest.mark.parametrize("fused_head", [True, False])
def test_evidence_is_learned_and_says_how_outputs_are_read(evidence, fused_head):
    model, data = learned({"evidence": evidence, "fused_head": fused_head}, dataset(partial()))
    outputs = predict(model, Loader(data), np.arange(60), batch_size=16)
    y = data.labels
    assert outputs.evidence == evidence
    assert outputs.take(np.arange(3)).evidence == evidence
    temperatures = fit_temperatures(outputs, y, fused_head=fused_head)
    assert [temperatures[m] for m in model.names] == [1.0, 1.0]
    assert (temperatures["mm"] == 1.0) is not fused_head
    log_p = head_log_probs(outputs, temperatures=temperatures)
    for m, logits in outputs.logits.items():
        alpha = efda.dirichlet(logits, 1.0, evidence)
        np.testing.assert_allclose(np.exp(log_p[m]), alpha / alpha.sum(1, keepdims=True), rtol=1e-9)
    assert evaluate(outputs, y, temperatures=temperatures).mm.top1 > 0.6
    hard = efda.difficulty(outputs, np.array([0.3, 0.7]), np.ones(2))
    same = efda.difficulty(outputs, np.array([0.3, 0.7]), np.ones(2), evidence="relu")
    np.testing.assert_array_equal(hard.fused, same.fused)  # the trained function decides
    pooled = head_log_probs(outputs, predictor="pooled", temperatures=temperatures)["mm"]
    total = log_p["mm"] + sum(
        log_p[m] * outputs.present[:, k, None] for k, m in enumerate(model.names)
    )
    np.testing.assert_allclose(pooled, total - np.logaddexp.reduce(total, axis=1)[:, None])


def test_wrong_evidence_is_penalized():
    """A larger lambda leaves less evidence of other classes."""
    left = []
    for kl_weight in (0.0, 1.0):
        model, data = learned({"kl_weight": kl_weight, "annealing": 0.0})
        outputs = predict(model, Loader(data), np.arange(40), batch_size=64)
        e = efda.dirichlet(outputs.logits["image"], 1.0, "exp") - 1
        left.append(e.sum(1) - e[np.arange(40), data.labels[:40]])
    assert left[1].mean() < left[0].mean()


def test_a_saved_training_continues_with_its_lambda(tmp_path):
    """With the wrong step after the restart, the penalty and so the weights would differ."""
    expected, _ = learned({"kl_weight": 1.0, "annealing": 1.0})

    class Stop(Exception):
        pass

    def stop(done, total):
        if done == 60:
            raise Stop

    file = tmp_path / "fit.safetensors"
    with pytest.raises(Stop):
        learned(
            {"kl_weight": 1.0, "annealing": 1.0},
            checkpoint=FitCheckpoint(file, 1e-9, {}),
            progress=stop,
        )
    seen = []
    model, _ = learned(
        {"kl_weight": 1.0, "annealing": 1.0},
        checkpoint=FitCheckpoint(file, 60.0, {}),
        progress=lambda done, total: seen.append(done),
    )
    assert seen[0] > 50
    for name, values in expected.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], values, msg=name)


def test_what_needs_a_fused_head_is_refused():
    from rlmba.config import load_config
    from rlmba.learner.settings import strategy_options

    evidential = {"loss": "evidential", "evidential": {"fused_head": False}}
    with pytest.raises(UsageError, match="fusion adaptive: expected a fused head"):
        load_config(overrides={"fusion": "adaptive", "training": evidential})
    for strategy in ("bald", "bmmal", "deepfool"):
        config = RunConfig(strategy=strategy, training=evidential)
        with pytest.raises(UsageError, match=f"'{strategy}' needs a fused head"):
            strategy_options(config)
    for strategy in ("rlmba", "badge", "margin", "random"):
        strategy_options(RunConfig(strategy=strategy, training=evidential))
