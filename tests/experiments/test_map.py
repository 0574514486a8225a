"""`a2mim map`: its numbers against brute force, captum through the game, and what is written."""

import json
import re
from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from a2mim.export import export_backbone
from experiments import cli, machine
from experiments.datasets import evaluation_transform
from experiments.measuring.image_map import (
    as_pixels,
    chosen_budget,
    chosen_order,
    class_name,
    in_full,
    measure,
    pair_table,
    play,
    shapley_values,
)
from experiments.models import create_model
from interactions.estimators import estimate_interactions
from interactions.grid import PatchGrid

CONFIG = {"input_size": (3, 12, 12), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop_pct": 1.0}


def photograph(seed=0, size=12):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def game_of(model, photo, *arguments):
    """`play` with the photograph as the model's input."""
    return play(model, evaluation_transform(CONFIG)(photo), CONFIG, *arguments)


def curved(seed=0):
    """Every order interacts."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 3), nn.Tanh(), nn.Conv2d(8, 8, 2), nn.Tanh(), nn.Flatten(), nn.Linear(72, 3)
    )


def linear():
    torch.manual_seed(0)
    return nn.Sequential(*head(3 * 12 * 12))


def head(features):
    return nn.Flatten(), nn.Linear(features, 3)


def worth(model, photo, side, shown, target, absent=0.0):
    """v (the logit) of a set of cells, with the picture cut up in NumPy."""
    pixels = np.asarray(photo, dtype=np.float32).transpose(2, 0, 1) / 255 * 2 - 1
    masked, cell = np.full_like(pixels, absent), 12 // side
    for player in shown:
        row, column = divmod(player, side)
        block = np.s_[:, row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
        masked[block] = pixels[block]
    with torch.no_grad():
        return model(torch.from_numpy(masked)[None])[0, target].item()


def test_interactions_equal_brute_force():
    model, photo, grid = curved(), photograph(), PatchGrid(2)
    game = game_of(model, photo, 1, grid, "logit", "black")
    measured, _ = measure(game, 1, grid.all_pairs(), 100, "exact", 1)
    table = pair_table(grid, measured)
    for i, j, interaction in zip(table["i"].tolist(), table["j"].tolist(), table["interaction"], strict=True):
        differences = [
            worth(model, photo, 2, {i, j, k}, 1, absent=-1.0)
            - worth(model, photo, 2, {i, k}, 1, absent=-1.0)
            - worth(model, photo, 2, {j, k}, 1, absent=-1.0)
            + worth(model, photo, 2, {k}, 1, absent=-1.0)
            for k in set(range(4)) - {i, j}
        ]
        assert interaction == pytest.approx(np.mean(differences), abs=1e-5)
    for end in "ij":
        places = table[[f"row_{end}", f"column_{end}"]].to_numpy().tolist()
        assert places == [[cell // 2, cell % 2] for cell in table[end].tolist()]
    assert table["interaction"].abs().is_monotonic_decreasing
    assert set(zip(table["i"], table["j"], strict=True)) == set(combinations(range(4), 2))


def test_shapley_values_approach_those_over_all_orderings():
    model, photo, grid = curved(), photograph(), PatchGrid(2)
    game = game_of(model, photo, 1, grid, "logit", "mean")
    shown = [set(cells) for size in range(5) for cells in combinations(range(4), size)]
    values = {frozenset(cells): worth(model, photo, 2, cells, 1) for cells in shown}
    gains = np.zeros((24, 4))
    for row, ordering in enumerate(permutations(range(4))):
        for place, player in enumerate(ordering):
            gains[row, player] = values[frozenset(ordering[: place + 1])] - values[frozenset(ordering[:place])]
    count = 300
    error = np.abs(np.asarray(shapley_values(game, count)) - gains.mean(0))
    assert (error < 4.5 * gains.std(0) / count**0.5 + 1e-5).all()


def test_one_ordering_suffices_for_a_linear_model():
    model, photo, grid = linear(), photograph(), PatchGrid(3)
    game = game_of(model, photo, 2, grid, "logit", "black")
    nothing = worth(model, photo, 3, set(), 2, absent=-1.0)
    expected = [worth(model, photo, 3, {cell}, 2, absent=-1.0) - nothing for cell in range(9)]
    np.testing.assert_allclose(shapley_values(game, 1), expected, atol=1e-5)


def test_shapley_values_share_out_the_whole_score():
    grid = PatchGrid(3)
    game = game_of(curved(), photograph(), 0, grid, "log_odds", "mean")
    ends = game(torch.tensor([[True] * 9, [False] * 9]))
    assert float(shapley_values(game, 3).sum()) == pytest.approx(float(ends[0] - ends[1]), abs=1e-4)


def test_shapley_values_follow_the_seed_and_leave_the_global_state():
    grid = PatchGrid(3)
    game = game_of(curved(), photograph(), 0, grid, "log_odds", "mean")
    before = torch.get_rng_state()
    first, again, other = (shapley_values(game, 2, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again) and not torch.allclose(first, other)


def test_the_target_is_the_models_own_top_class_or_the_one_asked_for():
    model, photo = curved(), photograph()
    with torch.no_grad():
        pixels = torch.from_numpy(np.asarray(photo, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1
        top = int(model(pixels[None]).argmax())
    assert int(game_of(model, photo, None, PatchGrid(2), "logit", "mean").reference_I[0]) == top
    other = (top + 1) % 3
    assert int(game_of(model, photo, other, PatchGrid(2), "logit", "mean").reference_I[0]) == other


def test_the_order_is_the_number_or_the_released_rule_for_the_ratio():
    grid = PatchGrid(14)
    assert [chosen_order(None, ratio, grid) for ratio in (0.0, 0.05, 0.5, 0.95, 1.0)] == [0, 9, 97, 184, 194]
    assert chosen_order(3, 0.5, grid) == 3
    with pytest.raises(ValueError, match="order 195 is not possible"):
        chosen_order(195, 0.5, grid)


@pytest.fixture
def picture(tmp_path):
    photograph(size=48).save(tmp_path / "cat.png")
    return tmp_path / "cat.png"


TINY = ["--weights", "random", "--grid", "3", "--radius", "1", "--permutations", "2", "--budget", "400"]
SMALL = ["test_resnet", "--image-size", "36", *TINY]


def words_of(svg):
    """The words of a figure, without the ends of its lines."""
    return " ".join(re.sub(r"<[^>]+>", " ", svg.read_text()).split())


def test_the_picture_has_the_pixels_of_the_photograph_and_shows_what_the_model_sees():
    _, config = create_model("test_resnet", "random")
    g = np.random.default_rng(0)
    given = Image.fromarray(g.integers(0, 256, (12, 20, 3), dtype=np.uint8)).resize(
        (500, 300), Image.Resampling.BICUBIC
    )
    shown = in_full(given, config)
    side = round(300 * config["crop_pct"])
    assert abs(len(shown) - side) <= 1 and shown.shape == (len(shown), len(shown), 3)
    left, top = (500 - len(shown)) // 2, (300 - len(shown)) // 2
    crop = np.asarray(given)[top : top + len(shown), left : left + len(shown)] / 255
    assert np.abs(shown - crop).mean() < 0.03
    small = in_full(given.resize((50, 30)), config)
    assert small.shape == (*config["input_size"][1:], 3)  # never fewer than the model's
    seen = evaluation_transform(config)(given)
    np.testing.assert_allclose(
        np.asarray(Image.fromarray((255 * shown).round().astype(np.uint8)).resize(seen.shape[:0:-1])) / 255,
        as_pixels(seen, config),
        atol=0.1,
    )


def test_a_class_is_called_as_the_weights_say(tmp_path):
    """Any network of 1,000 outputs had ImageNet's classes."""
    net = timm.create_model("test_resnet", num_classes=1000)
    architecture = {"architecture": "test_resnet", "num_classes": 1000}
    own, synsets, bare = (tmp_path / f"{name}.safetensors" for name in ("own", "synsets", "bare"))
    export_backbone(net, own, architecture, {f"bird {k}": k for k in range(1000)})
    export_backbone(net, synsets, architecture, {"n01443537": 1, "n01440764": 0})
    export_backbone(net, bare, architecture)
    assert class_name(1, net, str(own)) == "bird 1" and class_name(1, net, str(synsets)).startswith("goldfish")
    assert class_name(1, net, str(bare)) == "goldfish, Carassius auratus, if its classes are ImageNet's"
    assert class_name(1, net, "pretrained").startswith("goldfish") and class_name(1, net, "random") == ""
    assert class_name(1, timm.create_model("test_resnet", num_classes=7), "pretrained") == ""


def test_writes_the_figure_both_tables_and_the_record(picture, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(machine, "commit", lambda: "abc1234")
    out = tmp_path / "new" / "map.svg"
    assert cli.main(["map", *SMALL, "--image", str(picture), "--order", "2", "--target", "7", "--out", str(out)]) == 0
    pairs, cells = pd.read_csv(out.with_suffix(".csv")), pd.read_csv(out.with_name("map-cells.csv"))
    grid = PatchGrid(3)
    assert sorted(zip(pairs["i"], pairs["j"], strict=True)) == [tuple(pair) for pair in grid.neighbours(1).tolist()]
    assert pairs["interaction"].notna().all() and set(pairs["order"]) == {2}
    assert cells["cell"].tolist() == list(range(9)) and cells["shapley"].notna().all()
    drawn = words_of(out)
    assert "Order 2 of 7 on a 3×3 grid" in drawn and "log-odds of class 7, baseline" in drawn
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["command"] == "map" and record["commit"] == "abc1234" and record["order"] == 2
    assert (record["settings"]["image"], record["settings"]["budget"]) == ("cat.png", 400)
    pairs_passes, shapley_passes = (int(count) for count in re.findall(r"(\d+) passes", drawn))
    assert record["passes"] == pairs_passes + shapley_passes and shapley_passes >= 2 * 9
    assert record["explained"].startswith("log_odds of class 7")
    said = capsys.readouterr().out
    files = (out, out.with_suffix(".csv"), out.with_name("map-cells.csv"), out.with_suffix(".json"))
    assert all(str(path) in said for path in files)


def test_the_table_holds_what_the_estimator_gives(picture, tmp_path):
    out = tmp_path / "map.png"
    arguments = [*SMALL, "--design", "exact", "--order-ratio", "0.5", "--target", "5", "--model-seed", "3"]
    assert cli.main(["map", *arguments, "--image", str(picture), "--out", str(out)]) == 0
    model, config = create_model("test_resnet", "random", seed=3)
    grid = PatchGrid(3)
    image_CHW = evaluation_transform(config, 36)(Image.open(picture).convert("RGB"))
    game = play(model, image_CHW, config, 5, grid, "log_odds", "mean")
    expected = estimate_interactions(game.of(0), 3, grid.neighbours(1), design="exact")
    table = pd.read_csv(out.with_suffix(".csv")).sort_values(["i", "j"])
    np.testing.assert_allclose(table["interaction"], expected.mean, rtol=1e-4, atol=1e-6)


def test_another_image_size(picture, tmp_path):
    """Of a model of any size, and of one whose size is built in."""
    for model in ("test_resnet", "test_vit"):
        out = tmp_path / f"{model}.png"
        arguments = [model, *TINY, "--image-size", "64", "--image", str(picture), "--out", str(out)]
        assert cli.main(["map", *arguments]) == 0
        assert out.exists()


def test_cosine_needs_no_target(picture, tmp_path):
    out = tmp_path / "map.svg"
    assert cli.main(["map", *SMALL, "--value", "cosine", "--image", str(picture), "--out", str(out)]) == 0
    assert "cosine similarity, baseline mean colour." in words_of(out)


def test_dropped_tokens_are_told_in_the_caption_and_a_cnn_has_none(picture, tmp_path, capsys):
    out = tmp_path / "map.svg"
    vit = ["test_vit", *SMALL[1:], "--image-size", "48", "--baseline", "drop"]
    assert cli.main(["map", *vit, "--image", str(picture), "--out", str(out)]) == 0
    assert "baseline drop (tokens of absent cells removed, nothing painted)" in capsys.readouterr().out
    assert cli.main(["map", *SMALL, "--baseline", "drop", "--image", str(picture), "--out", str(out)]) == 2
    assert "the baseline drop needs a plain vision transformer" in capsys.readouterr().err


def test_says_that_pairs_were_left_out_and_what_all_of_them_take(picture, tmp_path, capsys):
    out = tmp_path / "map.svg"
    few = [*SMALL, "--grid", "4", "--design", "pairwise", "--budget", "80"]
    assert cli.main(["map", *few, "--image", str(picture), "--out", str(out)]) == 0
    table, record = pd.read_csv(out.with_suffix(".csv")), json.loads(out.with_suffix(".json").read_text())
    left_out = int(table["interaction"].isna().sum())
    assert left_out > 0 and table["standard_error"].isna().all()
    said = (
        f"{left_out} of 42 pairs were not measured and {42 - left_out} have no standard error: --design auto --budget"
    )
    assert said in " ".join(capsys.readouterr().out.split())
    assert (record["pairs"], record["pairs_measured"]) == (42, 42 - left_out)
    assert record["pairs_with_standard_error"] == 0


def test_without_a_budget_every_pair_gets_a_standard_error(picture, tmp_path):
    out = tmp_path / "map.png"
    options = [*SMALL[:-2], "--grid", "4", "--order", "1"]
    assert cli.main(["map", *options, "--image", str(picture), "--out", str(out)]) == 0
    assert pd.read_csv(out.with_suffix(".csv"))["standard_error"].notna().all()


def test_the_budget_follows_the_order():
    grid = PatchGrid(14)
    pairs = grid.neighbours(2)
    assert chosen_budget(None, "auto", 97, pairs, grid) == (3000, True)  # the middle order needs no more
    budget, every_pair = chosen_budget(None, "auto", 19, pairs, grid)
    assert every_pair and 3000 < budget <= 50_000
    assert chosen_budget(500, "auto", 19, pairs, grid) == (500, False)
    with pytest.raises(ValueError, match=r"it takes [0-9,]+ passes to give each of 1,950 pairs .* ask for --budget"):
        chosen_budget(None, "auto", 1, pairs, grid)
    assert chosen_budget(None, "auto", 0, pairs, grid) == (3000, True)  # exact


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--image", "nothing.png"], "image 'nothing.png' is no file"),
        (["--image", "TEXT"], "cannot be read as an image"),
        (["--budget", "90"], "a budget of 90 passes is too small for auto at order 3: give at least 96"),
        (["--design", "magic"], "unknown design 'magic'"),
        (["--order", "8"], "order 8 is not possible with 9 players"),
        (["--order-ratio", "1.5"], "--order-ratio 1.5 is too large: use at most 1"),
        (
            ["--order", "0", "--order-ratio", "0.2"],
            "--order and --order-ratio say the same thing: leave one",
        ),
        (["--radius", "3"], "radius 3 is not possible"),
        (["--target", "1000"], "a model of 1000 classes"),
        (["--target", "7", "--value", "cosine"], "cosine explains no class, so it has no use for class 7"),
        (["--permutations", "0"], "--permutations 0 is too small: use 1 or more"),
        (["--baseline", "purple"], "unknown baseline 'purple'"),
        (["--weights", "nothing.pth"], "weights 'nothing.pth' is no file"),
        (["--out", "new/map.jpg"], "end its name in .png, .pdf or .svg"),
        (["--lines", "0"], "--lines 0 is too small"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence_and_writes_nothing(arguments, said, picture, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "TEXT").write_text("no picture")
    assert cli.main(["map", *SMALL, "--image", str(picture), "--out", "new/map.png", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
