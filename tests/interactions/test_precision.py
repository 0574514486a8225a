"""Rounds to a precision: the allocation against brute force, simulated curves, real runs that stop, go on and grow."""

import json
import math
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from interactions.allocation import (
    LEAST_BUDGET,
    MOST_BUDGET,
    OVERHEAD,
    Parts,
    allocate,
    images_needed,
)
from interactions.estimators.auto import BETWEEN, FIRST_BUDGETS
from interactions.forecast import DryRun
from interactions.grid import PatchGrid
from interactions.intervals import MIN_IMAGES
from interactions.pair import Subject, profile_pair
from interactions.planning import Planning
from interactions.precision import (
    FIRST_IMAGES,
    LEAST_IMAGES,
    Curve,
    Round,
    curve_of,
    difference_curve,
    next_pair,
    next_round,
    of_squares,
    tell,
    tell_difference,
)
from interactions.profile import load_profile, profile_model
from interactions.profiling import Run
from interactions.rounds import announce_first
from interactions.runs import storage
from interactions.strength import strength_table
from tests.interactions.tiny import Photos, network

ORDERS = (0, 9, 58, 97, 135, 184, 194)
RATIOS = tuple(order / 194 for order in ORDERS)
SQUARES = np.array([0.6, 0.15, 0.015, 0.008, 0.014, 0.06, 0.3])  # of a photograph under an ImageNet network
SINGLE = 320 * (0.7 * SQUARES) ** 2
PRODUCT = (320 * SQUARES) ** 2 * [1e-9, 1e-9, 1.2, 3, 2, 0.1, 1e-9]  # without any, an order would be exact
TRUE_J = np.sqrt(SQUARES) / np.sqrt(SQUARES).mean()


def true_squares(generator, count):
    """Of images whose mean squares differ log-normally, partly at all orders alike: images × orders."""
    shape = count, len(ORDERS)
    return SQUARES * generator.lognormal(-0.125, 0.5, (count, 1)) * generator.lognormal(-0.18, 0.6, shape)


def rows_of(generator, first, last, budgets):
    """New images, measured with those passes."""
    return measured(generator, true_squares(generator, last - first), budgets, first)


def measured(generator, true_IM, budgets, first=0):
    """The rows of one look at these images, with those passes; without the orders that have none."""
    count, budget_M = len(true_IM), np.array([budgets.get(order, np.nan) for order in ORDERS], dtype=float)
    square_IM = true_IM + generator.normal(size=true_IM.shape) * np.sqrt(SINGLE / budget_M)
    square_IM += (generator.chisquare(6, true_IM.shape) - 6) / np.sqrt(12) * np.sqrt(PRODUCT) / budget_M
    spread_IM = PRODUCT / budget_M**2 * generator.chisquare(6, true_IM.shape) / 6
    size_IM = np.sqrt(abs(square_IM))
    columns = {"mean_abs": size_IM, "mean_abs_sum": size_IM, "mean_square": square_IM, "square_spread": spread_IM}
    rows = pd.DataFrame(
        {
            "image": np.repeat(np.arange(first, first + count), len(ORDERS)),
            "order": np.tile(ORDERS, count),
            "ratio": np.tile(RATIOS, count),
            "passes": np.tile(budget_M, count),
            "pairs": 100,
            "mean_abs_difference": 0.0,
            **{name: values.ravel() for name, values in columns.items()},
        }
    )
    return rows.dropna(subset="passes")


def first_of(available):
    """The first round as a pilot would plan it that knew the noise: the passes of each order that tell most."""
    noise = {budget: BETWEEN * SQUARES**2 + SINGLE / budget + PRODUCT / budget**2 for budget in FIRST_BUDGETS}
    least_M = np.argmin([budget * variance_M for budget, variance_M in noise.items()], axis=0)
    budgets = {order: FIRST_BUDGETS[least] for order, least in zip(ORDERS, least_M, strict=True)}
    return Round(0, min(available, FIRST_IMAGES), budgets)


