"""Image files of every kind as RGB."""

import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torchvision.transforms import v2

from rlmba.data.media import images
from rlmba.data.media.images import read_image, resized_size
from tests.helpers import media_files


def texture(width, height, seed=0):
    """uint8 [height, width, 3]: detail at every scale."""
    rng = np.random.default_rng(seed)
    out = np.full((height, width, 3), 128.0)
    for scale in (1, 2, 4, 16, 64):
        coarse = rng.normal(0, 12, (height // scale + 2, width // scale + 2, 3))
        out += coarse.repeat(scale, 0).repeat(scale, 1)[:height, :width]
    return out.clip(0, 255).astype(np.uint8)


def save(path, image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    "size", [(512, 384), (384, 512), (341, 341), (100, 301), (257, 256), (640, 481), (20, 20)]
)
def test_torchvision_resizes_so(size, tmp_path):
    image = Image.fromarray(texture(*size))
    content = read_image(save(tmp_path / "a.png", image), 256)
    theirs = np.asarray(v2.Resize(256)(image))
    np.testing.assert_array_equal(content.array, theirs)
    assert content.flags == ()
    assert content.array.dtype == np.uint8
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    tensor = v2.Resize(256, antialias=True)(tensor).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(content.array, tensor, atol=1)
    assert resized_size(*size, 256) == (content.array.shape[1], content.array.shape[0])


@pytest.mark.parametrize("size", [(512, 384), (1024, 768), (1600, 1200), (1500, 2100)])
def test_jpeg_of_any_size_is_near_a_full_decode(size, tmp_path):
    """Less than one level on average, and at most 8, where the decoder makes it smaller."""
    path = save(tmp_path / "a.jpg", Image.fromarray(texture(*size)), quality=90)
    whole = np.asarray(v2.Resize(256)(Image.open(path)))
    off = np.abs(read_image(path, 256).array.astype(int) - whole)
    if min(size) < 4 * 256:
        assert off.max() == 0
    else:
        assert 0 < off.mean() < 1
        assert off.max() <= 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_upright(orientation, tmp_path):
    stored = texture(90, 60)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", Image.fromarray(stored), exif=exif)
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(stored, 1),
    }[orientation]
    content = read_image(path, 60)
    np.testing.assert_array_equal(content.array, upright)
    assert content.flags == (("rotated",) if orientation > 1 else ())


def test_a_large_jpeg_turned(tmp_path):
    path = media_files.write_image(tmp_path / "a.jpg", size=(640, 360), exif_orientation=6)
    content = read_image(path, 45)
    assert content.array.shape == (80, 45, 3)
    assert content.flags == ("rotated",)


@pytest.mark.parametrize("orientation", [0, 9, 4711])
def test_an_orientation_that_is_none(orientation, tmp_path):
    path = media_files.write_image(tmp_path / "a.jpg", exif_orientation=orientation)
    assert read_image(path, 48).flags == ()


def test_grayscale(tmp_path):
    gray = Image.fromarray(texture(80, 60)).convert("L")
    content = read_image(save(tmp_path / "a.jpg", gray, quality=100), 60)
    assert content.flags == ("converted",)
    assert (content.array[..., 0] == content.array[..., 2]).all()
    np.testing.assert_allclose(content.array[..., 0], np.asarray(gray), atol=4)
    bits = gray.convert("1")
    content = read_image(save(tmp_path / "b.png", bits), 60)
    np.testing.assert_array_equal(content.array[..., 1], np.asarray(bits) * 255)


def test_palette(tmp_path):
    image = Image.fromarray(texture(80, 60)).quantize(32)
    content = read_image(save(tmp_path / "a.gif", image), 60)
    np.testing.assert_array_equal(content.array, np.asarray(image.convert("RGB")))
    assert content.flags == ("converted",)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparency_is_laid_on_white(mode, tmp_path):
    color = Image.fromarray(np.full((40, 40, 3), 100, np.uint8))
    if mode in {"RGBA", "LA"}:
        alpha = np.zeros((40, 40), np.uint8)
        alpha[:, 20:] = 128
        image = color.convert(mode)
        image.putalpha(Image.fromarray(alpha))
        options = {}
    else:
        image = color.copy()
        image.paste((200, 10, 10), (0, 0, 20, 40))
        image = image.quantize(4) if mode == "P" else image
        options = {"transparency": image.getpixel((0, 0))}
    content = read_image(save(tmp_path / "a.png", image, **options), 40)
    assert content.flags == ("converted",)
    assert (content.array[:, :20] == 255).all()
    # 100 at half opacity on white, or opaque.
    expected = 177 if mode in {"RGBA", "LA"} else 100
    np.testing.assert_allclose(content.array[:, 20:], expected, atol=1)


def test_cmyk(tmp_path):
    image = Image.fromarray(texture(80, 60)).convert("CMYK")
    content = read_image(save(tmp_path / "a.jpg", image, quality=98), 60)
    assert content.flags == ("converted",)
    np.testing.assert_allclose(content.array, np.asarray(image.convert("RGB")), atol=30)
    assert np.abs(content.array.astype(int) - np.asarray(image.convert("RGB"))).mean() < 4


def test_lab(tmp_path):
    rgb = Image.fromarray(texture(80, 60) // 4 + 90)
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    path = save(tmp_path / "a.tif", ImageCms.applyTransform(rgb, to_lab))
    content = read_image(path, 60)
    assert content.problem == "" or "\n" not in content.problem


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits(suffix, tmp_path):
    values = np.arange(60 * 60, dtype=np.uint16).reshape(60, 60) * 18
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(values))
    content = read_image(path, 60)
    assert content.flags == ("converted",)
    np.testing.assert_array_equal(content.array[..., 1], values >> 8)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_floats_that_are_no_numbers(value, tmp_path):
    values = np.linspace(0, 1, 3600, dtype=np.float32).reshape(60, 60)
    values[3, 4] = value
    content = read_image(save(tmp_path / "a.tif", Image.fromarray(values)), 60)
    assert content.array is None
    assert content.problem == "not a readable image: it holds NaN or infinity"


def test_floats(tmp_path):
    values = np.linspace(0, 1, 3600, dtype=np.float32).reshape(60, 60)
    content = read_image(save(tmp_path / "a.tif", Image.fromarray(values)), 60)
    np.testing.assert_array_equal(content.array[..., 0], np.rint(255 * values))
    content = read_image(save(tmp_path / "b.tif", Image.fromarray(200 * values)), 60)
    np.testing.assert_array_equal(content.array[..., 0], np.rint(200 * values))


def test_first_of_several(tmp_path):
    pages = [Image.fromarray(np.full((30, 30, 3), v, np.uint8)) for v in (10, 200)]
    path = save(tmp_path / "a.tif", pages[0], save_all=True, append_images=pages[1:])
    assert (read_image(path, 30).array == 10).all()


def test_not_readable(tmp_path):
    good = save(tmp_path / "good.jpg", Image.fromarray(texture(300, 200))).read_bytes()
    png = save(tmp_path / "good.png", Image.fromarray(texture(300, 200))).read_bytes()
    damaged = {
        "truncated.jpg": good[: len(good) // 2],
        "head.jpg": good[:20],
        "truncated.png": png[: len(png) // 2],
        "crossed.png": png[:50] + bytes(50) + png[100:],
        "page.jpg": b"<html><body>404</body></html>",
        "bytes.jpg": bytes(range(256)) * 4,
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        content = read_image(tmp_path / name, 64)
        assert content.array is None, name
        assert content.problem.startswith("not a readable image: "), name
        assert "\n" not in content.problem
        assert len(content.problem) < 200
    (tmp_path / "empty.jpg").write_bytes(b"")
    assert read_image(tmp_path / "empty.jpg", 64).problem == "the file is empty"
    assert read_image(tmp_path / "none.jpg", 64).problem == "no such file"
    assert read_image(tmp_path, 64).problem == "a folder, not a file"


@pytest.mark.parametrize("size", [(9_000, 8_000), (12_000, 12_000), (30_000, 30_000)])
def test_bombs(size, tmp_path):
    """Refused by the size in the header, without decoding."""
    parts = [b"IHDR" + struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0), b"IDAT" + bytes(50)]
    chunks = [struct.pack(">I", len(p) - 4) + p + struct.pack(">I", zlib.crc32(p)) for p in parts]
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        content = read_image(tmp_path / "bomb.png", 64)
    assert content.array is None
    assert "pixels" in content.problem


def test_a_line_is_no_picture(tmp_path):
    """Resized, it would be 256 x 2,560,000."""
    path = save(tmp_path / "line.png", Image.new("RGB", (1, 10_000)))
    assert "too many" in read_image(path, 256).problem


def test_memory_error_passes(tmp_path, monkeypatch):
    def scarce(image):
        raise MemoryError

    path = media_files.write_image(tmp_path / "a.jpg")
    monkeypatch.setattr(images, "load_rgb", scarce)
    with pytest.raises(MemoryError):
        read_image(path, 48)
