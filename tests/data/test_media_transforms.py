from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal
import torch
import torchaudio
from torchvision.transforms.v2 import functional as tv

from rlmba.data.media import augment, transforms
from rlmba.data.media.content import Recipe
from rlmba.data.media.spectrogram import frames_of, log_spectrogram
from rlmba.errors import UsageError

# Of a float32 chain of some ten operations on values in [0, 1].
TOLERANCE = 3e-6


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images():
    """Images that are difficult for the formulas: black, white, gray, two equal channels, faint."""
    x = torch.rand(12, 3, 40, 56, generator=generator())
    x[0], x[1] = 0, 1
    x[2] = x[2, :1]
    x[3, 1] = x[3, 0]
    x[4, 2] = x[4, 1]
    x[5] = (3 * x[5]).floor() / 2  # corners of the color cube
    x[6] = (255 * x[6]).round() / 255
    x[7] *= 1e-6
    return x


PARAMETERS = {
    "brightness": (0.6, 1.4),
    "contrast": (0.6, 1.4),
    "saturation": (0.6, 1.4),
    "hue": (-0.5, 0.5),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_color_with_a_parameter_for_each_image_is_torchvisions_image_by_image(images, name):
    low, high = PARAMETERS[name]
    values = low + (high - low) * torch.rand(len(images), generator=generator(1))
    values[:2] = torch.tensor([low, high])
    single = getattr(tv, f"adjust_{name}")
    expected = torch.stack([single(x, float(v)) for x, v in zip(images, values, strict=True)])
    found = getattr(augment, f"adjust_{name}")(images, values)
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


def test_hue_of_every_pure_and_mixed_color_turns_all_the_way():
    levels = torch.linspace(0, 1, 6)
    cube = torch.cartesian_prod(levels, levels, levels).T[None, :, :, None]
    for turn in torch.linspace(-0.5, 0.5, 13):
        found = augment.adjust_hue(cube, turn[None])
        torch.testing.assert_close(found, tv.adjust_hue(cube, float(turn)), rtol=0, atol=TOLERANCE)


def test_luma_is_torchvisions(images):
    torch.testing.assert_close(
        augment.grayscale(images), tv.rgb_to_grayscale(images), rtol=0, atol=TOLERANCE
    )


def test_blur_with_a_sigma_for_each_image_is_torchvisions_image_by_image(images):
    sigma = torch.linspace(0.1, 2.0, len(images))
    size = [augment.BLUR_SIZE] * 2
    expected = torch.stack(
        [tv.gaussian_blur(x, size, [float(s)] * 2) for x, s in zip(images, sigma, strict=True)]
    )
    found = augment.gaussian_blur(images, sigma)
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)
    square = images[:, :, :40, :40]
    torch.testing.assert_close(
        augment.gaussian_blur(square, sigma)[3],
        tv.gaussian_blur(square[3], size, [float(sigma[3])] * 2),
        rtol=0,
        atol=TOLERANCE,
    )


def test_blur_draws_on_no_denormal_number():
    taps = torch.tensor([0.1])
    x = torch.ones(1, 3, 40, 40)
    assert torch.equal(augment.gaussian_blur(x, taps), x)