def measured_to(half_width, generator, available=10_000, relative=False, first=None, look_at=measured):
    """A whole run: its rounds, its rows, its curve. look_at: what measures, as `measured` does."""
    rounds, following, images = [], first or first_of(available), pd.DataFrame()
    true_IM = np.empty((0, len(ORDERS)))
    while following is not None:
        rounds.append(following)
        if not following.again:
            true_IM = np.concatenate([true_IM, true_squares(generator, following.last - following.first)])
        rows = look_at(generator, true_IM[following.first :], following.budgets, following.first)
        look = sum(one.again for one in rounds)
        images = pd.concat([images, rows.assign(look=look * following.again)], ignore_index=True)
        curve = curve_of(images, relative=relative, resamples=200)
        following = next_round(images, curve, half_width, available, 4)
    return rounds, images, curve


def cost_of(rounds):
    return sum((one.last - one.first) * (OVERHEAD + sum(one.budgets.values())) for one in rounds)


def true_parts():
    """What the variance of the curve is made of, from very many images."""
    images = rows_of(np.random.default_rng(7), 0, 20_000, dict.fromkeys(ORDERS, 300))
    found = Parts.of(images)
    noise_M = found.slope_MM @ (SINGLE / 300 + PRODUCT / 300**2)
    return replace(found, between_M=found.variance_M - noise_M, single_M=SINGLE, product_M=PRODUCT)


def test_the_allocation_is_the_cheapest_of_many():
    parts, error = true_parts(), 0.05
    budgets_M, images = allocate(parts, error)
    assert np.sqrt(parts.of_budgets(budgets_M).max() / images) == pytest.approx(error, rel=0.01)
    best = images * (OVERHEAD + budgets_M.sum())
    generator = np.random.default_rng(0)
    for _ in range(300):
        other_M = np.maximum(LEAST_BUDGET, budgets_M * generator.lognormal(0, 0.4, len(ORDERS)))
        needed = parts.of_budgets(other_M).max() / error**2
        assert needed * (OVERHEAD + other_M.sum()) > 0.99 * best


def test_the_slope_and_the_variance_are_those_of_simulated_curves():
    """The spread of J² over many made-up runs of 200 images is what `Parts` says of one."""
    generator, budgets = np.random.default_rng(1), dict.fromkeys(ORDERS, 200)
    values = np.stack([curve_of(rows_of(generator, 0, 200, budgets), resamples=2).values for _ in range(200)])
    predicted_M = np.sqrt(true_parts().of_budgets(np.full(len(ORDERS), 200.0)) / 200)
    np.testing.assert_allclose((values**2).std(0), predicted_M, rtol=0.2)
    np.testing.assert_allclose(values.mean(0), TRUE_J, atol=0.02)


def test_images_needed_counts_those_that_are_there():
    parts = true_parts()
    now_M = np.full(len(ORDERS), 300.0)
    alone = parts.variance_M.max() / 0.02**2
    assert images_needed(Parts(10, *list(vars(parts).values())[1:]), now_M, 0.02) == pytest.approx(alone, rel=0.03)
    noisy = Parts(100, 4 * parts.variance_M, *list(vars(parts).values())[2:])
    assert images_needed(noisy, now_M, 0.02) > alone + 10


def test_rounds_reach_the_width_at_little_more_than_the_least_cost():
    parts, ratios, covered = true_parts(), [], []
    budgets_M, images = allocate(parts, of_squares(TRUE_J, np.full(len(ORDERS), 0.2)) / 1.96)
    for seed in range(12):
        rounds, rows, curve = measured_to(0.2, np.random.default_rng(seed))
        assert curve.widest <= 0.2 and rows.image.nunique() >= LEAST_IMAGES
        assert [one.last for one in rounds[:-1]] == [one.first for one in rounds[1:]]
        assert all(one.last <= 2 * one.first for one in rounds[1:])
        ratios.append(cost_of(rounds) / (max(images, LEAST_IMAGES) * (OVERHEAD + budgets_M.sum())))
        covered.append(abs(curve.values - TRUE_J) <= curve.half_widths)
    assert np.median(ratios) < 1.6
    assert np.mean(covered) > 0.88


