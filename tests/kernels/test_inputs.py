"""Arrays of every layout, byte order and library: read like plain ones, or refused with a name and a cure."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch

import rlmba
from rlmba import kernels
from rlmba.errors import DataError, RlmbaWarning, ShapeError
from rlmba.kernels.common import arrays, device
from tests.helpers.every_kernel import CASES, ON_GPU, assert_same


def misaligned(a):
    """A copy that starts one byte off."""
    memory = np.empty(a.nbytes + 1, np.uint8)
    copy = memory[1:].view(a.dtype).reshape(a.shape)
    copy[...] = a
    return copy


def swapped(a):
    return a.astype(a.dtype.newbyteorder("S"))


def field(a):
    """A field of packed records, which lie one byte further apart than the numbers are wide."""
    records = np.zeros(a.shape, [("tag", "u1"), ("value", a.dtype)])
    records["value"] = a
    return records["value"]


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


FORMS = {
    "misaligned": misaligned,
    "swapped": swapped,
    "both": lambda a: misaligned(swapped(a)),
    "field": field,
    "reversed": lambda a: a[::-1].copy()[::-1],
    "columns first": np.asfortranarray,
    "read only": read_only,
}


def given(case, rng, dtype="float32"):
    return case.arrays(rng, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CASES)
def test_every_layout_is_read_alike(rng, name, form, dtype):
    case = CASES[name]
    plain = given(case, rng, dtype)
    odd = {k: FORMS[form](a) for k, a in plain.items()}
    before = {k: a.copy() for k, a in odd.items()}
    assert_same(case.call(*odd.values()), case.call(*plain.values()))
    for k, a in odd.items():
        np.testing.assert_array_equal(a, before[k])


@pytest.mark.parametrize(("name", "backend"), ON_GPU)
def test_every_layout_is_read_alike_on_gpu(rng, name, backend):
    case = CASES[name]
    plain = given(case, rng)
    odd = {k: misaligned(swapped(a)) for k, a in plain.items()}
    assert_same(
        case.call(*odd.values(), backend=backend), case.call(*plain.values(), backend=backend)
    )


def test_the_extension_itself_refuses_misaligned_memory():
    core = pytest.importorskip("rlmba._core")
    with pytest.raises(ValueError, match="aligned"):
        core.top_k(misaligned(np.arange(4.0)), np.empty(2, np.int64))
    with pytest.raises(ValueError, match="aligned"):
        core.minmax(np.ones((4, 1)), None, misaligned(np.ones((4, 1))))


def test_tensors_may_be_misaligned_too():
    x = np.arange(12.0).reshape(4, 3)
    t = torch.frombuffer(bytearray(b"\0" + x.tobytes()), dtype=torch.float64, offset=1).reshape(
        4, 3
    )
    assert device.tensor(t).data_ptr() % 8 == 0
    assert_same(kernels.k_center(t, 2), kernels.k_center(torch.from_numpy(x), 2))


def test_a_mapped_file_is_read_in_place_or_said_to_be_copied(tmp_path):
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    (tmp_path / "x").write_bytes(b"\0" + x.tobytes() + x.tobytes())
    odd = np.memmap(tmp_path / "x", np.float32, "r", offset=1, shape=(4, 3))
    with pytest.warns(
        RlmbaWarning, match=r"features: the memory-mapped array .*misaligned.*copied whole"
    ):
        assert kernels.k_center(odd, 1).indices == kernels.k_center(x, 1).indices
    (tmp_path / "y").write_bytes(x.tobytes())
    even = np.memmap(tmp_path / "y", np.float32, "r", shape=(4, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert arrays.as_float(even, "x", ndim=2).ctypes.data == even.ctypes.data
    with pytest.warns(RlmbaWarning, match="not stored row by row"):
        kernels.k_center(even.reshape(3, 4).T, 1)


@pytest.mark.parametrize("backend", ["cpu", "reference", "triton"])
def test_output_is_never_written_to_a_copy(backend):
    """What is returned is what was passed: an array that would have to be converted is refused."""
    x = np.array([[1.0], [3.0]], np.float32)
    for out in (
        misaligned(np.zeros_like(x)),
        swapped(np.zeros_like(x)),
        read_only(np.zeros_like(x)),
        torch.zeros(2, 1, dtype=torch.bfloat16),
        torch.zeros(2, 1).to_sparse(),
    ):
        with pytest.raises(ShapeError, match="out"):
            kernels.minmax(x, out=out, backend=backend)
    out = torch.zeros(2, 1)
    assert kernels.minmax(torch.from_numpy(x), out=out, backend=backend) is out
    assert out.tolist() == [[0.0], [1.0]]


def tables(library):
    """How a library holds an array of one axis, and of two."""
    module = pytest.importorskip(library)
    if library == "pandas":
        return lambda a: module.DataFrame(a) if a.ndim == 2 else module.Series(a)
    if library == "polars":
        return lambda a: module.DataFrame(a) if a.ndim == 2 else module.Series(a)

    def held(a):
        if a.ndim == 1:
            return module.array(a)
        return module.table({f"c{i}": module.chunked_array([c]) for i, c in enumerate(a.T)})

    return held


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("name", [n for n in CASES if n != "bald_score"])
def test_tables_are_read_like_arrays(rng, name, library):
    held, case = tables(library), CASES[name]
    plain = given(case, rng)
    assert_same(case.call(*map(held, plain.values())), case.call(*plain.values()))


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_select_reads_tables(rng, library):
    held = tables(library)
    x, logits = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    plain = rlmba.select("coreset", n=4, features=x, labeled=np.array([3, 5])).positions
    mask = np.isin(np.arange(20), [3, 5])
    for labeled in (held(np.array([3, 5])), held(mask)):
        chosen = rlmba.select("coreset", n=4, features=held(x), labeled=labeled).positions
        assert chosen.tolist() == plain.tolist()
    found = rlmba.select("coreset", n=4, features=held(x), labeled=held(x[:2])).positions
    assert (
        found.tolist() == rlmba.select("coreset", n=4, features=x, labeled=x[:2]).positions.tolist()
    )
    modalities = {"a": held(x), "b": held(x[:, ::-1].copy())}
    more = {"weights": held(np.array([0.5, 0.5])), "present": held(np.ones((20, 2), int)), "rng": 0}
    by_name = {"a": held(logits), "b": held(logits)}
    rlmba.select("rlmba", n=2, features=modalities, logits=by_name, **more)


def test_tables_keep_their_types():
    pd, pl, pa = map(pytest.importorskip, ("pandas", "polars", "pyarrow"))
    mixed = {"a": [1, 2], "b": [True, False], "c": [0.5, 1.5]}
    for table in (pd.DataFrame(mixed), pl.DataFrame(mixed), pa.table(mixed)):
        assert arrays.to_numpy(table).tolist() == [[1, 1, 0.5], [2, 0, 1.5]]
    for column in (
        pd.array([1, 2], dtype="Int64"),
        pd.Series([1, 2], dtype="int64[pyarrow]"),
        pd.RangeIndex(1, 3),
        pl.Series([1, 2]),
        pa.chunked_array([[1], [2]]),
    ):
        found = arrays.to_numpy(column)
        assert found.dtype.kind == "i"
        assert found.tolist() == [1, 2]
    lists = [[1.0, 2.0], [3.0, 4.0]]
    for column in (pl.Series(lists), pa.array(lists), pa.array(lists, pa.list_(pa.float64(), 2))):
        assert arrays.to_numpy(column).tolist() == lists
    assert arrays.to_numpy(pd.DataFrame(index=range(3))).shape == (3, 0)


def refused(x):
    """What kernels and ``select`` say of features that they cannot read."""
    said = set()
    for call in (
        lambda: kernels.k_center(x, 1),
        lambda: kernels.k_center(x, 1, backend="triton"),
        lambda: kernels.min_distance(np.ones((2, 2)), x),
        lambda: rlmba.select("coreset", n=1, features=x),
        lambda: rlmba.select("coreset", n=1, features=np.ones((3, 2)), labeled=x),
    ):
        with pytest.raises((ShapeError, DataError)) as error:
            call()
        said.add(str(error.value))
    return said


@pytest.mark.parametrize("backend", ["triton"])
def test_sparse_and_other_foreign_arrays_are_named(backend):
    sparse = pytest.importorskip("scipy.sparse")
    x = np.ones((3, 2))
    dense = torch.ones(3, 2)
    for foreign, wanted in (
        (sparse.csr_matrix(x), r"csr_matrix; call .toarray\(\)"),
        (sparse.coo_array(x), r"coo_array; call .toarray\(\)"),
        (dense.to_sparse(), r"sparse tensor .*call .to_dense\(\)"),
        (dense.to("meta"), "device meta, which has no values"),
        (dense.to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (dense.to(torch.complex64), "real numbers.*complex64"),
    ):
        for message in refused(foreign):
            assert re.search(wanted, message), message


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: np.ma.masked_array(np.ones((3, 2)), np.eye(3, 2)), "masked array"),
        (lambda: np.ones((3, 2), complex), "real numbers, got dtype complex128"),
        (lambda: np.array([["a", "b"]]), "real numbers, got dtype <U1"),
        (lambda: np.array([[1, None]], dtype=object), "real numbers, got dtype object"),
        (lambda: np.ones((3, 2), np.longdouble), "real numbers, got dtype"),
        (lambda: np.array(3.0), r"got shape \(\)"),
        (lambda: {1, 2}, "got set; wrap it in numpy.asarray"),
        (lambda: 3, "got int; wrap it in numpy.asarray"),
        (
            lambda: np.array([[2**53 + 1, 1]]),
            "9007199254740993: expected integers that float64 holds",
        ),
        (lambda: np.array([[2**64 - 1]], np.uint64), "expected integers that float64 holds"),
    ],
)
def test_what_holds_no_real_numbers_is_named(make, wanted):
    for backend in ("cpu", "reference"):
        with pytest.raises((ShapeError, DataError), match=wanted):
            kernels.k_center(make(), 1, backend=backend)
    with pytest.raises((ShapeError, DataError), match=wanted):
        device.as_float(make(), "x", ndim=2)


def test_columns_without_numbers_are_named():
    pd, pl, pa = map(pytest.importorskip, ("pandas", "polars", "pyarrow"))
    text = {"size": [1.0, 2.0], "name": ["a", "b"]}
    for table, wanted in (
        (pd.DataFrame(text), "column 'name'"),
        (pl.DataFrame(text), "column 'name' of dtype String"),
        (pa.table(text), "column 'name' of dtype string"),
        (pd.DataFrame({"kind": pd.Categorical(["a", "b"])}), "column 'kind' of dtype category"),
        (pd.DataFrame({"n": pd.array([1, None], dtype="Int64")}), "column 'n' with 1 missing"),
        (pl.DataFrame({"n": [1.0, None]}), "column 'n' with 1 missing"),
        (pa.table({"n": [1.0, None]}), "column 'n' with 1 missing"),
        (pl.LazyFrame(text), r"LazyFrame; call .collect\(\)"),
        (pd.DataFrame({"s": pd.arrays.SparseArray([0.0, 1.0])}), r"call .sparse.to_dense\(\)"),
        (pa.array([[1.0], [2.0, 3.0]]), "lists of one length"),
    ):
        with pytest.raises(ShapeError, match=f"x: .*{wanted}"):
            kernels.kmeans_plusplus(table, 1, rng=0)


class Lies:
    """Says that it can hand its memory over by DLPack, and does not."""

    def __init__(self, device=(1, 0)):
        self.device = device

    def __dlpack__(self, **options):
        raise RuntimeError("not today")

    def __dlpack_device__(self):
        if self.device is None:
            raise ValueError("nowhere")
        return self.device


@pytest.mark.parametrize("where", [(1, 0), None])
def test_arrays_that_lie_are_named(where):
    for call in (
        lambda x: kernels.k_center(x, 1),
        lambda x: device.tensor(x, "x"),
        lambda x: rlmba.select("coreset", n=1, features=x),
    ):
        with pytest.raises(ShapeError, match=r"Lies that cannot be read \((not today|nowhere)\)"):
            call(Lies(where))


def test_plain_arrays_in_disguise_are_read():
    x = np.arange(12.0).reshape(4, 3)
    expected = kernels.k_center(x, 2)
    disguises = (
        np.asmatrix(x),
        x.view(np.recarray),
        torch.from_numpy(x).requires_grad_(),
        torch.from_numpy(-x)._neg_view(),
    )
    for disguise in disguises:
        assert_same(kernels.k_center(disguise, 2), expected)


def test_numbers_beyond_the_dtype_computed_with_are_named():
    """They are finite as given, so that a check before the conversion would let them pass."""
    x = np.zeros((3, 2), np.float32)
    huge = np.array([[0.0, 0.0], [0.0, 1e300]])
    wanted = r"\[1, 1\] is 1e\+300: expected numbers that float32 holds"
    for backend in ("cpu", "reference"):
        with pytest.raises(DataError, match="labeled" + wanted):
            kernels.k_center(x, 1, labeled=huge, backend=backend)
        with pytest.raises(DataError, match=r"scales\[1, 0\] is 1e\+300: .*float32"):
            kernels.gradient_kmeans_plusplus(
                x, x, 1, rng=0, scales=np.array([[1.0], [1e300], [1.0]]), backend=backend
            )
        with pytest.raises(DataError, match=r"distances\[1\] is 1e\+300: .*float32"):
            kernels.fused_score([x], [1.0], distances=np.array([0.0, 1e300, 0.0]), backend=backend)


@pytest.mark.parametrize("backend", ["triton"])
def test_numbers_beyond_the_dtype_are_named_on_gpu(backend):
    x = np.zeros((3, 2), np.float32)
    huge = np.array([[0.0, 0.0], [0.0, 1e300]])
    with pytest.raises(DataError, match=r"labeled\[1, 1\] is 1e\+300: .*float32"):
        kernels.k_center(x, 1, labeled=huge, backend=backend)
    with pytest.raises(DataError, match=r"scales\[1, 0\] is 1e\+300: .*float32"):
        kernels.gradient_kmeans_plusplus(
            x, x, 1, rng=0, scales=np.array([[1.0], [1e300], [1.0]]), backend=backend
        )
    with pytest.raises(DataError, match=r"distances\[1\] is 1e\+300: .*float32"):
        kernels.fused_score([x], [1.0], distances=np.array([0.0, 1e300, 0.0]), backend=backend)
