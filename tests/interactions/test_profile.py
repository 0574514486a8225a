"""Profiles: what is measured, what is written, and what happens when something goes wrong in between."""

import json
import platform
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from torch import nn

from interactions import levels
from interactions.game import NonFiniteValueError
from interactions.grid import PAPER_RATIOS
from interactions.profile import load_profile, profile_model
from interactions.runs import storage
from tests.children import child, exit_code, exit_codes_of_two
from tests.interactions import tiny
from tests.interactions.tiny import ASKED, CLASSES, Photos, network

pytestmark = pytest.mark.xdist_group("children")

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT.parent / "shared" / "data" / "published-protocol.npz"
MEASURES = ("A", "J", "A_corrected", "J_corrected", "mean_square", "rms", "J_rms")


def profile(out, model=None, photos=None, **changes):
    asked = ASKED | changes
    photos = Photos(9) if photos is None else photos
    return profile_model(model or network(), photos, out=out, progress=False, **asked)


def same_tables(one, other, exact=True):
    for part in ("images", "pairs"):
        a, b = storage.read_part(Path(one), part), storage.read_part(Path(other), part)
        pd.testing.assert_frame_equal(a, b, check_exact=exact, **({} if exact else {"rtol": 1e-4, "atol": 1e-5}))


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


# ---------------------------------------------------------------------------------------------------- what is measured


def test_exact_profile_is_the_formula_over_all_contexts(tmp_path):
    ratios = (0.0, 0.5, 1.0)
    model = network()
    measured = profile(tmp_path / "run", grid=3, ratios=ratios, design="exact", images=2, unit_images=1, shuffle=False)
    pairs = measured.pairs().set_index(["image", "order", "i", "j"])["mean"]
    strength = {}
    for image in range(2):
        value = brute_force_values(model, *Photos(9)[image])
        for order in (0, 3, 7):
            expected = {pair: brute_force_interaction(value, *pair, order) for pair in near_pairs()}
            assert set(pairs.loc[image, order].index) == set(expected)
            np.testing.assert_allclose(
                [pairs[image, order, *pair] for pair in expected], list(expected.values()), rtol=1e-5
            )
            strength.setdefault(order, []).append(np.mean(np.abs(list(expected.values()))))
    table = measured.strength().set_index("order")
    a = pd.Series({order: np.mean(values) for order, values in strength.items()})
    np.testing.assert_allclose(table.A, a, rtol=1e-6)
    np.testing.assert_allclose(table.J, a / a.mean(), rtol=1e-6)


def near_pairs():
    cells = [(row, column) for row in range(3) for column in range(3)]
    near = [(i, j) for i, j in combinations(range(9), 2) if max(np.abs(np.subtract(cells[i], cells[j]))) <= 1]
    assert len(near) == 20
    return near


def brute_force_values(model, image, label):
    """v(T) = log-odds of the label for every coalition T, written as the bits of a number."""
    shown = np.array([[bits >> cell & 1 for cell in range(9)] for bits in range(512)]).reshape(512, 1, 3, 3)
    x = image.numpy() * shown.repeat(4, 2).repeat(4, 3)
    with torch.inference_mode():
        p = torch.softmax(model(torch.tensor(x, dtype=torch.float32)).double(), 1).numpy()[:, label]
    return np.log(p / (1 - p))


