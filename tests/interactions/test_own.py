"""Values and baselines of one's own, by name and source; players that are no square grid's cells."""

import json
import re
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SubsetRandomSampler

from experiments import cli
from interactions import PatchGame, PatchGrid, Segments, load_profile, profile_model
from interactions.baselines import BASELINES, black
from interactions.grid import orders_of, ratios_of
from interactions.own import function_of, named
from interactions.profile import data_of
from interactions.values import VALUES, logit
from tests.interactions.tiny import Photos, network

EXTENDING = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
SMALL = {"grid": 3, "radius": 1, "images": 4, "budget": 100, "progress": False, "orders": (0, 3, 7)}
IMAGES = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
PHOTOS = [(image, k % 2) for k, image in enumerate(IMAGES)]


def twice(logits_BK, target_B):
    return 2 * logit(logits_BK, target_B)


def dark(images_BCHW, normalisation):
    return black(images_BCHW, normalisation)


def coalitions(count=20, players=9):
    return torch.rand(count, players, generator=torch.Generator().manual_seed(1)) < 0.5


def test_own_functions_are_played_as_the_known_ones():
    model, rows_BN = network(), coalitions()
    own = PatchGame(model, IMAGES[0], 1, PatchGrid(3), twice, dark, batch_size=20)
    known = PatchGame(model, IMAGES[0], 1, PatchGrid(3), "logit", "black", batch_size=20)
    torch.testing.assert_close(own(rows_BN), 2 * known(rows_BN))
    assert own.value == named("value", twice) != "logit" and re.fullmatch(r".+:twice@[0-9a-f]{12}", own.value)


def whether_right(logits_BK, target_B):
    return logits_BK.argmax(1) == target_B


def in_columns(logits_BK, target_B):
    return logits_BK[:, :1]


def all_in_one(logits_BK, target_B):
    return logits_BK.mean()


def too_small(images_BCHW, normalisation):
    return images_BCHW[:, :, :5]


def test_own_functions_give_a_number_for_each_coalition():
    image_CHW, grid = torch.randn(3, 12, 12), PatchGrid(3)
    right_B = PatchGame(network(), image_CHW, 0, grid, whether_right)(coalitions())
    assert right_B.dtype == torch.float64 and set(right_B.tolist()) <= {0.0, 1.0}
    for value, gave in ((in_columns, "2×1"), (all_in_one, "a single number")):
        with pytest.raises(ValueError, match=f"gave {gave} for 2 coalitions: give one number for each"):
            PatchGame(network(), image_CHW, 0, grid, value, batch_size=64)
    with pytest.raises(ValueError, match="gave 1×3×5×12 for images 1×3×12×12: give a picture for each"):
        PatchGame(network(), image_CHW, 0, grid, baseline=too_small)


def test_no_pairs_are_refused_as_such():
    with pytest.raises(ValueError, match="no pairs to measure"):
        profile_model(network(), Photos(2), grid=3, pairs=np.empty((0, 2), int), out=None, images=1, budget=100)


def test_two_players_have_a_single_order():
    assert ratios_of([0], 2) == (0.0,)


def test_own_functions_do_not_join_those_of_the_package():
    before = (list(VALUES), list(BASELINES))
    own = PatchGame(network(), IMAGES[0], 1, PatchGrid(3), twice, dark, batch_size=20)
    assert (list(VALUES), list(BASELINES)) == before
    assert function_of("value", own.value) is twice and function_of("baseline", own.baseline) is dark
    assert function_of("value", "logit") is logit
    with pytest.raises(ValueError, match=r"unknown value 'odds': choose one of log_odds, [a-z_, ]+$"):
        PatchGame(network(), IMAGES[0], 1, PatchGrid(3), "odds")


def test_a_function_is_known_by_its_source():
    def one(logits_BK, target_B):
        return logits_BK[:, 0]

    first = named("value", one)

    def one(logits_BK, target_B):
        return logits_BK[:, 1]

    second = named("value", one)
    assert first.split("@")[0] == second.split("@")[0] and first != second
    assert named("value", "log_odds") == "log_odds"
    with pytest.raises(ValueError, match=r"a baseline is a name or a function, not 3"):
        named("baseline", 3)
    names: dict = {}
    exec("def f(a, b): return a", names)
    with pytest.raises(ValueError, match=r"the source of the value f is not there: keep it in a file"):
        named("value", names["f"])


def scores_of(k):
    return lambda logits_BK, target_B: logits_BK[:, k]