def test_a_share_of_what_is_above_one():
    """J is 2.9 and 2.1 at the ends: a tenth of that is reached sooner than ±0.1; below 1 it is ±0.1 all the same."""
    _, rows, curve = measured_to(0.1, np.random.default_rng(0), relative=True)
    above_M = TRUE_J > 1.1
    assert above_M.any() and (curve.half_widths[above_M] > 0.1).any()
    assert (curve.half_widths <= 0.1 * np.maximum(curve.values, 1)).all() and curve.widest <= 0.1
    assert rows.image.nunique() < measured_to(0.1, np.random.default_rng(0))[1].image.nunique() / 2


def test_the_width_of_a_square_gives_the_root_the_wanted_one():
    values, wanted = np.array([0, 0.1, 0.14, 0.2, 0.5, 3.0]), 0.1
    for value, half in zip(values, of_squares(values, np.full(6, wanted)), strict=True):
        low, high = np.sqrt(np.clip(value**2 + half * np.array([-1, 1]), 0, None))
        assert (high - low) / 2 == pytest.approx(wanted)


def test_each_order_may_have_an_error_of_its_own():
    parts, error_M = true_parts(), np.where(TRUE_J > 1, 0.1, 0.05)
    budgets_M, images = allocate(parts, error_M)
    reached_M = np.sqrt(parts.of_budgets(budgets_M) / images)
    assert (reached_M <= error_M * 1.01).all() and (reached_M / error_M).max() == pytest.approx(1, rel=0.01)
    assert images < allocate(parts, 0.05)[1]


def test_more_passes_go_where_products_of_noise_rule():
    parts = true_parts()
    loud = replace(parts, product_M=parts.product_M * np.where(np.array(ORDERS) == 97, 1000, 1))
    assert allocate(loud, 0.05)[0].argmax() == ORDERS.index(97)


def of_few_pairs(generator, true_IM, budgets, first=0):
    """A look of which each order's noise, that of a few of its pairs, rules at the least passes, and is seen."""
    rows = measured(generator, true_IM, dict.fromkeys(budgets, 1e9), first)
    count, passes = len(true_IM), np.array([budgets[order] for order in ORDERS if order in budgets], dtype=float)
    noise = np.tile(10 * SINGLE[[order in budgets for order in ORDERS]] / passes, count)
    square = rows.mean_square + generator.normal(size=len(rows)) * np.sqrt(noise)
    return rows.assign(mean_square=square, pair_variance=noise, passes=np.tile(passes, count))


def scarcely_measured(half_width, seed, available=40):
    """A run of a few images in pairs: its rounds and its curve."""
    generator, planning = np.random.default_rng(seed), Planning("auto", PatchGrid(14).neighbours(2), 196)
    pilot = {
        "value_variance": 1.0,
        "difference_variance": 1.0,
        "square_variance": 1e9,
        "mean_square": 0.5,
        "passes": 96,
    }
    budget = planning.first_budget({"order": 97, "pilot": pilot}, available)
    first = Round(0, FIRST_IMAGES, dict.fromkeys(ORDERS, budget))
    rounds, _, curve = measured_to(half_width, generator, available, first=first, look_at=of_few_pairs)
    return rounds, curve


def spent(rounds):
    return sum((one.last - one.first) * sum(one.budgets.values()) for one in rounds)


def test_where_images_are_few_their_passes_bring_the_width():
    """40 images without noise leave ±0.22: ±0.35 can be had by passes."""
    widths = [scarcely_measured(0.35, seed)[1].widest for seed in range(6)]
    assert np.median(widths) < 1.2 * 0.35 and max(widths) < 2 * 0.35


def test_a_precision_out_of_reach_costs_a_bounded_number_of_passes():
    """A hundredth of what the images alone leave: noise is brought below theirs, and not to nothing."""
    for seed in range(3):
        rounds, curve = scarcely_measured(0.002, seed)
        assert 0.1 < curve.widest < 0.6 and rounds[-1].last == 40
        assert spent(rounds) < 40 * len(ORDERS) * MOST_BUDGET


def test_few_images_begin_with_more_passes():
    planning = Planning("pairwise", PatchGrid(3).all_pairs(), 9)
    assert [planning.first_budget({}, images) for images in (1000, 300, 150, 9)] == [300, 300, 600, 600]