def brute_force_interaction(value, i, j, order):
    sums = [sum(1 << cell for cell in s) for s in combinations(set(range(9)) - {i, j}, order)]
    a, b = 1 << i, 1 << j
    return np.mean([value[s | a | b] - value[s | a] - value[s | b] + value[s] for s in sums])


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the recorded run of the released code is not there")
def test_published_design_gives_the_numbers_of_the_released_code(tmp_path):
    recorded = np.load(PUBLISHED)
    model = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.GELU(), nn.Conv2d(8, 16, 3, 2), nn.GELU(), Head())
    names = {"0": "c1", "2": "c2", "4.fc": "fc"}
    for layer, name in names.items():
        for kind in ("weight", "bias"):
            model.get_parameter(f"{layer}.{kind}").data = torch.tensor(recorded[f"weight_{name}.{kind}"])
    images = [(torch.tensor(image), int(recorded["labels"][k])) for k, image in enumerate(recorded["images"])]
    pairs, contexts = recorded["delta"].shape[2:]
    measured = profile_model(
        model, images, out=tmp_path / "run", grid=8, ratios=PAPER_RATIOS, design="published", published_pairs=pairs,
        budget=4 * pairs * contexts, seed=int(recorded["seed"]), shuffle=False, progress=False, batch_size=64,
    )  # fmt: skip
    table = measured.pairs()
    for row, order in enumerate(recorded["orders"]):
        for image in range(3):
            rows = table[(table.image == image) & (table.order == order)]
            np.testing.assert_array_equal(rows[["i", "j"]], recorded["pairs"][image])
            np.testing.assert_allclose(rows["mean"], recorded["interaction"][row, image], rtol=2e-3, atol=2e-6)
    np.testing.assert_allclose(measured.strength().J, recorded["J"], rtol=5e-4)  # it computed v in float32
    assert set(measured.images().design) == {"published"}


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 10)

    def forward(self, x_BCHW):
        return 4 * self.fc(x_BCHW.mean((2, 3)))


@pytest.mark.parametrize("design", ["auto", "pairwise", "shared", "pooled"])
def test_tables_of_every_design_are_as_promised(tmp_path, design):
    measured = profile(tmp_path / "run", design=design, images=3, budget=1000)
    pairs, images, strength = measured.pairs(), measured.images(), measured.strength()
    assert dict(pairs.dtypes.astype(str)) == {
        "image": "int32", "order": "int32", "i": "int16", "j": "int16", "count": "float32", "mean": "float32",
        "standard_error": "float32", "half_1": "float32", "half_2": "float32",
    }  # fmt: skip
    assert len(images) == 3 * 4 and images.image.dtype == "int32" and images.ratio.dtype == "float64"
    assert list(images.order.unique()) == [0, 4, 7, 14]
    assert set(images.design[images.order.isin((0, 14))]) == {"exact"}
    if design != "auto":
        assert set(images.design[images.order.isin((4, 7))]) == {design}
    inner = images[images.order.isin((4, 7))]
    assert (inner.passes <= 1200).all() and (inner.passes >= 800).all()
    head = ["order", "ratio", "images", "pairs", "design", "passes", "floor", "near_floor"]
    assert list(strength.columns) == [
        *head,
        *(f"{x}{end}" for x in MEASURES for end in ("", "_low", "_high")),
        "rms_note",
        "interval_note",
        "baseline",
    ]
    assert list(strength.passes) == list(images.groupby("order").passes.sum())
    assert (strength.images == 3).all() and not strength.near_floor.any() and (strength.floor > 0).all()
    written = pd.read_csv(tmp_path / "run" / "strength.csv").drop(columns="rms_note")  # empty everywhere
    pd.testing.assert_frame_equal(written, strength.drop(columns="rms_note"), check_dtype=False)
    mass = pd.read_csv(tmp_path / "run" / "middle_mass.csv")
    assert list(mass.columns) == ["measure", "M", "M_low", "M_high", "images", "baseline"]
    assert mass.M[0] == pytest.approx(strength.J[1:3].mean())


def test_orders_without_a_middle_leave_the_mass_table_empty(tmp_path):
    profile(tmp_path / "run", images=2, ratios=(0.0, 1.0))
    table = pd.read_csv(tmp_path / "run" / "middle_mass.csv")
    assert len(table) == 0 and list(table.columns) == ["measure", "M", "M_low", "M_high", "images", "baseline"]


def test_numbers_do_not_depend_on_the_units(tmp_path):
    profile(tmp_path / "ones", unit_images=1, images=5)
    profile(tmp_path / "all", unit_images=5, images=5)
    same_tables(tmp_path / "ones", tmp_path / "all", exact=False)


def test_coalitions_of_an_image_do_not_depend_on_the_other_images(tmp_path):
    few, many = profile(tmp_path / "few", images=2).images(), profile(tmp_path / "many", images=6).images()
    assert list(few.image.unique()) == list(many.image.unique()[:2])
    pd.testing.assert_frame_equal(few, many[many.image.isin(few.image)].reset_index(drop=True), rtol=1e-5)


