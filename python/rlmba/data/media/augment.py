"""Color jitter, grayscale and blur of whole batches, with separate parameters for each image.

torchvision's transforms draw one set of parameters per batch. The functions here take images
[n, 3, H, W], float32 in [0, 1], and a tensor [n] of parameters, and do to each image what torchvision's
functions do to one image. Values are not rounded to 8 bits between steps.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "BLUR_SIZE",
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "change_where",
    "gaussian_blur",
    "grayscale",
    "jitter",
]

BLUR_SIZE = 23
"""Taps of the blur kernel along each axis: an odd number near a tenth of an image's side."""

_GRAY = (0.2989, 0.587, 0.114)


def change_where(
    x: Tensor, mask: Tensor, function: Callable[..., Tensor], *parameters: Tensor
) -> None:
    """Replace the samples of ``x`` for which ``mask`` is true by the result of ``function``.

    Parameters
    ----------
    x : tensor [n, ...]
        Changed in place.
    mask : bool tensor [n]
        Preferably on the CPU, so that nothing waits for the device of ``x``.
    function : callable
        Takes k samples and their rows of ``parameters``.
    parameters : tensors [n, ...]
        On the device of ``x``.
    """
    rows = mask.nonzero()[:, 0].to(x.device, non_blocking=True)
    if len(rows):
        chosen = (p.index_select(0, rows) for p in parameters)
        x.index_copy_(0, rows, function(x.index_select(0, rows), *chosen))


def _each(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def grayscale(x: Tensor) -> Tensor:
    """Luma [n, 1, H, W] of images, with the weights of ITU-R BT.601 as torchvision rounds them."""
    r, g, b = x.unbind(1)
    return (r * _GRAY[0]).add_(g, alpha=_GRAY[1]).add_(b, alpha=_GRAY[2])[:, None]


def adjust_brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply by ``factor`` [n] and clamp."""
    return (x * _each(factor)).clamp_(0, 1)


def adjust_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean of each image's luma; factor 0 gives only that mean."""
    # A single sum over many values would be divided among threads, and its rounding depend on their number.
    mean = grayscale(x).mean(dim=3).mean(dim=(1, 2))
    return (x * _each(factor)).add_(_each((1 - factor) * mean)).clamp_(0, 1)


def adjust_saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the luma; factor 0 gives only the luma."""
    return torch.lerp(grayscale(x), x, _each(factor)).clamp_(0, 1)


def adjust_hue(x: Tensor, shift: Tensor) -> Tensor:
    """Rotate the hue by ``shift`` [n] of a full circle; saturation and value do not change.

    With value V, chroma C and hue h in sixths of a circle, a channel is V - C w. The weight
    w = clamp(2 - |3 - |h - o||, 0, 1) falls to 0 around the channel's own hue o, which is 0, 2 and 4 for
    red, green and blue. The code has no branches, because selecting elements is slow on a CPU.
    """
    r, g, b = x.unbind(1)
    # Comparing in place gives 0 and 1 in x's dtype, which is many times faster than through bool.
    green_below = g.clone().lt_(b)
    middle, low = torch.maximum(g, b), torch.minimum(g, b)
    red_below = r.clone().lt_(middle)
    value, middle = torch.maximum(r, middle), torch.minimum(r, middle)
    chroma = value - torch.minimum(middle, low)
    # h = |k + (middle - low) / C| with k = 0, -6 (g < b), -2 (r < g) or 4 (r < b and g < b).
    k = green_below.mul_(-6)
    k.addcmul_(red_below, k + 1, value=-2)
    hue = middle.sub_(low).div_(chroma + 1e-20).add_(k).abs_().add_((6 * shift)[:, None, None])
    hue.sub_(torch.floor(hue / 6), alpha=6)
    out = torch.empty_like(x)
    for channel, own in enumerate((0, 2, 4)):
        weight = (hue - own).abs_().sub_(3).abs_().sub_(2).clamp_(-1, 0)
        torch.addcmul(value, chroma, weight, out=out[:, channel])
    return out


_STEPS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    adjust_hue,
)


def jitter(x: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Adjust brightness, contrast, saturation and hue in place, in a separate order for each image.

    Parameters
    ----------
    x : float32 tensor [n, 3, H, W]
        Overwritten.
    factors : float32 tensor [n, 4]
        Factors of brightness, contrast and saturation, and the shift of the hue.
    order : integer tensor [n, 4]
        Which adjustment, 0 to 3, comes first, second, ...; -1: none. Preferably on the CPU, since it
        decides what is computed.

    Returns
    -------
    tensor [n, 3, H, W]
        ``x``.
    """
    columns = factors.to(x.device, non_blocking=True).unbind(1)
    for turn in order.unbind(1):
        for number, step in enumerate(_STEPS):
            change_where(x, turn == number, step, columns[number])
    return x


def _bands(taps: Tensor, side: int) -> Tensor:
    """[n, side, side]: entry [i, j] is the weight of pixel i in blurred pixel j; borders are reflected."""
    n, count = taps.shape
    half = count // 2
    wide = side + 2 * half
    padded = taps.new_zeros(n, side, wide)
    padded.as_strided((n, side, count), (side * wide, wide + 1, 1)).copy_(taps[:, None])
    bands = padded[:, :, half:-half]
    bands[:, :, 1 : half + 1] += padded[:, :, :half].flip(2)
    bands[:, :, -half - 1 : -1] += padded[:, :, -half:].flip(2)
    return bands.transpose(1, 2)


def gaussian_blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Blur with a Gaussian of standard deviation ``sigma`` [n] > 0 pixels; borders are reflected.

    The kernel has :data:`BLUR_SIZE` taps along each axis and is separable. Each axis is one product with
    a banded matrix, which is many times faster than a convolution with a different kernel for each
    image. Sides must be longer than half of the kernel.
    """
    offsets = torch.arange(BLUR_SIZE, device=x.device) - BLUR_SIZE // 2
    taps = torch.softmax(-0.5 * (offsets / sigma[:, None]) ** 2, dim=1)
    # Taps too small to matter in float32 may be denormal, which makes products very slow on a CPU.
    taps = functional.threshold(taps, 1e-12, 0.0)
    height, width = x.shape[2:]
    across = _bands(taps, width)
    down = across if height == width else _bands(taps, height)
    blurred = (x.flatten(1, 2) @ across).view_as(x)
    return down.transpose(1, 2)[:, None] @ blurred
