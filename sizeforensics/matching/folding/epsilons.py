"""The eps of a batch-norm, found from the factors by which a weight was scaled.

``factor = gamma / sqrt(variance + eps)`` holds in every channel, so each channel bounds eps from
both sides, and one eps has to lie within the bounds of all. Where the file says eps it is the only
one tried. Where it does not, a common one comes first; then the shortest decimal number that all
channels allow, for libraries write what they like (Keras' residual networks 1.001e-5). That needs
channels of differing scale: to a single factor some eps can always be fitted.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from sizeforensics.matching.folding.batch_norms import BatchNorm, Scaling
from sizeforensics.matching.folding.scaling import ROUNDINGS, Scaled

EPSILONS = (1e-5, 1e-3, 1e-4, 1e-6, 1e-2, 1e-12)
"""Tried first where the file does not say: torch's default, then Keras' and those of common models."""

MOST = 0.1
"""The largest eps that is believed where the file does not say one."""

LEAST_CHANNELS = 4
"""Channels of differing scale below which an eps may fit by chance."""

DIFFERENT = 8
"""Tolerances by which scales differ that no eps makes equal."""


def scalings_of(norm: BatchNorm, scaled: Scaled) -> list[tuple[Scaling, float]]:
    """What the norm does under each eps that the factors allow, and how far the worst factor is off.

    The closest comes first; where factors are known within bounds only, the likeliest."""
    # A few channels refuse nearly every other batch-norm of the same width.
    last = len(scaled.factors) - 1
    if not all(_possible(norm, scaled, at) for at in (0, last // 2, last)):
        return []
    low, high = _bounds(norm, scaled)
    likely = [eps for eps in (EPSILONS if norm.eps is None else (norm.eps,)) if low <= eps <= high]
    if not likely and norm.eps is None and _differ(scaled):
        low, high = max(low, 0.0), min(high, MOST)
        likely = [shortest_decimal(low, high)] if low <= high else []
    return sorted((_under(norm, scaled, eps) for eps in likely), key=lambda pair: pair[1])


def _under(norm: BatchNorm, scaled: Scaled, eps: float) -> tuple[Scaling, float]:
    scaling = norm.under(eps)
    errors = np.abs(scaled.of_channels(scaling.scale) - scaled.factors) - scaled.slack
    return scaling, float(np.max(errors, initial=0.0))


def _possible(norm: BatchNorm, scaled: Scaled, channel: int) -> bool:
    """Whether any eps that may be makes one channel's factor: without arrays, for it is asked often."""
    at = channel if scaled.kept is None else int(scaled.kept[channel])
    gamma, variance = norm.gammas.item(at), norm.variances.item(at)
    factor, slack = scaled.factors.item(channel), scaled.slack.item(channel)
    if factor * gamma < 0 and abs(factor) > slack:
        return False
    tolerance = _tolerance(scaled)
    least, most = (0.0, MOST) if norm.eps is None else (norm.eps, norm.eps)
    near, far = max(abs(factor) - slack, 0.0), abs(factor) + slack
    return bool(
        near * sqrt(variance + least) <= abs(gamma) * (1 + 2 * tolerance)
        and abs(gamma) * (1 - 2 * tolerance) <= far * sqrt(variance + most)
    )


def _bounds(norm: BatchNorm, scaled: Scaled) -> tuple[float, float]:
    """The least and the largest eps that all channels allow; not in order where none fits."""
    tolerance = _tolerance(scaled)
    gammas, variances = scaled.of_channels(norm.gammas), scaled.of_channels(norm.variances)
    factors, slack = scaled.factors, scaled.slack
    sizes, wanted = np.abs(factors), np.abs(gammas)
    if np.any((factors * gammas < 0) & (sizes > slack)):
        return np.inf, -np.inf
    least = np.maximum(sizes - slack, 0) / (1 + tolerance)
    most = (sizes + slack) / (1 - tolerance)
    with np.errstate(all="ignore"):
        low = np.where(wanted == 0, 0, wanted / most) ** 2 - variances
        high = np.where(least == 0, np.inf, wanted / least) ** 2 - variances
    return float(low.max()), float(high.min())


def _differ(scaled: Scaled) -> bool:
    """Whether enough channels were scaled by enough different factors."""
    sizes = np.abs(scaled.factors[np.isfinite(scaled.slack)])
    sizes = sizes[sizes > 0]
    if len(sizes) < LEAST_CHANNELS:
        return False
    return bool(np.ptp(sizes) > DIFFERENT * _tolerance(scaled) * np.max(sizes))


def _tolerance(scaled: Scaled) -> float:
    return 2 * ROUNDINGS * scaled.roundoff


def shortest_decimal(low: float, high: float) -> float:
    """The number of fewest digits between two positive ones, nearest to their middle."""
    middle = (low + high) / 2
    for digits in range(17):
        number = float(f"{middle:.{digits}e}")
        if low <= number <= high:
            return number
    return middle
