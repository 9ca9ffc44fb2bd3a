from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rlmba import kernels
from rlmba.errors import BackendError, DataError, NonFiniteError, ShapeError, UsageError
from rlmba.kernels.dirichlet_variance import reference, spec
from tests.helpers.accelerated import BACKENDS as GPU
from tests.helpers.accelerated import device, on_gpu

BACKENDS = ["cpu", "reference", "triton", "cuda"]
EVIDENCE = ["softplus", "exp", "relu"]

pytestmark = pytest.mark.usefixtures("poisoned")


def logits(rng, shape, dtype, spread=60.0):
    return rng.uniform(-spread, spread, size=shape).astype(dtype)


def assert_close(actual, expected, dtype, factor=1.0):
    tolerance = spec.RELATIVE_TOLERANCE[np.dtype(dtype).name] * factor
    assert actual.dtype == dtype
    tiny = np.finfo(dtype).tiny
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tiny)


def exact_alpha(row):
    """Eq 4 in rational numbers, term by term."""
    alpha = [Fraction(float(a)) for a in row]
    total = sum(alpha)
    return float(sum(a * (total - a) / (total**2 * (total + 1)) for a in alpha) / len(alpha))


def exact_logits(row, temperature, evidence):
    """Eq 4 in 250 decimal digits, term by term."""
    with localcontext() as context:
        context.prec = 250  # total - a must keep its digits where a is exp(162)
        z = [Decimal(float(v)) / Decimal(temperature) for v in row]
        apply = {
            "softplus": lambda v: (1 + v.exp()).ln(),
            "exp": lambda v: v.exp(),
            "relu": lambda v: max(v, Decimal(0)),
        }[evidence]
        alpha = [1 + apply(v) for v in z]
        total = sum(alpha)
        terms = [a * (total - a) / (total**2 * (total + 1)) for a in alpha]
        return float(sum(terms) / len(alpha))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("evidence", EVIDENCE)