def test_few_images_get_more_passes_than_many():
    generator = np.random.default_rng(1)
    images = of_few_pairs(generator, true_squares(generator, FIRST_IMAGES), dict.fromkeys(ORDERS, 500))
    curve = curve_of(images, resamples=200)
    few, many = (next_round(images, curve, 0.15, available, 4) for available in (24, 10_000))
    assert sum(few.budgets.values()) > 2 * sum(many.budgets.values()) and few.wanted == 24


def test_the_data_may_run_out():
    _, rows, curve = measured_to(0.01, np.random.default_rng(4), available=50)
    assert rows.image.nunique() == 50 and curve.widest > 0.01


def test_what_is_left_is_told_after_each_round(capsys):
    following = Round(16, 32, {0: 100, 7: 300}, wanted=50)
    assert following.passes_left == (50 - 16) * 400
    tell(Curve((0, 7), np.ones(2), np.array([0.2, 0.3])), 0.1, 16, following, rate=100.0)
    said = capsys.readouterr().err
    assert "±0.3 at m = 7" in said
    assert "measuring 16 more of about 50 in all, about 13,600 passes and 2.3 min left" in said


def test_the_number_of_images_in_all_is_foretold():
    rounds, rows, _ = measured_to(0.1, np.random.default_rng(5))
    assert rounds[-1].wanted == pytest.approx(rows.image.nunique(), rel=0.1, abs=4)


# Real runs


def never_right(logits_BK, target_B):
    return 0 * logits_BK[:, 0]


ASKED = {"grid": 3, "radius": 1, "ratios": (0.0, 0.5, 1.0), "keep": "images", "progress": False}
ASKED |= {"batch_size": 64, "speed": "plain"}


def profile(out, count=60, **asked):
    return profile_model(network(), Photos(count), out=out, **{**ASKED, **asked})


def same_rows(one, other):
    pd.testing.assert_frame_equal(one.images(), other.images(), check_exact=True)
    pd.testing.assert_frame_equal(one.strength(resamples=50), other.strength(resamples=50), check_exact=True)


def test_a_run_stops_at_its_precision_and_says_how_narrow_it_is(tmp_path):
    found = profile(tmp_path / "run", precision=0.4)
    record, table = found.record, found.strength()
    assert record["status"] == "complete" and record["ended"] == "precision"
    assert len(record["images"]) == LEAST_IMAGES == table.images[0]
    assert record["reached"]["widest"] <= 0.4
    half_widths = list(record["reached"]["half_widths"].values())
    np.testing.assert_allclose(half_widths, table.J_rms_high - table.J_rms, rtol=0.2)
    assert record["passes"] == sum(record["preparation_passes"].values()) + table.passes.sum()
    again = profile(tmp_path / "run", precision=0.4)
    assert again.record == record  # nothing is measured twice


def test_precision_is_what_nobody_asked_otherwise_for(tmp_path):
    settings = profile(tmp_path / "a", count=MIN_IMAGES, ratios=(0.0, 1.0)).settings
    assert (settings["precision"], settings["images"], settings["budget"]) == (0.1, None, None)
    settings = profile(tmp_path / "b", images=2, ratios=(0.0, 1.0)).settings
    assert (settings["precision"], settings["images"], settings["budget"]) == (None, 2, 3000)
    settings = profile(tmp_path / "c", images=9, precision=5.0, ratios=(0.0, 1.0)).settings
    assert (settings["precision"], settings["images"], settings["budget"]) == (5.0, 9, None)
    with pytest.raises(ValueError, match="give it or a budget, not both"):
        profile(tmp_path / "d", precision=0.1, budget=300)
    with pytest.raises(ValueError, match="the published design has a fixed number of passes: leave out precision"):
        profile(tmp_path / "d", precision=0.1, design="published")
    for name, text in (("precision", "0.1"), ("minutes", "5"), ("ratios", "0.5")):
        with pytest.raises(ValueError, match=f"{name} is '{text}': give "):
            profile(tmp_path / "d", **{name: text})


