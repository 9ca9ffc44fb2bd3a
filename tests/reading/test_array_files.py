"""Files of arrays, tables and weights from any source are read, or refused with their name."""

from __future__ import annotations

import io
import json
import struct
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from rlmba.annotators.labelstudio.exports import read_export
from rlmba.data import load_features
from rlmba.data.arrays import read_arrays
from rlmba.data.media.layouts import find_catalogue
from rlmba.data.pool_file import read_ids, read_pool
from rlmba.data.table import read_table
from rlmba.errors import DataError, RlmbaError
from rlmba.experiments.foreign import read_bmmal_run
from rlmba.models.weights import load_state, read_state
from tests.helpers.bmmal_files import write_bmmal
from tests.helpers.mutations import BOUNDED, mutated_bytes, mutated_json, read_or_refused

N = 12


def arrays():
    rng = np.random.default_rng(0)
    return {
        "image": rng.normal(size=(N, 4)).astype(np.float32),
        "sound": rng.integers(0, 9, (N, 3)).astype(np.int16),
        "y": np.arange(N) % 2,
        "split": (np.arange(N) % 4 == 3).astype(np.uint8),
        "classes": np.array(["a", "b"]),
    }


def pool():
    rng = np.random.default_rng(0)
    return {"features": rng.normal(size=(N, 3)), "ids": np.array([f"s{i}" for i in range(N)])}


def npz(path, save=np.savez, **given):
    save(path, **given)
    return path


def write_parquet(pq, columns, path):
    pq.write_table(pytest.importorskip("pyarrow").table(columns), path)


@BOUNDED
@given(data=st.data(), save=st.sampled_from([np.savez, np.savez_compressed]))
def test_features(tmp_path, data, save):
    path = npz(tmp_path / "x.npz", save, **arrays())
    read_or_refused(path, data.draw(mutated_bytes(path.read_bytes())), lambda: load_features(path))


_ARRAYS = st.sampled_from(
    [
        *(np.zeros((N, 2), t) for t in ("float16", "float64", "uint64", "complex64", "bool")),
        *(np.zeros((N, 2), t) for t in ("U3", "S3", "V8", "datetime64[s]", "longdouble")),
        np.full((N, 2), np.nan),
        np.full((N, 2), 1e300),
        np.full(N, 2**63, np.uint64),
        np.zeros(N, [("a", "i4"), ("b", "f8")]),
        *(np.zeros(shape) for shape in ((), (0,), (N,), (N - 1, 2), (N, 0), (N, 2, 0), (1,) * 8)),
        np.array(3),
    ]
)


@BOUNDED
@given(name=st.sampled_from([*arrays(), "ids", "present"]), array=_ARRAYS)
def test_features_of_other_types_and_shapes(tmp_path, name, array):
    path = npz(tmp_path / "x.npz", **{**arrays(), name: array})
    read_or_refused(path, path.read_bytes(), lambda: load_features(path))


@pytest.mark.parametrize("suffix", ["npz", "npy", "safetensors", "parquet"])
@BOUNDED
@given(data=st.data())
def test_pools(tmp_path, suffix, data):
    path = tmp_path / f"x.{suffix}"
    if suffix == "npz":
        np.savez(path, **pool())
    elif suffix == "npy":
        np.save(path, pool()["features"])
    elif suffix == "safetensors":
        ids = json.dumps(pool()["ids"].tolist())
        save_file({"features": torch.from_numpy(pool()["features"])}, path, {"ids": ids})
    else:
        pq = pytest.importorskip("pyarrow.parquet")
        columns = {"id": pool()["ids"].tolist(), "features": pool()["features"].tolist()}
        write_parquet(pq, columns, path)
    read_or_refused(
        path,
        data.draw(mutated_bytes(path.read_bytes())),
        lambda: read_pool(path, npy_holds="features"),
    )


def with_member(path, name, data, kind=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "a", kind) as archive:
        archive.writestr(name, data)
    return path


@pytest.mark.parametrize("read", [load_features, read_pool])
@pytest.mark.parametrize("name", ["README.txt", "__MACOSX/image.npy", "image"])
def test_a_zip_with_another_member(tmp_path, read, name):
    path = with_member(npz(tmp_path / "x.npz", **arrays()), name, b"not an array")
    with pytest.raises(
        DataError, match=rf"x\.npz, array '{name.removesuffix('.npy')}': not a readable .npz"
    ):
        read(path)


def header(shape, descr="<f8"):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (header((10**12,)) + bytes(8), r"takes 8,000,000,000,000 bytes, but there are 8"),
        (header((2**62, 2**62)) + bytes(8), "bytes, but there are 8"),
        (header((-1,)) + bytes(8), "bytes, but there are 8"),
        (header((1,), "|O") + bytes(8), "pickle"),
        (b"\x93NUMPY\x09\x00" + bytes(99), "version"),
        (b"", "not a readable"),
    ],
)
def test_an_array_that_is_not_as_long_as_its_header_says(tmp_path, content, said):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_arrays(tmp_path / "x.npy", npy_holds="features")
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = npz(tmp_path / f"{kind}.npz", **arrays())
        with_member(path, "more.npy", content, kind)
        for read in (load_features, read_arrays):
            with pytest.raises(DataError, match=rf"{kind}\.npz, array 'more': .*{said}"):
                read(path)