def test_exact_answer_from_logits(rng, dtype, backend, evidence):
    x = logits(rng, (40, 5), dtype)
    x[:5] = [60, -60, -60, -60, -60]
    x[5:10] = [60, 60, -60, -60, -60]
    x[10:15] = -60
    for temperature in (1.0, 0.37, 2.5) if backend in ("cpu", "reference") else (0.37,):
        u = kernels.dirichlet_variance(
            x, kind="logits", temperature=temperature, evidence=evidence, backend=backend
        )
        assert_close(u, [exact_logits(r, temperature, evidence) for r in x], dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("backend", BACKENDS)
def test_exact_answer_from_alpha(rng, dtype, backend):
    x = np.exp(rng.uniform(-40, 40, size=(60, 6))).astype(dtype)
    x[0] = [1e8, 1, 1, 1, 1, 1]
    x[1] = [1e-30, 1e-30, 1e-30, 1e-30, 1e-30, 1e30]
    x[2] = np.finfo(dtype).max
    x[3] = np.finfo(dtype).tiny
    u = kernels.dirichlet_variance(x, backend=backend)
    assert_close(u, [exact_alpha(r) for r in x], dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", spec.SHAPES)
@pytest.mark.parametrize("evidence", [*EVIDENCE, "alpha"])
def test_every_instruction_set_matches_reference(rng, isa, shape, dtype, evidence):
    options = {"kind": "alpha"}
    if evidence != "alpha":
        options = {"kind": "logits", "evidence": evidence}
    for spread in (3.0, 60.0):
        x = [logits(rng, shape, dtype, spread) for _ in range(3)]
        if evidence == "alpha":
            x = [np.exp(a / 10) for a in x]
        else:
            options["temperature"] = [0.5, 1.0, 3.0]
        w = rng.dirichlet(np.ones(3), size=shape[0])
        wide = [a.astype(np.float64) for a in x]
        expected = kernels.dirichlet_variance(wide, weights=w, backend="reference", **options)
        actual = kernels.dirichlet_variance(x, weights=w, backend="cpu", **options)
        assert_close(actual.fused, expected.fused, dtype)
        assert_close(actual.modality, expected.modality, dtype)
        if evidence != "alpha":
            options["temperature"] = 0.5
        single = kernels.dirichlet_variance(x[0], backend="cpu", **options)
        assert single.shape == shape[:1]
        assert_close(single, expected.modality[:, 0], dtype)


@pytest.mark.parametrize("evidence", EVIDENCE)
def test_every_float_of_a_range_is_accurate(isa, evidence):
    # Two classes, the other at 0: an error of the vector exp or log1p shows undiluted.
    # Beyond 25 exp's variance leaves float32's range of full precision.
    span = 25 if evidence == "exp" else 60
    x = np.linspace(-span, span, 400_003, dtype=np.float32)
    pair = np.stack([x, np.zeros_like(x)], axis=1)
    options = {"kind": "logits", "evidence": evidence, "temperature": 0.9}
    u = kernels.dirichlet_variance(pair, backend="cpu", **options)
    expected = kernels.dirichlet_variance(pair.astype(float), backend="reference", **options)
    # Without a fused multiply-add the reduced argument of exp(x / T) is rounded once more.
    limit = 4e-6 if (isa, evidence) == ("generic", "exp") else 1e-6
    assert np.abs(u / expected - 1).max() < limit


def test_closed_form_equals_sum_of_variances(rng):
    alpha = rng.gamma(1.0, 3.0, size=(50, 9)) + 0.1
    total = alpha.sum(axis=1, keepdims=True)
    variance = alpha * (total - alpha) / (total**2 * (total + 1))
    np.testing.assert_allclose(kernels.dirichlet_variance(alpha), variance.mean(axis=1), rtol=1e-13)
    p = alpha / total
    closed = (1 - (p**2).sum(axis=1)) / (total[:, 0] + 1)
    np.testing.assert_allclose(variance.sum(axis=1), closed, rtol=1e-12)


def test_monte_carlo(rng):
    alpha = np.array([2.0, 0.7, 5.0])
    p = rng.dirichlet(alpha, size=400_000)
    assert kernels.dirichlet_variance(alpha[None])[0] == pytest.approx(
        p.var(axis=0).mean(), rel=0.01
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unit_weight_picks_its_modality_and_none_is_uniform(rng, backend, dtype):
    x = [logits(rng, (37, 19), dtype, 5.0) for _ in range(3)]
    for k in range(3):
        both = kernels.dirichlet_variance(x, kind="logits", weights=np.eye(3)[k], backend=backend)
        assert_close(both.fused, both.modality[:, k], dtype)
    uniform = kernels.dirichlet_variance(x, kind="logits", backend=backend)
    third = kernels.dirichlet_variance(x, kind="logits", weights=[1 / 3] * 3, backend=backend)
    np.testing.assert_array_equal(uniform.fused, third.fused)
    alpha = np.mean([1 + np.logaddexp(0, a.astype(float)) for a in x], axis=0)
    assert_close(uniform.fused, kernels.dirichlet_variance(alpha), dtype)


@pytest.mark.parametrize("backend", BACKENDS)
def test_evidence_beyond_the_range_of_floats(backend):
    x = np.array([[800.0, 0.0], [800.0, 800.0], [1e300, -1e300], [700.0, 700.0]])
    u = kernels.dirichlet_variance(x, kind="logits", evidence="exp", backend=backend)
    assert (u[:3] == 0).all()
    assert 0 < u[3] < 1e-300
    both = kernels.dirichlet_variance(
        [x, np.zeros_like(x)], kind="logits", evidence="exp", weights=[0.0, 1.0], backend=backend
    )
    np.testing.assert_allclose(both.fused, kernels.dirichlet_variance(np.full((4, 2), 2.0)))
    big = np.array([[3e38, -3e38, 3e38], [90.0, 90.0, -90.0]], dtype=np.float32)
    wide = kernels.dirichlet_variance(big.astype(float), kind="logits", backend="reference")
    assert_close(kernels.dirichlet_variance(big, kind="logits", backend=backend), wide, np.float32)
    hot = kernels.dirichlet_variance(big, kind="logits", evidence="exp", backend=backend)
    assert (hot == 0).tolist() == [True, False]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_class_is_certain(backend, dtype):
    x = np.array([[-3.0], [0.0], [50.0]], dtype=dtype)
    both = kernels.dirichlet_variance([x, x], kind="logits", backend=backend)
    assert (both.fused == 0).all()
    assert (both.modality == 0).all()


@settings(max_examples=60)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40),
        elements=st.floats(-60, 60, width=32),
    ),
    st.sampled_from(EVIDENCE),
    st.floats(0.1, 10),
)
def test_property_matches_reference_and_bounds(x, evidence, temperature):
    options = {"kind": "logits", "evidence": evidence, "temperature": temperature}
    u = kernels.dirichlet_variance(x, **options)
    expected = kernels.dirichlet_variance(x.astype(float), backend="reference", **options)
    # 600 = 60 / 0.1: exp(600) is far below float32's smallest.
    np.testing.assert_allclose(u, expected, rtol=1e-5, atol=1e-37)
    assert (u >= 0).all()
    assert (u <= 0.25 / x.shape[1] + 1e-7).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("options", [{"kind": "alpha"}, *({"evidence": e} for e in EVIDENCE)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("column", [3, 36])
def test_names_first_non_finite_row(rng, backend, bad, options, dtype, column):
    interpreted = backend == "triton" and device().type == "cpu"
    if interpreted and (column == 3 or dtype == np.float64):
        pytest.skip("interpreted for one column and dtype")
    options = {"kind": "logits", **options}
    n, first = (900, 617) if backend in ("cpu", "reference") else (90, 61)
    x = rng.uniform(0.5, 2, size=(n, 37)).astype(dtype)
    y = x.copy()
    x[[first, first + 20], column] = bad
    y[first + 10, 0] = bad
    with pytest.raises(NonFiniteError, match=rf"^x\[{first}, {column}\] is") as caught:
        kernels.dirichlet_variance(x, backend=backend, **options)
    assert caught.value.row == first
    if not interpreted or options.get("evidence") == "softplus":
        with pytest.raises(NonFiniteError, match=rf"^x\[1\]\[{first}, ") as caught:
            kernels.dirichlet_variance([y, x], backend=backend, **options)
        assert caught.value.row == first


def test_names_non_finite_on_every_instruction_set(isa):
    for evidence in EVIDENCE:
        for bad in (np.nan, np.inf, -np.inf):
            for column in (0, 20):
                x = np.zeros((3, 21), dtype=np.float32)
                x[1, column] = bad
                with pytest.raises(NonFiniteError, match=rf"x\[1, {column}\]"):
                    kernels.dirichlet_variance(x, kind="logits", evidence=evidence, backend="cpu")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [0.0, -1.0])
@pytest.mark.parametrize("column", [0, 19])
def test_alpha_must_be_positive(backend, bad, column):
    x = np.ones((8, 20), dtype=np.float32)
    x[5, column] = bad
    x[6, 3] = np.nan
    with pytest.raises(DataError, match=rf"x\[5, {column}\] is .*alpha > 0.*logits"):
        kernels.dirichlet_variance(x, backend=backend)


def test_layouts_and_kinds(rng):
    whole = logits(rng, (60, 50), np.float32, 6.0)
    rows = whole[::3, 5:22]
    expected = kernels.dirichlet_variance(np.ascontiguousarray(rows), kind="logits")
    np.testing.assert_array_equal(kernels.dirichlet_variance(rows, kind="logits"), expected)
    columns = np.asfortranarray(rows)
    np.testing.assert_array_equal(kernels.dirichlet_variance(columns, kind="logits"), expected)
    tensor = torch.from_numpy(whole)[::3, 5:22]
    out = kernels.dirichlet_variance(tensor, kind="logits")
    assert isinstance(out, torch.Tensor)
    np.testing.assert_array_equal(out.numpy(), expected)
    both = kernels.dirichlet_variance(
        [tensor, tensor.double()],
        kind="logits",
        temperature=torch.ones(2),
        weights=torch.full((20, 2), 0.5),
    )
    assert isinstance(both.fused, torch.Tensor)
    assert both.fused.dtype == both.modality.dtype == torch.float64
    assert both.modality.shape == (20, 2)
    half = kernels.dirichlet_variance(tensor.bfloat16(), kind="logits")
    assert half.dtype == torch.float32
    assert kernels.dirichlet_variance(np.array([[1, 1], [3, 1]])).tolist() == pytest.approx(
        [1 / 12, 3 / 80]
    )


def test_strided_rows_are_not_copied(monkeypatch, rng):
    x = logits(rng, (30, 40), np.float32)[::2, :33]
    monkeypatch.setattr(np, "ascontiguousarray", _refuse_matrices(np.ascontiguousarray))
    kernels.dirichlet_variance([x, x], kind="logits")


def _refuse_matrices(original):
    def check(a, *args, **options):
        assert np.size(a) < 100, "a copy of the input"
        return original(a, *args, **options)

    return check


def test_threads_do_not_matter_and_input_is_unchanged(rng, with_threads):
    x = [logits(rng, (5000, 23), np.float32) for _ in range(2)]
    before = [a.copy() for a in x]

    def call():
        return kernels.dirichlet_variance(x, kind="logits", weights=[0.2, 0.8])

    one, many = with_threads(1, call), with_threads(3, call)
    np.testing.assert_array_equal(one.fused, many.fused)
    np.testing.assert_array_equal(one.modality, many.modality)
    np.testing.assert_array_equal(x, before)


def test_first_bad_row_does_not_depend_on_threads(with_threads):
    x = np.zeros((4000, 5), dtype=np.float32)
    x[[300, 301, 2999, 3999], 2] = np.nan
    for n in (1, 2, 5):
        with pytest.raises(NonFiniteError) as caught:
            with_threads(n, lambda: kernels.dirichlet_variance(x, kind="logits"))
        assert caught.value.row == 300


def test_errors():
    x = np.ones((4, 3))
    call = kernels.dirichlet_variance
    with pytest.raises(UsageError, match="kind: expected 'alpha' or 'logits'"):
        call(x, kind="probability")
    with pytest.raises(UsageError, match="evidence: expected one of"):
        call(x, kind="logits", evidence="sigmoid")
    with pytest.raises(UsageError, match="at least one modality"):
        call([])
    with pytest.raises(ShapeError, match=r"x\[1\]: expected \[N, C\].*\(4, 2\) and \(4, 3\)"):
        call([x, x[:, :2]])
    with pytest.raises(ShapeError, match="C >= 1"):
        call(x[:, :0])
    with pytest.raises(ShapeError, match="2-D"):
        call(x[0])
    for temperature in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(UsageError, match="temperature: expected finite numbers > 0"):
            call(x, kind="logits", temperature=temperature)
    with pytest.raises(UsageError, match="temperature: expected a number or 1 numbers"):
        call(x, kind="logits", temperature=[1.0, 2.0])
    with pytest.raises(UsageError, match="temperature: alpha has none"):
        call(x, temperature=2.0)
    with pytest.raises(UsageError, match="temperature: expected numbers"):
        call(x, kind="logits", temperature="warm")
    with pytest.raises(UsageError, match="weights: expected a sequence"):
        call(x, weights=[1.0])
    with pytest.raises(ShapeError, match=r"weights: expected shape \(2,\) or \(4, 2\)"):
        call([x, x], weights=[1.0])
    for w in ([0.5, 0.6], [-0.5, 1.5], [np.nan, 1.0]):
        with pytest.raises(UsageError, match="weights: expected numbers >= 0 with sum 1"):
            call([x, x], weights=w)
    rows = np.full((4, 2), 0.5)
    rows[2] = 0
    with pytest.raises(DataError, match=r"weights\[2\]"):
        call([x, x], weights=rows)
    with pytest.raises(BackendError, match="available"):
        call(x, backend="tpu")


def test_records_its_backend():
    with kernels.record() as calls:
        kernels.dirichlet_variance(np.ones((2, 2)), backend="reference")
    assert calls == [kernels.Call("dirichlet_variance", "reference")]


def test_reference_evidence():
    z = np.array([[-700.0, 0.0, 700.0]])
    np.testing.assert_allclose(
        reference.evidence(z, "softplus", 1.0), [[np.exp(-700.0), np.log(2.0), 700.0]]
    )
    np.testing.assert_array_equal(reference.evidence(z, "relu", 2.0), [[0, 0, 350.0]])


GPU_SHAPES = [(0, 3), (1, 1), (1, 2), (33, 5), (31, 17), (3, 309)]


@pytest.mark.parametrize("backend", GPU)
@pytest.mark.parametrize("shape", GPU_SHAPES)
@pytest.mark.parametrize("evidence", [*EVIDENCE, "alpha"])
def test_gpu_matches_reference(rng, backend, shape, evidence):
    # 4 modalities go another way through the kernels than 1, 2 or 3.
    counts = {"cuda": (1, 2, 3, 4, 6), "triton": (2, 4) if shape == (33, 5) else (1,)}[backend]
    for count in counts:
        for dtype in (np.float32, np.float64) if count == 2 else (np.float32,):
            x = [logits(rng, shape, dtype, 20.0) for _ in range(count)]
            options = {"kind": "logits", "temperature": np.linspace(0.5, 2, count)}
            if evidence == "alpha":
                x, options = [np.exp(a / 3) for a in x], {"kind": "alpha"}
            else:
                options["evidence"] = evidence
            w = rng.dirichlet(np.ones(count), size=shape[0])
            wide = [a.astype(float) for a in x]
            expected = kernels.dirichlet_variance(wide, weights=w, backend="reference", **options)
            actual = kernels.dirichlet_variance(x, weights=w, backend=backend, **options)
            assert_close(actual.fused, expected.fused, dtype)
            assert_close(actual.modality, expected.modality, dtype)


@pytest.mark.parametrize("backend", GPU)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gpu_reads_half_precision_in_place(rng, backend, dtype):
    whole = torch.from_numpy(rng.normal(size=(37, 50)) * 8).to(dtype)
    # Rows at every place relative to 16 bytes; alike in the first two arrays, not in the third.
    x = [on_gpu(t) for t in (whole, whole.flip(0).contiguous(), torch.cat([whole] * 2, 1))]
    x = [x[0][1:, 3:44], x[1][1:, 3:44], x[2][1:, 5:46]]
    for count in (2, 3) if backend == "cuda" else (2,):
        options = {"kind": "logits", "temperature": 1.3, "weights": [0.25] * (count - 1)}
        options["weights"] = [*options["weights"], 1 - 0.25 * (count - 1)]
        wide = [a.double().cpu().numpy() for a in x[:count]]
        expected = kernels.dirichlet_variance(wide, backend="reference", **options)
        actual = kernels.dirichlet_variance(x[:count], backend=backend, **options)
        assert actual.fused.dtype == torch.float32
        assert actual.fused.device == x[0].device
        assert_close(actual.fused.cpu().numpy(), expected.fused, np.float32)
        assert_close(actual.modality.cpu().numpy(), expected.modality, np.float32)


@pytest.mark.parametrize("backend", GPU)
def test_gpu_streams_the_same_result(rng, backend):
    x = [logits(rng, (101, 13), np.float32, 6.0) for _ in range(2)]
    w = rng.dirichlet(np.ones(2), size=101)
    options = {"kind": "logits", "weights": w, "backend": backend}
    whole = kernels.dirichlet_variance(x, **options)
    for room in (32 * 2 * 13 * 4, 75 * 2 * 13 * 4):
        parts = kernels.dirichlet_variance(x, max_memory=room, **options)
        np.testing.assert_array_equal(parts.fused, whole.fused)
        np.testing.assert_array_equal(parts.modality, whole.modality)
    with pytest.raises(UsageError, match="max_memory: expected at least 3328 bytes"):
        kernels.dirichlet_variance(x, max_memory=3327, **options)
    x[1][77, 2] = np.nan
    with pytest.raises(NonFiniteError, match=r"x\[1\]\[77, 2\]"):
        kernels.dirichlet_variance(x, max_memory=3328, **options)


def test_max_memory_has_no_effect_on_the_cpu(rng):
    x = logits(rng, (50, 3), np.float32)
    whole = kernels.dirichlet_variance(x, kind="logits")
    np.testing.assert_array_equal(whole, kernels.dirichlet_variance(x, kind="logits", max_memory=1))


@pytest.mark.parametrize("backend", GPU)
def test_gpu_checks_arguments_like_the_cpu(backend):
    x = on_gpu(np.ones((4, 3)))
    call = kernels.dirichlet_variance
    rows = torch.full((4, 2), 0.5)
    rows[2] = 0
    with pytest.raises(DataError, match=r"weights\[2\]: expected numbers >= 0 with sum 1"):
        call([x, x], weights=on_gpu(rows), backend=backend)
    with pytest.raises(UsageError, match="weights: expected numbers >= 0 with sum 1"):
        call([x, x], weights=on_gpu(torch.tensor([0.5, 0.6])), backend=backend)
    with pytest.raises(ShapeError, match=r"weights: expected shape \(2,\) or \(4, 2\)"):
        call([x, x], weights=on_gpu(rows[1:]), backend=backend)
    with pytest.raises(ShapeError, match=r"x\[1\]: expected \[N, C\].*\(4, 2\) and \(4, 3\)"):
        call([x, x[:, :2]], backend=backend)
    with pytest.raises(UsageError, match="at most 64 modalities, got 65"):
        call([x] * 65, backend=backend)
    with pytest.raises(UsageError, match="temperature: expected finite"):
        call(x, kind="logits", temperature=-1.0, backend=backend)
    mixed = call([x.half(), x], kind="logits", backend=backend)
    assert mixed.fused.dtype == torch.float64


@pytest.mark.parametrize("backend", ["cpu", "cuda"])
def test_sums_of_many_equal_numbers(backend):
    # Adding one number over and over rounds the same way each time.
    for value in (0.3, 0.7310585, 5.1):
        x = np.full((2, 20_000), value, dtype=np.float32)
        expected = kernels.dirichlet_variance(x.astype(float), kind="logits", backend="reference")
        assert_close(
            kernels.dirichlet_variance(x, kind="logits", backend=backend), expected, np.float32
        )
