"""Whole masked-image networks: the layout's own forward pass, encoder and decoder, gives the same prediction."""

import argparse
import json
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from a2mim.checkpoints import CheckpointError, read
from a2mim.methods import A2MIM, MAE, SimMIM, SparK
from a2mim.methods.fcmae import FCMAE
from a2mim.methods.hiera_mae import HieraMAE
from a2mim.methods.restore import load_method, own_tensors
from a2mim.targets import patchify, unpatchify
from tests.a2mim.checkpoints import layouts, newer_layouts
from tests.a2mim.checkpoints.layouts import HFMAE, Beit, ConvNeXt, MMConvNeXt, MMViT, Named, Swin, at_pixels, randomise
from tests.a2mim.checkpoints.resnets import resnet, widths

EXACT = {"rtol": 1e-9, "atol": 1e-11}
EPS6 = partial(nn.LayerNorm, eps=1e-6)


def stored(net):
    """Random weights that single precision holds exactly, in double."""
    return randomise(net).float().double()


def images(size=32, batch=3):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(7), dtype=torch.float64) + 0.5


def opened(path, size=None, **settings):
    """The method in double precision, and the report; every key of the file is loaded or left out by a rule."""
    method, report = load_method(path, size, **settings)
    checkpoint = read(path)
    whole = len(checkpoint.tensors) + len(checkpoint.left_out)
    assert report.complete
    assert report.loaded + sum(len(keys) for keys in report.dropped.values()) == whole
    return method.double().eval(), report


def mask_of(method, x, seed=3):
    return method.draw_mask(x, torch.Generator().manual_seed(seed))


def same(found, wanted):
    assert wanted.std() > 1e-3
    torch.testing.assert_close(found, wanted, **EXACT)


# --- MAE


def mae_file(path, net, **more):
    torch.save({"model": net.state_dict(), **more}, path)
    return path


def predicted_patches(method, x):
    mask_BL = mask_of(method, x)
    return method.decode(method.encode(x, mask_BL), mask_BL), mask_BL


def test_mae(tmp_path):
    net, x = stored(layouts.MAE()), images()
    method, report = opened(mae_file(tmp_path / "mae.pth", net), normalised_target=False)
    assert isinstance(method, MAE) and report.loaded == len(net.state_dict())
    found, mask_BL = predicted_patches(method, x)
    assert mask_BL.sum(1).tolist() == [12.0] * 3
    same(found, net.reconstruct(x, mask_BL))
    no_part_is_idle(method, x, ("mask_token_C", "positions_ND", "decoder_norm.weight", "embed.bias", "head.bias"))


def no_part_is_idle(method, x, names):
    found = predicted_patches(method, x)[0]
    for name in names:
        tensor = own_tensors(method)[name].detach()
        kept = tensor.clone()
        tensor += 0.1 * torch.randn_like(tensor)  # a norm takes a constant away
        assert not torch.allclose(predicted_patches(method, x)[0], found), name
        tensor.copy_(kept)


def test_mae_pictures_undo_the_normalisation_of_each_patch(tmp_path):
    net, x = stored(layouts.MAE()), images()
    path = mae_file(tmp_path / "mae.pth", net)
    for normalised in (False, True):
        method, _ = opened(path, normalised_target=normalised)
        shown = method.pictures({"image": x}, torch.Generator().manual_seed(3))
        wanted = net.reconstruct(x, mask_of(method, x))
        if normalised:
            true = patchify(x, 8).float()
            wanted = wanted.float() * (true.var(-1, keepdim=True) + 1e-6).sqrt() + true.mean(-1, keepdim=True)
        torch.testing.assert_close(patchify(shown["predicted"], 8), wanted.double(), rtol=1e-5, atol=1e-5)


