"""Occlusion and shuffled patches, against loops that build every picture by hand and pixel by pixel."""

import time
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.ndimage import correlate1d
from torch import nn

from interactions.baselines import Normalisation
from interactions.game import NonFiniteValueError
from interactions.occluded import accuracy_table
from interactions.occlusion import load_occlusion, measure_occlusion, random_order
from interactions.profile import profile_model
from interactions.runs import storage
from interactions.shuffling import shuffle_cells
from tests.children import child, exit_code
from tests.interactions.tiny import CLASSES, SIZE, Photos, Slow, network

pytestmark = pytest.mark.xdist_group("children")

GRID, N, CELL = 4, 16, SIZE // 4
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
ASKED = {"grid": GRID, "shares": SHARES, "images": 6, "unit_images": 2, "seeds": 2, "batch_size": 64, "speed": "plain"}
MEAN, STD = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.25, 0.5])
NORMALISATION = Normalisation(tuple(MEAN), tuple(STD))


def occlude(out, model=None, photos=None, names=None, **changes):
    return measure_occlusion(
        model or network(),
        Photos(9) if photos is None else photos,
        out=out,
        names=names,
        normalisation=NORMALISATION,
        progress=False,
        **(ASKED | changes),
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return occlude(tmp_path_factory.mktemp("measured") / "run")


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def tables(folder):
    return {name: content for name, content in files(folder).items() if name.name != "run.json"}


def top_class(model, x_CHW):
    with torch.no_grad():
        return int(model(torch.tensor(np.asarray(x_CHW).copy(), dtype=torch.float32)[None]).argmax())


def dropping(image_CHW, cells, fill_CHW):
    """The image with some cells replaced, cell by cell."""
    x_CHW = image_CHW.numpy().astype(np.float64)
    for cell in cells:
        rows, columns = (slice(place * CELL, place * CELL + CELL) for place in divmod(cell, GRID))
        x_CHW[:, rows, columns] = np.broadcast_to(fill_CHW, x_CHW.shape)[:, rows, columns]
    return x_CHW


def gradient_by_hand(model, image_CHW, label):
    x_1CHW = image_CHW[None].clone().requires_grad_()
    model(x_1CHW)[0, label].backward()
    size_HW = x_1CHW.grad[0].abs().sum(0).numpy().astype(np.float64)
    return [
        size_HW[r * CELL : (r + 1) * CELL, c * CELL : (c + 1) * CELL].sum() for r in range(GRID) for c in range(GRID)
    ]


# ---------------------------------------------------------------------------------------------------- what is measured


def test_every_occluded_picture_is_judged_as_by_hand(measured):
    model, rows = network(), measured.images().set_index(["image", "kind", "seed", "dropped"]).correct
    names = {one["image"]: one["name"] for one in measured.record["images"]}
    assert len(names) == 6 and len(rows) == 6 * (2 + 1 + 1) * 5
    for image, name in names.items():
        image_CHW, label = Photos(9)[image]
        by_saliency = np.argsort([-size for size in gradient_by_hand(model, image_CHW, label)], kind="stable").tolist()
        order = {("random", seed): random_order(N, "cells", seed, name).tolist() for seed in range(2)}
        order |= {("salient", 0): by_saliency, ("non_salient", 0): by_saliency[::-1]}
        for (kind, seed), cells in order.items():
            for dropped in (0, 4, 8, 12, 16):
                expected = top_class(model, dropping(image_CHW, cells[:dropped], 0.0)) == label
                assert rows[image, kind, seed, dropped] == expected, (image, kind, dropped)


def test_tables_are_the_means_of_what_was_judged(measured):
    table, rows = measured.occlusion(), measured.images()
    assert list(table.columns) == ["kind", "share", "dropped", "top1", "low", "high", "images", "seeds", "baseline"]
    assert list(table.kind.unique()) == ["random", "salient", "non_salient"] and (table.images == 6).all()
    assert list(table.share[:5]) == list(SHARES) and list(table.seeds) == [2] * 5 + [1] * 10
    for one in table.itertuples():
        chosen = rows[(rows.kind == one.kind) & (rows.dropped == one.dropped)]
        assert one.top1 == pytest.approx(100 * chosen.correct.mean()) and one.low <= one.top1 <= one.high
    pd.testing.assert_frame_equal(pd.read_csv(measured.folder / "occlusion.csv"), table, check_dtype=False)
    pd.testing.assert_frame_equal(
        pd.read_csv(measured.folder / "shuffling.csv"), measured.shuffling(), check_dtype=False
    )


def pixels_filled(baseline, masking, pixels_CHW, image_CHW):
    """What dropped cells show, computed in the pixel space where they are dropped, and normalised after that."""
    after = masking == "after_normalisation"
    if baseline == "zero" and after:
        return np.zeros((3, 1, 1))
    if baseline == "noise":
        generator = torch.Generator().manual_seed(0)
        if after:
            return torch.randn(image_CHW.shape, generator=generator).numpy()
        fill = torch.rand(image_CHW.shape, generator=generator).numpy()
    elif baseline in ("zero", "black"):
        fill = np.zeros((3, 1, 1))
    elif baseline == "mean":
        fill = MEAN[:, None, None]
    elif baseline == "image_mean":
        fill = pixels_CHW.mean((1, 2), keepdims=True)
    else:
        weights = np.exp(-(np.arange(-4, 5) ** 2) / (2 * (SIZE / 10) ** 2))  # sigma 1.2, cut at round(3 sigma) = 4
        weights /= weights.sum()
        fill = correlate1d(correlate1d(pixels_CHW, weights, 1, mode="mirror"), weights, 2, mode="mirror")
    return (fill - MEAN[:, None, None]) / STD[:, None, None]


class Watch(nn.Module):
    """A network that keeps every picture it is shown."""

    def __init__(self, seed=0):
        super().__init__()
        self.model, self.seen = network(seed), []

    def forward(self, x_BCHW):
        self.seen += list(x_BCHW.detach().numpy().copy())
        return self.model(x_BCHW)

    def random_pictures(self, tmp_path, **changes):
        """What it is shown of one image while random cells are dropped, each picture once."""
        with mock.patch("interactions.game.refuse_dependent"):  # which looks at pictures of its own
            run = occlude(tmp_path, self, images=1, shuffle_grids=(), kinds=("random",), **changes)
        return run, np.unique(np.stack(self.seen), axis=0)


@pytest.mark.parametrize("masking", ["after_normalisation", "before_normalisation"])
@pytest.mark.parametrize("baseline", ["zero", "mean", "image_mean", "black", "blur", "noise"])
def test_ends_are_the_plain_accuracy_and_that_of_the_baseline_image(tmp_path, baseline, masking):
    model = Watch()
    run = occlude(tmp_path / "run", model, baseline=baseline, masking=masking, images=9, kinds=("random", "salient"))
    plain, absent = [], []
    for k in range(9):
        image_CHW, label = Photos(9)[k]
        pixels_CHW = image_CHW.numpy() * STD[:, None, None] + MEAN[:, None, None]
        fill_CHW = np.broadcast_to(pixels_filled(baseline, masking, pixels_CHW, image_CHW), image_CHW.shape)
        assert any(np.allclose(seen, fill_CHW, atol=1e-5) for seen in model.seen), k
        plain.append(top_class(model.model, image_CHW) == label)
        absent.append(top_class(model.model, fill_CHW) == label)
    table = run.occlusion().set_index(["kind", "share"]).top1
    for kind in ("random", "salient"):
        assert table[kind, 0.0] == pytest.approx(100 * np.mean(plain))
        assert table[kind, 1.0] == pytest.approx(100 * np.mean(absent))
    assert run.shuffling().set_index("grid").top1[1] == pytest.approx(100 * np.mean(plain))
    assert np.mean(plain) > 0


def test_zero_differs_between_the_masking_points_and_a_colour_does_not(tmp_path):
    shown = {}
    for baseline in ("zero", "black", "mean"):
        for masking in ("after_normalisation", "before_normalisation"):
            folder = tmp_path / f"{baseline}-{masking}"
            shown[baseline, masking] = Watch().random_pictures(folder, baseline=baseline, masking=masking)[1]
    after, before = "after_normalisation", "before_normalisation"
    for baseline in ("black", "mean"):
        np.testing.assert_array_equal(shown[baseline, after], shown[baseline, before])
    np.testing.assert_array_equal(shown["zero", after], shown["mean", after])
    np.testing.assert_array_equal(shown["zero", before], shown["black", before])
    assert not np.allclose(shown["zero", after], shown["zero", before])


# ------------------------------------------------------------------------------------------------------ random cells


def dropped_sets(pictures, image_CHW):
    changed = [(picture != image_CHW.numpy()).any(0)[::CELL, ::CELL].flatten() for picture in pictures]
    return sorted((frozenset(np.flatnonzero(cells)) for cells in changed), key=len)


def test_random_cells_are_nested(tmp_path):
    run, pictures = Watch().random_pictures(tmp_path / "run", shares=tuple(k / N for k in range(N + 1)), seeds=1)
    sets = dropped_sets(pictures, Photos(9)[run.record["images"][0]["image"]][0])
    assert [len(cells) for cells in sets] == list(range(N + 1))
    assert all(few < many for few, many in pairwise(sets))


def test_all_models_batches_and_other_shares_see_the_same_random_cells(tmp_path):
    _, pictures = Watch().random_pictures(tmp_path / "a")
    for k, changes in enumerate(({"batch_size": 3}, {"seeds": 3}, {"shares": (0.0, 0.25, 0.5, 0.6, 0.75, 1.0)})):
        _, others = Watch(seed=1).random_pictures(tmp_path / f"b{k}", **changes)
        assert {p.tobytes() for p in pictures} <= {p.tobytes() for p in others}
    _, others = Watch().random_pictures(tmp_path / "c", seed=7)
    assert len({p.tobytes() for p in pictures} & {p.tobytes() for p in others}) == 1  # all cells dropped


def test_random_cells_go_by_the_name_and_every_cell_comes_first_equally_often():
    orders = torch.stack([random_order(N, "cells", 0, f"photo {k}") for k in range(1600)])
    counts = torch.bincount(orders[:, 0], minlength=N).double()
    assert float(((counts - 100) ** 2 / 100).sum()) < 37.7  # chi-square with 15 degrees of freedom, p = 0.001
    assert torch.equal(random_order(N, "cells", 0, "photo 3"), orders[3])
    assert not torch.equal(random_order(N, "cells", 1, "photo 3"), orders[3])


# ----------------------------------------------------------------------------------------------------- salient cells


class Even(nn.Module):
    """Every pixel has the same gradient, so all cells are equally salient."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.ones(CLASSES)), []

    def forward(self, x_BCHW):
        self.seen += list(x_BCHW.detach().numpy().copy())
        return x_BCHW.sum((1, 2, 3))[:, None] * self.weight


def test_of_equally_salient_cells_the_first_is_dropped_first(tmp_path):
    model = Even()
    # Both look at pictures of their own.
    with mock.patch("interactions.game.refuse_dependent"), mock.patch("interactions.speed.rate_of", return_value=None):
        run = occlude(tmp_path / "run", model, kinds=("salient",), images=1, shuffle_grids=(), shares=(0.0, 0.25, 0.5))
    saliency = run.saliency().saliency
    assert np.ptp(saliency) == 0 and saliency[0] == pytest.approx(3 * CELL**2)
    sets = dropped_sets(np.unique(np.stack(model.seen), axis=0), Photos(9)[run.record["images"][0]["image"]][0])
    assert sets == [frozenset(range(k)) for k in (0, 4, 8)]


def test_salient_cells_of_another_run_are_dropped(tmp_path, measured):
    again = occlude(tmp_path / "again", saliency=str(measured.folder))
    pd.testing.assert_frame_equal(again.images(), measured.images())
    pd.testing.assert_frame_equal(again.saliency(), measured.saliency())
    other = occlude(tmp_path / "other", network(1), saliency=str(measured.folder))
    pd.testing.assert_frame_equal(other.saliency(), measured.saliency())
    own = occlude(tmp_path / "own", network(1))
    assert not np.allclose(own.saliency().saliency, measured.saliency().saliency)
    assert other.record["saliency_from"] == str(measured.folder) and other.settings["saliency"].startswith("table ")
    before = files(tmp_path / "other")
    occlude(tmp_path / "other", network(1), saliency=str(tmp_path / "again"))  # the same table in another place
    assert files(tmp_path / "other") == before


class OtherPhotos(Photos):
    def __getitem__(self, index):
        pixels, label = super().__getitem__(index)
        return -pixels, label


def test_saliency_of_other_images_of_the_same_names_is_refused(tmp_path, measured):
    other = OtherPhotos(9)
    with pytest.raises(ValueError, match=r"image \d is another image in .* \(6 of 6 images have other pixels there\)"):
        occlude(tmp_path / "run", photos=other, saliency=str(measured.folder))
    assert not (tmp_path / "run").exists()
    small = {"transform": {"size": [8, 8], "mean": [0.5]}}
    large = {"transform": {"size": [16, 16], "mean": [0.1]}}
    occlude(tmp_path / "small", **small)
    told = occlude(tmp_path / "large", photos=other, saliency=str(tmp_path / "small"), **large)
    assert told.record["saliency_unlike"] == ["size"]  # of which networks have each their own, it says nothing


def test_saliency_of_an_unfit_run_is_refused(tmp_path, measured):
    occlude(tmp_path / "random", kinds=("random",), images=1, shuffle_grids=())
    occlude(tmp_path / "alike", names=9 * ["photo"], kinds=("salient",), images=2, shuffle_grids=())
    profile_model(network(), Photos(9), out=tmp_path / "profile", grid=2, radius=1, images=1, progress=False)
    for changes, said in (
        ({"saliency": str(measured.folder), "grid": 3}, r"saliency of a 4×4 grid: measure with --grid 4, too"),
        ({"saliency": str(measured.folder), "images": 9}, r"holds no saliency of image \d \(3 of 9 images\)"),
        (
            {"saliency": str(tmp_path / "alike")},
            "alike holds photo more than once: images are told apart by their name",
        ),
        ({"saliency": str(tmp_path / "random")}, "holds no saliency: it dropped random cells only"),
        ({"saliency": str(tmp_path / "profile")}, "not the record of an occlusion run"),
        ({"saliency": "gradients"}, "unknown saliency 'gradients': choose one of gradient, integrated_gradients"),
    ):
        with pytest.raises(ValueError, match=said):
            occlude(tmp_path / "run", **changes)
        assert not (tmp_path / "run").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no occlusion run"):
        occlude(tmp_path / "run", saliency=str(tmp_path / "empty"))


# --------------------------------------------------------------------------------------------------------- shuffling


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_cells_change_places_as_numpy_moves_them(side):
    images_BCHW = torch.randn(3, 2, 12, 24, generator=torch.Generator().manual_seed(0))
    order_BN = torch.stack([torch.randperm(side**2, generator=torch.Generator().manual_seed(k)) for k in range(3)])
    shuffled_BCHW, height, width = shuffle_cells(images_BCHW, order_BN).numpy(), 12 // side, 24 // side
    for image in range(3):
        for place, cell in enumerate(order_BN[image].tolist()):
            (r, c), (row, column) = divmod(place, side), divmod(cell, side)
            np.testing.assert_array_equal(
                shuffled_BCHW[image, :, r * height : (r + 1) * height, c * width : (c + 1) * width],
                images_BCHW[image, :, row * height : (row + 1) * height, column * width : (column + 1) * width],
            )


def test_shuffled_pictures_are_judged_as_by_hand(measured):
    model, rows = network(), measured.shuffled_images().set_index(["image", "grid", "seed"]).correct
    assert list(measured.shuffling()["grid"]) == [1, 2, 4]  # of the usual cuts those that divide 12 pixels
    for one in measured.record["images"]:
        image_CHW, label = Photos(9)[one["image"]]
        for side in (1, 2, 4):
            for seed in range(2):
                order = random_order(side**2, f"shuffle {side}", seed, one["name"])[None]
                assert rows[one["image"], side, seed] == (
                    top_class(model, shuffle_cells(image_CHW[None], order)[0]) == label
                )
    top1 = measured.shuffling().set_index("grid").top1
    assert top1[1] == measured.occlusion().top1[0]
    for side in (1, 2, 4):
        assert top1[side] == pytest.approx(100 * rows.xs(side, level="grid").mean())


# ---------------------------------------------------------------------------------------------------------- intervals


def made_up(*correct_RIS):
    """A table of some runs, which differ in x."""
    xs, images, seeds = map(np.ravel, np.indices(np.shape(correct_RIS)))
    return pd.DataFrame({"x": xs, "image": images, "seed": seeds, "correct": np.ravel(correct_RIS)})


@pytest.mark.parametrize(("right", "count"), [(0, 8), (8, 8), (1, 1), (3, 7), (41, 60)])
def test_with_one_seed_the_interval_is_wilsons_none_and_all_right_too(right, count):
    """Against SciPy's."""
    table = accuracy_table(made_up(np.arange(count)[:, None] < right), "x")
    wanted = stats.binomtest(right, count).proportion_ci(method="wilson")
    assert table.loc[0, ["top1", "low", "high"]].tolist() == pytest.approx(
        [100 * right / count, 100 * wanted.low, 100 * wanted.high], abs=1e-9
    )


@pytest.mark.parametrize("between", [0.0, 0.3, 5.0])
def test_intervals_over_several_seeds_hold_as_often_as_they_say(between):
    """Images differ in how likely they are right: not at all, much, or so much that their seeds hardly differ."""
    generator, runs, images, seeds = np.random.default_rng(1), 600, 40, 3
    normal = stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000)
    truth = 100 * (1 / (1 + np.exp(-1 - 2 * between * normal))).mean()
    chance_RI1 = 1 / (1 + np.exp(-1 - 2 * between * generator.standard_normal((runs, images, 1))))
    table = accuracy_table(made_up(*(generator.random((runs, images, seeds)) < chance_RI1)), "x")
    held = (table.low <= truth) & (truth <= table.high)
    assert len(held) == runs and 0.92 < held.mean() < 0.985