def test_another_seed_draws_other_images_and_coalitions(tmp_path):
    one, other = profile(tmp_path / "0", images=9).images(), profile(tmp_path / "1", images=9, seed=1).images()
    assert list(one.image.unique()) != list(other.image.unique())
    merged = one.merge(other, on=["image", "order"]).query("order == 7")
    assert (merged.mean_abs_x != merged.mean_abs_y).all()


def test_keep_images_writes_no_pairs(tmp_path):
    measured = profile(tmp_path / "run", keep="images", images=2)
    assert not (tmp_path / "run" / "pairs").exists()
    with pytest.raises(ValueError, match="kept no pairs"):
        measured.pairs()


# ------------------------------------------------------------------------------------------------------ which images


def test_takes_the_data_sets_own_order_when_asked_to(tmp_path):
    assert [one["image"] for one in profile(tmp_path / "run", images=3, shuffle=False).record["images"]] == [0, 1, 2]


def test_predicted_target_is_the_models_top_class(tmp_path):
    model, photos = network(), Photos(9)
    for one in profile(tmp_path / "run", model, target="predicted").record["images"]:
        assert one["target"] == int(model(photos[one["image"]][0][None]).argmax())


def test_number_as_target_needs_no_labels(tmp_path):
    measured = profile(tmp_path / "run", photos=Photos(9, label=-1), target=2, images=2)
    assert {(one["label"], one["target"]) for one in measured.record["images"]} == {(None, 2)}


def test_head_free_value_needs_neither_label_nor_classifier(tmp_path):
    features = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.Tanh())
    record = profile(tmp_path / "run", features, Photos(9, label=-1), value="cosine", images=2).record
    assert {one["target"] for one in record["images"]} == {None} and record["classes"] is None
    assert record["settings"]["compared"] == "output"


def test_features_in_front_of_a_classifier_are_the_usual_ones_to_compare(tmp_path):
    model = timm.create_model("test_resnet", num_classes=CLASSES)
    record = profile(tmp_path / "run", model, Photos(9), value="cosine", images=2).record
    assert "compared" not in record["settings"]


def test_one_output_has_no_correct_images(tmp_path):
    one = nn.Sequential(network(), nn.Linear(CLASSES, 1))
    with pytest.raises(ValueError, match="one output, by which no class of several is the predicted one"):
        profile(tmp_path / "run", one, Photos(9, label=0), only_correct=True, value="logit", images=4)


def test_only_correct_draws_on_until_there_are_enough(tmp_path):
    model, photos = network(), Photos(40)
    record = profile(tmp_path / "run", model, photos, only_correct=True, images=4).record
    right = [i for i in range(40) if int(model(photos[i][0][None]).argmax()) == i % CLASSES]
    tried = np.random.default_rng(0).permutation(40).tolist()
    expected = [i for i in tried if i in right][:4]
    assert [one["image"] for one in record["images"]] == expected
    assert record["wrong"] == tried.index(expected[-1]) + 1 - 4


