import copy
import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from a2mim.backbones import Place, read_structure
from a2mim.layouts import Layout, intercept
from a2mim.masking import (
    MaskToken,
    fill_colour,
    fill_masked,
    mask_grid,
    masked_count,
    pixel_mask,
    random_mask,
)
from tests.a2mim.families import FAMILIES, a2mim_of, make

pytestmark = pytest.mark.xdist_group("families")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_published_counts():
    """Released configurations: 30 of 49 cells at 224 px, 22 of 36 at 192."""
    assert masked_count(49, 0.6) == 30 and masked_count(36, 0.6) == 22
    assert masked_count(49, 0.6, "visible") == 29  # SparK: round(0.4 · 49) = 20 are visible
    assert random_mask(2, (7, 7), 0.6, generator(), rounded="visible").sum((1, 2)).tolist() == [29, 29]
    assert masked_count(10, 0.7) == 7  # 0.7 · 10 is 7.000000000000001
    assert masked_count(196, 0.4, "nearest") == 78 and masked_count(25, 0.5, "nearest") == 12  # Python's round


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 99),
    st.sampled_from(["random", "blockwise"]),
    st.integers(0, 9),
)
def test_every_mask_has_exactly_the_ratio(rows, columns, percent, strategy, seed):
    count = math.ceil(Fraction(percent, 100) * rows * columns)
    if count == rows * columns:
        with pytest.raises(ValueError, match=r"some must be masked and some visible|One mask cell covers"):
            random_mask(3, (rows, columns), percent / 100, generator(seed), strategy)
        return
    mask = random_mask(3, (rows, columns), percent / 100, generator(seed), strategy)
    assert mask.shape == (3, rows, columns) and set(mask.unique().tolist()) == {0.0, 1.0}
    assert mask.sum((1, 2)).tolist() == [count] * 3


def test_random_cells_are_uniform_and_independent_between_images():
    mask = random_mask(20_000, (3, 3), 0.3, generator())  # 3 of 9
    assert torch.allclose(mask.mean(0), torch.full((3, 3), 1 / 3), atol=0.02)
    pairs = torch.einsum("bi,bj->ij", mask.flatten(1), mask.flatten(1)) / len(mask)
    off_diagonal = pairs[~torch.eye(9, dtype=torch.bool)]
    assert torch.allclose(off_diagonal, torch.full_like(off_diagonal, 3 / 9 * 2 / 8), atol=0.02)


@pytest.mark.parametrize("strategy", ["random", "blockwise"])
def test_masks_come_from_the_generator_alone(strategy):
    torch.manual_seed(1)
    first = random_mask(4, (7, 7), 0.6, generator(5), strategy)
    torch.manual_seed(2)
    assert torch.equal(first, random_mask(4, (7, 7), 0.6, generator(5), strategy))
    assert not torch.equal(first, random_mask(4, (7, 7), 0.6, generator(6), strategy))


def test_blockwise_masks_are_made_of_blocks():
    def neighbours(mask):  # masked pairs of adjacent cells, per mask
        return ((mask[:, 1:] * mask[:, :-1]).sum() + (mask[:, :, 1:] * mask[:, :, :-1]).sum()) / len(mask)

    random, blocks = (random_mask(500, (14, 14), 0.4, generator(), s) for s in ("random", "blockwise"))
    assert neighbours(blocks) > 1.5 * neighbours(random)
    small = random_mask(200, (14, 14), 16 / 196, generator(), "blockwise")  # a rectangle, cut to 16
    rows, columns = small.amax(2).sum(1), small.amax(1).sum(1)
    assert (rows * columns >= 16).all() and (rows * columns).mean() < 24  # scattered cells would span nearly everything


