"""How much of each spatial frequency is in a picture."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

WORDS = (
    "log|F|: natural logarithm of the magnitude of the Fourier transform, mean of the colours; by frequency: mean over "
    "rings around frequency 0."
)


def log_spectrum(pictures_NHW3: ArrayLike) -> NDArray[np.float64]:
    """Natural logarithm of |F| + 1e-6, F the orthonormal 2-D Fourier transform of each colour with frequency 0 moved
    to the centre; mean over the colours: N×H×W. Defined as in Park & Kim 2022 (arXiv 2202.06709)."""
    spectrum = np.fft.fftshift(np.fft.fft2(pictures_NHW3, axes=(1, 2), norm="ortho"), axes=(1, 2))
    return np.log(np.abs(spectrum) + 1e-6).mean(axis=-1)


def radial_spectrum(pictures_NHW3: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`log_spectrum` against frequency: its mean over the ring of frequencies that are next to each multiple of one
    over the shorter side, up to one half cycle a pixel.

    Returns the R frequencies in cycles a pixel, and N×R.
    """
    spectra_NHW = log_spectrum(pictures_NHW3)
    height, width = spectra_NHW.shape[1:]
    down, across = (np.fft.fftshift(np.fft.fftfreq(side)) for side in (height, width))
    shorter = min(height, width)
    ring_HW = np.rint(np.hypot(down[:, None], across) * shorter).astype(int)
    rings = np.arange(shorter // 2 + 1)
    means = np.stack([spectra_NHW[:, ring_HW == ring].mean(axis=1) for ring in rings], axis=1)
    return rings / shorter, means
