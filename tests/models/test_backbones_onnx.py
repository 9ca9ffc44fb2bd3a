"""Encoders in ONNX files, compared with onnxruntime itself, and files that are refused."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
import torch

from rlmba.data import Modality
from rlmba.errors import DataError, UsageError
from rlmba.models import build_encoder
from tests.helpers.backbones import WORDS, make, sample, texts

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

FLAT = Modality("vector", "features", (6,))
FLOAT, INT = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
WEIGHT = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
TABLE = np.random.default_rng(1).normal(size=(99, 4)).astype(np.float32)


def saved(path, nodes, inputs, outputs, weights, opset=17):
    """Write a graph; inputs and outputs are (name, type, shape)."""
    infos = [[onnx.helper.make_tensor_value_info(*v) for v in side] for side in (inputs, outputs)]
    tensors = [onnx.numpy_helper.from_array(v, k) for k, v in weights.items()]
    graph = onnx.helper.make_graph(nodes, "g", *infos, tensors)
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    made.ir_version = 9
    onnx.save(made, path)
    return f"onnx:{path}"


def linear(path, n="n", kind=FLOAT, outputs=("y",), opset=17):
    """Write a product with a matrix, with as many samples as ``n`` says."""
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], [y]) for y in outputs]
    dtype = np.float32 if kind == FLOAT else np.int64
    named = [(y, kind, [n, 4]) for y in outputs]
    weights = {"w": WEIGHT.astype(dtype)}
    return saved(path, nodes, [("x", kind, [n, 6])], named, weights, opset)


@pytest.mark.parametrize("n", ["n", 1, 3])
def test_any_number_of_samples_gives_the_networks_outputs(tmp_path, n):
    encoder = build_encoder(linear(tmp_path / "a.onnx", n), FLAT)
    assert encoder.out_features == 4
    for count in (0, 1, 3, 5):
        x = sample(FLAT, count)
        np.testing.assert_allclose(encoder(x).numpy(), x.numpy() @ WEIGHT, rtol=1e-5, atol=1e-6)


def test_padding_is_not_in_the_mean_over_tokens(tmp_path):
    nodes = [onnx.helper.make_node("Gather", ["table", "input_ids"], ["y"])]
    inputs = [("input_ids", INT, ["n", "T"]), ("attention_mask", INT, ["n", "T"])]
    name = saved(tmp_path / "t.onnx", nodes, inputs, [("y", FLOAT, None)], {"table": TABLE})
    x = texts([12, 5])
    expected = [TABLE[row[row != -1]].mean(axis=0) for row in x.numpy()]
    encoder = build_encoder(name, WORDS)
    np.testing.assert_allclose(encoder(x).numpy(), expected, rtol=1e-5)
    assert torch.isfinite(encoder(torch.full((1, 12), -1))).all()


def test_a_checkpoint_is_loaded_without_the_file(tmp_path):
    path = tmp_path / "a.onnx"
    first = build_encoder(linear(path), FLAT)
    x = sample(FLAT)
    state, blueprint = first.state_dict(), first.blueprint()
    assert first.weight_files(FLAT, str(path)) == (path,)
    path.unlink()
    second = build_encoder(f"onnx:{path}", FLAT, blueprint=blueprint)
    second.load_state_dict(state)
    for encoder in (second, copy.deepcopy(first)):
        torch.testing.assert_close(encoder(x), first(x), rtol=0, atol=0)


def test_one_of_two_outputs_is_named(tmp_path):
    name = linear(tmp_path / "two.onnx", outputs=("y", "z"))
    with pytest.raises(UsageError, match=r"outputs \['y', 'z'\]; name the one"):
        build_encoder(name, FLAT)
    with pytest.raises(UsageError, match="option output: expected one of"):
        make(name, FLAT, output="q")
    assert make(name, FLAT, output="z").out_features == 4


def test_a_file_that_does_not_fit_is_refused(tmp_path):
    name = linear(tmp_path / "a.onnx")
    with pytest.raises(
        UsageError, match=re.escape("shape ['n', 6], but the modality has ['n', 7]")
    ):
        build_encoder(name, Modality("vector", "features", (7,)))
    with pytest.raises(UsageError, match="cannot be trained"):
        make(name, FLAT, frozen=False)
    with pytest.raises(UsageError, match=r"input is tensor\(int64\)"):
        build_encoder(linear(tmp_path / "i.onnx", kind=INT), FLAT)
    with pytest.raises(UsageError, match="cannot be read"):
        build_encoder(f"onnx:{tmp_path / 'none.onnx'}", FLAT)


def test_a_file_that_cannot_be_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="that the installed onnxruntime can run"):
        build_encoder(linear(tmp_path / "new.onnx", opset=999), FLAT)
    path = tmp_path / "a.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(DataError, match="expected an ONNX file"):
        build_encoder(f"onnx:{path}", FLAT)
    name = linear(path)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(UsageError, match="some are in other files"):
        build_encoder(name, FLAT)


def renamed(path, nodes, inputs, kind=FLOAT, **more):
    """Write a network whose first input has 6 values, and whose output is y."""
    return saved(path, nodes, inputs, [("y", kind, None)], {"w": WEIGHT}, **more)


def test_any_name_of_a_single_input_and_old_files_are_taken(tmp_path):
    nodes = [onnx.helper.make_node("MatMul", ["pixel values", "w"], ["y"])]
    name = renamed(tmp_path / "old.onnx", nodes, [("pixel values", FLOAT, ["n", 6])], opset=7)
    x = sample(FLAT)
    np.testing.assert_allclose(build_encoder(name, FLAT)(x), x.numpy() @ WEIGHT, rtol=1e-5)


def test_half_precision_is_taken(tmp_path):
    half = onnx.TensorProto.FLOAT16
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])]
    inputs, outputs = [("x", half, ["n", 6])], [("y", half, ["n", 4])]
    weights = {"w": WEIGHT.astype(np.float16)}
    encoder = build_encoder(saved(tmp_path / "h.onnx", nodes, inputs, outputs, weights), FLAT)
    found = encoder(sample(FLAT))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, sample(FLAT).numpy() @ WEIGHT, atol=2e-2)


def test_inputs_of_another_number_or_name(tmp_path):
    nodes = [onnx.helper.make_node("Gather", ["table", "ids"], ["y"])]
    alone = saved(
        tmp_path / "a.onnx",
        nodes,
        [("ids", INT, ["n", "T"])],
        [("y", FLOAT, None)],
        {"table": TABLE},
    )
    assert build_encoder(alone, WORDS).out_features == 4
    places = [("input_ids", INT, ["n", "T"]), ("position_ids", INT, ["n", "T"])]
    nodes = [onnx.helper.make_node("Gather", ["table", "input_ids"], ["y"])]
    name = saved(tmp_path / "b.onnx", nodes, places, [("y", FLOAT, None)], {"table": TABLE})
    with pytest.raises(
        UsageError, match=r"found the inputs \['input_ids', 'position_ids'\]"
    ) as said:
        build_encoder(name, WORDS)
    assert "input_ids with attention_mask and token_type_ids" in str(said.value)
    nodes = [onnx.helper.make_node("Add", ["x", "x2"], ["y"])]
    two = [("x", FLOAT, ["n", 6]), ("x2", FLOAT, ["n", 6])]
    with pytest.raises(UsageError, match=r"found the inputs \['x', 'x2'\]"):
        build_encoder(renamed(tmp_path / "c.onnx", nodes, two), FLAT)


def test_inputs_and_outputs_that_are_no_numbers_are_refused(tmp_path):
    string = onnx.TensorProto.STRING
    nodes = [onnx.helper.make_node("Identity", ["x"], ["y"])]
    name = renamed(tmp_path / "s.onnx", nodes, [("x", string, ["n", 6])], string)
    with pytest.raises(UsageError, match=r"expected an input of .*found tensor\(string\)"):
        build_encoder(name, FLAT)
    make_info = onnx.helper.make_tensor_sequence_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("SequenceConstruct", ["x"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", FLOAT, ["n", 6])],
        [make_info("y", FLOAT, None)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, tmp_path / "q.onnx")
    with pytest.raises(UsageError, match=r"output 'y' .*found seq\(tensor\(float\)\)"):
        build_encoder(f"onnx:{tmp_path / 'q.onnx'}", FLAT)


@pytest.mark.parametrize("shape", [[-1], [-1, 2, 3]])
def test_outputs_that_are_no_matrix_are_refused(tmp_path, shape):
    nodes = [
        onnx.helper.make_node("Constant", [], ["s"], value_ints=shape),
        onnx.helper.make_node("Reshape", ["x", "s"], ["y"]),
    ]
    name = renamed(tmp_path / "r.onnx", nodes, [("x", FLOAT, ["n", 6])])
    with pytest.raises(UsageError, match=r"expected the output 'y' to have the shape \[n, width\]"):
        build_encoder(name, FLAT)


def test_a_fixed_number_of_texts(tmp_path):
    nodes = [onnx.helper.make_node("Gather", ["table", "input_ids"], ["y"])]
    inputs = [("input_ids", INT, [1, 12]), ("attention_mask", INT, [1, 12])]
    name = saved(tmp_path / "t.onnx", nodes, inputs, [("y", FLOAT, None)], {"table": TABLE})
    x = texts([12, 5, 7])
    expected = [TABLE[row[row != -1]].mean(axis=0) for row in x.numpy()]
    np.testing.assert_allclose(build_encoder(name, WORDS)(x).numpy(), expected, rtol=1e-5)


def test_export_is_refused(tmp_path):
    encoder = build_encoder(linear(tmp_path / "a.onnx"), FLAT)
    with pytest.raises(Exception, match="already is an ONNX file"):
        torch.export.export(encoder, (sample(FLAT),))