def one_by_one(x, draws, row):
    """The pipeline of one image, uint8 [3, H, W], by torchvision's functions."""
    y = x.float() / 255
    if draws["flip"][row]:
        y = tv.horizontal_flip(y)
    steps = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    for number in draws["order"][row].tolist():
        if number >= 0:
            y = steps[number](y, float(draws["factors"][row, number]))
    if draws["grayscale"][row]:
        y = tv.rgb_to_grayscale(y, num_output_channels=3)
    sigma = float(draws["sigma"][row])
    if sigma > 0:
        y = tv.gaussian_blur(y, [augment.BLUR_SIZE] * 2, [sigma, sigma])
    return tv.normalize(y, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def test_a_batch_of_images_is_torchvisions_pipeline_image_by_image():
    form = transforms.Image(Recipe())
    buffer = form.buffer(10)
    buffer[:] = np.random.default_rng(0).integers(0, 256, buffer.shape)
    x = form.compact(buffer)
    assert x.shape == (10, 3, 224, 224)
    before = x.clone()
    draws = form.draw(10, generator(4))
    assert draws["grayscale"].any()
    assert (draws["order"][:, 0] < 0).any()
    found = form.finish(x, draws)
    expected = torch.stack([one_by_one(x[i], draws, i) for i in range(10)])
    assert found.is_contiguous()
    # Standardizing multiplies rounding by 1 / 0.224.
    torch.testing.assert_close(found, expected, rtol=0, atol=5 * TOLERANCE)
    assert torch.equal(x, before)
    plain = form.finish(x, None)
    expected = tv.normalize(x / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(plain, expected, rtol=0, atol=5 * TOLERANCE)


def test_what_a_batch_holds_beside_changes_no_sample():
    form = transforms.Image(Recipe())
    buffer = form.buffer(5)
    buffer[:] = np.random.default_rng(0).integers(0, 256, buffer.shape)
    draws = form.draw(5, generator(1))
    whole = form.finish(form.compact(buffer), draws)
    for i in range(5):
        row = slice(i, i + 1)
        alone = form.finish(form.compact(buffer[row]), {k: v[row] for k, v in draws.items()})
        torch.testing.assert_close(alone, whole[row], rtol=0, atol=5 * TOLERANCE)


def test_draws_follow_the_protocol():
    n = 20_000
    draws = transforms.Image(Recipe()).draw(n, generator())

    def share(mask, probability):
        # Six standard deviations: by chance once in 5e8.
        bound = 6 * math.sqrt(probability * (1 - probability) / n)
        assert abs(float(mask.double().mean()) - probability) < bound

    share(draws["flip"], 0.5)
    share(draws["grayscale"], 0.2)
    share(draws["sigma"] > 0, 0.5)
    jittered = draws["order"][:, 0] >= 0
    share(jittered, 0.8)
    assert (draws["order"][~jittered] == -1).all()
    orders, counts = torch.unique(draws["order"][jittered], dim=0, return_counts=True)
    assert torch.equal(orders.sort(dim=1).values, torch.arange(4).expand(24, 4))
    assert counts.min() > 0.7 * jittered.sum() / 24
    for column, (low, high) in enumerate([(0.6, 1.4)] * 3 + [(-0.1, 0.1)]):
        values = draws["factors"][:, column]
        assert low <= values.min() < low + 0.001 * (high - low) * 5
        assert high - 0.005 * (high - low) < values.max() <= high
        assert abs(float(values.mean()) - (low + high) / 2) < 0.02 * (high - low)
    sigma = draws["sigma"][draws["sigma"] > 0]
    assert 0.1 <= sigma.min() < 0.11
    assert 1.99 < sigma.max() <= 2.0
    # One is no function of another.
    columns = torch.stack(
        [draws["flip"], draws["grayscale"], jittered, draws["sigma"] > 0]
    ).double()
    correlation = torch.corrcoef(torch.cat([columns, draws["factors"].T.double()]))
    assert (correlation - torch.eye(8)).abs().max() < 6 / math.sqrt(n)


def test_images_are_cropped_everywhere_in_training_and_in_the_middle_in_evaluation():
    form = transforms.Image(Recipe())
    array = np.arange(256 * 300, dtype=np.int64).reshape(256, 300)
    picture = np.stack([array % 251, array // 300, array % 300 // 2], axis=2).astype(np.uint8)
    out = form.buffer(1)[0]

    form.take(picture, None, out)
    expected = tv.center_crop(torch.from_numpy(picture).permute(2, 0, 1), [224, 224])
    assert np.array_equal(out, expected.permute(1, 2, 0).numpy())

    tops, lefts = set(), set()
    for place in torch.rand(800, 2, generator=generator(), dtype=torch.float64).numpy():
        form.take(picture, place, out)
        top, left = int(out[0, 0, 1]), 2 * int(out[0, 0, 2])
        tops.add(top)
        lefts.add(left)
        assert np.array_equal(out[:, :, 1], picture[top : top + 224, :224, 1])
    assert tops == set(range(33))
    assert lefts == set(range(0, 77, 2))
    form.take(picture, np.array([1 - 2**-53] * 2), out)
    assert np.array_equal(out, picture[32:, 76:])


def test_clips_give_five_of_ten_frames_one_crop_and_one_flip():
    form = transforms.Video(Recipe())
    rng = np.random.default_rng(0)
    clip = rng.integers(0, 256, (10, 128, 171, 3), np.uint8)
    clip[:, :, :, 0] = np.arange(10)[:, None, None]
    clip[:, :, :, 1] = np.arange(128)[None, :, None]
    clip[:, :, :, 2] = np.arange(171)
    buffer = form.buffer(1)

    form.take(clip, None, buffer[0])
    assert np.array_equal(buffer[0], clip[1::2, 8:120, 30:142])
    assert form.compact(buffer).shape == (1, 5, 3, 112, 112)

    taken, corners = set(), set()
    counts = np.zeros(10)
    for place in torch.rand(3000, form.places, generator=generator(), dtype=torch.float64).numpy():
        form.take(clip, place, buffer[0])
        frames = buffer[0, :, 0, 0, 0].tolist()
        top, left = buffer[0, 0, 0, 0, 1:].tolist()
        assert frames == sorted(set(frames))
        assert np.array_equal(buffer[0], clip[frames, top : top + 112, left : left + 112])
        taken.add(tuple(frames))
        corners.add((top, left))
        counts[frames] += 1
    assert len(taken) == 252  # each choice of five of ten
    assert {c[0] for c in corners} == set(range(17))
    assert {c[1] for c in corners} == set(range(60))
    assert abs(counts / 3000 - 0.5).max() < 6 * 0.5 / math.sqrt(3000)


def test_a_batch_of_clips_is_flipped_clip_by_clip_and_standardized():
    form = transforms.Video(Recipe())
    buffer = form.buffer(6)
    buffer[:] = np.random.default_rng(0).integers(0, 256, buffer.shape)
    x = form.compact(buffer)
    draws = form.draw(6, generator(2))
    assert 0 < draws["flip"].sum() < 6
    found = form.finish(x, draws)
    assert found.shape == (6, 3, 5, 112, 112)
    assert found.is_contiguous()
    mean, std = [0.43216, 0.394666, 0.37645], [0.22803, 0.22145, 0.216989]
    for i in range(6):
        frames = tv.normalize(x[i] / 255, mean, std)
        expected = tv.horizontal_flip(frames) if draws["flip"][i] else frames
        torch.testing.assert_close(found[i], expected.transpose(0, 1), rtol=0, atol=5 * TOLERANCE)


def naive_spectrogram(sound):
    """The definition, in float64: windows centred on every 159th sample, ends reflected."""
    x = np.pad(sound / 32768, 256, mode="reflect")
    window = scipy.signal.get_window("hann", 512)
    columns = [np.fft.rfft(window * x[s : s + 512]) for s in range(0, len(sound) + 1, 159)]
    return (np.log(np.abs(np.stack(columns, axis=1)) + 1e-7) + 3.0352) / 3.0475


@pytest.fixture(scope="module")
def sounds():
    time = np.arange(80_000) / 16_000
    rng = np.random.default_rng(0)
    tone = 20_000 * np.sin(2 * np.pi * (300 + 700 * time) * time)
    quiet = 3 * rng.standard_normal(80_000)
    loud = rng.integers(-32768, 32768, 80_000)
    return np.stack([tone, quiet, loud, 0 * time]).round().astype(np.int16)


def test_spectrograms_are_the_protocols(sounds):
    found = log_spectrogram(torch.from_numpy(sounds))
    assert found.shape == (4, 1, 257, 504)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
    expected = np.stack([naive_spectrogram(s) for s in sounds])
    # float32 transforms of full-scale sound err by 1e-7 of 256 or so: 1e-5 in |S|, which the logarithm
    # makes much of where |S| is small; compared where |S| is above 1e-2, and as |S| elsewhere.
    magnitude = np.exp(expected * 3.0475 - 3.0352)
    got = found[:, 0].double().numpy()
    assert np.abs(np.exp(got * 3.0475 - 3.0352) - magnitude).max() < 1e-4
    np.testing.assert_allclose(got[magnitude > 1e-2], expected[magnitude > 1e-2], atol=2e-3)
    silence = (math.log(1e-7) + 3.0352) / 3.0475
    np.testing.assert_allclose(got[3], silence, rtol=1e-6)


def test_spectrograms_are_torchaudios(sounds):
    transform = torchaudio.transforms.Spectrogram(512, 512, 159, power=1.0)
    expected = transform(torch.from_numpy(sounds[:3]).float() / 32768)
    found = log_spectrogram(torch.from_numpy(sounds[:3]))[:, 0]
    torch.testing.assert_close(
        torch.exp(found * 3.0475 - 3.0352) - 1e-7, expected, rtol=1e-4, atol=1e-5
    )


def test_windows_of_sound():
    form = transforms.Audio(Recipe())
    sound = np.arange(160_000).astype(np.int16)
    out = form.buffer(1)[0]
    assert out.shape == (80_000,)
    form.take(sound, None, out)
    assert np.array_equal(out, sound[40_000:120_000])
    form.take(sound, np.array([0.0]), out)
    assert np.array_equal(out, sound[:80_000])
    form.take(sound, np.array([1 - 2**-53]), out)
    assert np.array_equal(out, sound[80_000:])
    assert form.modality.shape == (1, 257, 504)
    assert frames_of(80_000) == 504


def test_tokens_pass_as_they_are():
    form = transforms.form_of("text", Recipe(), vocabulary=30_522)
    buffer = form.buffer(2)
    form.take(np.r_[5, 6, np.full(98, -1)].astype(np.int32), np.empty(0), buffer[0])
    found = form.finish(form.compact(buffer), {})
    assert found.dtype == torch.int64
    assert found[0, :3].tolist() == [5, 6, -1]
    assert (form.modality.vocabulary, form.modality.padding) == (30_522, -1)


def test_forms_that_cannot_be():
    with pytest.raises(UsageError, match=r"expected one of .*'text', 'image', 'video', 'audio'"):
        transforms.form_of("smell", Recipe())
    with pytest.raises(UsageError, match="size of the tokenizer's vocabulary"):
        transforms.form_of("text", Recipe())
    with pytest.raises(UsageError, match="shorter side of 224 pixels or more, got 128"):
        transforms.form_of("image", Recipe(image_side=128))
    with pytest.raises(UsageError, match=r"got 10 of \(100, 171\)"):
        transforms.form_of("video", Recipe(frame_size=(100, 171)))
    with pytest.raises(UsageError, match=r"514 samples or more, got 0\.01 s"):
        transforms.form_of("audio", Recipe(seconds=0.01))


def test_empty_batches():
    for name in ("text", "image", "video", "audio"):
        form = transforms.form_of(name, Recipe(), vocabulary=9)
        draws = form.draw(0, generator())
        assert form.finish(form.compact(form.buffer(0)), draws).shape == (0, *form.modality.shape)


@pytest.mark.parametrize("name", ["text", "image", "video", "audio"])
def test_a_batch_is_finished_where_it_lies_with_draws_on_the_cpu(name):
    """A device without memory; tensors on another device cannot be combined with it."""
    form = transforms.form_of(name, Recipe(), vocabulary=9)
    draws = form.draw(8, generator())
    found = form.finish(form.compact(form.buffer(8)).to("meta"), draws)
    assert (found.device.type, tuple(found.shape)) == ("meta", (8, *form.modality.shape))
