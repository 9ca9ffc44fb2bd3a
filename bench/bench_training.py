"""A training step for each pair of the paper's networks, compared with the same networks in a plain loop.

The plain loop is the simplest form: float32, contiguous tensors, unfused AdamW, and the loss read after
each step. Weights are random and equal, batches small and random. On a GPU it also reports samples/s in
bf16 and the fraction of the tensor cores' peak, based on the operations of the plain step.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from rlmba.config import ModelConfig, TrainingConfig
from rlmba.data import Batch, Modality, MultimodalDataset
from rlmba.models import build_classifier
from rlmba.training import Loader, ProcessGroup, fit

CLASSES, STEPS = 101, 2
PAIRS = {
    "bert-base + resnet101": (
        Modality("text", "tokens", (100,), "int64", vocabulary=30_522, padding=-1),
        Modality("image", "image", (3, 224, 224)),
    ),
    "r2plus1d-18 + audio-resnet18": (
        Modality("video", "video", (3, 5, 112, 112)),
        Modality("audio", "spectrogram", (1, 257, 504)),
    ),
}
BATCH = {"cpu": 2, "cuda": 32}
PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12}
"""Dense bf16 operations per second of the tensor cores."""


class Fixed(MultimodalDataset):
    """One batch of random samples, returned at every read."""

    in_memory = True

    def __init__(self, modalities, n):
        generator = torch.Generator().manual_seed(0)
        self.name, self.modalities, self.present = "fixed", modalities, None
        self.classes = tuple(str(c) for c in range(CLASSES))
        self.ids = np.array([str(i) for i in range(n)])
        self.labels = np.arange(n, dtype=np.int64) % CLASSES
        self.train_positions, self.test_positions = np.arange(n), np.arange(0)
        self.samples = {
            m.name: torch.randint(m.vocabulary, (n, *m.shape), generator=generator)
            if m.kind == "tokens"
            else torch.randn(n, *m.shape, generator=generator)
            for m in modalities
        }

    def fingerprint(self):
        return "fixed"

    def load(self, positions, **_):
        return Batch({m: x[positions] for m, x in self.samples.items()}, None)


class Plain(nn.Module):
    """The networks of a classifier, in torch's default memory layout."""

    def __init__(self, model):
        super().__init__()
        plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
        self.networks = nn.ModuleList(e.network for e in plain.encoders)
        self.projections, self.heads, self.fused = plain.projections, plain.heads, plain.fused_head
        self.p = plain.dropout.p

    def forward(self, inputs):
        features = []
        for network, projection, x in zip(self.networks, self.projections, inputs, strict=True):
            y = (
                network(x)
                if x.is_floating_point()
                else network(input_ids=x).last_hidden_state[:, 0]
            )
            features.append(projection(y))

        def head(linear, f):
            return linear(functional.dropout(f, self.p, self.training))

        logits = [head(h, f) for h, f in zip(self.heads, features, strict=True)]
        return [head(self.fused, sum(features) / len(features)), *logits]


def network_of(pair):
    encoders = dict(zip((m.name for m in PAIRS[pair]), pair.split(" + "), strict=True))
    config = ModelConfig(
        encoders={m: {"name": e, "weights": "random"} for m, e in encoders.items()}
    )
    return build_classifier(PAIRS[pair], CLASSES, config, "uniform", seed=0)


def ours(model, data, precision):
    config = TrainingConfig(
        minibatch_size=len(data), precision=precision, learning_rate=1e-5, augment=False
    )
    loader = Loader(data, model.device)
    return fit(
        model, loader, data.train_positions, data.labels, config, epochs=STEPS, seed=0
    ).final_loss


def plain_loop(model, data, device):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, foreach=False, fused=False)
    y = torch.from_numpy(data.labels).to(device)
    model.train()
    for _ in range(STEPS):
        inputs = [data.samples[m.name].to(device) for m in data.modalities]
        loss = sum(functional.cross_entropy(z, y) for z in model(inputs))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        value = loss.item()
    return value


def same_answer(model, plain, data):
    """Logits in evaluation mode and float32 must be equal up to the order of sums."""
    model.eval(), plain.eval()
    with torch.no_grad():
        found = model({m: x.to(model.device) for m, x in data.samples.items()})
        expected = plain([x.to(model.device) for x in data.samples.values()])
    pairs = zip([found.fused_logits, *found.logits.values()], expected, strict=True)
    for z, wanted in pairs:
        torch.testing.assert_close(z, wanted, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("form", ["plain fp32", "rlmba fp32", "rlmba bf16"])
def bench_step(benchmark, pair, form):
    model = network_of(pair)
    data = Fixed(PAIRS[pair], BATCH["cpu"])
    plain = Plain(model)
    same_answer(model, plain, data)
    benchmark.group = f"{STEPS} training steps of {BATCH['cpu']} samples, {pair}, CPU"
    if form == "plain fp32":
        call, arguments = plain_loop, (plain, data, "cpu")
    else:
        call, arguments = ours, (model, data, form.split()[1])
    assert np.isfinite(call(*arguments))
    benchmark.pedantic(call, arguments, rounds=2, warmup_rounds=0)
    benchmark.extra_info["milliseconds_a_step"] = round(1e3 * benchmark.stats.stats.min / STEPS, 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("pair", PAIRS)
def bench_gpu(benchmark, pair):
    group = ProcessGroup("cuda", "bf16")
    model = group.place(network_of(pair))
    data = Fixed(PAIRS[pair], BATCH["cuda"])
    plain = Plain(model)
    same_answer(model, plain, data)
    with FlopCounterMode(display=False) as counter:
        plain_loop(plain, data, "cuda")
    benchmark.group = f"{STEPS} training steps of {BATCH['cuda']} samples, {pair}, GPU, bf16"

    def run():
        ours(model, data, "bf16")
        torch.cuda.synchronize()

    benchmark.pedantic(run, rounds=10, warmup_rounds=3)
    seconds = benchmark.stats.stats.min
    rate = counter.get_total_flops() / seconds
    name = torch.cuda.get_device_name()
    peak = next((v for k, v in PEAK.items() if k in name), None)
    benchmark.extra_info.update(
        gpu=name,
        samples_per_second=round(STEPS * len(data) / seconds, 1),
        teraflops=round(rate / 1e12, 1),
        fraction_of_peak=None if peak is None else round(rate / peak, 3),
    )