def test_a_finished_run_is_extended_and_keeps_what_it_has(tmp_path):
    profile(tmp_path / "run", images=6, budget=200, unit_images=4)
    before = {path: path.read_bytes() for path in (tmp_path / "run" / "images").iterdir()}
    longer = profile(tmp_path / "run", images=10, budget=200, unit_images=4)
    assert len(longer.record["images"]) == 10 == longer.images().image.nunique()
    assert all(path.read_bytes() == content for path, content in before.items())
    assert longer.record["settings"]["images"] == 10 and len(longer.record["rounds"]) == 2
    (later,) = longer.record["resumed"]
    assert later["started"] >= longer.record["started"] and later["versions"] == longer.record["versions"]
    whole = profile(tmp_path / "whole", images=10, budget=200, unit_images=4)
    assert [one["image"] for one in whole.record["images"]] == [one["image"] for one in longer.record["images"]]
    pd.testing.assert_frame_equal(longer.images(), whole.images(), rtol=1e-4)
    with pytest.raises(ValueError, match="holds 10 images, more than the 6"):
        profile(tmp_path / "run", images=6, budget=200, unit_images=4)


def test_a_finer_precision_goes_on_where_a_coarser_one_ended(tmp_path):
    count = LEAST_IMAGES + 5
    coarse = profile(tmp_path / "run", count, precision=2.0)
    assert len(coarse.record["images"]) == LEAST_IMAGES
    fine = profile(tmp_path / "run", count, precision=1e-4)
    assert fine.record["ended"] == "images" and len(fine.record["images"]) == count
    assert profile(tmp_path / "run", count, precision=2.0).record == fine.record  # finer than asked is as good


def test_more_images_of_a_run_to_a_precision_are_told_to_need_it_again(tmp_path):
    profile(tmp_path / "run", 40, precision=5.0, ratios=(0.0, 1.0))
    with pytest.raises(ValueError, match="holds a run to a precision: give --precision as well"):
        profile(tmp_path / "run", 40, images=40, ratios=(0.0, 1.0))
    assert profile(tmp_path / "run", 40, images=40, precision=5.0, ratios=(0.0, 1.0)).record["ended"] == "precision"


def test_no_width_is_looked_at_before_the_least_images(tmp_path, monkeypatch):
    """A run that the clock ended at its first round goes on, however narrow these few images say that it is."""
    asked = {"count": 60, "ratios": (0.0, 0.5)}
    with monkeypatch.context() as patched:
        patched.setattr(Run, "out_of_time", lambda run, record: True)
        cut = profile(tmp_path / "run", precision=1e-4, **asked).record
    assert cut["ended"] == "minutes" and len(cut["images"]) == FIRST_IMAGES and cut["reached"]["widest"] < 5
    again = profile(tmp_path / "run", precision=5.0, **asked).record
    assert len(again["images"]) == LEAST_IMAGES
    assert again["ended"] == "precision" and again["settings"]["precision"] == 5.0


def test_what_a_finer_precision_takes_is_not_known_before(tmp_path):
    asked = {"count": LEAST_IMAGES + 5, "budget": None, "ratios": (0.0, 0.5)}
    profile(tmp_path / "run", precision=2.0, **asked)
    with pytest.raises(DryRun, match="is finished; only as it goes on can it tell"):
        profile(tmp_path / "run", precision=1e-4, dry_run=True, **asked)
    with pytest.raises(DryRun, match="at least 0 passes left"):
        profile(tmp_path / "run", precision=2.0, dry_run=True, **asked)


def test_a_start_with_fewer_images_than_an_unfinished_run_holds_changes_nothing(tmp_path):
    asked = {"budget": 200, "ratios": (0.0, 0.5)}
    record = profile(tmp_path, images=4, **asked).record
    (tmp_path / "run.json").write_text(before := json.dumps(record | {"status": "running"}))
    with pytest.raises(ValueError, match="holds 4 images, more than the 2"):
        profile(tmp_path, images=2, **asked)
    assert (tmp_path / "run.json").read_text() == before


