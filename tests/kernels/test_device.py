"""What GPU backends do around their kernels: arrays in and out, host memory in chunks, the row flag.

Without a GPU its part is played by the CPU, as it is for emulated kernels.
"""

from __future__ import annotations

import sys
import types
import warnings

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode

from rlmba.errors import NonFiniteError, ShapeError, UsageError
from rlmba.kernels.common import device
from tests.helpers import accelerated

pytestmark = pytest.mark.gpu
HERE = accelerated.device()


class Foreign:
    """An array of a library that knows DLPack and nothing of NumPy or torch."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


class Standard(Foreign):
    """One that follows the array API standard."""

    def __array_namespace__(self):
        return types.SimpleNamespace(from_dlpack=lambda x: Standard(np.from_dlpack(x)))


def host(rows, columns=3, dtype=torch.float32):
    return torch.arange(rows * columns, dtype=dtype).reshape(rows, columns)


def test_numpy_shares_memory_as_far_as_torch_can():
    x = np.arange(6.0).reshape(2, 3)
    t = device.tensor(x)
    t[0, 0] = 7
    assert x[0, 0] == 7
    back = device.tensor(x[::-1, ::-1])
    assert back.tolist() == x[::-1, ::-1].tolist()
    swapped = device.tensor(x.astype(x.dtype.newbyteorder("S")))
    assert swapped.tolist() == x.tolist()


def test_read_only_numpy_is_read_without_a_warning_or_a_copy():
    x = np.arange(3.0)
    x.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t = device.tensor(x)
    assert t.data_ptr() == x.ctypes.data


def test_tensors_are_detached_and_foreign_arrays_shared():
    x = torch.ones(3, requires_grad=True)
    assert not device.tensor(x).requires_grad
    assert device.tensor(x).data_ptr() == x.data_ptr()
    values = np.arange(3.0)
    assert device.tensor(Foreign(values)).data_ptr() == values.ctypes.data


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.bfloat16),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.int32, torch.float64),
        (torch.bool, torch.float64),
    ],
)
def test_floats_stay_as_they_are(given, expected):
    x = torch.ones(2, 3).to(given)
    t = device.as_float(x, "x", ndim=2)
    assert t.dtype == expected
    assert (t.data_ptr() == x.data_ptr()) == (given == expected)


def test_rows_may_be_strided_columns_not():
    x = host(6, 8)
    rows = device.as_float(x[::2, 1:4], "x", ndim=2)
    assert rows.data_ptr() == x[:, 1:].data_ptr()
    columns = device.as_float(x.T, "x", ndim=2)
    assert columns.stride(-1) == 1
    assert torch.equal(columns, x.T)
    assert device.as_float(x[:, ::8], "x", ndim=2).data_ptr() == x.data_ptr()


def test_ranks_and_dtypes_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"x: expected a 1-D or 2-D array, got shape \(1, 2, 3\)"):
        device.as_float(np.zeros((1, 2, 3)), "x", ndim=(1, 2))
    with pytest.raises(ShapeError, match=r"x: expected real numbers, got dtype complex64"):
        device.as_float(np.zeros(3, np.complex64), "x", ndim=1)


def test_result_dtype():
    half, single, double = (
        torch.zeros(1, dtype=t) for t in (torch.bfloat16, torch.float32, torch.float64)
    )
    assert device.result_dtype(half) == torch.float32
    assert device.result_dtype(half, single) == torch.float32
    assert device.result_dtype(half, double) == torch.float64


def test_results_come_back_as_they_were_given():
    result = torch.arange(3.0, device=HERE)
    as_numpy = device.like(result, np.zeros(1))
    assert isinstance(as_numpy, np.ndarray)
    assert as_numpy.tolist() == [0, 1, 2]
    as_tensor = device.like(result, torch.zeros(1))
    assert isinstance(as_tensor, torch.Tensor)
    assert as_tensor.device.type == "cpu"
    standard = device.like(result, Standard(np.zeros(1)))
    assert isinstance(standard, Standard)
    assert standard.values.tolist() == [0, 1, 2]
    on_gpu = device.like(result, accelerated.on_gpu(np.zeros(1)))
    assert on_gpu.data_ptr() == result.data_ptr()


def test_results_for_a_library_with_a_function_from_dlpack(monkeypatch):
    library = types.ModuleType("some_library")
    library.from_dlpack = lambda x: Foreign(np.from_dlpack(x))
    monkeypatch.setitem(sys.modules, "some_library", library)
    monkeypatch.setattr(Foreign, "__module__", "some_library.arrays")
    found = device.like(torch.arange(3.0, device=HERE), Foreign(np.zeros(1)))
    assert isinstance(found, Foreign)
    assert found.values.tolist() == [0, 1, 2]


def test_arrays_on_two_gpus_are_refused():
    with FakeTensorMode():  # tensors with a device and no memory
        first, second = (torch.empty(2, device=f"cuda:{i}") for i in range(2))
        assert device.compute_device(first, torch.empty(2)) == torch.device("cuda", 0)
    with pytest.raises(
        UsageError, match=r"all arrays on one GPU, got \['cuda:0', 'cuda:1'\]; move"
    ):
        device.compute_device(first, second)


def test_home_of_arrays_in_host_memory_is_the_current_gpu():
    assert device.compute_device(torch.zeros(1)) == HERE or HERE.index is None


def test_flag_names_a_row_once_lowered():
    flag = device.flag(HERE)
    assert device.read_flag(flag) is None
    flag.fill_(41)
    assert device.read_flag(flag) == 41


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_bad_row_is_named_as_other_backends_name_it(dtype):
    x = torch.ones(5, 3, dtype=dtype, device=HERE)
    x[3, 1:] = torch.inf
    with pytest.raises(NonFiniteError, match=r"^x\[3, 1\] is inf: .* repair row 3$") as caught:
        device.raise_non_finite(x, "x", 3)
    assert caught.value.row == 3
    with pytest.raises(NonFiniteError, match=r"^x\[3\] is inf"):
        device.raise_non_finite(x[:, 2], "x", 3)


class TestRows:
    def test_arrays_on_the_device_are_one_tile_read_in_place(self):
        x = host(7).to(HERE)
        rows = device.Rows([x, x[:, 0]], HERE)
        assert rows.resident
        assert rows.chunk == 7
        (tile,) = rows
        assert (tile.begin, tile.end) == (0, 7)
        assert tile.parts[0].data_ptr() == x.data_ptr()
        assert tile.parts[1].shape == (7,)

    @pytest.mark.parametrize("count", [1, 2, 7, 8, 9])
    @pytest.mark.parametrize("chunk", [1, 2, 4, 7])
    def test_host_memory_passes_in_chunks(self, count, chunk):
        x, y = host(count), host(count, 1, torch.float64)[:, 0]
        row = 3 * 4 + 8
        rows = device.Rows([x, y], HERE, max_memory=2 * row * chunk)
        tiles = [(t.begin, t.end, [p.clone() for p in t.parts]) for t in rows]
        if rows.resident:
            assert count <= 2 * chunk
        else:
            assert rows.chunk == chunk
            assert all(end - begin <= chunk for begin, end, _ in tiles)
        assert [begin for begin, _, _ in tiles] == [0, *(end for _, end, _ in tiles[:-1])]
        assert tiles[-1][1] == count
        assert torch.equal(torch.cat([p[0].cpu() for _, _, p in tiles]), x)
        assert torch.equal(torch.cat([p[1].cpu() for _, _, p in tiles]), y)
        assert all(p.device.type == HERE.type for _, _, parts in tiles for p in parts)

    def test_passing_twice_gives_the_same(self):
        rows = device.Rows([host(9)], HERE, max_memory=2 * 12 * 2)
        assert not rows.resident
        first, second = (torch.cat([t.parts[0].clone() for t in rows]) for _ in range(2))
        assert torch.equal(first, second)

    def test_a_pass_that_ends_early_leaves_the_next_whole(self):
        rows = device.Rows([host(9)], HERE, max_memory=2 * 12 * 2)
        for _ in rows:
            break
        assert torch.equal(torch.cat([t.parts[0].clone() for t in rows]).cpu(), host(9))

    def test_strided_rows(self):
        x = host(20, 8)[::2, 1:4]
        rows = device.Rows([x], HERE, max_memory=2 * 12 * 3)
        assert torch.equal(torch.cat([t.parts[0].clone() for t in rows]).cpu(), x)

    @pytest.mark.parametrize("max_memory", [None, 10**6, 2 * 12 * 2])
    def test_no_rows_no_tiles(self, max_memory):
        assert list(device.Rows([host(0)], HERE, max_memory=max_memory)) == []

    @pytest.mark.parametrize("max_memory", [None, 10**6, 2 * 12 * 2])
    def test_take(self, max_memory):
        x, y = host(9), host(9, 1)[:, 0]
        rows = device.Rows([x, y], HERE, max_memory=max_memory)
        where = torch.tensor([8, 0, 8])
        taken = rows.take(where.to(HERE))
        assert [t.device.type for t in taken] == [HERE.type] * 2
        assert torch.equal(taken[0].cpu(), x[where])
        assert torch.equal(taken[1].cpu(), y[where])

    def test_memory_for_less_than_two_rows(self):
        with pytest.raises(
            UsageError,
            match=r"max_memory: expected at least 24 bytes, two rows of 12, got 23",
        ):
            device.Rows([host(9)], HERE, max_memory=23)
        assert device.Rows([host(9)], HERE, max_memory=24).chunk == 1

    def test_two_kinds_of_memory(self):
        elsewhere = torch.empty(9, 3, device="meta")
        with pytest.raises(UsageError, match=r"one kind of memory, got \['cpu', 'meta'\]; move"):
            device.Rows([host(9), elsewhere], HERE)
