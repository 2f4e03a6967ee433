"""What a few numbers regenerate, as torch and the libraries on it write it, and what looks like it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from sizeforensics.dtypes import numpy_dtype
from sizeforensics.matching.constants import grids, waves
from sizeforensics.matching.constants.computable import _periods, recipe

Array = npt.NDArray[Any]

HALVES = (torch.float16, torch.bfloat16)


def as_array(tensor: Tensor) -> Array:
    """Elements as this package reads them: bfloat16 has a numpy type of its own."""
    name = str(tensor.dtype).removeprefix("torch.")
    bits = {1: torch.uint8, 2: torch.int16}.get(tensor.element_size())
    raw = tensor.contiguous() if bits is None else tensor.contiguous().view(bits)
    return raw.numpy().view(numpy_dtype(name))


def angles(positions: int, width: int, base: float = 10_000.0) -> Tensor:
    """Position times inverse frequency, as rotary embeddings compute it."""
    inverse = 1 / base ** (torch.arange(0, width, 2).float() / width)
    return torch.outer(torch.arange(positions).float(), inverse)


def sinusoids(positions: int, width: int) -> Tensor:
    table = torch.zeros(positions, width)
    table[:, 0::2], table[:, 1::2] = angles(positions, width).sin(), angles(positions, width).cos()
    return table


def anchors(sizes: tuple[tuple[int, int], ...], scales: tuple[int, ...]) -> Tensor:
    """Centres of the cells of several feature maps, one below the other, as detectors have them."""
    points = []
    for (height, width), scale in zip(sizes, scales, strict=True):
        axes = torch.arange(height) + 0.5, torch.arange(width) + 0.5
        y, x = torch.meshgrid(*axes, indexing="ij")
        points.append(torch.stack((x, y), -1).view(-1, 2) * scale)
    return torch.cat(points)


def relative_positions(window: int) -> Tensor:
    """The index of the distance of two places of a window, as Swin transformers compute it."""
    places = torch.arange(window)
    flat = torch.stack(torch.meshgrid(places, places, indexing="ij")).flatten(1)
    distance = (flat[:, :, None] - flat[:, None, :]).permute(1, 2, 0) + window - 1
    return distance[:, :, 0] * (2 * window - 1) + distance[:, :, 1]


def shifted_window_mask(side: int, window: int) -> Tensor:
    """Which places of a window belong to one region of the image that was rolled."""
    image = torch.zeros(side, side)
    shift = window // 2
    stripes = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for number, (rows, columns) in enumerate((one, two) for one in stripes for two in stripes):
        image[rows, columns] = number
    count = side // window
    labels = image.view(count, window, count, window).permute(0, 2, 1, 3).reshape(count**2, -1)
    return torch.where(labels[:, None] == labels[:, :, None], 0.0, -100.0)


def slopes(heads: int) -> list[float]:
    """Those of ALiBi as its paper's code interpolates them."""
    fewer = 2 ** math.floor(math.log2(heads))
    first = 2.0 ** -(8 / fewer)
    own = [first ** (1 + head) for head in range(fewer)]
    return own if heads == fewer else own + slopes(2 * fewer)[0::2][: heads - fewer]


def positions(height: int, width: int, columns: int) -> Tensor:
    """Sines and cosines of column and row of each patch, as masked autoencoders compute them."""
    inverse = 1 / 10_000 ** (np.arange(columns // 4) / (columns / 4))
    parts = []
    for axis in np.meshgrid(np.arange(width), np.arange(height)):
        turns = np.outer(axis.reshape(-1), inverse)
        parts += [np.sin(turns), np.cos(turns)]
    return torch.from_numpy(np.concatenate(parts, axis=1)).float()


def mel_points(count: int, low: float, high: float, *, htk: bool) -> Array:
    """Hertz of evenly spaced places of either scale."""
    if htk:
        ends = 2595 * np.log10(1 + np.array([low, high]) / 700)
        return np.asarray(700 * (10 ** (np.linspace(*ends, count) / 2595) - 1))
    ends = [f * 3 / 200 if f < 1000 else 15 + math.log(f / 1000) * 27 / math.log(6.4) for f in (low, high)]
    mels = np.linspace(*ends, count)
    return np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * math.log(6.4) / 27))


