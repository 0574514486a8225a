"""The baseline drop, against forward passes written here that build the kept tokens by hand, in float64."""

import json

import pandas as pd
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from interactions.estimators import shared
from interactions.forecast import DryRun
from interactions.game import PatchGame
from interactions.grid import PatchGrid
from interactions.occlusion import measure_occlusion
from interactions.profile import profile_model

SIDE, PATCH, CLASSES = 4, 4, 5
SIZE = SIDE * PATCH
IMAGES = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).double()
SMALL = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": CLASSES}
KINDS = {
    "class token": ("vit_tiny_patch16_224", {}),
    "average": ("vit_tiny_patch16_224", {"global_pool": "avg", "class_token": False}),
    "average beside a class token": ("vit_tiny_patch16_224", {"global_pool": "avg"}),
    "registers": ("vit_tiny_patch16_224", {"reg_tokens": 3, "no_embed_class": True, "pre_norm": True}),
    "dynamic size": ("vit_tiny_patch16_224", {"img_size": 12, "dynamic_img_size": True}),
    "distilled": ("deit_tiny_distilled_patch16_224", {}),
    "rotary, average": ("eva02_tiny_patch14_224", {"ref_feat_shape": (SIDE, SIDE), "qkv_bias": True}),
}


def network(kind="class token", seed=0, **more):
    name, asked = KINDS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = timm.create_model(name, **SMALL | asked | more).double().eval()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.4)
    return model