def test_a_run_whose_last_image_was_measured_when_time_was_over_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "out_of_time", lambda run, record: True)
    asked = {"budget": 200, "ratios": (0.0, 0.5)}
    assert profile(tmp_path / "fixed", images=4, **asked).record["ended"] == "images"
    alone = profile(tmp_path / "all", 5, precision=1e-4, ratios=(0.0, 1.0))  # exact: no passes tell more of them
    assert alone.record["ended"] == "images"
    assert profile(tmp_path / "some", 40, precision=1e-4).record["ended"] == "minutes"


class Stops(Photos):
    """Photographs of which one cannot be had at the first reading: as if the run was killed there."""

    def __init__(self, count, at):
        super().__init__(count)
        self.left, self.at = at, at

    def __getitem__(self, index):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().__getitem__(index)


IN_ROUNDS = {"precision": 2.0, "unit_images": 8, "ratios": (0.0, 0.5)}


@pytest.fixture(scope="module")
def in_rounds(tmp_path_factory):
    return profile(tmp_path_factory.mktemp("rounds") / "whole", **IN_ROUNDS)


@pytest.mark.parametrize("at", [10, 52, 62])
def test_rounds_go_on_after_an_interruption_with_the_same_bits(tmp_path, at, in_rounds):
    with pytest.raises(KeyboardInterrupt):
        profile_model(network(), Stops(60, at), out=tmp_path / "run", **{**ASKED, **IN_ROUNDS})
    same_rows(profile(tmp_path / "run", **IN_ROUNDS), in_rounds)


def test_every_round_plans_by_what_the_images_before_it_told(in_rounds):
    record, rows = in_rounds.record, in_rounds.images()
    assert len(record["rounds"]) > 1
    mean = rows.groupby("order").mean_square.mean()
    for order in record["orders"]:
        assert order["mean_square"] == pytest.approx(mean[order["order"]])


def test_minutes_end_a_run_that_can_go_on(tmp_path, monkeypatch):
    now = iter(np.arange(0, 1e6, 5.0))  # seconds: each look at the clock costs five
    asked = {"images": 8, "budget": 200, "unit_images": 2}
    with monkeypatch.context() as patched:
        patched.setattr("interactions.profiling.time.monotonic", lambda: next(now))
        cut = profile(tmp_path / "run", minutes=0.3, **asked)
    assert cut.record["ended"] == "minutes" and cut.record["status"] == "complete"
    assert 0 < len(cut.record["images"]) < 8
    assert len(storage.finished_units(tmp_path / "run")) * 2 == len(cut.record["images"]) == cut.strength().images[0]
    same_rows(profile(tmp_path / "run", **asked), profile(tmp_path / "whole", **asked))
    assert load_profile(tmp_path / "run").record["ended"] == "images"


def test_a_run_that_measured_nothing_yet_has_no_curve(tmp_path):
    with pytest.raises(ValueError, match="the time was over before the first 4 images"):
        profile(tmp_path / "run", images=8, budget=200, minutes=1e-9)
    nothing = load_profile(tmp_path / "run")
    for table in (nothing.strength, nothing.middle_mass):
        with pytest.raises(ValueError, match="no image was measured"):
            table()


def test_images_set_aside_at_one_stop_are_there_after_the_next(tmp_path, monkeypatch):
    asked = {"precision": 1e-6, "unit_images": 4}
    for _ in range(2):
        now = iter(np.arange(0, 1e6, 5.0))
        with monkeypatch.context() as patched:
            patched.setattr("interactions.profiling.time.monotonic", lambda now=now: next(now))
            cut = profile(tmp_path / "run", 16, minutes=0.3, **asked)
        assert 0 < len(cut.record["images"]) < 16
    assert len(profile(tmp_path / "run", 16, **asked).record["images"]) == 16


def test_a_run_goes_on_where_the_first_images_tell_nothing(tmp_path):
    """v is 0 whatever is shown: no order has a strength, and the curve, relative to its mean, no value."""
    found = profile(tmp_path / "run", 24, value=never_right, precision=0.1)
    assert found.record["ended"] == "images" and len(found.record["images"]) == 24
    assert found.strength().A.eq(0).all()
    known = profile(tmp_path / "rms", 40, value=never_right, of="rms")
    assert known.record["ended"] == "precision" and known.record["reached"]["widest"] == 0
    pair = [Subject(name, network(), Photos(24)) for name in ("a", "b")]
    pair = profile_pair(*pair, out=tmp_path, precision=0.1, value=never_right, **ASKED)
    assert all(each.record["ended"] == "images" for each in pair.profiles.values())


