"""Random reads of clips from a prepared data set, compared with one file per sample and safetensors' reader.

512 clips of realistic size (10 frames of 128 x 171 and 10 s of sound, 977 kB each) in shards as made by
`rlmba data prepare`, in the page cache. A batch is 32 random clips, copied into existing arrays. Bytes
counted: one read and one write.
"""

from __future__ import annotations

import numpy as np
import pytest
from common import record_traffic
from safetensors import safe_open

from rlmba.data.media import shards
from rlmba.data.media.cache import CacheReader, read_cache_info
from rlmba.data.media.catalogue import Catalogue, Sample, Source
from rlmba.data.media.content import Recipe
from rlmba.data.media.plan import CachePlan, write_plan

N, BATCH = 512, 32
MODALITIES = ("video", "audio")


def clip(k):
    rng = np.random.default_rng(k)
    video = rng.integers(0, 256, (10, 128, 171, 3), dtype=np.uint8)
    return {"video": video, "audio": rng.integers(-3000, 3000, 160_000, dtype=np.int16)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The cache, and the same clips as two .npy files each."""
    folder = tmp_path_factory.mktemp("bench")
    cache = folder / "cache"
    (cache / shards.FOLDER).mkdir(parents=True)
    source = {m: Source("clip", folder) for m in MODALITIES}
    samples = [Sample(f"c{k:03d}", 0, False, source) for k in range(N)]
    catalogue = Catalogue("vggsound", folder, "clips", MODALITIES, ("a",), samples, {})
    plan = CachePlan.empty(catalogue, Recipe()).extended(samples)
    write_plan(cache, plan)
    for number, ids in plan.members().items():
        rows = {i: clip(int(i[1:])) for i in ids}
        shards.write_shard(cache, number, rows, {}, Recipe())
        for i, arrays in rows.items():
            for m, array in arrays.items():
                np.save(folder / f"{i}.{m}.npy", array)
    return cache, folder


def rlmba_form(cache, _):
    reader = CacheReader(cache)
    return reader.read


def files_form(cache, folder):
    ids = read_cache_info(cache).ids.tolist()
    return lambda k: {m: np.load(folder / f"{ids[k]}.{m}.npy") for m in MODALITIES}


def safetensors_form(cache, _):
    place, opened = {}, {}
    for file in sorted((cache / shards.FOLDER).glob("*.safetensors")):
        note = shards.read_note(cache, int(file.stem))
        opened[file] = safe_open(file, "numpy")
        place |= {i: (file, row) for row, i in enumerate(note.ids)}
    ids = read_cache_info(cache).ids.tolist()

    def read(k):
        file, row = place[ids[k]]
        return {m: opened[file].get_slice(m)[row] for m in MODALITIES}

    return read


FORMS = {"rlmba": rlmba_form, "npy files": files_form, "safe_open": safetensors_form}


@pytest.mark.parametrize("form", FORMS)
def bench_batch(benchmark, made, form):
    benchmark.group = f"batch of {BATCH} of {N} prepared clips"
    read = FORMS[form](*made)
    ids = read_cache_info(made[0]).ids.tolist()
    out = {m: np.zeros((BATCH, *a.shape), a.dtype) for m, a in clip(0).items()}
    rng = np.random.default_rng(0)

    def batch():
        for row, k in enumerate(rng.choice(N, BATCH, replace=False).tolist()):
            for m, array in read(k).items():
                out[m][row] = array

    for k in (0, 77, N - 1):
        for m, array in clip(int(ids[k][1:])).items():
            np.testing.assert_array_equal(read(k)[m], array)
    benchmark(batch)
    record_traffic(benchmark, 2 * sum(a.nbytes for a in out.values()), batch=BATCH)
    benchmark.extra_info["clips_per_second"] = round(BATCH / benchmark.stats.stats.min)


def bench_open(benchmark, made):
    """From a folder to a reader, a cost that a run pays once."""
    benchmark.group = "open"
    assert len(CacheReader(made[0])) == N
    benchmark(CacheReader, made[0])