def by_hand(model, image_CHW, cells):
    """The logits of one image of which only the patches of some cells are seen: a 4×4 grid of single patches."""
    weight, bias = model.patch_embed.proj.weight, model.patch_embed.proj.bias
    bias = 0 if bias is None else bias
    patches = [image_CHW[:, PATCH * (c // 4) :, PATCH * (c % 4) :][:, :PATCH, :PATCH] for c in cells]
    rows = [(weight * patch).sum((1, 2, 3)) + bias for patch in patches]
    tokens_KD = torch.stack(rows) if rows else weight.new_empty(0, len(weight))
    first = [getattr(model, name, None) for name in ("cls_token", "dist_token", "reg_token")]
    first_PD = torch.cat([token[0] for token in first if token is not None] or [weight.new_empty(0, len(weight))])
    position_LD = model.pos_embed[0]
    if len(position_LD) == 1 + 9:  # of three by three patches
        grid = position_LD[1:].T.view(1, -1, 3, 3)
        grid = functional.interpolate(grid, (4, 4), mode="bicubic", antialias=True)[0].flatten(1).T
        position_LD = torch.cat([position_LD[:1], grid])
    if len(position_LD) > 16:
        first_PD, position_LD = first_PD + position_LD[: len(first_PD)], position_LD[len(first_PD) :]
    x_KD = model.norm_pre(torch.cat([first_PD, tokens_KD + position_LD[list(cells)]]))
    rotary = {}
    if getattr(model, "rope", None) is not None:
        rotary = {"rope": model.rope.get_embed()[list(cells)]}
    for block in model.blocks:
        x_KD = block(x_KD[None], **rotary)[0]
    x_KD = model.norm(x_KD)
    if hasattr(model, "head_dist"):
        return (model.head(x_KD[0]) + model.head_dist(x_KD[1])) / 2
    x_D = x_KD[0] if model.global_pool == "token" else x_KD[len(first_PD) :].mean(0)
    return model.head(model.fc_norm(x_D))


def drop_game(model, images=IMAGES, targets=(1, 0, 4), side=SIDE, value="logit", **more):
    return PatchGame(model, images, targets, PatchGrid(side), value, "drop", batch_size=5, **more)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_v_is_that_of_a_pass_on_the_kept_tokens(kind):
    model = network(kind)
    game = drop_game(model)
    coalitions_BN = torch.rand(12, 16, generator=torch.Generator().manual_seed(1)) < 0.5
    coalitions_BN[0], coalitions_BN[1, 1:], coalitions_BN[1, 0] = True, False, True
    if "average" not in kind:
        coalitions_BN[2] = False
    image_B = torch.arange(12) % 3
    values_B = game(coalitions_BN, image_B)
    expected = [
        by_hand(model, IMAGES[k], coalition_N.nonzero().flatten().tolist())[game.reference_I[k]]
        for coalition_N, k in zip(coalitions_BN, image_B.tolist(), strict=True)
    ]
    torch.testing.assert_close(values_B, torch.stack(expected), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(values_B[0], model(IMAGES[:1])[0, 1], rtol=1e-9, atol=1e-9)
    assert values_B.std() > 0.01


@torch.no_grad()
def test_cells_of_several_patches_a_wrapped_network_and_features():
    model = network("registers")
    cells = [0, 1, 4, 5, 10, 11, 14, 15]  # of the upper left and lower right cell
    coalition_1N = torch.tensor([[True, False, False, True]])
    value = drop_game(nn.Sequential(model, nn.Identity()), IMAGES[0], 2, 2)(coalition_1N)
    torch.testing.assert_close(value[0], by_hand(model, IMAGES[0], cells)[2], rtol=1e-9, atol=1e-9)
    # as many cells in several coalitions of an image, which go through the network together
    value_B = drop_game(model, IMAGES[0], None, 2, "cosine")(torch.cat([coalition_1N, ~coalition_1N, coalition_1N]))
    model.head = nn.Identity()
    others = [cell for cell in range(16) if cell not in cells]
    for value, kept in zip(value_B, (cells, others, cells), strict=True):
        expected = torch.cosine_similarity(by_hand(model, IMAGES[0], kept), model(IMAGES[:1])[0], 0)
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_tokens_enter_the_blocks_of_a_network_without_a_patch_drop():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model("cait_xxs24_224", **SMALL, init_values=1.0).double().eval()
    game = drop_game(model, IMAGES[0], 1)
    coalition_1N = torch.arange(16)[None] % 3 == 0
    x_1KD = model.patch_embed(IMAGES[:1])[:, ::3] + model.pos_embed[:, ::3]
    for block in model.blocks:
        x_1KD = block(x_1KD)
    torch.testing.assert_close(
        game(coalition_1N)[0], model.forward_head(through_class_attention(model, x_1KD))[0, 1], rtol=1e-9, atol=1e-9
    )


def through_class_attention(model, x_1KD):
    token_11D = model.cls_token
    for block in model.blocks_token_only:
        token_11D = block(x_1KD, token_11D)
    return model.norm(torch.cat([token_11D, x_1KD], 1))


class Watched(nn.Module):
    """Notes how many rows and tokens each block call has."""

    def __init__(self, block, seen):
        super().__init__()
        self.block, self.seen = block, seen

    def forward(self, x_BLD):
        self.seen.append(tuple(x_BLD.shape[:2]))
        return self.block(x_BLD)


def test_batches_hold_one_size_and_more_rows_where_tokens_are_few():
    model, seen = network(), []
    model.blocks[0] = Watched(model.blocks[0], seen)
    game = drop_game(model)
    coalitions_BN = torch.arange(16) < torch.tensor([3] * 30 + [8] * 10)[torch.randperm(40)][:, None]
    seen.clear()
    told: list[int] = []
    game.on_batch = told.append
    game(coalitions_BN, torch.arange(40) % 3)
    assert seen == [(21, 4), (9, 4), (9, 9), (1, 9)]  # five whole images are 85 tokens
    assert told == [21, 9, 9, 1] and game.passes == 40
    assert type(model.patch_drop) is nn.Identity


def test_interactions_are_those_of_the_game_by_hand():
    model, pairs_P2 = network(), torch.tensor([[0, 1], [5, 10]])
    game = drop_game(model, IMAGES[0], 1)

    def value(*cells):
        return float(by_hand(model, IMAGES[0], sorted(cells))[1])

    sample = shared.draw_exact(0, pairs_P2, 16)
    found = sample.estimate(game(sample.coalitions_BN)).mean
    with torch.no_grad():
        expected = [value(i, j) - value(i) - value(j) + value() for i, j in pairs_P2.tolist()]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


class Windows(nn.Module):
    """A transformer whose second block reads a token's place in the sequence."""

    def __init__(self):
        super().__init__()
        self.patch_embed = Flat(nn.Conv2d(3, 16, PATCH, PATCH))
        self.blocks = nn.Sequential(nn.Linear(16, 16), Neighbours())
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x):
        return self.head(self.blocks(self.patch_embed(x)).tanh().mean(1))


class Neighbours(nn.Module):
    def forward(self, x):
        return x * x.roll(1, 1)


class Flat(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x).flatten(2).transpose(1, 2)


def overlapping():
    model = network()
    model.patch_embed = Flat(nn.Conv2d(3, 16, 6, 4, padding=1).double())
    return model


def unread():
    model = network()
    model.head = nn.Linear(16, CLASSES).double()
    nn.init.zeros_(model.head.weight)
    return model


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (lambda: timm.create_model("test_resnet").double(), "ResNet is not .it has no patch embeddings with blocks"),
        (lambda: Windows().double(), "its tokens need their places in the grid"),
        (overlapping, "tokens that are kept see the pixels of absent cells"),
        (unread, "its output is the same whichever tokens are kept"),
        (lambda: timm.create_model("beit_base_patch16_224", **SMALL).double(), "does not run on a part of its tokens"),
    ],
)
def test_what_is_no_set_of_patches_is_refused(model, why):
    with pytest.raises(ValueError, match=why):
        drop_game(model(), IMAGES[0], 1)


def test_grids_that_cut_patches_and_compiled_networks_are_refused():
    with pytest.raises(ValueError, match=r"8×8 grid does not fit the model's 4×4 patches.*choose --grid 2 or 4"):
        drop_game(network(), side=8)
    with pytest.raises(ValueError, match="choose a speed without compilation"):
        drop_game(network(), speed="compiled")


@pytest.fixture
def photos():
    images = torch.randn(9, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    return [(image, k % CLASSES) for k, image in enumerate(images)]


ASKED = {"grid": 4, "radius": 1, "ratios": (0.0, 0.5, 1.0), "budget": 200, "images": 3, "baseline": "drop"}


def test_a_run_says_that_its_game_is_another(photos, tmp_path):
    made = profile_model(network().float(), photos, out=tmp_path / "run", progress=False, **ASKED)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["baseline"] == "drop"
    for table in ("strength.csv", "middle_mass.csv"):
        assert set(pd.read_csv(tmp_path / "run" / table)["baseline"]) == {"drop"}
    with pytest.raises(ValueError, match="baseline drop there, mean now"):
        profile_model(network().float(), photos, out=tmp_path / "run", progress=False, **ASKED | {"baseline": "mean"})
    one = made.pairs().query("order == 0").iloc[0]  # of two tokens, of one, and of none
    image, cells = int(one.image), [int(one.i), int(one.j)]
    with torch.no_grad():
        logits_4K = torch.stack(
            [by_hand(network(), photos[image][0], kept) for kept in (cells, cells[:1], cells[1:], [])]
        )
    p_4 = logits_4K.softmax(1)[:, photos[image][1]]
    v_4 = (p_4 / (1 - p_4)).log()
    assert float(v_4[0] - v_4[1] - v_4[2] + v_4[3]) == pytest.approx(one["mean"], rel=1e-3, abs=1e-5)


def test_without_a_token_of_its_own_the_empty_image_has_no_value(photos, tmp_path):
    model = network("average").float()
    with pytest.raises(ValueError, match=r"gives no value to an image without patches.*leave out.*order 0"):
        profile_model(model, photos, out=tmp_path / "run", progress=False, **ASKED)
    assert not (tmp_path / "run" / "run.json").exists()
    asked = ASKED | {"ratios": (0.1, 0.5, 1.0)}
    assert (profile_model(model, photos, out=tmp_path / "run", progress=False, **asked).strength().rms > 0).all()
    with pytest.raises(ValueError, match="the share 1 of an occlusion"):
        measure_occlusion(model, photos, out=tmp_path / "occluded", progress=False, grid=4, baseline="drop")


def test_dropped_patches_are_gone_in_an_occlusion(photos, tmp_path):
    model = network().float()
    shares = {"shares": (0.0, 0.5, 1.0), "kinds": ("random",), "seeds": 1}
    found = measure_occlusion(
        model, photos, out=tmp_path / "run", progress=False, grid=4, baseline="drop", images=9, **shares
    )
    table = found.occlusion().set_index("share")
    with torch.no_grad():
        none = by_hand(model, photos[0][0], []).argmax()
    assert table.top1[1.0] == pytest.approx(100 * sum(label == none for _, label in photos) / 9)
    assert set(table.baseline) == {"drop"} and len(found.shuffled_images())


def test_a_forecast_is_at_the_rate_of_passes_without_the_dropped_tokens(tmp_path):
    model, seen = network().float(), []
    model.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[:2]))
    asked = {"grid": SIDE, "orders": [1, 3], "images": 2, "budget": 96, "batch_size": 8, "baseline": "drop"}
    photos = [(image.float(), 1) for image in IMAGES]
    with pytest.raises(DryRun, match="a second"):
        profile_model(model, photos, out=tmp_path, dry_run=True, progress=False, **asked)
    tokens = 1 + 3  # two to four cells of a token each, behind the class token
    assert [tuple(each) for each in seen[-2:]] == 2 * [(8 * 17 // tokens, tokens)]