def test_seeds_that_agree_add_nothing_and_those_that_do_not_narrow_the_interval():
    correct_I1 = np.random.default_rng(0).random((60, 1)) < 0.7
    one, three = (accuracy_table(made_up(correct_I1.repeat(seeds, 1)), "x") for seeds in (1, 3))
    pd.testing.assert_frame_equal(one.drop(columns="seeds"), three.drop(columns="seeds"))
    independent = accuracy_table(made_up(np.random.default_rng(1).random((60, 3)) < 0.7), "x")
    assert (independent.high - independent.low)[0] < (one.high - one.low)[0] / 1.4


# ------------------------------------------------------------------------------------------------ interrupt and resume


def test_numbers_do_not_depend_on_units_and_batches(tmp_path, measured):
    run = occlude(tmp_path / "run", unit_images=5, batch_size=7)
    for part in ("images", "shuffling"):
        both = [storage.read_part(one.folder, part) for one in (run, measured)]
        pd.testing.assert_frame_equal(*(rows.sort_values(list(rows), ignore_index=True) for rows in both))


def test_interrupted_between_files_and_started_again_equals_an_uninterrupted_run(tmp_path, monkeypatch, measured):
    write, written = storage.write_atomically, []

    def interrupted(path, how):
        if len(written) == 4:  # the three parts of the first unit, and one of the second
            raise KeyboardInterrupt
        written.append(path)
        write(path, how)

    monkeypatch.setattr(storage, "write_atomically", interrupted)
    with pytest.raises(KeyboardInterrupt):
        occlude(tmp_path / "run")
    monkeypatch.undo()
    assert storage.finished_units(tmp_path / "run") == {0} and not (tmp_path / "run/occlusion.csv").exists()
    assert load_occlusion(tmp_path / "run").record["status"] == "running"
    again = occlude(tmp_path / "run")
    assert tables(tmp_path / "run") == tables(measured.folder)
    assert again.record["status"] == "complete" and len(again.record["resumed"]) == 1


