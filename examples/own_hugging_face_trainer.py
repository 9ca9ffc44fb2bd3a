"""Active learning around a Hugging Face model that ``Trainer`` trains.

A small BERT with random weights and made sentences, so that nothing is downloaded; with
``AutoModelForSequenceClassification.from_pretrained`` in its place the rest stays the same.
"""

from __future__ import annotations

import tempfile

import numpy as np
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

import rlmba

CLASSES = ["weather", "sports", "music"]
WORDS = {
    "weather": ["rain", "sun", "cloud", "wind", "snow", "storm", "cold", "warm"],
    "sports": ["goal", "team", "match", "win", "score", "race", "ball", "coach"],
    "music": ["song", "band", "tune", "note", "drum", "guitar", "choir", "album"],
}
FILLER = ["the", "a", "of", "and", "in", "was", "today", "very", "near", "with"]
VOCABULARY = ["[pad]", *FILLER, *(word for words in WORDS.values() for word in words)]
LENGTH = 12


def sentences(n: int, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Token ids [n, 12] of sentences with one or two words of their class, and the classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(CLASSES), size=n)
    tokens = np.zeros((n, LENGTH), dtype=np.int64)
    for row, c in enumerate(labels):
        told = rng.choice(WORDS[CLASSES[c]], size=rng.integers(1, 3))
        words = rng.permutation([*told, *rng.choice(FILLER, size=8)])
        tokens[row, : len(words)] = [VOCABULARY.index(word) for word in words]
    return torch.tensor(tokens), labels


tokens, truth = sentences(600)


class Classifier:
    """A sequence classifier behind ``fit`` and ``outputs``."""

    def __init__(self) -> None:
        self.config = BertConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=LENGTH,
            num_labels=len(CLASSES),
        )
        self.model = BertForSequenceClassification(self.config)

    def fit(self, rows: np.ndarray, labels: np.ndarray) -> None:
        """Train from new weights on all labeled samples."""
        self.model = BertForSequenceClassification(self.config)
        data = [
            {"input_ids": tokens[row], "attention_mask": (tokens[row] > 0).long(), "labels": c}
            for row, c in zip(rows, labels.tolist(), strict=True)
        ]
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder,
                max_steps=100,
                per_device_train_batch_size=16,
                learning_rate=2e-3,
                use_cpu=True,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                logging_strategy="no",
            )
            trainer = Trainer(self.model, arguments, train_dataset=data)
            trainer.remove_callback(PrinterCallback)
            trainer.train()

    @torch.no_grad()
    def outputs(self, rows: np.ndarray) -> dict:
        """The pooled representation, the logits, and the layer between them."""
        model = self.model.eval()
        inputs = tokens[rows]
        features = model.bert(inputs, attention_mask=(inputs > 0).long()).pooler_output
        head = model.classifier
        return {
            "features": features,
            "logits": head(features),
            "head": (head.weight, head.bias),
        }


def main(rounds: int = 4) -> float:
    """Label 15 more sentences in every round; returns the last accuracy on the test samples."""
    test = np.arange(len(truth)) >= 400
    learner = rlmba.ActiveLearner.from_model(
        Classifier(),
        n=len(truth),
        classes=CLASSES,
        labels=np.where(test, truth, -1),
        test=test,
        strategy="badge",
    )
    for _ in range(rounds):
        batch = learner.ask(15)
        record = learner.tell(batch.ids, truth[learner.positions(batch.ids)])
        print(f"{record.labels:4d} labels: accuracy {record.test.mm.top1:.3f}")
    return learner.evaluate().mm.top1


if __name__ == "__main__":
    main()