def test_a_function_is_known_by_what_it_holds():
    """Two closures of one source shared a name, and a game that was there followed the later one."""
    model, rows_BN = network(), coalitions()
    first = PatchGame(model, IMAGES[0], 1, PatchGrid(3), scores_of(0), batch_size=20)
    before = first(rows_BN)
    second = PatchGame(model, IMAGES[0], 1, PatchGrid(3), scores_of(1), batch_size=20)
    assert first.value != second.value and torch.equal(first(rows_BN), before)
    assert not torch.allclose(second(rows_BN), before) and first.value == named("value", scores_of(0))

    def of_default(logits_BK, target_B, k=0):
        return logits_BK[:, k]

    first = named("value", of_default)
    of_default.__defaults__ = (1,)
    assert named("value", of_default) != first
    two = [lambda z, y: z[:, 0], lambda z, y: z[:, 1]]  # fmt: skip
    named("value", two[0])
    with pytest.raises(ValueError, match=r"another value is called .* as two on one line are"):
        named("value", two[1])
    with pytest.raises(ValueError, match=r"holds a object \(k\), of which no record could tell"):
        named("value", scores_of(object()))


def alike(logits_BK, target_B):
    return logits_BK.log_softmax(0)[:, 0]


def drawn(logits_BK, target_B):
    return logits_BK[:, 0] + torch.rand(())


def noise(images_BCHW, normalisation):
    return torch.randn_like(images_BCHW)


def common(images_BCHW, normalisation):
    return images_BCHW.mean(0, keepdim=True)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"value": alike}, "depends on the others of its batch"),
        ({"value": drawn}, "another one each time"),
        ({"baseline": noise}, "gives another picture each time"),
        ({"baseline": common}, "depends on the others beside it"),
    ],
)
def test_own_functions_neither_draw_nor_look_at_others(own, said):
    with pytest.raises(ValueError, match=said):
        PatchGame(network(), IMAGES, [0, 1, 0, 1], PatchGrid(3), **own)


def test_orders_and_ratios_are_not_given_both():
    with pytest.raises(ValueError, match="orders and ratios say the same thing"):
        profile_model(network(), PHOTOS, out=None, ratios=(0.5,), **SMALL)


def test_a_loader_of_a_part_is_refused():
    with pytest.raises(ValueError, match="by a SubsetRandomSampler, and its data set holds others, too"):
        profile_model(network(), DataLoader(PHOTOS, sampler=SubsetRandomSampler([0, 1])), out=None, **SMALL)


def test_a_batch_sampler_of_a_part_and_batches_made_otherwise_are_refused():
    part = BatchSampler(SubsetRandomSampler([0, 1]), 2, drop_last=False)
    with pytest.raises(ValueError, match="by a SubsetRandomSampler, and its data set holds others, too"):
        profile_model(network(), DataLoader(PHOTOS, batch_sampler=part), out=None, **SMALL)
    with pytest.raises(ValueError, match="by a list, and its data set holds others, too"):
        profile_model(network(), DataLoader(PHOTOS, batch_sampler=[[0, 1]]), out=None, **SMALL)
    with pytest.raises(ValueError, match="batches by a collate_fn of its own"):
        profile_model(network(), DataLoader(PHOTOS, collate_fn=lambda batch: batch), out=None, **SMALL)
    whole = DataLoader(PHOTOS, batch_sampler=BatchSampler(RandomSampler(PHOTOS), 2, drop_last=False))
    assert data_of(whole) is data_of(DataLoader(PHOTOS, batch_size=None)) is PHOTOS


def test_a_changed_function_is_another_run(tmp_path):
    first = profile_model(network(), PHOTOS, out=tmp_path / "run", value=twice, **SMALL)
    assert first.settings["value"] == named("value", twice) and first.settings["baseline"] == "mean"
    again = profile_model(network(), DataLoader(PHOTOS), out=tmp_path / "run", value=twice, **SMALL)
    assert again.images().equals(first.images())
    with pytest.raises(ValueError, match=r"value"):
        profile_model(network(), PHOTOS, out=tmp_path / "run", value="logit", **SMALL)


def test_a_profile_without_a_folder_is_the_same_and_leaves_nothing(tmp_path):
    kept = profile_model(network(), PHOTOS, out=tmp_path / "run", **SMALL)
    profile = profile_model(network(), PHOTOS, out=None, **SMALL)
    assert profile.strength().equals(kept.strength()) and profile.folder.is_dir()
    folder = profile.folder
    del profile
    assert not folder.exists() and load_profile(tmp_path / "run").record["status"] == "complete"


def test_several_processes_must_name_a_folder(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"several processes measure into one folder: name it"):
        profile_model(network(), PHOTOS, out=None, **SMALL)


def test_orders_of_the_paper_count_as_those_of_its_ratios():
    """Asked by its number, the order 58 of 194 lies at 0.2990, and is the paper's 0.3 all the same: M counts it."""
    assert ratios_of((0, 9, 58, 97, 135, 194), 196) == (0.0, 0.05, 0.3, 0.5, 0.7, 1.0)
    assert ratios_of((59,), 196) == pytest.approx((59 / 194,))


@pytest.mark.parametrize("players", [4, 9, 49, 64, 196, 256])
def test_orders_and_ratios_name_each_other(players):
    orders = tuple(range(players - 1))
    assert tuple(sorted(orders_of(ratios_of(orders, players), players))) == orders
    with pytest.raises(ValueError, match=rf"orders must lie between 0 and {players - 2}"):
        ratios_of((0, players - 1), players)


