"""The training part of `make demo`, in small."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.studies import demo_training

digits = pytest.importorskip("sklearn.datasets").load_digits


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """All digits as files: seconds to write, so once for all tests."""
    return demo_training.write_digits(tmp_path_factory.mktemp("written") / "digits", 1500)


def test_every_digit_is_written_once_with_its_class(written):
    folder = written
    files = {part: sorted((folder / part).glob("*/*.png")) for part in ("train", "validation")}
    assert {part: len(paths) for part, paths in files.items()} == {"train": 1500, "validation": 297}
    numbers = [int(path.stem) for paths in files.values() for path in paths]
    assert sorted(numbers) == list(range(1797))
    original = digits()
    assert all(original.target[int(path.stem)] == int(path.parent.name) for path in files["validation"])
    # Enlarged, a digit still is that digit: its average over the cells of the original's pixels follows these.
    path, cell = files["train"][0], demo_training.SIZE // 8
    pixels = np.asarray(Image.open(path).convert("L"), dtype=float).reshape(8, cell, 8, cell).mean((1, 3))
    assert np.corrcoef(pixels.ravel(), original.images[int(path.stem)].ravel())[0, 1] > 0.98


def test_profiled_images_take_every_class_in_turn(written):
    images, names = demo_training.read_digits(written / "validation", 12)
    assert [label for _, label in images] == [*range(10), 0, 1]
    assert len(set(names)) == 12 and images[0][0].shape == (3, demo_training.SIZE, demo_training.SIZE)


@pytest.mark.slow
def test_both_networks_are_trained_and_measured_alike(written, tmp_path, capsys):
    for part, many in (("train", 7), ("validation", 2)):
        for label in range(10):
            (tmp_path / "demo/digits" / part / str(label)).mkdir(parents=True)
            for path in sorted((written / part / str(label)).glob("*.png"))[:many]:
                shutil.copy(path, tmp_path / "demo/digits" / part / str(label))
    small = demo_training.Settings(tmp_path / "demo", digits=1500, epochs=1, images=2, ratios=(0.3, 0.5), budget=200)
    demo_training.run(small)
    said = capsys.readouterr().out
    assert "did not measure the same" not in said and "Demonstration, not evidence" in said
    runs = [json.loads((small.out / method / "run.json").read_text()) for method in demo_training.METHODS]
    assert all(run["finished"] for run in runs)
    profiles = [json.loads((small.out / m / "profile/run.json").read_text()) for m in demo_training.METHODS]
    assert profiles[0]["images"] == profiles[1]["images"] and profiles[0]["model"] != profiles[1]["model"]
    pictures = {path.name for path in small.out.glob("a2mim/**/*.png")}
    assert {"loss.png", "strength.png"} < pictures and len(pictures) == 3  # and a reconstruction
    assert Path(small.out / "curves.png").is_file()
