import os
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from figures import fig4
from figures.runs import open_runs
from figures.style import look
from tests.figures.made_up import pictures, texts, write_run
from tests.figures.readable import assert_readable
from tests.figures.test_curves import bands, caption, seen


def trained(folder: Path, seed: int = 0, step: int = 10, **changes: np.ndarray) -> Path:
    folder = folder if folder.is_dir() else write_run(folder)
    (folder / "pictures").mkdir(exist_ok=True)
    np.savez(folder / "pictures" / f"step-{step:08d}.npz", **pictures(seed) | changes)
    return folder


def shown(figure) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for axes in seen(figure) for image in axes.images]


def spectrum(picture_3HW: np.ndarray) -> np.ndarray:
    """From the formula: the discrete Fourier transform as two matrix products."""
    height, width = picture_3HW.shape[1:]
    rows, columns = (np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) for n in (height, width))
    transformed = np.abs(rows @ picture_3HW.astype(float) @ columns) / np.sqrt(height * width)
    return np.roll(np.log(transformed + 1e-6).mean(axis=0), (height // 2, width // 2), (0, 1))


def ringed(spectra: np.ndarray) -> np.ndarray:
    """Mean over the frequencies next to each multiple of one over the shorter side."""
    height, width = spectra.shape[-2:]
    u, v = np.mgrid[:height, :width]
    radius = np.hypot((u - height // 2) / height, (v - width // 2) / width) * min(height, width)
    return np.stack(
        [spectra[..., np.abs(radius - k) < 0.5].mean(axis=-1) for k in range(min(height, width) // 2 + 1)], -1
    )


def test_pictures_their_spectra_and_what_the_runs_differ_in(tmp_path: Path):
    runs = open_runs([trained(tmp_path / "x", 1), trained(tmp_path / "y", 2)], ["with", "without"])
    drawn = fig4.draw(runs, pictures=2)
    one, two = pictures(1), pictures(2)
    columns = [axes.images for axes in seen(drawn.figure) if axes.images]
    assert [len(images) for images in columns] == [4] * 5
    wanted = [one["original"], one["masked"], one["predicted"], two["predicted"]]
    for column, arrays in zip(columns[:4], wanted, strict=True):
        for n in range(2):
            picture, spectra = (np.asarray(image.get_array()) for image in column[2 * n : 2 * n + 2])
            np.testing.assert_allclose(picture, arrays[n].transpose(1, 2, 0), atol=1e-6)
            np.testing.assert_allclose(spectra, spectrum(arrays[n]), atol=1e-5)
    assert len({image.get_clim() for column in columns[:4] for image in column[1::2]}) == 1
    change = one["predicted"][:2] - two["predicted"][:2]
    times = 0.5 / np.percentile(np.abs(change), 99)
    picture, spectra = (np.asarray(image.get_array()) for image in columns[4][2:])
    np.testing.assert_allclose(picture, (0.5 + times * change[1].transpose(1, 2, 0)).clip(0, 1), atol=1e-5)
    np.testing.assert_allclose(spectra, spectrum(one["predicted"][1]) - spectrum(two["predicted"][1]), atol=1e-4)
    assert f"{times:.2g} times as strong" in caption(drawn.figure)
    assert {"original", "masked", "with", "without", "with less without"} <= set(texts(drawn.figure))
    assert drawn.files == {run: ["pictures/step-00000010.npz"] for run in runs}
    assert_readable(drawn.figure)


def test_what_is_changed_by_frequency_is_the_mean_over_all_pictures_with_its_interval(tmp_path: Path):
    runs = open_runs([trained(tmp_path / "x", 1), trained(tmp_path / "y", 2)], ["with", "without"])
    left, right = (axes for axes in seen(fig4.draw(runs, pictures=1).figure) if axes.get_xlabel())
    one, two, original = (
        ringed(np.stack([spectrum(each) for each in arrays]))
        for arrays in (pictures(1)["predicted"], pictures(2)["predicted"], pictures()["original"])
    )
    curves = {line.get_gid(): line.get_ydata() for line in [*left.lines, *right.lines] if line.get_gid()}
    np.testing.assert_allclose(curves["mean of with"], (one - original).mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(curves["mean of without"], (two - original).mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(curves["mean of change"], (one - two).mean(axis=0), atol=1e-4)
    interval = stats.ttest_rel(one, two).confidence_interval(0.95)
    np.testing.assert_allclose(bands(right)[look(0).colour.upper()], np.transpose(interval), atol=1e-4)


def test_the_latest_pictures_count_and_reconstructions_beside_run_json_do_too(tmp_path: Path):
    folder = trained(trained(tmp_path / "x", 3, step=2_000), 1, step=12_000)
    np.savez(folder / "earlier.npz", **pictures(2))
    os.utime(folder / "earlier.npz", (1e9, 1e9))
    other = trained(tmp_path / "y", 3)
    np.savez(other / "reconstructions.npz", **pictures(2))
    np.savez(other / "counts.npz", counts=np.zeros(3))
    os.utime(other / "reconstructions.npz", (3e9, 3e9))
    os.utime(other / "counts.npz", (4e9, 4e9))
    runs = open_runs([folder, other])
    drawn = fig4.draw(runs, pictures=1)
    assert list(drawn.files.values()) == [["pictures/step-00012000.npz"], ["reconstructions.npz"]]
    np.testing.assert_allclose(shown(drawn.figure)[4], pictures(1)["predicted"][0].transpose(1, 2, 0), atol=1e-6)


def test_panels_stand_below_each_other_and_may_show_other_pictures(tmp_path: Path):
    other = pictures()["original"][:, :, ::-1]
    cnn = trained(tmp_path / "z", original=other, masked=other)
    runs = open_runs([trained(tmp_path / "x", 1), trained(tmp_path / "y", 2), cnn], list("abc"), ["ViT", "ViT", "CNN"])
    drawn = fig4.draw(runs, pictures=1)
    assert len(shown(drawn.figure)) == 2 * 5 + 2 * 3 and {"ViT", "CNN"} <= set(texts(drawn.figure))
    assert_readable(drawn.figure)


def test_runs_that_mask_otherwise_each_show_what_they_saw(tmp_path: Path):
    masked = pictures()["masked"] * 0.5
    runs = open_runs([trained(tmp_path / "x", 1), trained(tmp_path / "y", 2, masked=masked)], ["a", "b"])
    drawn = fig4.draw(runs, pictures=1)
    assert {"masked a", "masked b"} <= set(texts(drawn.figure)) and len(shown(drawn.figure)) == 2 * 6
    np.testing.assert_allclose(shown(drawn.figure)[4], masked[0].transpose(1, 2, 0), atol=1e-6)


def test_what_cannot_be_drawn_is_refused(tmp_path: Path):
    run = trained(tmp_path / "x")
    with pytest.raises(ValueError, match=r"empty lacks pictures \(.npz, of `a2mim pretrain`"):
        fig4.draw(open_runs([run, write_run(tmp_path / "empty")]))
    other = trained(tmp_path / "other", original=pictures()["original"] / 2)
    with pytest.raises(ValueError, match="x, other show other pictures: reconstruct the same ones"):
        fig4.draw(open_runs([run, other]))
    with pytest.raises(ValueError, match="a is several runs in one panel"):
        fig4.draw(open_runs([run, other], ["a", "a"]))
    with pytest.raises(ValueError, match="number of pictures is 0"):
        fig4.draw(open_runs([run]), pictures=0)
    wide = trained(tmp_path / "wide", predicted=pictures()["predicted"] * 3)
    with pytest.raises(ValueError, match="must hold uint8 or floats from 0 to 1"):
        fig4.draw(open_runs([wide]))
    np.savez(write_run(tmp_path / "less") / "p.npz", original=pictures()["original"])
    with pytest.raises(ValueError, match=r"p.npz lacks masked, predicted"):
        fig4.draw(open_runs([tmp_path / "less"]))
    (write_run(tmp_path / "cut") / "p.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ValueError, match=r"p.npz cannot be read as .npz"):
        fig4.draw(open_runs([tmp_path / "cut"]))
    (write_run(tmp_path / "text") / "p.npz").write_text("no archive")
    with pytest.raises(ValueError, match=r"p.npz cannot be read as .npz"):
        fig4.draw(open_runs([tmp_path / "text"]))


def test_the_caption_counts_the_pictures_of_every_panel_and_names_a_band_where_there_is_one(tmp_path: Path):
    def few(count: int, seed: int) -> dict[str, np.ndarray]:
        return {kind: pixels[:count] for kind, pixels in pictures(seed).items()}

    folders = [trained(tmp_path / f"{k}", **few(count, k)) for k, count in enumerate((2, 2, 3, 3))]
    wide = fig4.draw(open_runs(folders, list("abab"), ["ViT", "ViT", "CNN", "CNN"]))
    told = "Curves: mean over 2 to 3 pictures; band, from three pictures on: Student's 95 % interval."
    assert told in caption(wide.figure)
    assert "over 3 pictures; band: Student's" in caption(fig4.draw(open_runs(folders[2:])).figure)
    for runs in (folders[:2], folders[3:]):  # too few pictures; one run
        assert "band" not in caption(fig4.draw(open_runs(runs)).figure)
