"""Images that are measured several times: what their looks tell together, when they are looked at again, real runs."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from interactions.allocation import MOST_BUDGET, Parts, between_looks, noise_of
from interactions.forecast import DryRun
from interactions.intervals import MIN_IMAGES
from interactions.looks import merged, merged_pairs
from interactions.pair import Subject, profile_pair
from interactions.planning import Planning
from interactions.precision import Round, curve_of, next_round
from interactions.profile import load_profile, profile_model
from interactions.runs.files import write_json
from interactions.runs.storage import finished_units
from tests.interactions.test_precision import (
    ORDERS,
    SINGLE,
    SQUARES,
    TRUE_J,
    Stops,
    measured,
    measured_to,
    of_few_pairs,
    same_rows,
    true_squares,
)
from tests.interactions.tiny import Photos, network

ASKED = {"grid": 3, "radius": 1, "ratios": (0.0, 0.5, 1.0), "precision": 0.15, "unit_images": 4}
ASKED |= {"batch_size": 64, "speed": "plain", "progress": False}


@pytest.fixture
def poor_pilot(monkeypatch):
    """The first look takes the fewest passes that there can be, as if the pilot had said that these do."""
    monkeypatch.setattr(Planning, "first_budget", lambda *_: 100)


def profile(out, data=None, **asked):
    return profile_model(network(), data or Photos(12), out=out, **{**ASKED, **asked})


def look(**columns):
    usual = {"image": 3, "order": 5, "ratio": 0.5, "look": 0, "design": "pooled", "passes": 100, "pairs": 40}
    usual |= {"mean_abs": 0.5, "mean_abs_sum": 0.4, "mean_abs_difference": 0.3, "mean_square": 0.1}
    return {**usual, "square_spread": 0.02, "pair_variance": np.nan, **columns}


def test_looks_count_by_their_passes():
    two = look(look=1, design="pairwise", passes=300, pairs=7, mean_abs=0.3, mean_square=0.2, mean_abs_sum=0.8)
    rows = pd.DataFrame([look(), look(image=4), {**two, "square_spread": 0.04, "mean_abs_difference": 0.5}])
    one, other = merged(rows).to_dict("records")
    assert other == pytest.approx({name: value for name, value in look(image=4).items() if name != "look"}, nan_ok=True)
    assert (one["image"], one["order"], one["ratio"], one["design"]) == (3, 5, 0.5, "pairwise+pooled")
    assert one["passes"] == 400 and one["pairs"] == 40
    assert one["mean_square"] == pytest.approx(0.25 * 0.1 + 0.75 * 0.2)
    assert one["mean_abs"] == pytest.approx(0.25 * 0.5 + 0.75 * 0.3)
    assert one["mean_abs_sum"] ** 2 == pytest.approx(0.25 * 0.4**2 + 0.75 * 0.8**2)
    assert one["mean_abs_difference"] ** 2 == pytest.approx(0.25 * 0.3**2 + 0.75 * 0.5**2)
    assert one["square_spread"] == pytest.approx(0.25**2 * 0.02 + 0.75**2 * 0.04)
    assert np.isnan(one["pair_variance"])


def test_a_look_at_some_pairs_and_one_at_all_have_the_noise_of_both():
    rows = pd.DataFrame([look(pair_variance=0.5), look(look=1, passes=300)])
    assert merged(rows).pair_variance[0] == pytest.approx(0.25**2 * 0.5 + 0.75**2 * 0.02)


def test_an_exact_look_tells_all():
    exact = look(look=1, design="exact", passes=60, mean_square=0.3, square_spread=0.0)
    sampled = look(design="exact", passes=40, pair_variance=0.1, square_spread=0.0)  # exact values of some pairs
    for rows in ([look(), exact], [sampled, exact]):
        (one,) = merged(pd.DataFrame(rows)).to_dict("records")
        assert one["mean_square"] == 0.3 and one["square_spread"] == 0 and np.isnan(one["pair_variance"])


def test_a_look_of_equal_values_is_not_exact():
    """All coalitions that it drew had the same value; those of the other look had not."""
    rows = pd.DataFrame([look(mean_square=0.0, square_spread=0.0), look(look=1, mean_square=0.2)])
    assert merged(rows).mean_square[0] == pytest.approx(0.1)


def test_passes_that_were_made_count_where_they_are_told_in_full_precision():
    rows = pd.DataFrame([{**look(mean_square=0.0), "spent": 100}, {**look(look=1, mean_square=1.0), "spent": 900}])
    assert merged(rows).mean_square[0] == pytest.approx(0.9) and merged(rows).passes[0] == 200


def test_a_look_that_told_no_square_is_left_out_of_it():
    blind = look(mean_square=np.nan, square_spread=np.nan, mean_abs_sum=np.nan, mean_abs_difference=np.nan)
    rows = pd.DataFrame([blind, look(look=1, passes=20)])
    assert merged(rows).mean_square[0] == 0.1 and merged(rows).passes[0] == 120
    assert merged(pd.DataFrame([blind, {**blind, "look": 1}])).mean_square.isna().all()


def test_rows_from_before_there_were_looks_are_first_ones():
    old = pd.DataFrame([look()]).drop(columns="look")
    pd.testing.assert_frame_equal(merged(old), old)
    both = pd.concat([old, pd.DataFrame([look(look=1)])], ignore_index=True)
    assert merged(both).passes.tolist() == [200]


def test_pairs_count_by_their_draws():
    def pair(**columns):
        usual = {"image": 3, "order": 5, "i": 0, "j": 1, "count": 10.0, "mean": 1.0, "standard_error": 0.2}
        return {**usual, "half_1": 0.9, "half_2": 1.1, **columns}

    rows = pd.DataFrame([pair(), pair(j=2), pair(count=30.0, mean=2.0, standard_error=0.1, half_1=np.nan)])
    one, other = merged_pairs(rows).to_dict("records")
    assert other == pair(j=2)
    assert one["count"] == 40 and one["mean"] == pytest.approx(1.75)
    assert one["standard_error"] == pytest.approx(np.hypot(0.25 * 0.2, 0.75 * 0.1))
    assert (one["half_1"], one["half_2"]) == (0.9, 1.1)  # a half that is not there leaves those of the other look
    exact = pair(count=np.inf, mean=3.0, standard_error=0.0, half_1=3.0, half_2=3.0)
    assert merged_pairs(pd.DataFrame([pair(), exact])).to_dict("records") == [exact]


def two_looks(generator, look_at, budgets=(150, 600), count=400):
    """Of the same images, with so many passes an order."""
    true_IM = true_squares(generator, count)
    looks = [look_at(generator, true_IM, dict.fromkeys(ORDERS, budget)) for budget in budgets]
    return pd.concat([rows.assign(look=number) for number, rows in enumerate(looks)], ignore_index=True)


def test_another_look_has_the_noise_that_is_foretold():
    """The variance of J² over images by both looks, predicted from the first one."""
    foretold, found = [], []
    for seed in range(20):
        rows = two_looks(np.random.default_rng(seed), of_few_pairs, (1500, 6000))
        first = Parts.of(rows[rows.look == 0])
        foretold.append(replace(first, again=True).of_budgets(np.full(len(ORDERS), 6000.0)))
        found.append(Parts.of(rows).variance_M)
    np.testing.assert_allclose(np.mean(foretold, 0), np.mean(found, 0), rtol=0.1)


def test_looks_tell_the_noise_of_single_halves_which_is_a_guess_before():
    generator, order = np.random.default_rng(0), 97
    rows = two_looks(generator, measured, count=20_000)
    rows = rows[rows.order == order]
    single = 320 * (0.7 * SQUARES[ORDERS.index(order)]) ** 2
    assert between_looks(rows, 0.0) == pytest.approx(single, rel=0.3)
    few_twice = rows[(rows.look == 0) | (rows.image < 10_000)]  # others were looked at once
    assert between_looks(few_twice, 0.0) == pytest.approx(single, rel=0.3)
    ((way,), seen) = noise_of(rows)
    assert way.single == pytest.approx(single, rel=0.3)
    assert noise_of(rows.assign(square_spread=0.0))[1] == 0
    assert between_looks(rows[rows.look == 0], 7.0) == 7.0
    within = rows.pivot(index="image", columns="look", values="mean_square")
    weighted = 0.2 * within[0] + 0.8 * within[1]
    assert seen < within[0].var() / 5 and merged(rows).mean_square.to_numpy() == pytest.approx(weighted.to_numpy())


def test_images_that_are_used_up_are_looked_at_again_until_their_curve_is_narrow():
    """Forty images, of which a hundred passes an order leave hardly anything known: without noise they leave ±0.22."""
    widths = []
    for seed in range(6):
        generator = np.random.default_rng(seed)
        first = measured_to(100.0, np.random.default_rng(seed), 40, look_at=of_few_pairs)[2].widest
        rounds, rows, curve = measured_to(0.35, generator, 40, look_at=of_few_pairs)
        assert rows.image.nunique() == 40
        widths.append((first, curve.widest, sum(one.again for one in rounds)))
    first, last, looks = np.array(widths).T
    assert (last < first).all() and np.median(last) <= 0.36 and (looks > 0).sum() >= 4


def skewed(generator, true_IM, budgets, first=0):
    """A look whose noise is as skewed as that of squares, and where these come out large is thought to be large."""
    rows = measured(generator, true_IM, dict.fromkeys(budgets, 1e9), first)
    passes = rows.order.map(budgets).to_numpy(float)
    variance = 10 * rows.order.map(dict(zip(ORDERS, SINGLE, strict=True))).to_numpy() / passes
    true = true_IM[:, [order in budgets for order in ORDERS]].ravel()
    square = generator.gamma(true**2 / variance, variance / true)
    return rows.assign(mean_square=square, pair_variance=variance * (square / true) ** 2, passes=passes)


def test_that_looks_depend_on_those_before_shifts_no_mean(monkeypatch):
    """A look comes, and is long, where those before seem noisy: their squares are not seen to be lower or higher."""
    errors, held, looks = [], [], []
    for seed in range(24):
        truth = []
        drawn = lambda generator, count: truth.append(true_squares(generator, count)) or truth[-1]  # noqa: B023, E731
        monkeypatch.setattr("tests.interactions.test_precision.true_squares", drawn)
        first = Round(0, 12, dict.fromkeys(ORDERS, 400))
        _, rows, curve = measured_to(0.35, np.random.default_rng([12, seed]), 12, first=first, look_at=skewed)
        looks.append(rows.look.max())
        found = merged(rows).groupby("order").mean_square.mean().to_numpy()
        errors.append(np.mean(found / np.concatenate(truth).mean(0) - 1))
        held.append(abs(curve.values - TRUE_J) <= curve.half_widths)
    assert abs(np.mean(errors)) <= 3 * np.std(errors) / len(errors) ** 0.5 and np.std(errors) < 0.2
    assert np.mean(held) > 0.9 and np.mean(looks) > 1


def test_looks_are_few_where_the_images_alone_are_too_wide():
    rounds, _, curve = measured_to(0.001, np.random.default_rng(0), 40)
    spent = [sum(one.budgets.values()) for one in rounds if one.again]
    assert curve.widest > 0.1 and sum(spent) < MOST_BUDGET


def test_an_order_that_is_0_in_every_image_is_no_reason_to_look_again():
    generator = np.random.default_rng(1)
    rows = of_few_pairs(generator, true_squares(generator, 16), dict.fromkeys(ORDERS, 500))
    dead = rows.order == ORDERS[0]
    rows.loc[dead, ["mean_square", "pair_variance", "mean_abs", "mean_abs_sum"]] = 0.0
    curve = curve_of(rows)
    without = next_round(rows, curve, float(curve.widest) / 1.5, 16, 4)
    assert without.again and ORDERS[0] not in without.budgets
    assert max(without.budgets.values()) <= 2000  # four times those so far at the most


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [1, MIN_IMAGES - 1])
def test_too_few_images_for_an_interval_are_not_looked_at_again(count):
    rows = of_few_pairs(
        np.random.default_rng(0), true_squares(np.random.default_rng(1), count), dict.fromkeys(ORDERS, 100)
    )
    assert next_round(rows, curve_of(rows), 0.1, count, 4) is None


def test_a_look_that_the_most_passes_would_cut_short_is_not_taken():
    generator = np.random.default_rng(1)
    rows = of_few_pairs(generator, true_squares(generator, 16), dict.fromkeys(ORDERS, MOST_BUDGET - 200))
    curve = curve_of(rows)
    assert next_round(rows, curve, float(curve.widest) / 1.2, 16, 4) is None


def test_a_run_looks_again_at_its_images_and_is_unbiased(tmp_path, poor_pilot):
    found, exact = profile(tmp_path / "run"), profile(tmp_path / "exact", design="exact")
    looks, rounds = found.looks(), found.record["rounds"]
    assert found.record["ended"] == "precision" and len(found.record["images"]) == 12
    assert [one.get("look", 0) for one in rounds] == sorted(looks.look.unique()) and len(rounds) > 1
    assert not found.images().duplicated(["image", "order"]).any()
    assert set(looks[looks.look > 0].order) == {3}  # the ends are exact at once
    assert found.images().passes.sum() == looks.passes.sum() == found.strength().passes.sum()
    assert found.record["passes"] == looks.passes.sum() + sum(found.record["preparation_passes"].values())
    first = curve_of(looks[looks.look == 0])
    assert curve_of(looks).widest <= 0.15 < first.widest
    squares = [one.images().set_index(["image", "order"]).mean_square for one in (found, exact)]
    error = (squares[0] - squares[1]).groupby("order")
    assert (abs(error.mean()) <= 4 * error.std() / 12**0.5).all()
    assert not found.pairs().duplicated(["image", "order", "i", "j"]).any()
    assert profile(tmp_path / "run").record == found.record  # nothing is measured twice


def test_looks_have_coalitions_of_their_own(tmp_path, poor_pilot):
    looks = profile(tmp_path / "run", keep="images").looks()
    inner = looks[looks.order == 3].pivot(index="image", columns="look", values="mean_square")
    assert inner.shape[1] > 1 and (inner[0] != inner[1]).all()


def test_an_interruption_within_a_look_changes_no_bit(tmp_path, poor_pilot):
    whole = profile(tmp_path / "whole", counted := Stops(12, 10**9))
    at = counted.at - counted.left - 2
    with pytest.raises(KeyboardInterrupt, match="images measured, some of them several times"):
        profile(tmp_path / "run", Stops(12, at))
    cut = load_profile(tmp_path / "run").record
    assert cut["rounds"][-1].get("look") and len(finished_units(tmp_path / "run")) > 3
    with pytest.raises(DryRun, match=r"at least [1-9][\d,]* passes left") as forecast:
        profile(tmp_path / "run", dry_run=True)
    assert 0 < forecast.value.passes <= 12 * cut["rounds"][-1]["passes_per_image"]
    same_rows(profile(tmp_path / "run"), whole)


def test_minutes_may_end_within_a_look(tmp_path, poor_pilot, monkeypatch):
    assert len(profile(tmp_path, precision=10.0).record["rounds"]) == 1
    now = iter([0.0] * 4 + [1e9] * 10_000)
    with monkeypatch.context() as patched:
        patched.setattr("interactions.profiling.time.monotonic", lambda: next(now))
        cut = profile(tmp_path, minutes=1.0)
    assert cut.record["ended"] == "minutes" and len(cut.record["images"]) == 12
    (_, look) = cut.record["rounds"]
    assert (look["look"], look["first"]) == (1, 0) and 0 < look["last"] < 12
    assert cut.images().groupby("image").passes.sum().nunique() > 1  # some of them were looked at twice
    found = profile(tmp_path)
    assert found.record["ended"] == "precision"
    again = [each for each in found.record["rounds"] if each.get("look") == 1]
    assert [(each["first"], each["last"]) for each in again] == [(0, look["last"]), (look["last"], 12)]
    assert not found.looks().duplicated(["image", "order", "look"]).any()


def test_a_damaged_unit_of_a_run_that_is_still_wide_is_measured_again(tmp_path, poor_pilot):
    found = profile(tmp_path, precision=1e-6, images=10)
    assert found.record["ended"] == "images"
    rows = found.looks()
    (tmp_path / "images" / "unit-00001.parquet").unlink()
    assert profile(tmp_path, precision=1e-6, images=10).looks().equals(rows)


def test_a_run_that_ended_before_there_were_looks_gets_them(tmp_path, poor_pilot, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("interactions.precision.for_another_look", lambda parts, *_: np.zeros(len(parts.single_M), int))
        old = profile(tmp_path / "run")
    assert old.record["ended"] == "images" and old.record["reached"]["widest"] > 0.15
    assert profile(tmp_path / "run").record == old.record  # all that is to be had, for one that knows looks
    write_json(tmp_path / "run" / "run.json", {key: value for key, value in old.record.items() if key != "looks"})
    found = profile(tmp_path / "run")
    assert found.record["ended"] == "precision" and found.record["rounds"][-1]["look"] > 0
    assert found.looks().iloc[: len(old.looks())].equals(old.looks())


def test_images_that_cannot_be_read_leave_the_others_to_be_looked_at(tmp_path, poor_pilot):
    found = profile(tmp_path / "run", Photos(19, broken=(0, 1, 2)))
    assert len(found.record["images"]) == 16 and found.record["ended"] == "precision"
    assert len(found.record["skipped"]) == 3


def pair(out, data=None, **asked):
    data = data or Photos(12)
    subjects = (Subject("one", network(1), data), Subject("two", network(2), data))
    return profile_pair(*subjects, out=out, **{**ASKED, "precision": 0.1, **asked})


def test_images_that_cannot_be_read_leave_a_pair_the_others(tmp_path, poor_pilot):
    found = pair(tmp_path, Photos(19, broken=(0, 1, 2)))
    for one in found.profiles.values():
        assert len(one.record["images"]) == 16 and one.record["ended"] == "precision"
        assert one.record["looks"] > 0


def test_a_pair_that_the_clock_stopped_within_a_look_goes_on(tmp_path, poor_pilot, monkeypatch):
    pair(tmp_path, precision=10.0)
    now = iter([0.0] * 9 + [1e9] * 10_000)
    with monkeypatch.context() as patched:
        patched.setattr("interactions.profiling.time.monotonic", lambda: next(now))
        cut = pair(tmp_path, minutes=1.0)
    assert {one.record["ended"] for one in cut.profiles.values()} == {"minutes"}
    lasts = [one.record["rounds"][-1] for one in cut.profiles.values()]
    assert any(each.get("look") == 1 and 0 < each["last"] < 12 for each in lasts)
    for one in pair(tmp_path).profiles.values():
        assert one.record["ended"] == "precision" and one.record["looks"] > 0
        assert not one.looks().duplicated(["image", "order", "look"]).any()


def test_a_run_that_is_asked_for_another_curve_goes_on(tmp_path, poor_pilot):
    found = profile(tmp_path, precision=0.4)
    assert found.record["reached"]["measure"] == "J_rms"
    again = profile(tmp_path, precision=0.4, of="rms").record
    assert again["reached"]["measure"] == "rms" and again["settings"]["of"] == "rms"


def test_images_that_are_narrow_enough_are_so_though_others_cannot_be_read(tmp_path):
    found = profile(tmp_path, Photos(19, broken=(0, 1, 2)), precision=1.0)
    assert len(found.record["images"]) == 16 and found.record["ended"] == "precision"


def test_models_that_cannot_read_different_images_are_looked_at_on_the_others(tmp_path, poor_pilot):
    subjects = [Subject(str(k), network(k), Photos(14, broken=(k,))) for k in (1, 2)]
    found = profile_pair(*subjects, out=tmp_path, **{**ASKED, "precision": 0.1})
    assert [one.record["looks"] > 0 for one in found.profiles.values()] == [True, True]


def test_two_models_are_looked_at_again_on_the_same_images(tmp_path, poor_pilot):
    whole = pair(tmp_path / "whole")
    records = [one.record for one in whole.profiles.values()]
    looks = [[each.get("look", 0) for each in one["rounds"]] for one in records]
    assert looks[0] == looks[1] and max(looks[0]) > 0
    assert records[0]["difference"]["half_width"] <= 0.1 and records[0]["ended"] == "precision"
    # One of them was given its look when the process was killed, the other one was not.
    with pytest.MonkeyPatch.context() as patched:
        from interactions import profiling

        real = profiling.Run.add_round

        def killed(run, record, following):
            if following.again and run.folder.name == "two":
                raise KeyboardInterrupt
            return real(run, record, following)

        patched.setattr(profiling.Run, "add_round", killed)
        with pytest.raises(KeyboardInterrupt):
            pair(tmp_path / "run")
    again = pair(tmp_path / "run")
    for name, one in again.profiles.items():
        same_rows(one, whole.profiles[name])