def test_unreadable_images_are_skipped_named_and_counted(tmp_path):
    names = [f"photo-{k}.jpg" for k in range(9)]
    record = profile_model(
        network(),
        Photos(9, broken=(2, 5)),
        out=tmp_path / "run",
        names=names,
        progress=False,
        **(ASKED | {"images": None}),
    ).record
    assert {one["image"] for one in record["images"]} == {0, 1, 3, 4, 6, 7, 8}
    skipped = sorted(record["skipped"], key=lambda one: one["image"])
    assert [(one["name"], one["reason"]) for one in skipped] == [
        ("photo-2.jpg", "cannot identify image file 2"),
        ("photo-5.jpg", "cannot identify image file 5"),
    ]


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "gone"), OSError(5, "a failing disk"), MemoryError(), torch.OutOfMemoryError("x")]
)
def test_an_image_that_the_machine_cannot_read_is_no_damaged_one(tmp_path, error):
    """Others were measured in its place."""

    class Failing(Photos):
        def __getitem__(self, index):
            if index == 2:
                raise error
            return super().__getitem__(index)

    with pytest.raises(type(error)):
        profile(tmp_path / "run", None, Failing(9), images=9)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("photos", "changes", "said"),
    [
        (Photos(0), {}, "the data set is empty"),
        (Photos(30, broken=tuple(range(30))), {}, "none of the first 20 images can be read .*cannot identify"),
        (Photos(9, label=-1), {}, "has no label"),
        (Photos(9, label=CLASSES), {}, "class 5 of image 4 is outside the model's 5 classes"),
        (Photos(9), {"target": 7}, "class 7 .* is outside the model's 5 classes"),
        (Photos(9), {"target": "labels"}, "unknown target 'labels'"),
        (Photos(9), {"grid": 13, "budget": 9999}, "13×13 grid does not fit an image of 12×12"),
        (Photos(9), {"grid": 1}, "grid 1 is too small: use 2 or more"),
        (Photos(9), {"radius": 4}, "radius 4 is not possible"),
        (Photos(9), {"ratios": (0.5, 1.1)}, "ratios 1.1 is too large: use at most 1"),
        (Photos(9), {"budget": 10, "design": "pooled"}, "budget of 10 passes is too small"),
        (Photos(9), {"budget": 0}, "budget 0 is too small: use 1 or more"),
        (Photos(9), {"budget": 300, "design": "published"}, "give 400 or more"),
        (Photos(9), {"design": "best"}, "unknown design 'best'"),
        (Photos(9), {"design": "exact", "grid": 6}, "exact enumeration of 36 players"),
        (Photos(9), {"value": "loss"}, "unknown value 'loss'"),
        (Photos(9), {"baseline": "white"}, "unknown baseline 'white'"),
        (Photos(9), {"amp": "int8"}, "unknown precision 'int8'"),
        (Photos(9), {"seed": -1}, "seed -1 is too small: use 0 or more"),
        (Photos(9), {"keep": "all"}, "cannot keep 'all'"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, photos, changes, said):
    with pytest.raises(ValueError, match=said):
        profile(tmp_path / "run", photos=photos, **changes)
    assert not (tmp_path / "run").exists()


def test_a_filter_that_leaves_nothing_says_so(tmp_path):
    class Wrong(nn.Module):
        def forward(self, x_BCHW):
            return torch.zeros(len(x_BCHW), CLASSES).index_fill(1, torch.tensor([4]), 1.0)

    with pytest.raises(ValueError, match="classifies none of the 9 images as labelled"):
        profile(tmp_path / "run", Wrong(), Photos(9, label=2), only_correct=True)


def test_a_model_without_classes_is_told_about_cosine(tmp_path):
    with pytest.raises(ValueError, match=r"not one row of class scores an image.* cosine"):
        profile(tmp_path / "run", nn.Conv2d(3, 8, 3))


def test_images_of_several_sizes_are_refused(tmp_path):
    images = [(torch.randn(3, 12, 12), 0), (torch.randn(3, 12, 16), 0)]
    with pytest.raises(ValueError, match="crop all images to one size"):
        profile(tmp_path / "run", photos=images)


class Broken(nn.Module):
    """NaN on one image, when some of it is hidden."""

    def __init__(self, image):
        super().__init__()
        self.model, self.image = network(), image

    def forward(self, x_BCHW):
        hidden = (x_BCHW == 0).any(1).flatten(1).any(1)
        ours = ((x_BCHW == self.image) | (x_BCHW == 0)).flatten(1).all(1)
        return self.model(x_BCHW).masked_fill((hidden & ours & (x_BCHW != 0).flatten(1).any(1))[:, None], torch.nan)


def test_nan_stops_the_run_and_names_the_image(tmp_path):
    photos = Photos(9)
    last = profile(tmp_path / "good", images=7).record["images"][6]["image"]
    names = [f"photo-{k}.jpg" for k in range(9)]
    with pytest.raises(NonFiniteValueError, match=f"nan for photo-{last}.jpg"):
        profile_model(Broken(photos[last][0]), photos, out=tmp_path / "run", names=names, progress=False, **ASKED)
    assert storage.finished_units(tmp_path / "run") == {0, 1, 2}  # whole units before it stay
    assert load_profile(tmp_path / "run").record["status"] == "running"


# ---------------------------------------------------------------------------------------------------- reduced precision


class Rounding(nn.Module):
    """In reduced precision its logits are wrong by as much as the image has to say, times `size`."""

    def __init__(self, size):
        super().__init__()
        self.model, self.size, self._reduced = network(), size, 0

    def forward(self, x_BCHW):
        reduced = torch.is_autocast_enabled("cpu")
        self._reduced += reduced * len(x_BCHW)
        with torch.autocast("cpu", enabled=False):
            error_B = x_BCHW[:, :, :6, :6].sum((1, 2, 3)).sin() + x_BCHW[:, :, 6:].mean((1, 2, 3))
            return self.model(x_BCHW) + reduced * self.size * error_B[:, None] * torch.arange(CLASSES)


POOLS = {"design": "pooled", "budget": 2000, "images": 4, "grid": 3, "batch_size": 16}


def in_both(folder, size, monkeypatch):
    """The pairs of a run in two levels, and of the float32 run."""
    monkeypatch.setattr(levels, "cost_of", lambda *_: 0.1)
    models = {"bfloat16": Rounding(size), None: Rounding(size)}
    found = [profile(folder / str(amp), model, amp=amp, **POOLS) for amp, model in models.items()]
    assert models["bfloat16"]._reduced == by_record(found[0].record) and models[None]._reduced == 0
    return found, [made.pairs().set_index(["image", "order", "i", "j"]) for made in found]


def by_record(record):
    """Passes in reduced precision that a record tells of; a check of the rounding takes as many of either."""
    return record["passes_by_level"]["bfloat16"] + record["preparation_passes"]["rounding"] // 2


def test_reduced_precision_is_corrected_by_a_sample_in_float32(tmp_path, monkeypatch):
    (made, plain), (two, one) = in_both(tmp_path, 0.003, monkeypatch)
    orders = made.record["rounds"][0]["orders"]
    assert [each["options"].get("again", 0) > 0 for each in orders] == [False, True, True, False]
    for order, one_order in zip(made.record["orders"][1:3], orders[1:3], strict=True):
        found = order["reduced"]
        ratio = 1.5 * (found["rounding"] / (0.7 * found["spread"])) ** 0.5
        assert one_order["options"]["again"] == pytest.approx(max(0.1**0.5 * ratio, 0.05)) and 0.1**0.5 + ratio < 1
    exact = two.loc[two["count"] == np.inf]
    # The first and the last order; batches hold rows of all orders, so that the last digits differ.
    assert len(exact) and np.allclose(exact["mean"], one.loc[exact.index, "mean"], rtol=1e-4, atol=1e-6)
    truth = profile(tmp_path / "exact", Rounding(0.003), design="exact", images=4, grid=3).pairs()
    inner = two.drop(exact.index)
    truth = truth.set_index(["image", "order", "i", "j"])["mean"].loc[inner.index]
    z = (inner["mean"] - truth) / inner.standard_error
    # Calibrated in test_two_levels. Here most of the few coalitions of an order are drawn, so that pairs hang together.
    assert z.isna().mean() < 0.3 and abs(z.mean()) < 0.5 and 0.4 < z.var() < 2.5
    passes = made.images().groupby("order").passes.mean()
    assert passes[3] > 1.5 * plain.images().groupby("order").passes.mean()[3]  # for the same budget
    spent = made.record["preparation_passes"]
    assert spent["rounding"] <= 0.05 / 3 * 4 * 4 * 2000
    assert set(spent) == {"selection", "trials", "rounding", "pilot", "floor"}
    by_level = made.record["passes_by_level"]
    assert sum(by_level.values()) == made.images().passes.sum() and by_level["bfloat16"] > by_level["float32"]
    assert made.strength().design.str.contains("bfloat16 with .* % in float32").tolist() == [False, True, True, False]
    assert (levels.in_full_passes(made.images(), made.record).query("order == 3").passes == 2000).all()
    assert "at 2 of 2 inner orders" in levels.in_words(made.record) and not levels.in_words(plain.record)

    model = Rounding(0.003)
    calls = iter(range(400))

    def stop(*_):
        if next(calls, None) is None:
            raise KeyboardInterrupt

    hook = model.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        profile(tmp_path / "again", model, amp="bfloat16", **POOLS)
    hook.remove()
    profile(tmp_path / "again", model, amp="bfloat16", **POOLS)
    same_tables(tmp_path / "bfloat16", tmp_path / "again")


def test_reduced_precision_that_rounds_too_much_is_not_used(tmp_path, monkeypatch):
    (made, _), (two, one) = in_both(tmp_path, 30.0, monkeypatch)
    assert two.equals(one) and all("again" not in each["options"] for each in made.record["rounds"][0]["orders"])
    assert "would not have been quicker at any order" in levels.in_words(made.record)
    with pytest.raises(ValueError, match=r"reduced precision serves pools.*choose auto or pooled"):
        profile(tmp_path / "run", amp="bfloat16", design="pairwise")
    assert not (tmp_path / "run").exists()


class Counting(nn.Module):
    """Integers that bfloat16 holds exactly: k(k − 1) of the number k of cells shown."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, x_BCHW):
        shown_B = (x_BCHW[:, 0, 1::3, 1::3] != 0).flatten(1).sum(1)
        many_B = (shown_B * (shown_B - 1)).to(x_BCHW) * self.weight
        return torch.stack([many_B, torch.zeros_like(many_B)], 1)


def test_reduced_precision_that_does_no_harm_is_recorded(tmp_path):
    measured = profile(
        tmp_path / "run", Counting(), Photos(9, label=0), amp="bfloat16", value="logit", images=2, design="auto"
    )
    assert measured.settings["amp"] == "bfloat16"
    np.testing.assert_allclose(measured.strength().A, 2.0)  # Δ of k(k−1) is 2 everywhere


def test_orders_near_the_floor_are_flagged(tmp_path):
    class Noisy(nn.Module):
        """Interactions of 2·scale and, in float32, an error that makes a floor of 0.4."""

        def __init__(self, scale):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(scale))

        def forward(self, x_BCHW):
            shown_B = (x_BCHW[:, 0, 1::3, 1::3] != 0).flatten(1).sum(1)
            value_B = self.scale * (shown_B * (shown_B - 1)).to(x_BCHW)
            value_B = value_B + (x_BCHW.dtype == torch.float32) * 0.1 * (1 - 2 * (shown_B % 2))
            return torch.stack([value_B, torch.zeros_like(value_B)], 1)

    for scale, flagged in ((1.0, True), (10.0, False)):
        measured = profile(tmp_path / f"run-{scale}", Noisy(scale), Photos(9, label=0), value="logit", images=2)
        table = measured.strength()
        np.testing.assert_allclose(table.floor, 0.4, rtol=1e-2)  # the sums round as well
        assert (table.near_floor == flagged).all()


# ------------------------------------------------------------------------------------------------ interrupt and resume


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The run of tests/interactions/tiny.py, with one thread as the processes have it."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run_in_one_thread(out)
    return out


def run_in_one_thread(out):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tiny.run(out)
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_killed_and_started_again_equals_an_uninterrupted_run_to_the_bit(tmp_path, uninterrupted):
    out = tmp_path / "run"
    with child(tiny.run, out, 0.01) as process:
        while len(storage.finished_units(out)) < 1:
            assert process.is_alive() and time.sleep(0.005) is None
    there = storage.finished_units(out)
    assert 1 <= len(there) < 4 and not (out / "strength.csv").exists()
    old = {unit: (out / "images" / f"unit-{unit:05d}.parquet").stat().st_mtime_ns for unit in there}
    assert exit_code(tiny.run, out) == 0
    for unit, time_ns in old.items():  # what was there is not measured again
        assert (out / "images" / f"unit-{unit:05d}.parquet").stat().st_mtime_ns == time_ns
    same_tables(out, uninterrupted)
    for name in ("strength.csv", "middle_mass.csv"):
        assert (out / name).read_bytes() == (uninterrupted / name).read_bytes()
    record = load_profile(out).record
    assert record["status"] == "complete" and len(record["resumed"]) == 1 and record["backed_off"] is False
    assert not list(out.rglob("*.tmp"))


def test_lost_unit_is_measured_again_to_the_bit(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    profile(one)
    profile(other)
    # As if the process had been killed between the two files of a unit, and before the tables.
    (other / "images" / "unit-00001.parquet").unlink()
    (other / "images" / f".unit-00003.parquet.{2**22 + 1}@{platform.node()}.tmp").write_bytes(b"half")
    record = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps(record | {"status": "running"}))
    profile(other)
    assert {k: v for k, v in files(other).items() if k.name != "run.json"} == {
        k: v for k, v in files(one).items() if k.name != "run.json"
    }


def test_a_finished_run_is_left_alone(tmp_path):
    profile(tmp_path / "run", images=2)
    before = files(tmp_path / "run")
    profile(tmp_path / "run", images=2)
    assert files(tmp_path / "run") == before


def test_lost_tables_are_written_again(tmp_path):
    profile(tmp_path / "run", images=2)
    before = files(tmp_path / "run")
    (tmp_path / "run" / "strength.csv").unlink()
    profile(tmp_path / "run", images=2)
    after = files(tmp_path / "run")
    assert {name for name in before if before[name] != after[name]} == {Path("run.json")}  # which counts the start


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budget": 500}, "budget 400 there, 500 now"),
        ({"seed": 1, "radius": 2}, "radius 1 there, 2 now; seed 0 there, 1 now"),
        ({"model": network(1)}, "model digest"),
        ({"photos": Photos(10)}, "data images 9 there, 10 now"),
    ],
)
def test_a_folder_with_another_run_is_refused_and_left_alone(tmp_path, changes, said):
    profile(tmp_path / "run", images=2)
    before = files(tmp_path / "run")
    with pytest.raises(ValueError, match=f"holds a run with other settings.*{said}"):
        profile(tmp_path / "run", **({"images": 2} | changes))
    assert files(tmp_path / "run") == before


def test_a_setting_that_an_older_run_does_not_know_counts_as_its_default(tmp_path):
    profile(tmp_path / "run", images=2)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    del record["command"], record["settings"]["published_pairs"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    profile(tmp_path / "run", images=2)
    with pytest.raises(ValueError, match="published_pairs 50 there, 6 now"):
        profile(tmp_path / "run", images=2, published_pairs=6)
    record["settings"]["colour"] = None
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="colour None there, unknown now"):
        profile(tmp_path / "run", images=2)


def test_every_start_says_what_it_was_asked_to_say(tmp_path):
    begun = profile(tmp_path / "run", images=2, about={"commit": "aaaaaaa"}).record
    (tmp_path / "run" / "strength.csv").unlink()
    again = profile(tmp_path / "run", images=2, about={"commit": "bbbbbbb"}).record
    assert begun["commit"] == again["commit"] == "aaaaaaa" and begun["resumed"] == []
    assert [start["commit"] for start in again["resumed"]] == ["bbbbbbb"]


@pytest.mark.parametrize("more", [0, 1])
def test_a_finished_run_is_not_that_of_other_images_or_labels(more, tmp_path):
    """Their names told them apart, where they had any: the old table was handed out, or images of other classes were
    added to it."""
    profile(tmp_path / "run", photos=Photos(9), images=2)
    there = [Photos(9)[k] for k in range(9)]
    flipped, other = [(x.flip(2), label) for x, label in there], [(x, (label + 1) % CLASSES) for x, label in there]
    with pytest.raises(ValueError, match="is not the image that it was when the run began"):
        profile(tmp_path / "run", photos=flipped, images=2 + more)
    with pytest.raises(ValueError, match="when the run began: restore the labels"):
        profile(tmp_path / "run", photos=other, images=2 + more)
    assert len(profile(tmp_path / "run", photos=Photos(9), images=2 + more).record["images"]) == 2 + more


def test_an_image_that_changed_is_noticed(tmp_path):
    class Random(Photos):
        def __getitem__(self, index):
            return torch.randn(3, 12, 12), 0

    with pytest.raises(ValueError, match="is not the image that it was"):
        profile(tmp_path / "run", photos=Random(9))


@pytest.mark.parametrize("text", ["{", "[1]", '{"command": "pretrain", "settings": {}}'])
def test_a_record_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match="not the record of a profile"):
        profile(tmp_path)


def test_units_without_a_record_are_refused(tmp_path):
    profile(tmp_path / "run", images=2)
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(ValueError, match=r"no run\.json"):
        profile(tmp_path / "run", images=2)


def test_no_profile_to_load(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no profile"):
        load_profile(tmp_path)


def test_an_output_folder_below_a_file_is_refused_before_measuring(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file"):
        profile(tmp_path / "file" / "run", photos=Photos(9, broken=tuple(range(9))))


@pytest.mark.slow
def test_full_disk_leaves_no_file_that_looks_complete(tmp_path, uninterrupted):
    out = tmp_path / "run"
    record, pairs = ((uninterrupted / name).stat().st_size for name in ("run.json", "pairs/unit-00000.parquet"))
    assert record + 500 < pairs  # a limit in between stops the first unit, and nothing before it
    assert exit_code(tiny.run_with_files_up_to, pairs - 100, out) == tiny.DISK_FULL
    # A table without its mark counts for nothing; the values of a unit are kept until it is whole.
    left = set(files(out)) - {Path("run.json"), Path("images/unit-00000.parquet")}
    assert all(path.parts[0] == "unfinished" and path.suffix == ".npz" for path in left)
    assert storage.finished_units(out) == set() and storage.read_part(out, "images").empty
    assert load_profile(out).record["status"] == "running"
    run_in_one_thread(out)  # where there is room it goes on
    same_tables(out, uninterrupted)


class OutOfMemory(nn.Module):
    """Memory for 32 images only, once it has seen a batch of 64 often enough."""

    def __init__(self, patience):
        super().__init__()
        self.model, self.patience = network(), patience

    def forward(self, x_BCHW):
        self.patience -= len(x_BCHW) == 64
        if self.patience < 0 and len(x_BCHW) > 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.model(x_BCHW)


def test_out_of_memory_halves_the_batch_and_is_recorded(tmp_path):
    roomy = profile(tmp_path / "roomy", OutOfMemory(10**9))
    tight = profile(tmp_path / "tight", OutOfMemory(40))
    assert roomy.record["backed_off"] is False and tight.record["backed_off"] is True
    assert roomy.record["batch_size"] == tight.record["batch_size"] == 64
    pd.testing.assert_frame_equal(roomy.images(), tight.images(), rtol=1e-4)


# -------------------------------------------------------------------------------------------------- several processes


@pytest.mark.slow
def test_two_processes_give_the_tables_of_one_and_are_told_alike_what_is_wrong(tmp_path, uninterrupted):
    other, out = tmp_path / "other", tmp_path / "run"
    other.mkdir()
    (other / "run.json").write_text("{")
    assert exit_codes_of_two(tiny.refused_and_run, other, out) == (0, 0)
    for rank in range(2):
        assert "not the record of a profile" in other.with_suffix(f".{rank}").read_text()
    same_tables(out, uninterrupted, exact=False)
    ours, theirs = pd.read_csv(out / "strength.csv"), pd.read_csv(uninterrupted / "strength.csv")
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-4)
    record, alone = load_profile(out).record, load_profile(uninterrupted).record
    assert record["machine"]["processes"] == 2 and record["status"] == "complete"
    assert record["passes"] == alone["passes"] and record["images"] == alone["images"]


@pytest.mark.slow
def test_two_processes_reach_a_precision_by_the_rounds_of_one(tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    assert exit_code(tiny.run_to_a_precision, alone) == 0
    assert exit_codes_of_two(tiny.run_to_a_precision, shared) == (0, 0)
    same_tables(shared, alone, exact=False)
    one, two = load_profile(alone).record, load_profile(shared).record
    assert len(one["rounds"]) > 1 and one["ended"] == "precision"
    told = ("rounds", "images", "passes", "ended", "reached")
    assert {name: one[name] for name in told} == {name: two[name] for name in told}
    assert (one["machine"]["processes"], two["machine"]["processes"]) == (1, 2)
