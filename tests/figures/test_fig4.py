from pathlib import Path

import numpy as np
import pytest

from figures import fig4
from figures.runs import open_runs
from tests.figures.made_up import pictures, texts, write_run
from tests.figures.test_curves import seen


def trained(folder: Path, seed: int = 0, step: int = 10, **changes: np.ndarray) -> Path:
    folder = folder if folder.is_dir() else write_run(folder)
    (folder / "pictures").mkdir(exist_ok=True)
    np.savez(folder / "pictures" / f"step-{step:08d}.npz", **pictures(seed) | changes)
    return folder


def shown(figure) -> list[np.ndarray]:
    return [np.asarray(axes.images[0].get_array()) for axes in seen(figure) if axes.images]


def spectrum(picture_3HW: np.ndarray) -> np.ndarray:
    """From the formula: the discrete Fourier transform as two matrix products."""
    height, width = picture_3HW.shape[1:]
    rows, columns = (np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) for n in (height, width))
    transformed = np.abs(rows @ picture_3HW.astype(float) @ columns) / np.sqrt(height * width)
    return np.roll(np.log(transformed + 1e-6).mean(axis=0), (height // 2, width // 2), (0, 1))


def test_rows_of_pictures_and_the_spectra_of_the_original_and_of_every_prediction(tmp_path: Path):
    runs = open_runs([trained(tmp_path / "x", 1), trained(tmp_path / "y", 2)], ["without", "with"])
    drawn = fig4.draw(runs, pictures=2)
    rows = shown(drawn.figure)
    one, two = pictures(1), pictures(2)
    assert len(rows) == 2 * 7
    for n in range(2):
        row = rows[7 * n : 7 * n + 7]
        wanted = [one["original"], one["masked"], one["predicted"], two["predicted"]]
        for picture, array in zip(row[:4], wanted, strict=True):
            np.testing.assert_allclose(picture, array[n].transpose(1, 2, 0), atol=1e-6)
        for picture, array in zip(row[4:], (one["original"], one["predicted"], two["predicted"]), strict=True):
            np.testing.assert_allclose(picture, spectrum(array[n]), atol=1e-5)
    scales = {
        axes.images[0].get_clim() for axes in seen(drawn.figure) if axes.images and axes.images[0].get_array().ndim == 2
    }
    assert len(scales) == 1
    assert {"original", "masked", "predicted\nwithout", "predicted\nwith", "log|F|\npredicted\nwith"} <= set(
        texts(drawn.figure)
    )
    assert drawn.files == {run: ["pictures/step-00000010.npz"] for run in runs}


def test_the_latest_pictures_count_and_reconstructions_beside_run_json_do_too(tmp_path: Path):
    folder = trained(trained(tmp_path / "x", 3, step=2_000), 1, step=12_000)
    other = write_run(tmp_path / "y")
    np.savez(other / "reconstructions.npz", **pictures(2))
    runs = open_runs([folder, other])
    drawn = fig4.draw(runs, pictures=1)
    assert list(drawn.files.values()) == [["pictures/step-00012000.npz"], ["reconstructions.npz"]]
    np.testing.assert_allclose(shown(drawn.figure)[2], pictures(1)["predicted"][0].transpose(1, 2, 0), atol=1e-6)


def test_panels_stand_below_each_other_and_may_show_other_pictures(tmp_path: Path):
    other = pictures()["original"][:, :, ::-1]
    cnn = trained(tmp_path / "z", original=other, masked=other)
    runs = open_runs([trained(tmp_path / "x", 1), trained(tmp_path / "y", 2), cnn], list("abc"), ["ViT", "ViT", "CNN"])
    drawn = fig4.draw(runs, pictures=1)
    assert len(shown(drawn.figure)) == 7 + 5 and {"ViT", "CNN"} <= set(texts(drawn.figure))


def test_runs_that_mask_otherwise_each_show_what_they_saw(tmp_path: Path):
    masked = pictures()["masked"] * 0.5
    runs = open_runs([trained(tmp_path / "x", 1), trained(tmp_path / "y", 2, masked=masked)], ["a", "b"])
    drawn = fig4.draw(runs, pictures=1)
    assert {"masked\na", "masked\nb"} <= set(texts(drawn.figure)) and len(shown(drawn.figure)) == 8
    np.testing.assert_allclose(shown(drawn.figure)[3], masked[0].transpose(1, 2, 0), atol=1e-6)


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
