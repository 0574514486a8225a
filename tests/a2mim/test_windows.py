"""Windowed attention of a plain transformer: windows cut out by hand as the oracle, global attention where a window is
as large as the grid, and networks that cannot."""

import copy

import pytest
import timm
import torch

from a2mim.detect.method import Detect
from a2mim.detect.windows import in_windows, windowed_blocks
from a2mim.trainer import recompute

CELL = 8


def network(name="test_vit", seed=0, **more):
    torch.manual_seed(seed)
    given = {"patch_size": CELL, "embed_dim": 16, "depth": 8, "num_heads": 2, **more}
    made = timm.create_model(name, num_classes=0, **given).eval()
    for p in made.parameters():  # biases of norms and projections are zero at first, as padding is
        torch.nn.init.normal_(p, std=0.2)
    return made


def windowed(backbone, side, size):
    return in_windows(backbone, side, torch.randn(1, 3, *size), backbone.forward_features, CELL)


def detector(backbone, window, size=(64, 96), **more):
    given = {"frozen": False, "frozen_norms": True, "anchors": (8, 16, 32, 64, 128), "regions": 8, **more}
    return Detect(backbone, 3, "faster_rcnn", size=size, window=window, **given)


def by_hand(block, x_BNC, grid, side, prefix):
    """The block with attention of each window by itself, after Detectron2's order: norm, zeros, attention, cut."""
    height, width = grid
    normed = block.norm1(x_BNC)
    cells = normed[:, prefix:].reshape(len(x_BNC), height, width, -1)
    found, others = torch.full_like(cells, torch.nan), []
    high, wide = min(side, height), min(side, width)
    for top in range(0, height, high):
        for left in range(0, width, wide):
            window = torch.zeros(len(x_BNC), high, wide, cells.shape[-1])
            part = cells[:, top : top + high, left : left + wide]
            rows, columns = part.shape[1:3]
            window[:, :rows, :columns] = part
            made = block.attn(torch.cat([normed[:, :prefix], window.flatten(1, 2)], 1))
            others.append(made[:, :prefix])
            made = made[:, prefix:].reshape(len(x_BNC), high, wide, -1)
            found[:, top : top + high, left : left + wide] = made[:, :rows, :columns]
    x_BNC = x_BNC + torch.cat([sum(others) / len(others), found.flatten(1, 2)], 1)
    return x_BNC + block.mlp(block.norm2(x_BNC))


@pytest.mark.parametrize(
    ("grid", "side"), [((4, 6), 2), ((6, 6), 3), ((5, 7), 3), ((2, 8), 3), ((7, 4), 5), ((3, 3), 1)]
)
@pytest.mark.parametrize("more", [{}, {"reg_tokens": 2}, {"class_token": False, "global_pool": "avg"}])
@torch.no_grad()
def test_a_windowed_block_is_the_block_on_each_window_cut_out(grid, side, more):
    plain = network(**more)
    changed = copy.deepcopy(plain)
    windows = windowed(changed, side, [n * CELL for n in grid])
    assert windows.prefix == plain.num_prefix_tokens
    windows.grid = grid
    x_BNC = torch.randn(2, windows.prefix + grid[0] * grid[1], 16)
    for n, (block, other) in enumerate(zip(plain.blocks, changed.blocks, strict=True)):
        expected = block(x_BNC) if n % 2 else by_hand(block, x_BNC, grid, side, windows.prefix)
        torch.testing.assert_close(other(x_BNC), expected)
    if not (grid[0] % side or grid[1] % side or windows.prefix):  # the whole block on a small picture
        corner = x_BNC.reshape(2, *grid, 16)[:, -side:, -side:].flatten(1, 2)
        found = changed.blocks[0](x_BNC).reshape(2, *grid, 16)[:, -side:, -side:].flatten(1, 2)
        torch.testing.assert_close(found, plain.blocks[0](corner))


@torch.no_grad()
def test_a_window_as_large_as_the_grid_is_global_attention():
    plain = network()
    large, small = (detector(copy.deepcopy(plain), window).eval() for window in (12, 4))
    for size in ((64, 96), (96, 48), (16, 16)):
        image = torch.randn(2, 3, *size)
        expected = plain.forward_intermediates(image, indices=1, norm=True, intermediates_only=True)[0]
        assert torch.equal(large.features(image)[0], expected)
        assert torch.equal(small.features(image)[0], expected) == (size == (16, 16))


@pytest.mark.parametrize(
    ("depth", "whole"), [(12, (2, 5, 8, 11)), (24, (5, 11, 17, 23)), (32, (7, 15, 23, 31)), (4, (0, 1, 2, 3))]
)
def test_the_blocks_that_see_the_whole_picture_are_detectrons(depth, whole):
    assert set(windowed_blocks(depth)) == set(range(depth)) - set(whole)


def test_gradients_reach_every_weight_also_of_blocks_computed_again():
    image = torch.randn(2, 3, 40, 56)
    found = []
    for again in (False, True):
        method = detector(network(), 3)
        if again:
            recompute(method)
        (x,) = method.train().features(image)
        (x * torch.linspace(-1, 1, x.numel()).reshape(x.shape)).sum().backward()
        found.append({name: p.grad for name, p in method.backbone.named_parameters()})
    assert all(g is not None and g.isfinite().all() and g.any() for g in found[0].values())
    torch.testing.assert_close(*found)


@torch.no_grad()
def test_a_copy_has_windows_of_its_own():
    method = detector(network(), 3).eval()
    other = copy.deepcopy(method)
    small, large = torch.randn(1, 3, 32, 32), torch.randn(1, 3, 64, 96)
    (expected,) = method.features(large)
    other.features(small)
    assert method.windows.grid == (8, 12) and other.windows.grid == (4, 4)
    assert torch.equal(other.features(large)[0], expected)
    assert set(method.backbone.state_dict()) == set(network().state_dict())


@pytest.mark.parametrize(
    ("name", "more", "sentence"),
    [
        ("test_vit", {"depth": 4}, "has 4 blocks, and 4 attend to the whole picture"),
        (
            "beit_base_patch16_224",
            {"img_size": 64, "use_rel_pos_bias": True},
            "blocks that only take the whole picture",
        ),
        (
            "beit_base_patch16_224",
            {"img_size": 64, "use_shared_rel_pos_bias": True},
            "the positions of the whole picture",
        ),
        ("eva02_tiny_patch14_224", {"img_size": 64}, "gives its attention the positions of the whole picture"),
        ("vit_relpos_small_patch16_224", {"img_size": 64}, "has blocks that only take the whole picture"),
        ("xcit_nano_12_p8_224", {}, "has blocks that only take the whole picture"),
    ],
)
def test_networks_that_need_the_whole_grid_are_refused(name, more, sentence):
    with pytest.raises(ValueError, match=f"{sentence}: leave out --window"):
        windowed(network(name, **more), 2, (64, 64))


def test_blocks_that_join_patches_beside_attention_are_refused():
    class Joined(torch.nn.Module):
        def forward(self, x_BNC):
            return x_BNC.mean(1, keepdim=True) + x_BNC

    joined = network(class_token=False, global_pool="avg")
    joined.blocks[4].mlp = Joined()
    with pytest.raises(ValueError, match="blocks in which more than attention joins patches: leave out --window"):
        windowed(joined, 2, (64, 64))


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_networks_without_tokens_are_refused(name):
    with pytest.raises(ValueError, match="no row of blocks with an attention each: leave out --window"):
        windowed(timm.create_model(name, num_classes=0), 2, (64, 64))