@pytest.mark.parametrize("of", ["curve", "rms"])
def test_an_order_that_is_nought_in_every_image_asks_for_nothing(of):
    generator = np.random.default_rng(0)
    images = rows_of(generator, 0, 16, dict.fromkeys(ORDERS, 300))
    images.loc[images.order == ORDERS[-1], ["mean_square", "square_spread"]] = 0.0
    curve = curve_of(images, measure="rms" if of == "rms" else "J_rms", resamples=100)
    assert curve.widths[-1] == 0
    following = next_round(images, curve, 0.1, 10_000, 4)
    assert following.last == 32 and following.budgets[ORDERS[-1]] == LEAST_BUDGET
    assert len(set(following.budgets.values())) > 2  # chosen for each of the others
    other = rows_of(generator, 0, 16, dict.fromkeys(ORDERS, 300))
    for one, two in ((images, other), (other, images)):
        both = next_pair(one, two, difference_curve(one, two, resamples=100), 0.1, 10_000, 4)
        assert all(each.last == 32 and np.isfinite(list(each.budgets.values())).all() for each in both)


def test_minutes_are_over_when_another_process_stopped_for_them(tmp_path):
    record = dict(profile(tmp_path / "run", images=4, budget=200, unit_images=2).record)
    settings = SimpleNamespace(unit_images=2)
    over = {
        until: Run.out_of_time(SimpleNamespace(folder=tmp_path / "run", until=until, settings=settings), record)
        for until in (0.0, time.monotonic() + 3600, math.inf)
    }
    assert list(over.values()) == [True, False, False]
    next((tmp_path / "run" / "images").iterdir()).unlink()
    still = SimpleNamespace(folder=tmp_path / "run", until=time.monotonic() + 3600, settings=settings)
    assert Run.out_of_time(still, record)


def test_the_published_protocol_is_told_of_the_images_that_were_measured(tmp_path):
    asked = {"design": "published", "published_pairs": 3, "budget": 120, "ratios": (0.5,)}
    two = profile(tmp_path / "run", images=2, **asked).record["changed_from_published"]
    four = profile(tmp_path / "run", images=4, **asked).record["changed_from_published"]
    assert "images 2 (published: 500)" in two and four == [change.replace("images 2", "images 4") for change in two]


def test_an_order_of_long_tails_gets_more_passes_and_not_all_orders_more_images():
    """Some pairs are measured at every order, and at one their squares differ so much that it rules the width."""
    generator, tails = np.random.default_rng(0), ORDERS.index(184)
    images = rows_of(generator, 0, 200, dict.fromkeys(ORDERS, 100))
    noise_M = np.where(np.arange(len(ORDERS)) == tails, 200.0, 1.0) * SQUARES**2
    images["mean_square"] += generator.normal(size=len(images)) * np.sqrt(np.tile(noise_M, 200))
    blind, seeing = Parts.of(images), Parts.of(images.assign(pair_variance=np.tile(noise_M, 200)))
    assert seeing.single_M[tails] == pytest.approx(100 * noise_M[tails]) and not seeing.product_M.any()
    error_M = of_squares(TRUE_J, np.full(len(ORDERS), 0.1))
    (few_M, many), (budgets_M, count) = allocate(blind, error_M), allocate(seeing, error_M)
    assert budgets_M[tails] > 2 * np.delete(budgets_M, tails).max() and count < many / 2
    assert seeing.of_budgets(budgets_M)[tails] / count == pytest.approx(error_M[tails] ** 2, rel=0.02)
    assert count * budgets_M.sum() < 0.7 * many * few_M.sum()


