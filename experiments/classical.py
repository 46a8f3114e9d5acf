"""What was done before networks, for ``other_data.py``: filters of signals, pan-sharpening by substitution, means."""

import torch
from torch import Tensor
from torch.nn import functional as F

from rddm.synthetic import RATE, coarse

BAND = 0.67, 40.0  # Hz, what monitors show of an ECG


def beyond(x: Tensor, reach: int) -> Tensor:
    """Return signals (B, 1, L) that go on by ``reach`` at both ends, mirrored."""
    return F.pad(x, (reach, reach), mode="reflect")


def filtered(x: Tensor, low: float, high: float) -> Tensor:
    """Return signals (B, 1, L) without what lies outside a band of frequencies, in Hz."""
    reach = x.shape[-1] // 2
    waves = torch.fft.rfft(beyond(x, reach))
    frequency = torch.fft.rfftfreq(x.shape[-1] + 2 * reach, 1 / RATE)
    kept = waves * ((frequency >= low) & (frequency <= high))
    return torch.fft.irfft(kept, n=x.shape[-1] + 2 * reach)[..., reach:-reach]


def monitored(x: Tensor) -> Tensor:
    """Return ECGs (B, 1, L) in the band of a monitor."""
    return filtered(x, *BAND)


def levelled(x: Tensor) -> Tensor:
    """Return ECGs (B, 1, L) less their baseline: the median of 0.6 s of the median of 0.2 s."""
    baseline = x
    for reach in (25, 75):
        baseline = beyond(baseline, reach).unfold(-1, 2 * reach + 1, 1).median(-1).values
    return x - baseline


def without_hum(x: Tensor) -> Tensor:
    """Return signals (B, 1, L) without 49 to 51 Hz."""
    return x - filtered(x, 49, 51)


def savitzky_golay(x: Tensor, reach: int, degree: int) -> Tensor:
    """Return signals (B, 1, L): at each point the polynomial fitted to ``reach`` neighbours on both sides."""
    places = torch.arange(-reach, reach + 1.0) / reach
    weights = torch.linalg.pinv(places[:, None] ** torch.arange(degree + 1))[0]
    return F.conv1d(beyond(x, reach), weights.view(1, 1, -1))


def smoothed(x: Tensor, reach: int, degree: int) -> Tensor:
    """Return ECGs (B, 1, L) levelled, without hum, and smoothed by :func:`savitzky_golay`."""
    return savitzky_golay(without_hum(levelled(x)), reach, degree)


def intensity(x_in: Tensor, pan: Tensor) -> Tensor:
    """Return the mix of coarse bands that is nearest to a coarse ``pan``: what its sensor would see of them.

    Arguments:
        x_in: coarse bands, enlarged, (B, C, H, W).
        pan: (B, 1, H, W).
    """
    blurred = torch.stack([F.interpolate(coarse(p)[None], size=p.shape[-2:], mode="bicubic")[0] for p in pan])
    seen = torch.cat([x_in, torch.ones_like(pan)], 1).flatten(2).transpose(1, 2)
    weights = torch.linalg.lstsq(seen, blurred.flatten(2).transpose(1, 2)).solution
    return (seen @ weights).transpose(1, 2).reshape(pan.shape)


def gihs(x_in: Tensor, pan: Tensor) -> Tensor:
    """Return sharpened bands: what ``pan`` has more than the coarse intensity is added to each (Tu et al., 2001)."""
    return (x_in + pan - intensity(x_in, pan)).clamp(-1, 1)


def brovey(x_in: Tensor, pan: Tensor) -> Tensor:
    """Return sharpened bands: each times ``pan`` over the coarse intensity (Gillespie et al., 1987)."""
    light = (intensity(x_in, pan) + 1).clamp_min(0.01)
    return ((x_in + 1) * (pan + 1) / light - 1).clamp(-1, 1)


def over_time(x: Tensor, reach: int) -> Tensor:
    """Return videos (B, C, T, H, W), each frame the mean of itself and ``reach`` neighbours on both sides, if any."""
    frames = x.unbind(2)
    around = (frames[max(0, i - reach) : i + reach + 1] for i in range(len(frames)))
    return torch.stack([torch.stack(group).mean(0) for group in around], 2)
