from pathlib import Path

import numpy as np
import pytest

from figures.reconstruction import draw_reconstruction, log_spectrum

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


def test_a_row_for_each_picture_with_spectra_on_one_scale(tmp_path: Path):
    masked, predicted = PICTURES.copy(), PICTURES * 3 - 1
    masked[:, :8] = 0.5
    figure = draw_reconstruction(PICTURES, masked, predicted, PICTURES, tmp_path / "r.svg", "Step 100")
    columns = [axes for axes in figure.axes if axes.images]
    assert [len(axes.images) for axes in columns] == [3] * 8
    np.testing.assert_array_equal(columns[0].images[1].get_array(), PICTURES[1])
    np.testing.assert_array_equal(columns[1].images[2].get_array(), masked[2])
    np.testing.assert_array_equal(columns[2].images[2].get_array(), predicted[2].clip(0, 1))
    np.testing.assert_allclose(columns[5].images[0].get_array(), log_spectrum(masked)[0])
    assert len({image.get_clim() for axes in columns[4:] for image in axes.images}) == 1
    for axes in columns:  # whole, in their order, with room between them
        edges = [edge for image in axes.images for edge in image.get_extent()[3:1:-1]]
        assert edges == sorted(set(edges)) and axes.get_ylim() == (edges[-1], edges[0])
    svg = (tmp_path / "r.svg").read_text()
    assert all(word in svg for word in ("original", "masked", "predicted", "composite", "log|F|", "Step 100"))


@pytest.mark.rendered
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
