"""Two models on the same images: rounds to the width of a difference, classes of another run, what is refused."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from interactions.allocation import Parts
from interactions.baselines import Normalisation
from interactions.intervals import standard_error
from interactions.masses import MASS_MEASURES, difference_of, mass_statistic
from interactions.pair import Subject, profile_pair
from interactions.precision import difference_curve, next_pair
from interactions.profile import load_profile, profile_model
from interactions.profiling import Run
from tests.interactions.test_precision import ORDERS, rows_of
from tests.interactions.tiny import CLASSES, SIZE, Photos, network

ASKED = {"grid": 3, "radius": 1, "ratios": (0.0, 0.3, 0.5, 0.7, 1.0), "unit_images": 8, "batch_size": 64}


class Unlabelled(Photos):
    def __getitem__(self, index):
        return super().__getitem__(index)[0], None


def pair(out, precision=0.045, data=None, **settings):
    data = data or Photos(90)
    return profile_pair(
        Subject("one", network(1), data),
        Subject("two", network(2), data),
        out=out,
        precision=precision,
        progress=False,
        **{name: given for name, given in (ASKED | settings).items() if name != "ratios" or "orders" not in settings},
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    out = tmp_path_factory.mktemp("pair")
    return out, pair(out)


def records_of(out):
    return [json.loads((out / name / "run.json").read_text()) for name in ("one", "two")]


def test_stops_at_the_width_of_the_difference(measured):
    out, found = measured
    one, two = records_of(out)
    assert one["status"] == two["status"] == "complete" and one["ended"] == two["ended"] == "precision"
    assert [image["name"] for image in one["images"]] == [image["name"] for image in two["images"]]
    assert [(each["first"], each["last"]) for each in one["rounds"]] == [
        (each["first"], each["last"]) for each in two["rounds"]
    ]
    row = found.difference().set_index("measure").loc["J_rms"]
    assert (row.high - row.low) / 2 == pytest.approx(one["difference"]["half_width"], rel=0.1)
    assert one["difference"]["half_width"] <= 0.045 and one["difference"]["asked"] == 0.045
    assert 32 <= len(one["images"]) < 90
    # By hand: M of each from its mean squares, over the middle orders 0.3 to 0.7.
    masses = []
    for profile in found.profiles.values():
        rms = np.sqrt(profile.images().groupby("ratio").mean_square.mean())
        masses.append((rms / rms.mean())[0.3:0.7].mean())
    assert row.difference == pytest.approx(masses[0] - masses[1])


def test_a_finished_pair_is_left_as_it_is(measured):
    """What the precision is of is the difference, which is narrower than either curve."""
    out, _ = measured
    assert max(record["reached"]["widest"] for record in records_of(out)) > 0.045
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    pair(out)
    assert times == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def test_a_finished_pair_whose_time_was_over_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "out_of_time", lambda run, record: True)
    found = pair(tmp_path, precision=1e-6, data=Photos(9), ratios=(0.0, 0.5, 1.0), design="exact")
    assert {profile.record["ended"] for profile in found.profiles.values()} == {"images"}


def test_goes_on_where_one_folder_is_a_round_behind(measured, tmp_path):
    out, _ = measured
    shutil.copytree(out, tmp_path / "pair")
    path = tmp_path / "pair" / "two" / "run.json"
    record = json.loads(path.read_text())
    count = record["rounds"][0]["last"]
    record |= {"images": record["images"][:count], "rounds": record["rounds"][:1], "status": "running", "tried": count}
    path.write_text(json.dumps(record))
    for unit in sorted((tmp_path / "pair" / "two" / "units").iterdir())[count // 8 :]:
        unit.unlink()
    again = pair(tmp_path / "pair")
    for name, profile in again.profiles.items():
        same = load_profile(out / name)
        assert profile.images().equals(same.images())
        assert profile.record["rounds"] == same.record["rounds"]


def test_predicted_classes_are_those_of_the_first(tmp_path):
    found = pair(tmp_path / "pair", precision=10, data=Unlabelled(9), target="predicted", orders=[0, 3, 7])
    one, two = (profile.record for profile in found.profiles.values())
    assert [image["target"] for image in one["images"]] == [image["target"] for image in two["images"]]
    with torch.no_grad():
        own = [int(network(1)(Photos(9)[image["image"]][0][None]).argmax()) for image in one["images"]]
    assert [image["target"] for image in one["images"]] == own
    assert two["settings"]["target"].startswith("predicted of one (")
    assert [each["order"] for each in two["orders"]] == [0, 3, 7]


class Later(Photos):
    """Other images under the same numbers."""

    def __getitem__(self, index):
        return super().__getitem__(index + 1)


def test_images_that_are_called_alike_and_are_others_are_refused(tmp_path):
    few = {"images": 4, "budget": 200, "progress": False, **ASKED}
    profile_model(network(1), Photos(9), out=tmp_path / "one", target="predicted", **few)
    of_one = {**few, "target": str(tmp_path / "one")}
    with pytest.raises(
        ValueError, match=r"image \d is another image in .*one \(4 of 4 images have other pixels there\)"
    ):
        profile_model(network(2), Later(9), out=tmp_path / "two", **of_one)
    assert not (tmp_path / "two" / "run.json").exists()
    # Of images that are normalised otherwise pixels tell nothing.
    other = Normalisation((0.4,) * 3, (0.3,) * 3)
    found = profile_model(network(2), Later(9), out=tmp_path / "two", normalisation=other, **of_one)
    assert found.record["status"] == "complete"


def test_a_pair_of_other_images_is_refused(tmp_path):
    one, two = Subject("one", network(1), Photos(9)), Subject("two", network(2), Later(9))
    with pytest.raises(ValueError, match=r"image \d of one is another image than image \d of two: give both the same"):
        profile_pair(one, two, out=tmp_path, precision=10, progress=False, target=1, **ASKED)


def test_the_classes_of_another_run(tmp_path):
    few = {"images": 4, "budget": 200, **ASKED}
    profile_model(network(1), Photos(9), out=tmp_path / "one", target="predicted", progress=False, **few)
    of_one = {"target": str(tmp_path / "one"), "progress": False}
    two = profile_model(network(2), Unlabelled(9), out=tmp_path / "two", **few | of_one)
    targets = [image["target"] for image in records_of(tmp_path)[0]["images"]]
    assert [image["target"] for image in two.record["images"]] == targets
    (tmp_path / "one").rename(tmp_path / "moved")  # what was measured does not depend on where that run lies
    of_one["target"] = str(tmp_path / "moved")
    assert profile_model(network(2), Unlabelled(9), out=tmp_path / "two", **few | of_one).record == two.record
    with pytest.raises(ValueError, match="moved explains none of these images"):
        foreign = [f"photo {k}" for k in range(9)]
        profile_model(network(2), Unlabelled(9), out=tmp_path / "three", names=foreign, **few | of_one)
    with pytest.raises(ValueError, match="some of 5 classes and this model has 7"):
        wide = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * SIZE**2, CLASSES + 2))
        profile_model(wide, Unlabelled(9), out=tmp_path / "three", **few | of_one)
    with pytest.raises(ValueError, match=r"unknown target .*nowhere.*folder of another profile"):
        profile_model(network(2), Photos(9), out=tmp_path / "three", **few | {"target": str(tmp_path / "nowhere")})
    profile_model(network(1), Photos(9), out=tmp_path / "cosine", value="cosine", progress=False, **few)
    with pytest.raises(ValueError, match="explains no classes"):
        profile_model(network(2), Photos(9), out=tmp_path / "three", **few | {"target": str(tmp_path / "cosine")})
    with pytest.raises(ValueError, match=r"cosine explains no class, so it has no use for those of .*moved"):
        profile_model(network(2), Photos(9), out=tmp_path / "three", **few | of_one, value="cosine")
    with pytest.raises(ValueError, match=r"cosine explains no class, so it has no use for class 3"):
        profile_model(network(2), Photos(9), out=tmp_path / "three", **few | {"target": 3}, value="cosine")
    assert not (tmp_path / "three" / "run.json").exists()


def test_what_the_run_of_the_classes_left_out_is_left_out(tmp_path):
    """A run of correctly classified images gives the classes; in another order they are the same by name."""
    few = {"images": 3, "budget": 200, "progress": False, **ASKED}
    one = profile_model(network(1), Photos(20), out=tmp_path / "one", only_correct=True, **few)
    assert one.record["wrong"]
    classes = {image["name"]: image["target"] for image in one.record["images"]}
    for name, data, seed in (("two", Photos(20), 0), ("three", Unlabelled(20), 3)):
        found = profile_model(network(2), data, out=tmp_path / name, target=str(tmp_path / "one"), seed=seed, **few)
        assert {image["name"]: image["target"] for image in found.record["images"]} == classes


def test_predicted_classes_where_the_first_cannot_read_an_image(tmp_path):
    subjects = [Subject("one", network(1), Photos(9, broken=(3,))), Subject("two", network(2), Photos(9))]
    pairs = ASKED | {"ratios": (0.0, 0.5, 1.0)}
    found = profile_pair(*subjects, out=tmp_path, precision=10, target="predicted", progress=False, **pairs)
    one, two = ([(each["name"], each["target"]) for each in of.record["images"]] for of in found.profiles.values())
    assert one == two and len(one) == 8


def test_what_cannot_be_a_pair_is_refused(tmp_path):
    one, two = Subject("one", network(1), Photos(9)), Subject("two", network(2), Photos(8))
    for second, settings, why in (
        (one, {}, "two runs are called one"),
        (two, {}, "9 images for one and 8 for two"),
        (Subject("two", network(2), Photos(9)), {"only_correct": True}, "classify other images correctly"),
        (Subject("two", network(2), Photos(9)), {"budget": 300}, "give it or a budget"),
        (Subject("two", network(2), Photos(9)), {"relative": True}, "leave relative out"),
    ):
        with pytest.raises(ValueError, match=why):
            profile_pair(one, second, out=tmp_path / "pair", progress=False, **ASKED | settings)
    assert not (tmp_path / "pair").exists()


def test_parts_of_a_difference_predict_its_error():
    """Of two simulated models: measured with the round's passes and images, the difference gets as wide as asked."""
    generator = np.random.default_rng(0)
    budgets = dict.fromkeys(ORDERS, 300)
    a, b = (rows_of(generator, 0, 400, budgets) for _ in range(2))
    curve = difference_curve(a, b, resamples=300)
    row = MASS_MEASURES.index("J_rms")
    value, influence = difference_of(mass_statistic(a), mass_statistic(b))(np.arange(400)[None])
    assert curve.values[0] == value[row, 0]
    assert curve.half_widths[0] == pytest.approx(1.96 * standard_error(influence[row, 0]), rel=0.15)
    parts = Parts.of_difference(a, b)
    assert len(parts.single_M) == 2 * len(ORDERS) and parts.slope_MM.shape == (1, 2 * len(ORDERS))
    # Slopes by finite differences: what a change of one mean square does to M.
    changed = a.assign(mean_square=a.mean_square * np.where(a.order == 97, 1.001, 1.0))
    moved = difference_of(mass_statistic(changed), mass_statistic(b))(np.arange(400)[None])[0][row, 0]
    step = 0.001 * a[a.order == 97].mean_square.mean()
    assert parts.slope_MM[0, ORDERS.index(97)] == pytest.approx(((moved - value[row, 0]) / step) ** 2, rel=0.01)
    following = next_pair(a, b, curve, float(curve.half_widths[0]) / 1.2, 10_000, 4)
    more = [rows_of(generator, each.first, each.last, each.budgets) for each in following]
    a, b = (pd.concat(rows, ignore_index=True) for rows in zip((a, b), more, strict=True))
    again = difference_curve(a, b, resamples=300)
    assert again.half_widths[0] == pytest.approx(curve.half_widths[0] / 1.2, rel=0.12)
    assert next_pair(a, b, again, float(again.half_widths[0]) * 1.01, 10_000, 4) is None


def test_an_image_that_one_of_them_cannot_read_counts_for_neither(tmp_path):
    subjects = [
        Subject("one", network(1), Photos(14)),
        Subject("two", network(2), Photos(14, broken=(3,))),
    ]
    found = profile_pair(*subjects, out=tmp_path, precision=1e-6, progress=False, **ASKED | {"design": "exact"})
    one, two = records_of(tmp_path)
    assert len(one["images"]) == 14 and len(two["images"]) == 13
    row = found.difference().set_index("measure").loc["J_rms"]
    assert row.images == 13 and one["ended"] == "images"
    assert (row.high - row.low) / 2 == pytest.approx(one["difference"]["half_width"], rel=0.1)
    rows = [profile.images() for profile in found.profiles.values()]
    with pytest.raises(ValueError, match="the two runs hold other images"):
        difference_curve(*rows)
