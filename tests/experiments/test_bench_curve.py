"""`a2mim bench curve`: its ratios are those of made-up runs whose variances and bias are known in closed form."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from experiments.benchmarks import curve as bench
from experiments.benchmarks.coverage import METHODS, WRITTEN, stopped_sample
from experiments.cli import main
from tests.interactions.test_precision import ORDERS, of_few_pairs, true_squares

SETTINGS = bench.Settings(ours="ours", published="published", resamples=20)  # type: ignore[arg-type]
SIGNAL, NOISE = np.array([4.0, 1.0, 0.25]), np.array([0.0, 0.5, 1.0])


def published(images: int, pairs: int, seed: int = 0, spread: float = 0.5) -> bench.Published:
    """Interactions of normal pairs whose variance differs between images, measured with normal noise."""
    generator = np.random.default_rng(seed)
    scale_MI1 = SIGNAL[:, None, None] * generator.gamma(1 / spread**2, spread**2, (1, images, 1))
    true = generator.normal(size=(3, images, pairs)) * np.sqrt(scale_MI1)
    noisy = true + generator.normal(size=true.shape) * np.sqrt(NOISE)[:, None, None]
    return bench.Published(np.arange(3), noisy**2, np.broadcast_to(NOISE[:, None, None], true.shape))


def ours(images: int, relative: float = 1.0, passes: int = 1000, seed: int = 1) -> bench.Ours:
    generator = np.random.default_rng(seed)
    squares = SIGNAL[:, None] * generator.gamma(1 / relative**2, relative**2, (3, images))
    none = np.zeros_like(squares)
    return bench.Ours(np.arange(3), squares, none, none, np.full(3, passes * images), 0)


def test_the_variance_is_scaled_to_fifty_pairs():
    """Between images τ⁴·spread², and within an image the variance of χ², 2·(τ²+σ²)², over 50 pairs."""
    found = bench.scaled_variance(published(10_000, 6).raw_MIP)
    within = 2 * (SIGNAL**2 * 1.25 + 2 * SIGNAL * NOISE + NOISE**2)
    assert found == pytest.approx(SIGNAL**2 * 0.25 + within / 50, rel=0.1)


def test_the_bias_is_what_noise_adds():
    many = published(5000, 20)
    found = bench.published_errors(many.raw_MIP, many.noise_MIP, SIGNAL**2 * 0.25)
    raw, true = np.sqrt(SIGNAL + NOISE), np.sqrt(SIGNAL)
    assert found["rms"] == pytest.approx(raw, rel=0.03)
    assert found["bias"] == pytest.approx(raw / raw.mean() - true / true.mean(), abs=0.02)
    # So many images know the bias well: its square is most of the error, and the rest is the variance over 500 images.
    assert (found["mse"] >= found["bias"] ** 2 * 0.99).all() and (found["mse"] < found["bias"] ** 2 + 0.01).all()


def test_without_noise_there_is_no_bias():
    clean = published(50, 10)
    found = bench.published_errors(clean.raw_MIP, np.zeros_like(clean.raw_MIP), np.zeros(3))
    assert found["bias"] == pytest.approx(0) and (found["mse"] > 0).all()


def test_small_runs_have_the_variance_of_their_size():
    squares = ours(2000, 0.3).squares_MI
    seen_M, size = bench.small_runs(squares, np.random.default_rng(0))
    assert size == 200
    assert seen_M == pytest.approx(bench.variance_of_curve(squares) / size, rel=0.15)


def test_gains_in_closed_form():
    """Passes for one width: 5 million · (published variance / 500) / (ours · passes an image)."""
    of_ours, of_published = ours(2000, 0.3), published(8000, 12)
    table, summary = bench.compared(of_ours, of_published, SETTINGS)
    within = 2 * (SIGNAL**2 * 1.25 + 2 * SIGNAL * NOISE + NOISE**2)
    published_M = (SIGNAL**2 * 0.3**2 + within / 50) / (4 * (SIGNAL + NOISE)) / 500
    ours_M = SIGNAL**2 * 0.3**2 / (4 * SIGNAL)  # of one image, for 1,000 passes
    # 2,000 and 8,000 images know their variances to 3 and 4 %.
    assert table.gain_width.to_numpy() == pytest.approx(5e6 / (1000 * ours_M / published_M), rel=0.15)
    assert (table.gain_width_low < table.gain_width).all() and (table.gain_width < table.gain_width_high).all()
    assert summary["gain_width_geometric_mean"] == pytest.approx(np.exp(np.log(table.gain_width).mean()))
    # With twice the passes for the same squares, half the gain, of either kind.
    dearer, _ = bench.compared(replace(of_ours, passes_M=2 * of_ours.passes_M), of_published, SETTINGS)
    for name in ("gain_width", "gain_error"):
        assert dearer[name].to_numpy() == pytest.approx(table[name].to_numpy() / 2)
    # A preparation that takes as many passes as the run (of 200 of the 2,000 images, for an error) halves it, too.
    made = of_ours.passes_M.sum()
    for name, passes in (("gain_width", made), ("gain_error", made / 10)):
        prepared, _ = bench.compared(replace(of_ours, preparation=passes), of_published, SETTINGS)
        assert prepared[name].to_numpy() == pytest.approx(table[name].to_numpy() / 2)


def test_gains_in_time_are_those_in_passes_at_the_pace_of_either_run():
    summary = {f"gain_{kind}_geometric_mean": gain for kind, gain in (("width", 15.0), ("error", 40.0))}
    summary |= {f"gain_{kind}_geometric_mean_interval": [9.0, 18.0] for kind in ("width", "error")}
    place = {"processor": "x", "threads": 1, "processes": 1, "load_average": 0.5}
    ours = {"seconds": 300.0, "passes": 1000, "machine": place, "speed": {"compiled": True}}
    ours |= {"settings": {"amp": None}, "device": "cpu", "resumed": [{"machine": place, "device": "cpu"}]}
    published = {**ours, "seconds": 500.0, "passes": 2000, "machine": {**place, "load_average": 2.0}}
    found = bench.in_time(ours, published, summary)
    assert found["seconds_a_pass"] == {"ours": 0.3, "published": 0.25}
    assert found["gain_width_time_geometric_mean"] == pytest.approx(15 * 0.25 / 0.3)
    assert found["gain_error_time_geometric_mean_interval"] == pytest.approx([7.5, 15])
    elsewhere, rounded = [{"machine": {**place, "processor": "y"}, "device": "cpu"}], {"amp": "bfloat16"}
    others = {"machine": {**place, "threads": 2}}, {"speed": {"compiled": False}}, {"resumed": elsewhere}
    for other in (*others, {"settings": rounded}, {"device": "mps"}):
        assert bench.in_time(ours, {**published, **other}, summary)["gain_width_time_geometric_mean"] is None


def test_what_differs_between_images_is_what_their_own_noise_leaves():
    """Squares that differ by 0.3 of their mean, with a noise of a known variance on top."""
    clean = ours(20_000, 0.3)
    noise_MI = np.full_like(clean.squares_MI, 0.2)
    generator = np.random.default_rng(5)
    noisy_MI = clean.squares_MI + generator.normal(size=noise_MI.shape) * np.sqrt(noise_MI)
    noisy = replace(clean, squares_MI=noisy_MI, noise_MI=noise_MI)
    assert noisy.between_M == pytest.approx(SIGNAL**2 * 0.09, rel=0.1, abs=0.01)
    whole = replace(noisy, whole_MI=np.ones_like(noise_MI))
    assert whole.between_M == pytest.approx(0.7 * noisy.between_M)
    assert (noisy.of_images(np.arange(5)).squares_MI == noisy_MI[:, :5]).all()


def profile(**changes):
    settings = {"design": "auto", "grid": 14, "radius": 2, "value": "log_odds", "baseline": "mean", "target": "label"}
    settings |= {
        "normalisation": {"mean": [0.5], "std": [0.5]},
        "keep": "pairs",
        "budget": None,
        "published_pairs": 12,
    } | changes.pop("settings", {})
    record = {"status": "complete", "settings": settings, "model": {"digest": "a"}, "image_shape": [3, 8, 8]}
    record |= {"data": NAMED, "images": IMAGES} | changes
    return SimpleNamespace(folder="run", record=record, settings=settings)


IMAGES = [{"image": number, "digest": f"pixels {number}"} for number in range(24)]
NAMED = {"name": "photos", "images": 24, "digest": "c", "transform": {"resize": 9}}
NAMELESS = NAMED | {"name": "torch/cifar10", "digest": None}
OTHERS = [{"image": number, "digest": f"other pixels {number}"} for number in range(16)]
RELEASED = {"design": "published", "budget": 2400}


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"status": "running"}, {"settings": RELEASED}, "not finished"),
        ({}, {}, "by --design published"),
        ({}, {"settings": RELEASED | {"keep": "images"}}, "kept no pairs"),
        ({}, {"settings": RELEASED | {"budget": 1200}}, "50 contexts"),
        ({}, {"settings": RELEASED | {"grid": 7, "baseline": "blur"}}, "grid, baseline"),
        ({}, {"settings": RELEASED, "model": {"digest": "b"}}, "model"),
        ({}, {"settings": RELEASED, "image_shape": [3, 9, 9]}, "size of the images"),
        ({}, {"settings": RELEASED | {"normalisation": {"mean": [0.4], "std": [0.5]}}}, "normalisation"),
        ({}, {"settings": RELEASED, "data": NAMED | {"transform": {"resize": 8}}}, "resized and cropped"),
        ({}, {"settings": RELEASED | {"pairs": "all", "only_correct": True}}, "pairs, only_correct"),
        ({}, {"settings": RELEASED, "data": NAMED | {"digest": "d"}, "images": OTHERS}, "the data set"),
        ({}, {"settings": RELEASED, "data": NAMED | {"digest": "d", "images": 9}}, "the data set"),
        ({"data": NAMELESS}, {"settings": RELEASED, "data": NAMELESS | {"name": "torch/cifar100"}}, "the data set"),
        ({}, {"settings": RELEASED | {"published_pairs": 1, "budget": 200}}, "1 pair of an image, .* 2 or more"),
        ({"images": IMAGES[:19]}, {"settings": RELEASED}, "19 images, .* 20 or more"),
        ({}, {"settings": RELEASED, "images": IMAGES[:15]}, "15 images: .* 16 or more"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(first, second, said):
    with pytest.raises(ValueError, match=said):
        bench.check_alike(profile(**first), profile(**second))


def test_runs_that_can_be_compared_are_not():
    bench.check_alike(profile(), profile(settings=RELEASED))
    bench.check_alike(profile(), profile(settings=RELEASED | {"pairs": "near", "only_correct": False}))
    # A .tar may name its pictures ./a/0.png that are a/0.png in a folder, and one may have moved.
    bench.check_alike(profile(), profile(settings=RELEASED, data=NAMED | {"digest": "d"}, images=[*OTHERS, IMAGES[-1]]))
    bench.check_alike(profile(), profile(settings=RELEASED, data=NAMED | {"name": "moved"}, images=OTHERS))


def test_the_commands_of_the_help(tmp_path, capsys):
    """A tiny network, measured by both designs, compared, and its intervals counted."""
    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for k in range(24):
        pixels = generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{k}.png")
    measure = ["profile", "tests.interactions.tiny:network", "--weights", "random", "--data", str(tmp_path / "photos")]
    measure += ["--image-size", "12", "--grid", "4", "--radius", "1", "--ratios", "0", "0.5", "1", "--target", "1"]
    measure += ["--batch-size", "64", "--device", "cpu", "--crop-pct", "0.875", "--interpolation", "bilinear"]
    ours, released, out = tmp_path / "ours", tmp_path / "released", tmp_path / "out"
    designs = (ours, "--budget", "200"), (released, "--design", "published", "--images", "16", "--published-pairs", "4")
    for folder, *words in designs:
        assert main([*measure, "--out", str(folder), *words]) == 0
    assert main(["bench", "curve", str(ours), str(released), "--out", str(out), "--resamples", "20"]) == 0
    table, record = pd.read_csv(out / "curve.csv"), json.loads((out / "run.json").read_text())
    assert list(table.order) == [0, 7, 14] and (table.images == 24).all() and (table.small_run_images == 2).all()
    assert (table[["gain_width", "gain_error"]] > 0).all(axis=None) and record["published_images"] == 16
    took = record["seconds_a_pass"]
    told = json.loads((ours / "run.json").read_text())
    assert took["ours"] * told["passes"] == pytest.approx(told["seconds"])
    few = ["--sizes", "8", "--repetitions", "4", "--resamples", "20", "--precisions", "0.5"]
    assert main(["bench", "coverage", str(ours), str(released), "--out", str(out / "coverage"), *few]) == 0
    coverage = pd.read_csv(out / "coverage" / "coverage.csv")
    assert set(coverage.run) == {"ours", "released", "ours − released"} and set(coverage.method) == {WRITTEN, *METHODS}
    assert coverage.coverage.between(0, 1).all() and len(coverage) == (2 * 3 * 4 + 3) * 6
    assert set(pd.read_csv(out / "coverage" / "sequential.csv").run) == {"ours", "released"}


def test_a_folder_without_a_run(tmp_path, capsys):
    assert main(["bench", "curve", str(tmp_path), str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "holds no profile" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_run_that_uses_up_its_population_ends():
    """Drawn with replacement, five times as many images as there are; a run would look at them again."""
    generator = np.random.default_rng(0)
    rows = of_few_pairs(generator, true_squares(generator, 12), dict.fromkeys(ORDERS, 100))
    places = stopped_sample(rows, 0.01, generator, 50)
    assert len(places) == 60 and set(places) <= set(range(12))