def test_a_small_file_that_says_it_holds_more_than_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("rlmba.reading.arrays.total_memory", lambda: 10**6)
    zeros = np.zeros((N, 20_000))
    path = npz(tmp_path / "x.npz", np.savez_compressed, **arrays(), zeros=zeros)
    for read in (load_features, read_arrays):
        with pytest.raises(DataError, match=r"x\.npz claims to hold 1,920,\d+ bytes, more than"):
            read(path)


def test_an_array_that_is_an_archive_and_the_other_way_round(tmp_path):
    np.savez(buffer := io.BytesIO(), a=np.ones(3))
    (tmp_path / "x.npy").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match=r"x\.npy: not a readable \.npy"):
        read_arrays(tmp_path / "x.npy", npy_holds="features")


_TABLE = 'id,label,text\ns1,a,"one, two"\ns2,,three\n'
_LINES = '{"id": "s1", "label": "a", "v": [1, 2]}\n{"id": 7, "label": null}\n'


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.json", "t.parquet"])
@BOUNDED
@given(data=st.data())
def test_tables(tmp_path, name, data):
    path = tmp_path / name
    if name.endswith("parquet"):
        pq = pytest.importorskip("pyarrow.parquet")
        write_parquet(pq, {"id": ["s1", "s2"], "v": [[1.0], [2.0]]}, path)
    else:
        text = {"t.jsonl": _LINES, "t.json": f"[{_LINES.strip().replace(chr(10), ',')}]"}
        path.write_text(text.get(name, _TABLE))
    read_or_refused(path, data.draw(mutated_bytes(path.read_bytes())), lambda: read_table(path))


@pytest.mark.parametrize("name", ["x.json", "x.csv", "x.txt", "x.npy"])
@BOUNDED
@given(data=st.data())
def test_lists_of_ids(tmp_path, name, data):
    path = tmp_path / name
    texts = {
        "x.json": '{"samples": [{"id": "a", "rank": 1}, {"id": "b"}]}',
        "x.csv": "rank,id\n1,a\n",
    }
    if name == "x.npy":
        np.save(path, np.array(["a", "b"]))
    else:
        path.write_text(texts.get(name, "a\nb\n"))
    new = mutated_json(path.read_text()) if name == "x.json" else mutated_bytes(path.read_bytes())
    read_or_refused(path, data.draw(new), lambda: read_ids(path))


_EXPORT = """[{"id": 1, "data": {"sample_id": "a", "round": 0}, "annotations":
 [{"result": [{"from_name": "label", "value": {"choices": ["x"]}}]}]}]"""
_MIN = '[{"id": 1, "sample_id": "a", "round": 0, "label": {"choices": ["x"]}}]'


@pytest.mark.parametrize("text", [_EXPORT, _MIN])
@BOUNDED
@given(data=st.data())
def test_exports_of_label_studio(tmp_path, text, data):
    path = tmp_path / "export.json"
    path.write_text(text)
    read_or_refused(path, data.draw(mutated_json(text)), lambda: read_export(path))


@BOUNDED
@given(data=st.data())
def test_lists_of_food101(tmp_path, data):
    path = tmp_path / "train.json"
    path.write_text(
        '[{"id": 1, "label": "pizza", "text_tokens": ["a"], "img_path": "pizza_1.jpg"}]'
    )
    new = data.draw(mutated_json(path.read_text()))
    read_or_refused(path, new, lambda: find_catalogue("food101", tmp_path))


@pytest.fixture(scope="module")
def bmmal(tmp_path_factory):
    return write_bmmal(tmp_path_factory.mktemp("bmmal"), rounds=2)


@pytest.mark.parametrize("name", ["al_metrics.csv", "label.txt"])
@BOUNDED
@given(data=st.data())
def test_folders_of_bmmal(bmmal, name, data):
    file = bmmal / "version_1" / name
    read_or_refused(
        file, data.draw(mutated_bytes(file.read_bytes())), lambda: read_bmmal_run(bmmal)
    )


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@BOUNDED
@given(data=st.data())
def test_weights(tmp_path, suffix, data):
    network = torch.nn.Linear(2, 1)
    path = tmp_path / f"w.{suffix}"
    if suffix == "pt":
        torch.save(network.state_dict(), path)
    else:
        save_file(network.state_dict(), path)

    def read():
        load_state(network, read_state(path), path, spare=lambda _: False)

    read_or_refused(path, data.draw(mutated_bytes(path.read_bytes())), read)


@pytest.mark.parametrize("state", [{0: torch.ones(1)}, {"weight": torch.ones(1), 3: 4}, [1], {}])
def test_weights_under_other_names(tmp_path, state):
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(RlmbaError, match=r"w\.pt"):
        read_state(tmp_path / "w.pt")


@pytest.mark.parametrize("name", ["classes", "ids"])
def test_text_with_half_a_character_is_refused(tmp_path, name):
    text = {"classes": ["a", "\ud800"], "ids": [f"s{i}" for i in range(N - 1)] + ["\udcff"]}[name]
    path = npz(tmp_path / "x.npz", **arrays() | {name: np.array(text)})
    with pytest.raises(DataError, match=rf"x\.npz, array '{name}': .*half a character"):
        load_features(path)