def test_a_label_map_of_cells_is_the_grid():
    model, rows_BN = network(), coalitions()
    segments = Segments.cells(3, 3, 12, 12)
    one, other = (PatchGame(model, IMAGES[:2], [0, 1], grid, batch_size=20) for grid in (PatchGrid(3), segments))
    image_B = torch.arange(20) % 2
    torch.testing.assert_close(one(rows_BN, image_B), other(rows_BN, image_B), rtol=0, atol=0)
    assert torch.equal(segments.touching, PatchGrid(3).neighbours(1))
    assert torch.equal(segments.all_pairs(), PatchGrid(3).all_pairs()) and segments.max_order == 7
    layered = PatchGame(model, IMAGES[:2], [0, 1], segments, speed="channels-last")
    torch.testing.assert_close(layered(rows_BN, image_B), one(rows_BN, image_B), rtol=1e-5, atol=1e-5)


def test_segments_show_their_pixels():
    labels_HW = np.random.default_rng(0).choice([7, -2, 30, 4], (12, 10))
    segments = Segments(labels_HW)
    assert segments.n_players == 4 and segments.labels.tolist() == [-2, 4, 7, 30]
    for shown in (s for size in range(5) for s in combinations(range(4), size)):
        row_1N = torch.tensor([[k in shown for k in range(4)]])
        expected_HW = np.isin(labels_HW, [segments.labels[k] for k in shown])
        assert np.array_equal(segments.pixels(row_1N, 12, 10, 3)[0, 2].numpy(), expected_HW)
    touching = {
        tuple(sorted((int(segments.region_HW[y, x]), int(segments.region_HW[v, u]))))
        for y in range(12)
        for x in range(10)
        for v, u in ((y, x + 1), (y + 1, x), (y + 1, x + 1), (y + 1, x - 1))
        if v < 12 and 0 <= u < 10 and labels_HW[y, x] != labels_HW[v, u]
    }
    assert set(map(tuple, segments.touching.tolist())) == touching


def test_what_is_no_label_map():
    with pytest.raises(ValueError, match=r"H×W whole numbers, one map for all images, got float64"):
        Segments(np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"one map for all images, got int64 of shape \(2, 3, 3\)"):
        Segments(np.zeros((2, 3, 3), int))
    with pytest.raises(ValueError, match=r"one region has no pairs"):
        Segments(np.zeros((3, 3), int))
    with pytest.raises(ValueError, match=r"a label map of 12×10 does not fit an image of 12×12"):
        PatchGame(network(), IMAGES[0], 0, Segments.cells(2, 2, 12, 10))(torch.ones(1, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"a grid of 13×2 cells does not fit"):
        Segments.cells(13, 2, 12, 12)


def test_the_page_on_extending_runs(capsys, tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", EXTENDING.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "extending_blocks.py").write_text("\n\n".join(blocks))  # functions are known by their source
    monkeypatch.syspath_prepend(tmp_path)
    import extending_blocks as made

    said = capsys.readouterr().out
    assert "margin@" in said
    expected = [3.0 if pair == [1, 3] else 0.0 for pair in made.pairs.tolist()]
    torch.testing.assert_close(made.measured.mean, torch.tensor(expected, dtype=torch.float64))
    assert made.wide.n_players == 8
    assert [text.get_text() for text in made.axes.get_legend().get_texts()] == ["rms", "raw"]
    del sys.modules["extending_blocks"]


def test_own_functions_on_the_command_line(tmp_path, capsys):
    for k in range(2):
        pixels = np.random.default_rng(k).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        (tmp_path / f"photos/class-{k}").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / f"photos/class-{k}" / "a.png")
    words = (
        f"profile tests.interactions.tiny:network --weights random --data {tmp_path}/photos --split . --image-size 12"
    )
    words += " --grid 3 --radius 1 --ratios 0 0.5 1 --images 2 --budget 100 --device cpu"
    own = ["--value", "tests.interactions.test_own:twice", "--baseline", "tests.interactions.test_own:dark"]
    assert not cli.main([*words.split(), *own, "--out", str(tmp_path / "run")])
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert settings["value"].startswith("tests.interactions.test_own:twice@")
    assert settings["baseline"].startswith("tests.interactions.test_own:dark@")
    capsys.readouterr()
    for given, said in (
        (("--value", "tests.interactions.test_own:nothing"), "has no function 'nothing'"),
        (("--baseline", "no_such_module:f"), "module 'no_such_module' of the baseline 'no_such_module:f' cannot be"),
        (("--value", "tests.interactions.test_own:IMAGES"), "has no function 'IMAGES'"),
    ):
        assert cli.main([*words.split(), *given, "--out", str(tmp_path / "other")]) == 2
        assert said in " ".join(capsys.readouterr().err.split()) and not (tmp_path / "other").exists()
