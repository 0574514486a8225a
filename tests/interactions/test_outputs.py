"""What models return: taken where it can be read in one way, else refused with what to wrap; numbers from NumPy."""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from interactions.estimators import estimate_interactions
from interactions.game import PatchGame
from interactions.grid import PatchGrid
from interactions.occlusion import measure_occlusion
from interactions.profile import profile_model
from interactions.saliency import gradient
from tests.interactions.tiny import ASKED, Photos, network

GRID = PatchGrid(3)
IMAGE = Photos(1)[0][0]
ROWS = torch.rand(6, 9, generator=torch.Generator().manual_seed(0)) < 0.5
Pair = namedtuple("Pair", "logits hidden")

READABLE = {
    "dict": lambda z: {"logits": z, "hidden": z.repeat(1, 2)},
    "object": lambda z: SimpleNamespace(logits=z, hidden=z.repeat(1, 2)),
    "named tuple": lambda z: Pair(z, z.repeat(1, 2)),
    "tuple with maps": lambda z: (z, z[:, :, None, None].expand(-1, -1, 2, 2)),
    "tuple with None": lambda z: (None, z),
    "loss first": lambda z: {"loss": z.sum(), "scores": z},
    "list of one": lambda z: [z],
    "maps of one pixel": lambda z: z[:, :, None, None],
}
UNREADABLE = {
    "two tensors": (lambda z: (z, z.repeat(1, 2)), r"a tuple of 0: \d×5, 1: \d×10, which can be read in more than one"),
    "segmentation": (lambda z: {"out": z[:, :, None, None].expand(-1, -1, 2, 2)}, r"maps \d×5×2×2, as segmentation"),
    "tokens": (lambda z: z[:, None].expand(-1, 3, -1), r"a sequence of vectors \d×3×5"),
    "squeezed": (lambda z: z.squeeze(), r"5 for 1 image, not one row of class scores an image"),
    "classes": (lambda z: z.argmax(1), "numbers of type torch.int64"),
    "text": (lambda z: "cat", "a str of no tensor"),
}


class Wrapped(nn.Module):
    def __init__(self, returned):
        super().__init__()
        self.model, self.returned = network(), returned

    def forward(self, x_BCHW):
        return self.returned(self.model(x_BCHW))


@pytest.mark.parametrize("returned", READABLE.values(), ids=READABLE)
def test_the_one_sensible_reading_is_taken(returned):
    model = Wrapped(returned)
    expected_B = PatchGame(network(), IMAGE, 3, GRID, batch_size=4)(ROWS)
    assert torch.equal(PatchGame(model, IMAGE, 3, GRID, batch_size=4)(ROWS), expected_B)
    attributions = [gradient(each, IMAGE[None], torch.tensor([3]), IMAGE[None]) for each in (model, network())]
    assert torch.equal(*attributions)


def test_a_whole_profile_and_occlusion_of_a_model_with_a_dict(tmp_path):
    model = Wrapped(READABLE["dict"])
    ours, plain = (
        profile_model(each, Photos(9), out=tmp_path / name, progress=False, **ASKED | {"target": "predicted"})
        for each, name in ((model, "dict"), (network(), "plain"))
    )
    assert ours.strength(resamples=10).equals(plain.strength(resamples=10))
    run = measure_occlusion(model, Photos(5), out=tmp_path / "o", grid=3, progress=False, shares=(0, 0.5, 1), seeds=1)
    assert len(run.occlusion()) == 9


