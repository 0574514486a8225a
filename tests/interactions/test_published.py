"""The published protocol: closed forms worked by hand, and what the released code computed for a small network."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from interactions.estimators import Plan, draw
from interactions.estimators.pairwise import draw_released, from_contexts, released_contexts, released_pairs
from interactions.game import PatchGame
from interactions.grid import PAPER_RATIOS, PatchGrid, orders_of
from interactions.profile import profile_model
from interactions.strength import image_row, strength_table
from tests.interactions.tiny import Photos, network

RECORDED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "published-protocol.npz"
needs_recording = pytest.mark.skipif(not RECORDED.exists(), reason="published-protocol.npz is not beside the project")


PLANS = {
    "pairwise": Plan("pairwise"),
    "shared": Plan("shared"),
    "pooled": Plan("pooled", {"surrogate": False}),
}


def product(*players: int):
    """v = 1 where all the players are shown, else 0."""
    return lambda coalitions_BN: coalitions_BN[:, list(players)].all(1).double()


@pytest.mark.parametrize("design", PLANS)
@pytest.mark.parametrize("order", [0, 4, 7])
def test_product_of_two_players(design: str, order: int) -> None:
    # v = T_0 T_5: Δv(0,5,S) = 1 − 0 − 0 + 0 for every S; any other pair sees v as additive.
    pairs = torch.tensor([[0, 5], [0, 1], [5, 7], [2, 3]])
    runs = []
    for seed in range(60):
        sample = draw(PLANS[design], order, pairs, 9, 1200, torch.Generator().manual_seed(seed))
        runs.append(sample.estimate(product(0, 5)(sample.coalitions_BN)))
    mean_RP = torch.stack([run.mean for run in runs])
    if design in ("pairwise", "shared") or order in (0, 7):  # differences of this game have no noise
        assert torch.allclose(mean_RP, torch.tensor([1.0, 0, 0, 0], dtype=torch.float64).expand_as(mean_RP))
    else:
        error_P = mean_RP.std(0) / 60**0.5
        assert ((mean_RP.mean(0) - torch.tensor([1.0, 0, 0, 0])).abs() <= 4.5 * error_P).all()


@pytest.mark.parametrize("design", PLANS)
def test_product_of_three_players(design: str) -> None:
    # v = T_0 T_4 T_8: Δv(0,4,S) = 1 where S holds cell 8, so I^(m) = m / (n − 2); (0,1) sees no interaction.
    pairs, order = torch.tensor([[0, 4], [0, 1]]), 3
    runs = []
    for seed in range(80):
        sample = draw(PLANS[design], order, pairs, 9, 2000, torch.Generator().manual_seed(seed))
        runs.append(sample.estimate(product(0, 4, 8)(sample.coalitions_BN)).mean)
    mean_RP = torch.stack(runs)
    error_P = mean_RP.std(0) / 80**0.5
    assert ((mean_RP.mean(0) - torch.tensor([3 / 7, 0])).abs() <= 4.5 * error_P + 1e-12).all()
    assert error_P[0] < 0.02


def test_slot_order_and_score() -> None:
    # Coalitions 4k … 4k+3 are S∪{i,j}, S∪{i}, S∪{j}, S; score = [0] + [3] − [1] − [2].
    context_MKN = torch.zeros(1, 2, 4, dtype=torch.bool)
    context_MKN[0, 0, 2] = context_MKN[0, 1, 3] = True
    sample = from_contexts(1, torch.tensor([[1, 0]]), context_MKN, torch.tensor([0]))
    expected = ["1110", "0110", "1010", "0010", "1101", "0101", "1001", "0001"]
    assert ["".join(str(int(cell)) for cell in row) for row in sample.coalitions_BN] == expected
    run = sample.estimate(torch.tensor([5.0, 3, 1, 7, 10, 20, 40, 80], dtype=torch.float64))
    assert run.mean.tolist() == [((5 + 7 - 3 - 1) + (10 + 80 - 20 - 40)) / 2]
    assert run.halves[:, 0].tolist() == [8.0, 30.0]


def test_the_ends_have_one_context_which_is_exact(tmp_path) -> None:
    """A run that began when it was measured twice goes on so."""
    asked: dict[str, Any] = {"design": "published", "published_pairs": 4, "budget": 64, "images": 2, "unit_images": 1}
    asked |= {"grid": 3, "radius": 1, "orders": (0, 3, 7), "batch_size": 64, "speed": "plain", "progress": False}
    found = profile_model(network(), Photos(3), out=tmp_path, **asked)
    ends, inner = (found.pairs()[lambda rows, inner=inner: (rows.order == 3) == inner] for inner in (False, True))
    assert set(ends["count"]) == {np.inf} and set(ends.standard_error) == {0} and set(inner["count"]) == {4}
    assert found.images().passes.tolist() == 2 * [16, 64, 16]
    record = json.loads((tmp_path / "run.json").read_text())
    for one in (*record["orders"], *record["rounds"][0]["orders"]):
        one.pop("exact", None)
        one["options"] = {}
    (tmp_path / "run.json").write_text(json.dumps(record | {"status": "running"}))
    (tmp_path / "units" / "unit-00001.json").unlink()
    older = profile_model(network(), Photos(3), out=tmp_path, **asked).pairs()
    assert set(older["count"][(older.order != 3) & (older.image == older.image.iloc[-1])]) == {2}
    assert np.allclose(older["mean"], found.pairs()["mean"], atol=1e-6)


def test_normalisation_worked_by_hand() -> None:
    # Two images, two orders. Means over contexts: |I| of image 0 is 1 and 3 (mean 2) then 1 and 1; of image 1 it is 4
    # and 0 (mean 2) then 0 and 0. A = (2, 0.5); J = A / 1.25 = (1.6, 0.4).
    means = {(0, 0): [1.0, -3.0], (0, 1): [-1.0, 1.0], (1, 0): [4.0, 0.0], (1, 1): [0.0, 0.0]}
    rows = []
    for (image, order), values in means.items():
        contexts_MKN = torch.zeros(2, 2, 4, dtype=torch.bool)
        sample = from_contexts(order, torch.tensor([[0, 1], [2, 3]]), contexts_MKN, torch.arange(2))
        # Contexts differ by ±1 around the mean, which the mean over contexts removes.
        deltas = torch.tensor([[value + 1, value - 1] for value in values], dtype=torch.float64).flatten()
        slots = torch.stack([deltas, 0 * deltas, 0 * deltas, 0 * deltas], 1).flatten()
        rows.append({"image": image, "order": order, "ratio": float(order)} | image_row(sample.estimate(slots)))
    table = strength_table(pd.DataFrame(rows))
    assert table.A.tolist() == pytest.approx([2.0, 0.5])
    assert table.J.tolist() == pytest.approx([1.6, 0.4])


def test_order_list_of_the_paper() -> None:
    assert sorted(orders_of(PAPER_RATIOS, 196)) == [0, 9, 19, 38, 58, 77, 97, 116, 135, 155, 174, 184, 194]
    assert sorted(orders_of(PAPER_RATIOS, 256)) == [0, 12, 25, 50, 76, 101, 127, 152, 177, 203, 228, 241, 254]


def test_released_sampling_leaves_the_global_generators_alone() -> None:
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.rand()
    random.seed(1)
    np.random.seed(1)
    pairs = released_pairs(PatchGrid(8), 6, 2, image=0, seed=1)
    released_contexts(pairs, 10, 3, 64, image=0, seed=1)
    assert (random.random(), np.random.rand()) == expected


def test_released_pairs_need_room() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        released_pairs(PatchGrid(2), 7, 1, image=0, seed=0)


class Recorded(nn.Module):
    """The recorded network: two convolutions with GELU, mean over positions, four times a linear layer."""

    def __init__(self, recorded: Any) -> None:
        super().__init__()
        self.c1, self.c2, self.fc = nn.Conv2d(3, 8, 4, stride=4), nn.Conv2d(8, 16, 3, stride=2), nn.Linear(16, 10)
        self.act = nn.GELU()
        self.load_state_dict(
            {name.removeprefix("weight_"): torch.from_numpy(recorded[name]) for name in recorded if "weight_" in name}
        )

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return 4 * self.fc(self.act(self.c2(self.act(self.c1(x_BCHW)))).mean((2, 3)))


@needs_recording
def test_released_sampling_and_numbers() -> None:
    recorded = np.load(RECORDED)
    grid, seed = PatchGrid(8), int(recorded["seed"])
    game = PatchGame(
        Recorded(recorded),
        torch.from_numpy(recorded["images"]),
        torch.from_numpy(recorded["labels"]),
        grid,
        batch_size=64,
    )
    orders = orders_of(tuple(recorded["ratios"]), 64)
    assert sorted(orders) == recorded["orders"].tolist()
    rows = []
    for row, (ratio, order) in enumerate(zip(recorded["ratios"], recorded["orders"], strict=True)):
        contexts_IPKm = recorded[f"contexts_{round(ratio * 100)}"]
        for image in range(3):
            sample = draw_released(int(order), 6, 5, grid, 2, image, seed)
            assert sample.pairs_P2.tolist() == recorded["pairs"][image].tolist()
            drawn_PK = sample.coalitions_BN[3::4].view(6, 5, 64)
            for pair, context in np.ndindex(6, 5):
                found = drawn_PK[pair, context].nonzero().flatten().tolist()
                assert found == sorted(contexts_IPKm[image, pair, context].tolist())
            values = game(sample.coalitions_BN, image)
            delta = sample.differences(values).view(6, 5).numpy()
            assert np.abs(delta - recorded["delta"][row, image]).max() < 2e-5  # float32 networks of other batch sizes
            run = sample.estimate(values)
            assert np.abs(run.mean.numpy() - recorded["interaction"][row, image]).max() < 1e-5
            rows.append({"image": image, "order": int(order), "ratio": ratio} | image_row(run))
    table = strength_table(pd.DataFrame(rows), resamples=10)
    assert table.J.tolist() == pytest.approx(recorded["J"].tolist(), rel=2e-3)