def librosa(rate: int, window: int, bands: int, low: float, high: float, *, htk: bool, area: bool) -> Tensor:
    edges = mel_points(bands + 2, low, high, htk=htk)
    ramps = np.subtract.outer(edges, np.fft.rfftfreq(window, 1 / rate))
    weights = np.zeros((bands, 1 + window // 2), dtype=np.float32)
    for band in range(bands):
        lower = -ramps[band] / (edges[band + 1] - edges[band])
        upper = ramps[band + 2] / (edges[band + 2] - edges[band + 1])
        weights[band] = np.maximum(0, np.minimum(lower, upper))
    if area:
        weights *= (2 / (edges[2:] - edges[:-2]))[:, None]
    return torch.from_numpy(weights)


def torchaudio(rate: int, frequencies: int, bands: int) -> Tensor:
    """All in single precision, a band in each column."""
    mels = torch.linspace(0.0, 2595 * math.log10(1 + rate / 2 / 700), bands + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    widths, ramps = edges.diff(), edges - torch.linspace(0, rate // 2, frequencies)[:, None]
    return torch.minimum(-ramps[:, :-2] / widths[:-1], ramps[:, 2:] / widths[1:]).clamp(min=0)


def fourier(window: Tensor) -> Tensor:
    """Cosines and sines as kernels of a convolution, times a window."""
    rows = np.fft.fft(np.eye(len(window)))[: len(window) // 2 + 1]
    return torch.from_numpy(np.vstack([rows.real, rows.imag])).float()[:, None] * window


def inverse_fourier(window: Tensor, hop: int) -> Tensor:
    basis = len(window) / hop * fourier(torch.ones(len(window)))[:, 0].double()
    return torch.linalg.pinv(basis).T.float()[:, None] * window


def cosines(waves: int, times: int, *, orthonormal: bool) -> Tensor:
    """The discrete cosine transform as torchaudio has it, a wave in each column."""
    table = torch.cos(math.pi / times * (torch.arange(float(times)) + 0.5) * torch.arange(float(waves))[:, None])
    if orthonormal:
        table[0] *= 1 / math.sqrt(2)
        return (table * math.sqrt(2 / times)).T
    return (2 * table).T


def distances(side: int, step: int) -> Tensor:
    """The indices of biases of attention as LeViT numbers them, one for each offset."""
    places = [(y, x) for y in range(side) for x in range(side)]
    known: dict[tuple[int, int], int] = {}
    asks = [(y, x) for y, x in places if y % step == x % step == 0]
    rows = [
        [known.setdefault((abs(y - v), abs(x - u)), len(known)) for v, u in places] for y, x in asks
    ]
    return torch.tensor(rows)


def with_class_token(index: Tensor) -> Tensor:
    """BEiT's numbers of biases: three more, from, to and of the class token."""
    count = int(index.max()) + 1
    whole = torch.full((len(index) + 1, len(index) + 1), count)
    whole[:, 0] = count + 1
    whole[0, 0] = count + 2
    whole[1:, 1:] = index
    return whole


CAUSAL = torch.full((48, 48), float("-inf")).triu(1)
SQUARE = ((80, 80), (40, 40), (20, 20))
WIDE = ((12, 20), (6, 10), (3, 5))
SLOPES = 2.0 ** -torch.arange(1, 9)
DISTANCES = torch.arange(64)[None] - torch.arange(64)[:, None]

COMPUTED = {
    "arange": (torch.arange(100), "a range", 16),
    "arange int32": (torch.arange(3, 1000, 7, dtype=torch.int32), "a range", 8),
    "arange float": (torch.arange(100).float(), "a range", 8),
    "position ids": (torch.arange(514)[None], "a range", 16),
    "linspace": (torch.linspace(-7, 3, 1000), "a range", 8),
    "logspace": (torch.logspace(-3, 2, 64), "powers of one number", 8),
    "inverse frequencies": (angles(2, 64)[1], "powers of one number", 8),
    "alibi slopes": (SLOPES, "powers of one number", 8),
    "alibi bias": (
        SLOPES[:, None, None] * torch.arange(64), "products of powers of one number and a range", 16),
    "alibi bias of pairs": (SLOPES[:, None, None] * DISTANCES, "products of powers", 20),
    "hann": (torch.hann_window(400), "a sum of cosines", 20),
    "hann, symmetric": (torch.hann_window(400, periodic=False), "a sum of cosines", 20),
    "hamming": (torch.hamming_window(400), "a sum of cosines", 20),
    "blackman": (torch.blackman_window(400), "a sum of cosines", 20),
    "rotary cosines": (torch.cat([angles(512, 64)] * 2, -1).cos()[None, None], "32 sines", 384),
    "rotary pairs": (
        torch.stack([angles(512, 64).cos(), angles(512, 64).sin()], -1), "2 tables, each 32 sines", 768),
    "rotary, slow": (angles(4096, 16, 5e6).sin(), "8 sines", 96),
    "sinusoids": (sinusoids(512, 64)[None], "64 sines", 768),
    "sinusoids, channels first": (sinusoids(512, 64).T, "64 sines", 768),
    "causal mask": (CAUSAL, "a triangular mask: 0.0 on and below a diagonal, -inf else", 8),
    "causal mask of the least number": (
        torch.full((1, 1, 48, 48), torch.finfo(torch.float32).min).triu(1), "a triangular mask", 8),
    "causal mask, bool": (torch.ones(48, 48, dtype=torch.bool).tril(), "a triangular mask", 2),
    "sliding window": (torch.ones(48, 48).tril() * torch.ones(48, 48).triu(-8), "a matrix of 3", 36),
    "eye": (torch.eye(48), "a matrix of 3 numbers along its diagonals", 36),
    "one-hot": (torch.nn.functional.one_hot(torch.arange(48)), "a matrix of 3 numbers", 48),
    "meshgrid": (
        torch.stack(torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")),
        "2 tables, each a range", 16),
    "meshgrid, row by row": (
        anchors(((20, 30),), (1,)), "2 tables: a range; a coordinate grid", 28),
    "anchors": (anchors(SQUARE, (1, 1, 1)), "2 tables, each 3 coordinate grids in a row", 168),
    "anchors, transposed": (anchors(SQUARE, (1, 1, 1)).T[None], "2 tables, each 3 coordinate grids", 168),
    "anchors, in pixels": (anchors(SQUARE, (8, 16, 32)), "2 tables, each 3 coordinate grids in a row", 168),
    "anchors, not square": (anchors(WIDE, (8, 16, 32)), "2 tables, each 3 coordinate grids in a row", 168),
    "strides": (
        torch.cat([torch.full((len(anchors((size,), (1,))), 1), 8.0 * 2**at)
                   for at, size in enumerate(SQUARE)]), "3 numbers in runs", 36),
    "relative positions": (relative_positions(7), "a coordinate grid", 56),
    "relative positions, flat": (relative_positions(7).flatten(), "a coordinate grid", 64),
    "buckets": (DISTANCES.abs().clamp(max=15), "a matrix of 31 numbers", 496),
    "shifted windows": (
        shifted_window_mask(56, 7), "a mask: 0.0 where two of 49 indices have one label, -100.0", 3144),
    "alibi slopes of 12 heads": (torch.tensor(slopes(12)), "the slopes of ALiBi for 12 heads", 8),
    "alibi slopes of 20 heads": (torch.tensor(slopes(20)), "the slopes of ALiBi for 20 heads", 8),
    "alibi bias of 12 heads": (
        torch.tensor(slopes(12))[:, None, None] * torch.arange(64),
        "products of the slopes of ALiBi for 12 heads and a range", 16),
    "positions of patches": (positions(14, 14, 192), "positions on a grid of 14 x 14: ", 2312),
    "positions of patches, not square": (
        positions(18, 32, 128), "positions on a grid of 18 x 32: ", 1544),
    "positions, channels first": (
        positions(16, 16, 256).T.reshape(1, 256, 16, 16), "positions on a grid of 16 x 16: ", 3080),
    "positions behind a class token": (
        torch.cat([torch.zeros(1, 192), positions(14, 14, 192)]), "positions on a grid of 14 x 14: ", 2324),
    "mel, Whisper": (
        librosa(16_000, 400, 80, 0, 8000, htk=False, area=True),
        "a filterbank of 80 mel bands (Slaney) from 0 to 8,000 Hz at 16,000 Hz, of area 1", 24),
    "mel, librosa": (
        librosa(22_050, 1024, 80, 55, 7600, htk=True, area=False),
        "a filterbank of 80 mel bands (HTK) from 55 to 7,600 Hz at 22,050 Hz, of height 1", 24),
    "mel, librosa, to half the rate": (
        librosa(22_050, 2048, 128, 0, 11_025, htk=False, area=False),
        "a filterbank of 128 mel bands (Slaney) from 0 to 11,025 Hz", 24),
    "mel, torchaudio": (torchaudio(16_000, 201, 80), "a filterbank of 80 mel bands (HTK) from 0 to 8,000", 24),
    "fourier": (fourier(torch.ones(128)), "a discrete Fourier transform, its window a fill of 1.0", 28),
    "spectrogram": (
        fourier(torch.hann_window(512)), "a discrete Fourier transform, its window a sum of cosines", 44),
    "inverse spectrogram": (
        inverse_fourier(torch.hann_window(256), 64),
        "a discrete Fourier transform, its window a sum of cosines", 44),
    "cosine transform": (
        cosines(40, 128, orthonormal=True), "a discrete cosine transform, its window a fill of 0.125", 16),
    "all of a cosine transform": (
        cosines(64, 64, orthonormal=False), "a discrete cosine transform, its window a fill of 2.0", 16),
    "inverse cosine transform": (
        cosines(64, 64, orthonormal=True).T, "a discrete cosine transform, its window a fill of 0.17", 16),
    "distances of places": (distances(14, 1), "the index of distances in an image of 14 x 14", 24),
    "distances, shrinking": (distances(14, 2), "the index of distances in an image of 14 x 14", 24),
    "relative positions and a class token": (
        with_class_token(relative_positions(14)), "a coordinate grid, behind a row and a column", 104),
    "a fill": (torch.full((3, 5), 0.5), "a fill of 0.5", 4),
}  # fmt: skip
"""Name to (tensor, how the words begin, bytes of numbers)."""


@pytest.mark.parametrize("name", COMPUTED)
def test_computed(name: str) -> None:
    tensor, words, nbytes = COMPUTED[name]
    found = recipe(as_array(tensor))
    assert found is not None
    assert found.words.startswith(words)
    assert found.nbytes == nbytes


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(
    "name", [name for name, (tensor, *_) in COMPUTED.items() if tensor.is_floating_point()]
)
def test_computed_in_single_precision_and_stored_in_half(name: str, dtype: torch.dtype) -> None:
    """Rounding to a narrow type hides the formula as little as it hides the elements."""
    tensor, words, _ = COMPUTED[name]
    if name.startswith("anchors") and dtype == torch.bfloat16:
        pytest.skip("half coordinates beyond 128 have no bfloat16")
    found = recipe(as_array(tensor.to(dtype)))
    assert found is not None
    if "least number" not in name:  # which is infinite in float16
        assert found.words.startswith(words)


def learned(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


def drawn(high: int, *shape: int) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(high))


RAMP = torch.linspace(0, 1, 64)
BETAS = torch.linspace(1e-4, 0.02, 1000)

NOT_COMPUTED = {
    "matrix": learned(64, 64),
    "vector": learned(512),
    "thin": learned(64, 1, 3),
    "sorted": learned(256).sort().values,
    "a walk": learned(512).cumsum(0),
    "of rank two": learned(512, 2) @ learned(2, 64),
    "indices": drawn(169, 49, 49),
    "indices in a row": drawn(169, 2401),
    "an order": torch.randperm(512, generator=torch.Generator().manual_seed(0)),
    "bits": drawn(2, 64, 64).bool(),
    "a trained ramp": RAMP + 1e-2 * learned(64),
    "trained positions": sinusoids(512, 64) + 1e-2 * learned(512, 64),
    "anchors, one moved": anchors(SQUARE, (1, 1, 1)).index_fill(0, torch.tensor([5000]), 3.25),
    "a schedule": torch.cumprod(1 - BETAS, 0),
    "its square roots": torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2,
    "trained patches": positions(14, 14, 192) + 1e-2 * learned(196, 192),
    "a trained filterbank": (
        librosa(16_000, 400, 80, 0, 8000, htk=False, area=False) * (1 + 1e-1 * learned(80, 201))),
    "a trained spectrogram": fourier(torch.hann_window(128)) + 1e-2 * learned(130, 1, 128),
    "trained slopes": torch.tensor(slopes(12)) * (1 + 1e-1 * learned(12)),
    "a trained mask": shifted_window_mask(28, 7) + 0.01 * learned(16, 49, 49),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [None, *HALVES], ids=str)
@pytest.mark.parametrize("name", NOT_COMPUTED)
def test_not_computed(name: str, dtype: torch.dtype | None) -> None:
    """A smooth curve is no sine and a trained ramp no range, however coarse the type."""
    tensor = NOT_COMPUTED[name]
    if dtype is not None and tensor.is_floating_point():
        tensor = tensor.to(dtype)
    assert recipe(as_array(tensor)) is None


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_one_element_that_is_off_refutes_a_recipe(dtype: torch.dtype) -> None:
    """All elements are compared, wherever they are; a table may begin behind the one that is off."""
    for name in (
        "linspace", "rotary, slow", "hann", "logspace", "sinusoids", "alibi slopes of 12 heads",
        "positions of patches", "mel, Whisper", "mel, torchaudio", "spectrogram", "cosine transform",
    ):  # fmt: skip
        tensor = COMPUTED[name][0].to(dtype)
        for place in (1, tensor.numel() // 2, tensor.numel() - 2):
            changed = tensor.clone(memory_format=torch.contiguous_format)
            changed.view(-1)[place] += 0.25 * float(tensor.abs().max())
            found, other = recipe(as_array(tensor)), recipe(as_array(changed))
            assert found is not None
            if other is not None:
                # What is behind the element, or behind its row, is as it was.
                assert name == "linspace" or "behind a" in other.words, place
                assert (other.words, other.nbytes) != found, place


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_not_finite(value: float) -> None:
    """Where nothing can be computed nothing is claimed, and nothing fails."""
    for name in (
        "linspace", "sinusoids", "hann", "logspace", "alibi bias", "anchors", "alibi slopes of 12 heads",
        "mel, Whisper", "spectrogram", "all of a cosine transform",
    ):  # fmt: skip
        tensor = COMPUTED[name][0].clone(memory_format=torch.contiguous_format)
        for place in (0, tensor.numel() // 2, tensor.numel() - 1):
            tensor.view(-1)[place] = value
        assert recipe(as_array(tensor)) is None, name


def test_a_recipe_takes_at_most_half() -> None:
    assert recipe(np.arange(3)) is None
    assert recipe(np.arange(4)) is not None


@pytest.mark.parametrize("name", ["float16", "float32", "float64", "int32"])
@pytest.mark.parametrize("shape", [(1 << 20,), (1 << 10, 1 << 10)], ids=str)
def test_what_has_no_recipe_is_refused_on_a_few_elements(name, shape, monkeypatch):
    """No formula is fitted to all of it: nothing that is compared is as long as the array."""
    compared = []
    for module in (grids, waves):
        own = module.same

        def counted(expected, stored, *more, own=own):
            compared.append(stored.size)
            return own(expected, stored, *more)

        monkeypatch.setattr(module, "same", counted)
    whole = []
    monkeypatch.setattr(grids, "_piece", lambda flat: whole.append(flat.size))
    random = np.random.default_rng(0).standard_normal(shape) * 1000
    assert recipe(random.astype(name)) is None
    assert (whole, max(compared, default=0) <= 1 << 10) == ([], True)


@pytest.mark.parametrize("length", range(1, 130))
def test_repetitions_are_tried_at_every_divisor(length):
    assert _periods(length) == [size for size in range(1, length // 2 + 1) if length % size == 0]