@pytest.mark.parametrize(
    ("side", "count", "mean", "deviation", "whole", "adjacent", "corner", "centre"),
    [
        (14, 78, 77.554, 0.883, 0.703, 130.62, 0.0447, 0.733),
        (8, 26, 25.936, 0.257, 0.939, 37.42, 0.1113, 0.694),
    ],
)
def test_whole_blocks_are_those_of_the_released_generator(
    side, count, mean, deviation, whole, adjacent, corner, centre
):
    """Numbers of 20,000 masks of SlowFast's MaskingGenerator(side, count, min_num_patches=count // 5): masked cells,
    their deviation, masks with all of them, masked neighbours, and how often a corner and the centre are masked."""
    mask = random_mask(20_000, (side, side), 0.4, generator(), "whole_blocks")
    cells = mask.sum((1, 2))
    assert cells.max() == count and set(mask.unique().tolist()) == {0.0, 1.0}
    assert cells.mean() == pytest.approx(mean, abs=0.03) and cells.std() == pytest.approx(deviation, rel=0.05)
    assert (cells == count).double().mean() == pytest.approx(whole, abs=0.015)
    pairs = (mask[:, 1:] * mask[:, :-1]).sum((1, 2)) + (mask[:, :, 1:] * mask[:, :, :-1]).sum((1, 2))
    assert pairs.mean() == pytest.approx(adjacent, rel=0.005)
    assert mask[:, 0, 0].mean() == pytest.approx(corner, abs=0.01)
    assert mask[:, side // 2, side // 2].mean() == pytest.approx(centre, abs=0.015)


@pytest.mark.parametrize("grid", [(1, 2), (1, 9), (2, 2), (2, 40), (3, 4)])
def test_whole_blocks_mask_something_in_any_grid(grid):
    cells = random_mask(50, grid, 0.4, generator(), "whole_blocks").sum((1, 2))
    assert cells.min() >= 1 and cells.max() <= max(1, round(0.4 * grid[0] * grid[1]))


def test_bad_masks_are_refused():
    with pytest.raises(ValueError, match=r"A mask cell of 48 px does not divide an image of 224×224 px: .*32, 56"):
        mask_grid((224, 224), 48)
    with pytest.raises(ValueError, match="masks 0 of 49 cells"):
        masked_count(49, 0.0)
    with pytest.raises(ValueError, match="masks 49 of 49 cells"):
        masked_count(49, 0.99)
    with pytest.raises(ValueError, match="no masking strategy 'grid'"):
        random_mask(1, (7, 7), 0.6, generator(), "grid")  # type: ignore[arg-type]
    assert mask_grid((64, 96), 32) == (2, 3)


def test_pixel_mask_repeats_cells():
    mask = random_mask(2, (2, 3), 0.5, generator())
    expected = mask.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert torch.equal(pixel_mask(mask, (8, 12))[:, 0], expected)


def test_fill_colours():
    colour: Any = fill_colour
    image, mask = torch.randn(2, 3, 8, 8), pixel_mask(random_mask(2, (2, 2), 0.5, generator()), (8, 8))
    assert torch.allclose(colour(image, mask, "image_mean")[1, 2], image[1, 2].mean())
    assert torch.allclose(colour(image, mask, "visible_mean")[1, 2], image[1, 2][mask[1, 0] == 0].mean())
    assert colour(image, mask, "zero").abs().max() == 0
    assert fill_colour(image, mask, "none") is None and fill_masked(image, mask, None) is image
    filled = fill_masked(image, mask, torch.full((2, 3, 1, 1), 7.0))
    assert torch.equal(filled == 7, mask.expand_as(image) == 1)
    assert torch.equal(filled[filled != 7], image[mask.expand_as(image) == 0])
    with pytest.raises(ValueError, match="no fill 'red'"):
        fill_colour(image, mask, "red")  # type: ignore[arg-type]


LAYOUTS = [Layout("NCHW", 5, (4, 4)), Layout("NHWC", 5, (4, 4)), Layout("NLC", 5, (4, 4), prefix=2)]


def as_map(x, layout):  # (B, C, h, w), written out
    if layout.kind == "NLC":
        return torch.stack([x[:, layout.prefix + i] for i in range(16)], -1).view(len(x), 5, 4, 4)
    return x if layout.kind == "NCHW" else x.permute(0, 3, 1, 2)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.kind)
@pytest.mark.parametrize("how, gamma", [("add", None), ("add", 0.25), ("replace", None)])
def test_mask_token_by_the_formula(layout, how, gamma):
    backbone = torch.nn.Sequential(torch.nn.Identity())
    token = MaskToken(backbone, Place("0", "output", layout), how, gamma)
    x = torch.randn({"NCHW": (2, 5, 4, 4), "NHWC": (2, 4, 4, 5), "NLC": (2, 18, 5)}[layout.kind])
    mask = random_mask(2, (2, 2), 0.5, generator())
    before, after = as_map(x, layout), as_map(token.insert(x, mask), layout)
    for b in range(2):
        for row in range(4):
            for column in range(4):
                z, t = before[b, :, row, column], token.token_C
                if mask[b, row // 2, column // 2]:
                    z = t if how == "replace" else (1.0 if gamma is None else gamma) * z + t
                assert torch.allclose(after[b, :, row, column], z, atol=1e-6)
    if layout.kind == "NLC":
        assert torch.equal(token.insert(x, mask)[:, :2], x[:, :2])


def test_mask_is_averaged_where_the_place_is_coarser():
    token = MaskToken(torch.nn.Sequential(torch.nn.Identity()), Place("0", "input", Layout("NCHW", 1, (1, 1))))
    mask = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    assert torch.allclose(token.insert(torch.zeros(1, 1, 1, 1), mask), 0.75 * token.token_C)


def test_gamma_needs_an_added_token():
    with pytest.raises(ValueError, match="needs an added mask token"):
        MaskToken(torch.nn.Sequential(torch.nn.Identity()), Place("0", "input", LAYOUTS[0]), "replace", 1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_token_lands_on_the_masked_cells(name):
    """In a real forward pass: what the backbone goes on with differs by T where the mask is, and nowhere else."""
    method, size = a2mim_of(name), FAMILIES[name][0]
    backbone, token, place = method.backbone, method.mask_token, method.mask_token.place
    seen: list[torch.Tensor] = []
    handle = intercept(backbone, place.module, place.side, seen.append)
    rows, columns = place.layout.grid
    mask = random_mask(1, place.layout.grid, 0.3, generator()) if rows * columns > 1 else torch.ones(1, 1, 1)
    image = torch.randn(1, 3, size, size)
    with torch.no_grad():
        for m in (None, mask):
            token.mask = m
            backbone.eval().forward_features(image)
    token.mask = None
    handle.remove()
    change = seen[1] - seen[0]
    if place.layout.kind == "NLC":
        assert change[:, : place.layout.prefix].abs().sum() == 0
        change = change[:, place.layout.prefix :].reshape(1, rows, columns, -1)
    elif place.layout.kind == "NCHW":
        change = change.permute(0, 2, 3, 1)
    assert torch.allclose(change, mask[..., None] * token.token_C.detach(), atol=1e-4)


def test_a_copy_of_a_method_uses_its_own_token():
    backbone, size = make("resnet18")
    structure = read_structure(backbone, size)
    both: Any = torch.nn.ModuleDict({"backbone": backbone.eval(), "token": MaskToken(backbone, structure.places[3])})
    copied = copy.deepcopy(both)
    with torch.no_grad():
        copied["token"].token_C += 1
        image = torch.randn(1, 3, size, size)
        plain = backbone.forward_features(image)
        copied["token"].mask = torch.ones(1, 2, 2)
        assert torch.equal(backbone.forward_features(image), plain)
        assert not torch.equal(copied["backbone"].forward_features(image), plain)