def test_what_mae_predicts_is_told_by_the_command_line_in_the_file_or_must_be_said(tmp_path):
    net = stored(layouts.MAE())
    with pytest.raises(ValueError, match="does not tell normalised_target of mae"):
        load_method(mae_file(tmp_path / "silent.pth", net))
    for said in (True, False):
        args = argparse.Namespace(model="mae_vit_base_patch16", norm_pix_loss=said, mask_ratio=0.5)
        method, _ = opened(mae_file(tmp_path / "told.pth", net, args=args, epoch=3))
        assert (method.settings.normalised_target, method.settings.mask_ratio) == (said, 0.5)
        method, _ = opened(tmp_path / "told.pth", normalised_target=not said, mask_ratio=0.75)
        assert (method.settings.normalised_target, method.settings.mask_ratio) == (not said, 0.75)


def test_mae_at_another_size_has_its_positions_resized(tmp_path):
    net = stored(layouts.MAE())
    method, report = opened(mae_file(tmp_path / "mae.pth", net), 64, normalised_target=False)
    assert "positions_ND was resized from 17 to 65 positions" in report.adapted
    square = net.decoder_pos_embed[0, 1:].T.reshape(1, -1, 4, 4).float()
    wanted = F.interpolate(square, (8, 8), mode="bicubic").reshape(-1, 64).T
    torch.testing.assert_close(method.positions_ND[1:].float(), wanted)
    assert method.pictures({"image": images(64)}, torch.Generator())["predicted"].shape == (3, 3, 64, 64)


def test_mae_of_hugging_face(tmp_path):
    net, x = stored(HFMAE()), images()
    save_file({key: tensor.clone() for key, tensor in net.state_dict().items()}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="does not tell normalised_target"):
        load_method(tmp_path / "model.safetensors")
    config = {"num_attention_heads": 2, "decoder_num_attention_heads": 4, "norm_pix_loss": False, "mask_ratio": 0.5}
    (tmp_path / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-12}))
    method, _ = load_method(tmp_path / "model.safetensors")
    method.double()
    found, mask_BL = predicted_patches(method, x)
    assert mask_BL.sum(1).tolist() == [8.0] * 3
    same(found, net.reconstruct(x, mask_BL))


# --- SimMIM


def predicted_map(method, x, cell):
    mask = mask_of(method, x)
    return method.decoder(method.encode(x, mask)), at_pixels(mask, cell)


def test_simmim(tmp_path):
    net, x = stored(layouts.SimMIM(Beit(shared=True, mean=False, classes=0), 32)), images()
    torch.save({"model": net.state_dict(), "optimizer": {}, "epoch": 1}, tmp_path / "simmim.pth")
    method, _ = opened(tmp_path / "simmim.pth", mask_cell=16, mask_ratio=0.5)
    assert isinstance(method, SimMIM)
    found, mask_BLL = predicted_map(method, x, 2)
    same(found, net.reconstruct(x, mask_BLL))
    assert not torch.allclose(found, net.reconstruct(x, 1 - mask_BLL))


def test_simmim_swin(tmp_path):
    net, x = stored(layouts.SimMIM(Swin(classes=0), 16, 32)), images()
    torch.save({"model": net.state_dict()}, tmp_path / "simmim.pth")
    method, _ = opened(tmp_path / "simmim.pth", 32, mask_cell=8)
    found, mask_BLL = predicted_map(method, x, 2)
    same(found, net.reconstruct(x, mask_BLL))


# --- OpenMixup


def openmixup_file(path, backbone, channels, stride, neck="decoder_pred"):
    decoder = nn.Sequential(nn.Conv2d(channels, 3 * stride**2, 1), nn.PixelShuffle(stride))
    net = stored(Named(backbone=backbone, neck=Named(**{neck: decoder})))
    torch.save({"meta": {"epoch": 3}, "state_dict": net.state_dict()}, path)
    return net, decoder[0]


@pytest.mark.parametrize("gamma", [True, False])
def test_a2mim_vit_adds_the_token_to_patches_of_the_mean_colour(tmp_path, gamma):
    vit = MMViT(dim=32, heads=4, beit=True, scale="openmixup", mask=True, ratio=3)
    if not gamma:
        del vit.mask_gamma
    net, decoder = openmixup_file(tmp_path / "full_a2mim.pth", vit, 32, 8)
    method, _ = opened(tmp_path / "full_a2mim.pth", mask_cell=16, mask_ratio=0.5)
    assert type(method) is A2MIM and method.settings.mask_at == 0
    x = images()
    found, mask_BLL = predicted_map(method, x, 2)
    seen = layouts.mean_filled(x, at_pixels(mask_BLL, 8))
    tokens = net.backbone.tokens(seen, mask_BLL.flatten(1).double())
    same(found, layouts.shuffled(decoder, layouts.tokens_to_map(tokens[:, 1:]), 8))


