from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from rlmba.data import load_digits
from rlmba.data.digits import SAMPLE_RATE, keypad_tones

KEYPAD = {
    "1": (697, 1209),
    "2": (697, 1336),
    "3": (697, 1477),
    "4": (770, 1209),
    "5": (770, 1336),
    "6": (770, 1477),
    "7": (852, 1209),
    "8": (852, 1336),
    "9": (852, 1477),
    "0": (941, 1336),
}


@pytest.fixture(scope="module")
def digits():
    return load_digits()


@pytest.mark.parametrize("digit", range(10))
def test_tones_are_those_of_the_keypad(rng, digit):
    tone = keypad_tones(np.array([digit]), 8000, rng)[0]
    spectrum = np.abs(np.fft.rfft(tone))
    peaks = np.sort(np.argsort(spectrum)[-2:]) * SAMPLE_RATE / 8000
    assert tuple(peaks) == KEYPAD[str(digit)]


def test_what_it_is(digits):
    assert len(digits) == 1797
    assert len(digits.train_positions) == 1300
    assert len(digits.test_positions) == 497
    assert not np.intersect1d(digits.train_positions, digits.test_positions).size
    assert digits.ids[17] == "digits-00017"
    assert digits.classes == tuple("0123456789")
    assert [(m.name, m.kind, m.shape) for m in digits.modalities] == [
        ("image", "image", (1, 8, 8)),
        ("audio", "waveform", (1200,)),
    ]
    share = np.bincount(digits.labels[digits.test_positions]) / np.bincount(digits.labels)
    np.testing.assert_allclose(share, 0.2766, atol=0.005)


def test_same_data_each_time(digits):
    assert load_digits().fingerprint() == digits.fingerprint()


def test_now_the_image_now_the_sound_is_the_better_witness(digits):
    """With linear models, most errors of one modality are on samples where the other is right."""
    batch = digits.batch(np.arange(1797), train=False, generator=None)
    sound = batch.inputs["audio"].numpy()
    power = np.log(np.abs(np.fft.rfft(sound * np.hanning(1200))) ** 2 + 1e-9)[:, 80:240]
    views = {"image": batch.inputs["image"].flatten(1).numpy(), "audio": power}
    train, test, y = digits.train_positions, digits.test_positions, digits.labels
    right = {}
    for name, x in views.items():
        model = RidgeClassifier(alpha=300).fit(x[train], y[train])
        right[name] = model.predict(x[test]) == y[test]
        assert 0.7 < right[name].mean() < 0.95
    for one, other in (("image", "audio"), ("audio", "image")):
        assert right[other][~right[one]].mean() > 0.8
