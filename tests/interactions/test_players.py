"""Who plays in a profile, and which pairs are measured: grids, regions of a label map, listed pairs."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.measuring.comparison import compare_runs
from figures.runs import ground_words
from interactions import Segments, profile_model
from tests.interactions.tiny import Photos, network

SMALL = {"images": 8, "ratios": (0.0, 0.5, 1.0), "design": "exact", "budget": 1000, "progress": False}
SMALL |= {"speed": "plain", "batch_size": 64}
STRIPES = np.arange(12)[:, None] // 3 * np.ones((1, 12), int)  # four regions, one below the other


def measure(folder, **settings):
    return profile_model(network(), Photos(8), out=folder, names=[f"{k}.png" for k in range(8)], **SMALL | settings)


def pairs_in(profile):
    tables = [pd.read_parquet(path) for path in sorted(profile.folder.glob("pairs/*.parquet"))]
    return pd.concat(tables).set_index(["image", "order", "i", "j"]).sort_index()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("players")
    listed = [(8, 0), (3, 5), (0, 8)]
    return {
        "near": measure(folder / "near", grid=3, radius=1),
        "all": measure(folder / "all", grid=3, pairs="all"),
        "listed": measure(folder / "listed", grid=3, pairs=listed),
        "cells": measure(folder / "cells", grid=Segments.cells(3, 3, 12, 12)),
        "stripes": measure(folder / "stripes", grid=Segments(STRIPES)),
    }


def test_the_pairs_that_were_asked_for_are_measured(runs):
    """Exact interactions of a pair do not depend on which others are measured."""
    every = pairs_in(runs["all"])
    assert runs["all"].record["pairs"] == 36 and runs["near"].record["pairs"] == 20
    for name, wanted in (("near", 20), ("listed", 2)):
        some = pairs_in(runs[name])
        assert len(some) == 8 * 3 * wanted
        np.testing.assert_allclose(some["mean"], every.loc[some.index, "mean"], atol=1e-5)
    assert {(i, j) for _, _, i, j in pairs_in(runs["listed"]).index} == {(0, 8), (3, 5)}


def test_regions_that_are_a_grids_cells_give_the_grids_numbers(runs):
    columns = ["order", "pairs", "A", "J", "mean_square", "rms"]
    pd.testing.assert_frame_equal(runs["cells"].strength()[columns], runs["near"].strength()[columns])
    stripes = pairs_in(runs["stripes"])
    assert {(i, j) for _, _, i, j in stripes.index} == {(0, 1), (1, 2), (2, 3)}
    assert runs["stripes"].record["players"] == 4 and set(runs["stripes"].images().order) == {0, 1, 2}


def test_the_record_says_who_played(runs):
    words = {name: ground_words(run.record) for name, run in runs.items()}
    assert words["near"] == "3×3 grid, pairs within radius 1" and words["all"] == "3×3 grid, pairs of all players"
    assert words["listed"].startswith("3×3 grid, pairs 2 listed@")
    assert words["stripes"].startswith("4 regions of 12×12 px@") and words["stripes"].endswith(", pairs that touch")
    before = json.loads((runs["near"].folder / "run.json").read_text())
    del before["settings"]["pairs"]  # a run from before there was a choice
    assert ground_words(before) == words["near"]


def test_other_players_or_pairs_are_another_run(runs):
    again = measure(runs["stripes"].folder, grid=Segments(10 - STRIPES[::-1]))  # other labels, the same regions
    assert again.images().equals(runs["stripes"].images())
    again = measure(runs["listed"].folder, grid=3, pairs=torch.tensor([[5, 3], [0, 8]]))
    assert again.images().equals(runs["listed"].images())
    for name, settings, said in (
        (
            "stripes",
            {"grid": Segments(STRIPES.T)},
            r"grid 4 regions of 12×12 px@\w+ there, 4 regions of 12×12 px@\w+ now",
        ),
        ("cells", {"grid": 3}, r"grid 9 regions of 12×12 px@\w+ there, 3 now"),
        ("listed", {"grid": 3, "pairs": [(0, 8)]}, r"pairs 2 listed@\w+ there, 1 listed@\w+ now"),
        ("near", {"grid": 3, "radius": 1, "pairs": "all"}, r"pairs near there, all now"),
    ):
        with pytest.raises(ValueError, match=said):
            measure(runs[name].folder, **settings)


def test_runs_of_other_players_or_pairs_are_not_compared(runs, tmp_path):
    for names, said in (
        (("near", "all"), r"pairs \(within radius 1: near; of all players: all\)"),
        (("near", "cells"), r"grid \(3×3: near; 9 regions of 12×12 px@\w+: cells\)"),
        (("all", "listed"), r"pairs \(of all players: all; 2 listed@\w+: listed\)"),
    ):
        with pytest.raises(ValueError, match=said):
            compare_runs([runs[name].folder for name in names], tmp_path / "figure.png")


def test_what_cannot_be_measured_leaves_nothing(tmp_path):
    for settings, said in (
        ({"grid": Segments(STRIPES[:, :10])}, "a label map of 12×10 does not fit an image of 12×12"),
        ({"grid": "map.png"}, "unknown players 'map.png'"),
        ({"grid": 3, "pairs": "far"}, "unknown pairs 'far': choose near or all"),
        ({"grid": 3, "pairs": [(0, 9)]}, "pairs must be two different cells out of 0 to 8"),
        ({"grid": 3, "pairs": [(2, 2)]}, "pairs must be two different cells"),
        ({"grid": 3, "pairs": [1, 2]}, "pairs are P×2 cell numbers"),
        ({"grid": Segments(STRIPES), "design": "published"}, "neighbours on a square grid"),
        ({"grid": 3, "pairs": "all", "design": "published"}, "neighbours on a square grid"),
        ({"grid": Segments(STRIPES), "baseline": "drop"}, "choose a grid, or another baseline for segments"),
    ):
        with pytest.raises(ValueError, match=said):
            measure(tmp_path / "run", **settings)
        assert not (tmp_path / "run" / "run.json").exists()
