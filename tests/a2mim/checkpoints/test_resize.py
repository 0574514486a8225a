"""Resized positions and tables against interpolations written out in NumPy and another spline."""

import numpy as np
import pytest
import timm
import torch
from scipy.interpolate import make_interp_spline

from a2mim.checkpoints import CheckpointError, load_into, read
from a2mim.checkpoints.resize import geometric_places, resize_positions, resize_table
from tests.a2mim.checkpoints.layouts import Beit, ViT, randomise

GENERATOR = torch.Generator().manual_seed(0)


def keys_cubic(t, a=-0.75):
    """The cubic kernel of Keys (1981) with torch's a."""
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def bicubic_matrix(source, target, rule):
    """(target, source): what each sample along one axis is a mixture of; beyond the edge the edge counts."""
    matrix = np.zeros((target, source))
    for i in range(target):
        if rule == "align corners":
            x = i * (source - 1) / (target - 1)
        else:
            ratio = source / (target + 0.1) if rule == "dino" else source / target
            x = (i + 0.5) * ratio - 0.5
        for k in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
            matrix[i, min(max(k, 0), source - 1)] += keys_cubic(x - k)
    return matrix


@pytest.mark.parametrize("rule", ["bicubic", "align corners", "dino"])
@pytest.mark.parametrize("grid", [(6, 6), (3, 3), (5, 7)])
def test_positions_by_a_matrix_per_axis(rule, grid):
    positions = torch.randn(1, 1 + 16, 5, generator=GENERATOR, dtype=torch.float32)
    resized = resize_positions(positions, grid, 1, rule)
    rows, columns = (bicubic_matrix(4, n, rule) for n in grid)
    wanted = np.einsum("ia,jb,abd->ijd", rows, columns, positions[0, 1:].numpy().reshape(4, 4, 5))
    assert torch.equal(resized[:, :1], positions[:, :1])
    np.testing.assert_allclose(resized[0, 1:].numpy(), wanted.reshape(-1, 5), rtol=0, atol=2e-6)


def test_timm_positions_are_antialiased_as_timm_does():
    positions = torch.randn(1, 1 + 64, 5, generator=GENERATOR)
    wanted = timm.layers.resample_abs_pos_embed(positions, new_size=[5, 5], num_prefix_tokens=1)
    torch.testing.assert_close(resize_positions(positions, (5, 5), 1, "antialiased"), wanted)


def test_positions_that_are_no_square_are_refused():
    with pytest.raises(ValueError, match="18 position embeddings are not 1 and a square"):
        resize_positions(torch.zeros(1, 18, 4), (5, 5), 1, "bicubic")


@pytest.mark.parametrize(("source", "window", "extra"), [(4, 6, 3), (6, 7, 0), (7, 12, 0), (3, 5, 3)])
def test_a_table_by_splines_along_each_axis(source, window, extra):
    side, wide = 2 * source - 1, 2 * window - 1
    table = torch.randn(side * side + extra, 2, generator=GENERATOR, dtype=torch.float64)
    resized = resize_table(table, window, extra)
    places = geometric_places(source - 1, window - 1)
    wanted_places = np.arange(wide) - (window - 1)
    maps = table[: side * side].numpy().reshape(side, side, 2)
    half = make_interp_spline(places, maps, k=3, axis=0)(np.clip(wanted_places, places[0], places[-1]))
    wanted = make_interp_spline(places, half, k=3, axis=1)(np.clip(wanted_places, places[0], places[-1]))
    np.testing.assert_allclose(resized[: wide * wide].numpy(), wanted.reshape(-1, 2), rtol=0, atol=1e-9)
    assert torch.equal(resized[wide * wide :], table[side * side :])


@pytest.mark.parametrize(("n", "reach"), [(5, 6), (13, 23), (3, 4)])
def test_the_places_grow_geometrically_and_reach_the_end(n, reach):
    places = geometric_places(n, reach)
    steps = np.diff(places[n:])
    assert places[n] == 0 and steps[0] == 1
    np.testing.assert_allclose(steps[1:] / steps[:-1], steps[1] / steps[0])
    assert places[-1] == pytest.approx(reach, abs=1e-3)
    np.testing.assert_allclose(places, -places[::-1])


def test_a_vit_for_larger_images_says_what_was_resized(tmp_path):
    net = randomise(ViT())
    torch.save({"model": net.state_dict()}, tmp_path / "mae.pth")
    model = timm.create_model(
        "vit_base_patch16_224", img_size=48, patch_size=8, embed_dim=128, depth=2, num_heads=2, num_classes=0
    )
    report = load_into(model, tmp_path / "mae.pth")
    assert report.complete
    assert report.adapted[0] == "pos_embed was resized from 1×17×128 to 1×37×128"
    checkpoint = read(tmp_path / "mae.pth")
    wanted = resize_positions(net.pos_embed.detach(), (6, 6), 1, checkpoint.positions)
    torch.testing.assert_close(model.pos_embed.double(), wanted, rtol=1e-6, atol=1e-9)


def test_a_beit_for_larger_images(tmp_path):
    net = randomise(Beit())
    torch.save({"model": net.state_dict()}, tmp_path / "beit.pth")
    model = timm.create_model(
        "beit_base_patch16_224", img_size=48, patch_size=8, embed_dim=32, depth=2, num_heads=4, num_classes=5
    )
    report = load_into(model, tmp_path / "beit.pth")
    assert report.adapted == tuple(
        f"blocks.{n}.attn.relative_position_bias_table was resized from 52×4 to 124×4" for n in range(2)
    )
    wanted = resize_table(net.blocks[1].attn.relative_position_bias_table.detach(), 6, 3)
    torch.testing.assert_close(model.blocks[1].attn.relative_position_bias_table.double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [16, 18])
def test_positions_that_cannot_be_resized_are_mis_shaped(tmp_path, length):
    state = randomise(ViT()).state_dict()
    state["pos_embed"] = torch.zeros(1, length, 128)
    torch.save({"model": state}, tmp_path / "mae.pth")
    model = timm.create_model(
        "vit_base_patch16_224", img_size=48, patch_size=8, embed_dim=128, depth=2, num_heads=2, num_classes=0
    )
    with pytest.raises(CheckpointError, match=rf"1 mis-shaped key \(pos_embed: 1×{length}×128 instead of 1×37×128\)"):
        load_into(model, tmp_path / "mae.pth")