def test_simmim_vit_of_openmixup_replaces_patches(tmp_path):
    vit = MMViT(dim=32, heads=4, beit=True, scale="openmixup", mask=True, ratio=3)
    del vit.mask_gamma
    net, decoder = openmixup_file(tmp_path / "full_simmim.pth", vit, 32, 8, "decoder")
    method, _ = opened(tmp_path / "full_simmim.pth", mask_cell=8)
    assert isinstance(method, SimMIM)
    x = images()
    found, mask_BLL = predicted_map(method, x, 1)
    tokens = net.backbone.tokens(x, mask_BLL.flatten(1).double(), replace=True)
    same(found, layouts.shuffled(decoder, layouts.tokens_to_map(tokens[:, 1:]), 8))


def masked_resnet(net, x, mask, stage, gamma=None, replace=False):
    """The last map of torchvision's ResNet, with the mask token put in in front of a stage (0 to 3)."""
    y = net.maxpool(F.relu(net.bn1(net.conv1(x))))
    for n, layer in enumerate((net.layer1, net.layer2, net.layer3, net.layer4)):
        if n == stage:
            m = at_pixels(mask, y.shape[2] // mask.shape[1])[:, None]
            token = net.mask_token * m
            y = y * (1 - m) + token if replace else y * (1 - m) + y * m * (1 if gamma is None else gamma) + token
        y = layer(y)
    return y


@pytest.mark.parametrize(("stage", "gamma"), [(3, True), (3, False), (0, False)])
def test_a2mim_resnet_has_the_token_where_its_length_fits(tmp_path, stage, gamma):
    net = resnet(narrower=32)
    channels = (64, *widths(narrower=32))[stage]
    net.mask_token = layouts.vector(1, channels, 1, 1)
    if gamma:
        net.mask_gamma = layouts.vector(1, channels, 1, 1)
    whole, decoder = openmixup_file(tmp_path / "full.pth", net, widths(narrower=32)[-1], 32)
    method, _ = opened(tmp_path / "full.pth", 64, mask_ratio=0.5)
    x = images(64)
    mask = mask_of(method, x)
    seen = layouts.mean_filled(x, at_pixels(mask, 32))
    y = masked_resnet(whole.backbone, seen, mask, stage, whole.backbone.mask_gamma if gamma else None)
    same(method.decoder(method.encode(x, mask)), layouts.shuffled(decoder, y, 32))


def test_simmim_resnet_replaces_behind_the_stem_and_leaks(tmp_path):
    net = resnet(narrower=32)
    net.mask_token = layouts.vector(1, 64, 1, 1)
    whole, decoder = openmixup_file(tmp_path / "full.pth", net, widths(narrower=32)[-1], 32, "decoder")
    with pytest.warns(UserWarning, match="masked pixels leak"):
        method, _ = load_method(tmp_path / "full.pth", 64, mask_ratio=0.5)
    method, x = method.double(), images(64)
    mask = mask_of(method, x)
    y = masked_resnet(whole.backbone, x, mask, 0, replace=True)
    same(method.decoder(method.encode(x, mask)), layouts.shuffled(decoder, y, 32))
    assert method.leaks


@pytest.mark.parametrize(("neck", "stage"), [("decoder_pred", 3), ("decoder", 0)])
def test_openmixup_convnext_normalises_its_last_map_and_adds_the_token(tmp_path, neck, stage):
    net = MMConvNeXt()
    width = (8, 12, 16, 20)[stage]
    net.mask_token = layouts.vector(1, width, 1, 1)
    if neck == "decoder_pred":
        net.mask_gamma = layouts.vector(1, width, 1, 1)
    whole, decoder = openmixup_file(tmp_path / "full.pth", net, 20, 32, neck)
    method, _ = opened(tmp_path / "full.pth", 64, mask_ratio=0.5)
    assert type(method) is (A2MIM if neck == "decoder_pred" else SimMIM)
    net, x = whole.backbone, images(64)
    mask = mask_of(method, x)

    def token(n, y):
        m = at_pixels(mask, y.shape[2] // 2)[:, None]
        scale = getattr(net, "mask_gamma", 1.0)
        return y * (1 - m) + y * m * scale + net.mask_token * m if n == stage else y

    seen = layouts.mean_filled(x, at_pixels(mask, 32)) if neck == "decoder_pred" else x
    y = layouts.channels_first(net.norm3, net.feature_map(seen, token))
    same(method.decoder(method.encode(x, mask)), layouts.shuffled(decoder, y, 32))


def test_a_token_that_fits_no_place_is_refused(tmp_path):
    net = resnet(depths=(1, 1, 1, 1), narrower=32)
    net.mask_token = layouts.vector(1, 96, 1, 1)
    openmixup_file(tmp_path / "full.pth", net, widths(narrower=32)[-1], 32)
    with pytest.raises(CheckpointError, match=r"has 96 channels, and .* has places of 64, 8, 16, 32"):
        load_method(tmp_path / "full.pth", 64, mask_ratio=0.5)


# --- SparK


def spark_net(kind):
    if kind == "convnext":
        return layouts.SparK(ConvNeXt(classes=0, last=""), (20, 16, 12, 8), EPS6)
    block = BasicBlock if kind == "as wide" else Bottleneck
    channels = widths(block)[::-1]
    norm = nn.Identity if kind == "no norms" else nn.BatchNorm2d
    return layouts.SparK(resnet(block), channels, norm, decoder=channels[0] if kind == "as wide" else 32)


@pytest.mark.parametrize("kind", ["resnet", "as wide", "convnext", "no norms"])
def test_spark(tmp_path, kind):
    net, x = stored(spark_net(kind)), images(64)
    content = {
        "args": "…",
        "input_size": 64,
        "arch": "resnet50",
        "module": {**net.state_dict(), "config": {"sbn": True}},
    }
    torch.save({**content, "optimizer": {}, "is_pretrain": True}, tmp_path / "spark.pth")
    method, report = opened(tmp_path / "spark.pth", mask_ratio=0.5)
    assert isinstance(method, SparK) and method.structure.image_size == 64
    assert bool(report.fresh) is (kind == "convnext")
    mask = mask_of(method, x)
    same(method.reconstruct(x, mask), net.reconstruct(x, mask))
    assert list(report.dropped) == ["pixel constants of the pre-training"]


# --- FCMAE and MAE on Hiera


@pytest.mark.parametrize("args", [{}, {"args": argparse.Namespace(norm_pix_loss=False, mask_ratio=0.5)}])
def test_fcmae(tmp_path, args):
    net, x = stored(newer_layouts.FCMAE()), images(96)
    torch.save({"model": net.official(), **args}, tmp_path / "convnextv2_atto_1k_224_fcmae.pt")
    method, report = opened(tmp_path / "convnextv2_atto_1k_224_fcmae.pt", 96)
    assert isinstance(method, FCMAE) and report.fresh
    assert (method.settings.mask_ratio, method.settings.normalised_target) == ((0.5, False) if args else (0.6, True))
    found, mask_BL = predicted_patches(method, x)
    assert mask_BL.sum(1).tolist() == [5.0 if args else 6.0] * 3
    same(found, net.reconstruct(x, mask_BL))
    no_part_is_idle(method, x, ("mask_token_C", "embed.bias", "decoder_blocks.0.mlp.grn.weight", "head.bias"))


@pytest.mark.parametrize("pooled", [2, 3])
def test_mae_of_hiera(tmp_path, pooled):
    net, x = stored(newer_layouts.Hiera(pooled=pooled, size=96)), images(96)
    torch.save({"model_state": net.state_dict(), "epoch": 3}, tmp_path / "mae_hiera_tiny_224.pth")
    method, _ = opened(tmp_path / "mae_hiera_tiny_224.pth")
    assert isinstance(method, HieraMAE) and method.structure.stride == net.patch and method.settings.normalised_target
    found, mask_BL = predicted_patches(method, x)
    units_BM = patchify(mask_BL.unflatten(1, (96 // net.patch, -1))[:, None], 32 // net.patch)[..., 0]
    assert units_BM.sum(1).tolist() == [6.0] * 3
    same(unpatchify(found, net.patch, (96, 96)), net.reconstruct(x, units_BM))
    no_part_is_idle(method, x, ("mask_token_C", "positions_ND", "fusion.0.weight", "fusion.1.bias", "head.bias"))
    with pytest.raises(ValueError, match=r"1 mis-shaped key .pos_embed: 1×576×16 instead of 1×256×16"):
        load_method(tmp_path / "mae_hiera_tiny_224.pth", image_size=64)


def test_mae_of_hugging_faces_hiera(tmp_path):
    net, x = stored(newer_layouts.Hiera(pooled=2)), images(64)
    state = {key: tensor.contiguous() for key, tensor in newer_layouts.hugging_hiera(net).items()}
    save_file(state, tmp_path / "model.safetensors")
    told = {"decoder_num_heads": 1, "num_query_pool": 2, "num_heads": [1, 2, 4, 8], "normalize_pixel_loss": False}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "hiera", "layer_norm_eps": 1e-6, **told}))
    method, _ = opened(tmp_path / "model.safetensors", mask_ratio=0.5)
    assert isinstance(method, HieraMAE) and not method.settings.normalised_target
    found, mask_BL = predicted_patches(method, x)
    units_BM = patchify(mask_BL.unflatten(1, (4, 4))[:, None], 2)[..., 0]
    same(unpatchify(found, 16, (64, 64)), net.reconstruct(x, units_BM))


# --- what does not fit


def change(path, edit):
    content = torch.load(path, weights_only=True)
    edit(content["model"])
    torch.save(content, path)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda x: x.pop("mask_token"), "1 missing key .mask_token_C"),
        (lambda x: x.pop("decoder_pos_embed"), "1 missing key .positions_ND"),
        (lambda x: x.pop("decoder_blocks.1.mlp.fc2.bias"), r"missing key .decoder_blocks.1.mlp.fc2.bias"),
        (lambda x: x.update({"decoder_blocks.0.attn.extra": torch.zeros(1)}), "decoder_blocks.0.attn.extra"),
        (lambda x: x.update({"decoder_pred.bias": torch.zeros(7)}), "head.bias: 7 instead of 192"),
        (lambda x: x.pop("blocks.1.norm1.weight"), "missing key .blocks.1.norm1.weight"),
    ],
)
def test_every_key_of_the_decoder_finds_its_place_or_is_named(tmp_path, edit, said):
    path = mae_file(tmp_path / "mae.pth", stored(layouts.MAE()))
    change(path, edit)
    with pytest.raises(CheckpointError, match=said):
        load_method(path, normalised_target=True)


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (lambda: layouts.ViT(), "holds no decoder that predicts pixels"),
        (lambda: Named(backbone=layouts.ViT(), head=layouts.DINOHead(128)), r"\(method: DINO\)"),
        (lambda: Beit(shared=True, mean=False, classes=0), "no decoder"),
    ],
)
def test_without_a_decoder(tmp_path, net, said):
    torch.save({"model": stored(net()).state_dict()}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=said):
        load_method(tmp_path / "net.pth")


def test_settings_that_the_method_does_not_have(tmp_path):
    path = mae_file(tmp_path / "mae.pth", stored(layouts.MAE()))
    with pytest.raises(ValueError, match="mae has no setting fill: it has mask_ratio"):
        load_method(path, fill="zero")
    with pytest.raises(CheckpointError, match=r"no mae with .*'decoder_heads': 3"):
        load_method(path, decoder_heads=3, normalised_target=True)