@pytest.mark.parametrize(("returned", "said"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_could_mean_several_things_is_refused(returned, said, tmp_path):
    with pytest.raises(ValueError, match=f"the model returns {said}") as refused:
        PatchGame(Wrapped(returned), IMAGE, 3, GRID, batch_size=4)
    assert "wrap it in a module" in str(refused.value) or "wrap it so that" in str(refused.value)
    with pytest.raises(ValueError, match=f"the model returns {said}"):
        profile_model(Wrapped(returned), Photos(5), out=tmp_path / "run", progress=False, **ASKED)


def test_features_are_no_scores_of_classes():
    """Such a backbone was measured by the log-odds of one feature against the others."""
    returned = lambda z: {"last_hidden_state": z[:, None].repeat(1, 3, 1), "pooler_output": z}  # noqa: E731
    with pytest.raises(ValueError, match=r"returns features \(pooler_output\) and no scores of classes"):
        PatchGame(Wrapped(returned), IMAGE, 0, GRID, batch_size=4)(ROWS)


@pytest.mark.parametrize(("value", "told"), [("log_odds", True), ("probability", True), ("cosine", False)])
def test_probabilities_for_scores_are_told(value, told, tmp_path, recwarn):
    asked = {**ASKED, "value": value}
    profile_model(Wrapped(lambda z: z.softmax(1)), Photos(5), out=tmp_path / "soft", progress=False, **asked)
    assert any("sum to 1, as probabilities do" in str(one.message) for one in recwarn) == told
    recwarn.clear()
    profile_model(network(), Photos(5), out=tmp_path / "scores", progress=False, **asked)
    assert not any("probabilities" in str(one.message) for one in recwarn)


def test_features_are_read_by_name():
    returned = lambda z: {"last_hidden_state": z[:, None].repeat(1, 3, 1), "pooler_output": z}  # noqa: E731
    found = PatchGame(Wrapped(returned), IMAGE, None, GRID, "cosine", batch_size=4)(ROWS)
    assert torch.equal(found, PatchGame(network(), IMAGE, None, GRID, "cosine", batch_size=4)(ROWS))
    with pytest.raises(ValueError, match=r"a list of 0: .*, 1: .* more than one way"):
        PatchGame(Wrapped(lambda z: [z, z]), IMAGE, None, GRID, "cosine", batch_size=4)


@pytest.mark.parametrize("returned", [lambda z: z[:, :1], lambda z: z[:, 0]], ids=["B×1", "B"])
def test_one_score_an_image(returned, tmp_path):
    model = Wrapped(returned)
    found_B = PatchGame(model, IMAGE, 0, GRID, "logit", batch_size=4)(ROWS)
    assert torch.equal(found_B, PatchGame(network(), IMAGE, 0, GRID, "logit", batch_size=4)(ROWS))
    for value, why in (("log_odds", "compares the class with the others"), ("cosine", "a single number has none")):
        with pytest.raises(ValueError, match=f"one number an image, and {value} .*{why}"):
            PatchGame(model, IMAGE, 0, GRID, value, batch_size=4)
        with pytest.raises(ValueError, match=f"one number an image, and {value} "):
            profile_model(model, Photos(5), out=tmp_path / "run", progress=False, **ASKED | {"value": value})
    with pytest.raises(ValueError, match="one number an image, and correct asks which class is on top"):
        measure_occlusion(model, Photos(5), out=tmp_path / "run", grid=3, progress=False)


# Numbers from Python


def test_numbers_of_any_type(tmp_path):
    game = PatchGame(network(), IMAGE.numpy(), np.array([3.0]), PatchGrid(np.int64(3)), batch_size=4.0)
    plain = PatchGame(network(), IMAGE, 3, GRID, batch_size=4)
    assert torch.equal(game(ROWS.numpy()), plain(ROWS))
    pairs = GRID.neighbours(1)
    expected = estimate_interactions(plain.of(0), 3, pairs, 400, "pairwise").mean
    for given in (pairs.numpy(), pairs.tolist(), [tuple(pair) for pair in pairs.tolist()], pairs.double().numpy()):
        found = estimate_interactions(game.of(0), np.int64(3), given, 400.0, "pairwise").mean
        assert torch.equal(found.nan_to_num(), expected.nan_to_num())
    odd = {"budget": np.float64(400), "images": 7.0, "ratios": np.array(ASKED["ratios"]), "seed": np.int32(0)}
    odd |= {"target": torch.tensor(2), "minutes": np.float32(90)}
    ours, plain = (
        profile_model(network(), Photos(9), out=tmp_path / name, progress=False, **ASKED | more)
        for name, more in (("odd", odd), ("plain", {"target": 2, "minutes": 90}))
    )
    assert ours.settings == plain.settings and ours.strength(resamples=10).equals(plain.strength(resamples=10))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: PatchGame(network(), IMAGE, 2.5, GRID), "a target class is 2.5: give a whole number"),
        (lambda: PatchGame(network(), IMAGE, ["cat"], GRID), "a target class is 'cat': give a whole number"),
        (lambda: estimate_interactions(None, 3.5, [[0, 1]]), "the order is 3.5: give a whole number"),
        (lambda: estimate_interactions(None, 3, [[0, 1.5]]), "a cell of a pair is 1.5"),
        (lambda: estimate_interactions(None, 3, [0, 1]), "pairs are P×2 cell numbers, got 2"),
        (lambda: estimate_interactions(None, 3, [[0, 1]], 10.5), "the budget is 10.5"),
        (lambda: PatchGrid(2.5), "the side of the grid is 2.5"),
        (lambda: GRID.neighbours(1.5), "the radius is 1.5"),
        (lambda: profile_model(network(), Photos(5), out="none", images=2.5), "images is 2.5: give a whole number"),
        (lambda: profile_model(network(), Photos(5, label=1.5), out="none", grid=3), "the label is 1.5"),
        (lambda: profile_model(network(), Photos(5), out="none", ratios=0.5), "ratios is 0.5: give several numbers"),
        (lambda: profile_model(network(), Photos(5), out="none", orders=3), "orders is 3: give several numbers"),
        (lambda: measure_occlusion(network(), Photos(5), out="none", shares=np.array(1)), "shares is 1: give several"),
        (lambda: measure_occlusion(network(), Photos(5), out="none", seeds="3"), "seeds is '3'"),
    ],
)
def test_a_fraction_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
