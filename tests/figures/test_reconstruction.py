from pathlib import Path

import numpy as np
import pytest

from figures.frequencies import log_spectrum, radial_spectrum
from figures.reconstruction import draw_reconstruction
from tests.figures.readable import assert_readable

G = np.random.default_rng(0)
PICTURES = G.random((3, 16, 24, 3))


def test_the_spectrum_against_the_sum_that_defines_it():
    picture = G.random((1, 4, 6, 3))
    rows, columns = np.arange(4), np.arange(6)
    expected = np.zeros((4, 6))
    for u in range(4):
        for v in range(6):
            wave = np.exp(-2j * np.pi * (u * rows[:, None] / 4 + v * columns / 6))
            magnitude = np.abs((picture[0] * wave[..., None]).sum((0, 1))) / np.sqrt(24)
            expected[(u + 2) % 4, (v + 3) % 6] = np.log(magnitude + 1e-6).mean()
    np.testing.assert_allclose(log_spectrum(picture)[0], expected)


def test_a_wave_shows_at_its_frequency():
    wave = np.broadcast_to(0.5 + 0.4 * np.cos(2 * np.pi * 5 * np.arange(32) / 32)[:, None], (32, 32))
    spectrum = log_spectrum(np.repeat(wave[None, ..., None], 3, axis=-1))[0]
    strongest = np.argsort(spectrum.ravel())[::-1][:3]
    assert {tuple(int(axis) for axis in np.unravel_index(k, (32, 32))) for k in strongest} == {
        (16, 16),
        (21, 16),
        (11, 16),
    }


def test_a_ring_is_the_mean_of_the_frequencies_next_to_it():
    """Of a picture that is not square: cycles a pixel, not numbers of waves, say which ring a frequency is in."""
    pictures = G.random((2, 7, 9, 3))
    spectra, rings = log_spectrum(pictures), [[] for _ in range(4)]
    for u in range(7):
        for v in range(9):
            radius = np.sqrt(((u - 3) / 7) ** 2 + ((v - 4) / 9) ** 2)
            nearest = int(np.abs(np.arange(7) / 7 - radius).argmin())
            if nearest < 4:
                rings[nearest].append(spectra[:, u, v])
    frequencies, means = radial_spectrum(pictures)
    np.testing.assert_allclose(frequencies, np.arange(4) / 7)
    np.testing.assert_allclose(means.T, [np.mean(ring, axis=0) for ring in rings])


@pytest.mark.rendered
def test_a_row_for_each_picture_and_all_spectra_below(tmp_path: Path):
    masked, predicted = PICTURES.copy(), PICTURES * 3 - 1
    masked[:, :8] = 0.5
    figure = draw_reconstruction(PICTURES, masked, predicted, PICTURES, tmp_path / "r.svg", "Step 100")
    columns = [axes for axes in figure.axes if axes.images]
    assert [len(axes.images) for axes in columns] == [3] * 4
    np.testing.assert_array_equal(columns[0].images[1].get_array(), PICTURES[1])
    np.testing.assert_array_equal(columns[1].images[2].get_array(), masked[2])
    np.testing.assert_array_equal(columns[2].images[2].get_array(), predicted[2].clip(0, 1))
    for axes in columns:  # whole, in their order, with room between them
        edges = [edge for image in axes.images for edge in image.get_extent()[3:1:-1]]
        assert edges == sorted(set(edges)) and axes.get_ylim() == (edges[-1], edges[0])
    curves = {line.get_gid().removeprefix("mean of "): line for line in figure.axes[-1].lines}
    for name, pictures in {"original": PICTURES, "masked": masked, "predicted": predicted.clip(0, 1)}.items():
        frequencies, spectra = radial_spectrum(pictures)
        np.testing.assert_allclose(curves[name].get_xydata().T, [frequencies, spectra.mean(axis=0)])
    assert_readable(figure)
    svg = (tmp_path / "r.svg").read_text()
    assert all(word in svg for word in ("original", "masked", "predicted", "composite", "log|F|", "Step 100"))


@pytest.mark.rendered
def test_as_many_pictures_are_shown_as_a_page_holds(tmp_path: Path):
    many = np.repeat(PICTURES[:, :, :16], 4, axis=0)
    figure = draw_reconstruction(many, many, many, many, tmp_path / "r.png")
    shown = len(figure.axes[0].images)
    cell = figure.axes[0].get_position().height * figure.get_figheight() / shown
    assert 6 <= shown < 12 and 2.54 * (figure.get_figheight() + cell) > 23.3  # another row would not fit
    assert f"The first {shown} of 12 are shown." in " ".join(figure.texts[-1].get_text().split())
    assert_readable(figure)
    wordy = draw_reconstruction(many, many, many, many, tmp_path / "r.png", "Title", "A long caption. " * 40, "Note.")
    assert len(wordy.axes[0].images) < shown
    assert_readable(wordy)


def test_bytes_and_floats_are_the_same_picture(tmp_path: Path):
    whole = np.round(PICTURES * 255).astype(np.uint8)
    floats = whole / 255.0
    draw_reconstruction(whole, whole, whole, whole, tmp_path / "a.png")
    draw_reconstruction(floats, floats, floats, floats, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_what_does_not_fit_is_refused(tmp_path: Path):
    for (original, masked, predicted, composite), sentence in [
        ([PICTURES, PICTURES, PICTURES[:2], PICTURES], "differ in shape.*2×16×24×3"),
        ([PICTURES.transpose(0, 3, 1, 2)] * 4, "original pictures must be N×H×W×3, got 3×3×16×24"),
        ([PICTURES, PICTURES * 4 - 2, PICTURES, PICTURES], "masked pictures .* undo the normalisation"),
        ([PICTURES, PICTURES, PICTURES * np.nan, PICTURES], "predicted pictures must hold"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            draw_reconstruction(original, masked, predicted, composite, tmp_path / "r.png")
    assert not list(tmp_path.iterdir())