def test_a_precision_of_rms_is_a_share_of_it_at_every_order():
    """Each order for itself: no other one's noise counts, and a weak one has to be known as well as a strong one."""
    generator, budgets = np.random.default_rng(3), dict.fromkeys(ORDERS, 300)
    images = rows_of(generator, 0, 100, budgets)
    curve, parts = curve_of(images, measure="rms", resamples=200), Parts.of(images, of_relative=False)
    square_M = images.groupby("order").mean_square.mean().to_numpy()
    np.testing.assert_allclose(curve.values, np.sqrt(square_M))
    np.testing.assert_allclose(curve.widths, curve.half_widths / np.sqrt(square_M))
    np.testing.assert_allclose(parts.variance_M, images.groupby("order").mean_square.var())
    assert (parts.slope_MM == np.eye(len(ORDERS))).all()
    following = next_round(images, curve, 0.1, 10_000, 4)
    weak, strong = (following.budgets[order] for order in (97, 0))
    assert weak > 3 * strong and following.wanted > 100


def test_a_run_to_a_precision_of_rms_reaches_it_and_goes_on_to_that_of_the_curve(tmp_path):
    found = profile(tmp_path / "run", 36, precision=0.6, of="rms")
    reached, table = found.record["reached"], found.strength()
    assert (reached["measure"], found.record["ended"]) == ("rms", "precision") and reached["widest"] <= 0.6
    np.testing.assert_allclose(list(reached["half_widths"].values()), (table.rms_high - table.rms_low) / 2, rtol=0.2)
    again = profile(tmp_path / "run", 36, precision=0.02)
    assert again.record["reached"]["measure"] == "J_rms" and again.record["settings"]["of"] == "curve"
    assert len(again.record["images"]) > len(found.record["images"])


def test_what_a_precision_cannot_be_of_is_refused(tmp_path):
    for asked, sentence in (
        ({"of": "difference"}, "speaks of two models"),
        ({"of": "rms", "relative": True}, "relative by itself"),
        ({"of": "rms", "budget": 300}, "chooses the passes"),
    ):
        with pytest.raises(ValueError, match=sentence):
            profile(tmp_path / "run", **asked)
    assert not (tmp_path / "run").exists()


def test_what_the_next_round_of_a_pair_takes_is_told(capsys):
    rounds = [Round(16, 32, {9: 500, 97: 500}), Round(16, 32, {9: 250, 97: 250})]
    tell_difference(Curve((0,), np.array([0.2]), np.array([0.15])), 0.1, 16, rounds, 100.0)
    said = capsys.readouterr().err
    assert said == (
        "16 images each: difference of M known to ±0.15; asked for ±0.1; measuring 16 more, about 24,000 passes and "
        "4 min\n"
    )


def test_what_a_run_takes_at_least_is_told_after_its_pilot(capsys):
    entry = {"passes_per_image": 5000, "last": 16}
    announce_first(entry, {"passes_per_second": 100.0}, 1000, say=True)
    said = capsys.readouterr().err
    assert "by its pilot an image takes 5,000 passes: 32 images, the least, 160,000 passes and 27 min; how" in said
    announce_first(entry, {"passes_per_second": 1e6}, 1000, say=True)
    announce_first(entry, {"passes_per_second": 100.0}, 1000, say=False)
    assert capsys.readouterr().err == ""  # short, or not asked for


def test_a_run_ends_by_the_interval_that_it_writes():
    images = rows_of(np.random.default_rng(3), 0, 32, dict.fromkeys(ORDERS, 300))
    curve, table = curve_of(images), strength_table(images)
    np.testing.assert_allclose(curve.half_widths, (table.J_rms_high - table.J_rms_low) / 2, rtol=1e-12)


def test_orders_that_all_pairs_were_measured_of_stay_so():
    """Without noise there is nothing to save by fewer passes, which would measure a part of the pairs."""
    passes = dict.fromkeys(ORDERS, 300) | {0: 446}
    images = rows_of(np.random.default_rng(1), 0, FIRST_IMAGES, passes)
    images.loc[images.order == 0, "mean_square"] = SQUARES[0]
    images.loc[images.order == 0, "square_spread"] = 0.0
    following = next_round(images, curve_of(images, resamples=200), 0.05, 10_000, 4)
    assert following.budgets[0] == 446