def in_a_process(out, pause=0.0):
    """The run that is killed, in a process of its own."""
    occlude(out, Slow(pause))


@pytest.mark.slow
def test_killed_and_started_again_equals_an_uninterrupted_run(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    occlude(tmp_path / "whole", Slow(0.0))
    torch.set_num_threads(threads)
    with child(in_a_process, tmp_path / "run", 0.05) as process:
        while len(storage.finished_units(tmp_path / "run")) < 1:
            assert process.is_alive() and time.sleep(0.005) is None
    assert 1 <= len(storage.finished_units(tmp_path / "run")) < 3
    assert exit_code(in_a_process, tmp_path / "run") == 0
    assert tables(tmp_path / "run") == tables(tmp_path / "whole")


def test_a_finished_run_is_left_alone_and_another_is_refused(measured):
    before = files(measured.folder)
    occlude(measured.folder)
    for changes, said in (
        ({"baseline": "black"}, "baseline zero there, black now"),
        ({"masking": "before_normalisation"}, "masking after_normalisation there"),
        ({"model": network(1)}, "model digest"),
        ({"saliency": "integrated_gradients"}, "saliency gradient there"),
    ):
        with pytest.raises(ValueError, match=said):
            occlude(measured.folder, **changes)
    with pytest.raises(ValueError, match="not the record of a profile run"):
        profile_model(network(), Photos(9), out=measured.folder, grid=4, progress=False)
    assert files(measured.folder) == before


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"photos": Photos(9, label=-1)}, "has no label: give labelled images"),
        ({"photos": Photos(9, label=CLASSES)}, "outside the model's 5 classes"),
        ({"photos": Photos(0)}, "the data set is empty"),
        ({"grid": 13, "kinds": ("random",)}, "a 13×13 grid does not fit an image of 12×12 pixels"),
        ({"shuffle_grids": (2, 5)}, "5×5 cells do not divide an image of 12×12 pixels evenly"),
        ({"shuffle_grids": (0,)}, "shuffle_grids 0 is too small: use 1 or more"),
        ({"shares": (0.5, 1.5)}, "shares 1.5 is too large: use at most 1"),
        ({"shares": ()}, "there are no shares of dropped cells"),
        ({"kinds": ("random", "best")}, "unknown kind of cells 'best': choose from random, salient, non_salient"),
        ({"kinds": ()}, "there is no kind of cells"),
        ({"kinds": ("random", "random")}, "random is there twice: give each kind of cells once"),
        ({"masking": "never"}, "unknown masking point 'never'"),
        ({"baseline": "white"}, "unknown baseline 'white': choose one of zero, mean"),
        ({"saliency": "class_attention"}, "Sequential has no attention over the patches"),
        ({"seeds": 0}, "seeds 0 is too small: use 1 or more"),
        ({"seed": -1}, "seed -1 is too small"),
        ({"amp": "int8"}, "unknown precision 'int8'"),
        ({"names": ["a"]}, "1 names for 9 images"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        occlude(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_nan_stops_the_run_and_names_the_image(tmp_path):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = network()

        def forward(self, x_BCHW):
            return self.model(x_BCHW).masked_fill((x_BCHW == 0).flatten(1).all(1)[:, None], torch.nan)

    with pytest.raises(NonFiniteValueError, match=r"nan for photo-\d.jpg"):
        occlude(tmp_path / "run", Broken(), names=[f"photo-{k}.jpg" for k in range(9)])
    assert storage.finished_units(tmp_path / "run") == set()


def test_both_games_share_one_compiled_network(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network, **_: compiled.append(network) or network)
    asked = {"kinds": ("random",), "images": 4, "unit_images": 2, "shuffle_grids": (1, 2)}
    fast, plain = (occlude(tmp_path / name, speed=name, **asked) for name in ("compiled", "plain"))
    assert len(compiled) == 1
    pd.testing.assert_frame_equal(fast.shuffling(), plain.shuffling())
    pd.testing.assert_frame_equal(fast.occlusion(), plain.occlusion())
