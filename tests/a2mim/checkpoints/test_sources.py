"""Every source: its layout with random weights, saved in its container, gives the same numbers through the reader."""

import argparse
import json

import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from a2mim.checkpoints import CheckpointError, load_into, read
from a2mim.checkpoints.architecture import guess
from tests.a2mim.checkpoints import layouts
from tests.a2mim.checkpoints.layouts import Beit, ConvNeXt, HFViT, MMViT, Named, Swin, ViT, randomise
from tests.a2mim.checkpoints.resnets import resnet, widths

IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
EXACT = {"rtol": 1e-9, "atol": 1e-11}


def reread(path, **arguments):
    """The timm model that the reader finds for a file, with its weights in float64, and the report."""
    checkpoint = read(path)
    found = guess(checkpoint)
    model = timm.create_model(found.name, **{**found.arguments, **arguments}).double()
    report = load_into(model, checkpoint)
    assert report.complete
    return model.eval(), report, checkpoint


def same(a, b):
    torch.testing.assert_close(a, b, **EXACT)


def sin_cos(dim, side, row_first):
    """(1, 1 + side², dim): the fixed positions, element by element; MAE has the column first, MoCo v3 the row."""
    table = torch.zeros(1, 1 + side * side, dim, dtype=torch.float64)
    quarter = dim // 4
    for row in range(side):
        for column in range(side):
            places = (row, column) if row_first else (column, row)
            for half, place in enumerate(places):
                for k in range(quarter):
                    angle = torch.tensor(place / 10000 ** (k / quarter), dtype=torch.float64)
                    at = table[0, 1 + row * side + column]
                    at[2 * half * quarter + k], at[(2 * half + 1) * quarter + k] = angle.sin(), angle.cos()
    return table


# --- MAE


def test_mae_with_its_decoder(tmp_path):
    net = randomise(layouts.MAE())
    net.pos_embed.data = sin_cos(128, 4, row_first=False)
    args = argparse.Namespace(model="mae_vit_base_patch16", lr=1e-3)
    torch.save({"model": net.state_dict(), "optimizer": {}, "epoch": 3, "args": args}, tmp_path / "mae.pth")
    model, report, checkpoint = reread(tmp_path / "mae.pth")
    same(model.forward_features(IMAGES), net.tokens(IMAGES))
    assert checkpoint.source == "mae"
    dropped = {key for keys in report.dropped.values() for key in keys}
    assert dropped == {key for key in net.state_dict() if key.startswith("decoder_") or key == "mask_token"}
    assert report.loaded + len(dropped) == len(net.state_dict())


def test_mae_encoder_alone_keeps_its_table(tmp_path):
    net = randomise(ViT())
    net.pos_embed.data = sin_cos(128, 4, row_first=False)
    torch.save({"model": net.state_dict()}, tmp_path / "mae.pth")
    model, _, _ = reread(tmp_path / "mae.pth")
    assert torch.equal(model.pos_embed, net.pos_embed)
    same(model.forward_features(IMAGES), net.tokens(IMAGES))
    same(model(IMAGES), net(IMAGES))


def test_mae_tuned_with_global_pooling(tmp_path):
    net = randomise(ViT(mean=True, head=nn.Linear(128, 9)))
    torch.save({"model": net.state_dict()}, tmp_path / "tuned.pth")
    model, _, _ = reread(tmp_path / "tuned.pth")
    same(model(IMAGES), net(IMAGES))


def test_mae_linear_probe_folds_its_batch_norm(tmp_path):
    head = nn.Sequential(nn.BatchNorm1d(128, affine=False, eps=1e-6), nn.Linear(128, 9))
    net = randomise(ViT(head=head))
    torch.save({"model": net.state_dict()}, tmp_path / "probe.pth")
    model, _, _ = reread(tmp_path / "probe.pth")
    same(model(IMAGES), net(IMAGES))


# --- MoCo v3


def moco_v3(encoder, dim, layers, name):
    """base_encoder, momentum_encoder and predictor under DistributedDataParallel."""
    nets = [encoder(), encoder()]
    for net in nets:
        setattr(net, name, layouts.moco_mlp(layers, dim, 12, 6))
    whole = Named(base_encoder=nets[0], momentum_encoder=nets[1], predictor=layouts.moco_mlp(2, 6, 12, 6))
    return Named(module=randomise(whole))


def test_moco_v3_vit_small_has_12_heads(tmp_path):
    moco = moco_v3(lambda: ViT(dim=384, heads=12, depth=1), 384, 3, "head")
    for net in (moco.module.base_encoder, moco.module.momentum_encoder):
        net.pos_embed.data = sin_cos(384, 4, row_first=True)
    torch.save({"state_dict": moco.state_dict(), "arch": "vit_small", "epoch": 300}, tmp_path / "moco.pth")
    model, report, checkpoint = reread(tmp_path / "moco.pth")
    assert checkpoint.source == "moco v3"
    assert model.blocks[0].attn.num_heads == 12
    same(model.forward_features(IMAGES), moco.module.base_encoder.tokens(IMAGES))
    other, _, taken = reread(tmp_path / "moco.pth#momentum_encoder")
    same(other.forward_features(IMAGES), moco.module.momentum_encoder.tokens(IMAGES))
    assert set(taken.copies) == {"base_encoder", "momentum_encoder"}
    dropped = sum(len(keys) for keys in report.dropped.values())
    assert report.loaded + dropped == len(moco.state_dict())


def test_moco_v3_with_six_heads_is_refused(tmp_path):
    net = randomise(ViT(dim=384, heads=12, depth=1))
    net.pos_embed.data = sin_cos(384, 4, row_first=True)
    torch.save({"model": net.state_dict()}, tmp_path / "deit_names.pth")
    model = timm.create_model("vit_small_patch16_224", depth=1, img_size=32, patch_size=8, num_classes=0)
    before = {key: x.clone() for key, x in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"12 attention heads, vit_small_patch16_224 has 6.*num_heads=12"):
        load_into(model, tmp_path / "deit_names.pth")
    assert all(torch.equal(x, before[key]) for key, x in model.state_dict().items())
    model, _, _ = reread(tmp_path / "deit_names.pth")
    same(model(IMAGES), net(IMAGES))


def test_moco_v3_resnet(tmp_path):
    moco = moco_v3(resnet, widths()[-1], 2, "fc")
    torch.save({"state_dict": moco.state_dict()}, tmp_path / "moco.pth")
    model, _, _ = reread(tmp_path / "moco.pth")
    net = moco.module.base_encoder
    net.fc = nn.Identity()
    same(model(IMAGES), net(IMAGES))


def test_moco_v3_linear_classifier(tmp_path):
    net = randomise(Named(module=ViT(head=nn.Linear(128, 9))))
    torch.save({"state_dict": net.state_dict(), "arch": "vit_base"}, tmp_path / "linear.pth")
    model, _, _ = reread(tmp_path / "linear.pth")
    same(model(IMAGES), net.module(IMAGES))


# --- DINO and iBOT


def multi_crop(seed, **arguments):
    return randomise(Named(backbone=ViT(**arguments), head=layouts.DINOHead(128)), seed)


def test_dino_teacher_by_default_and_student_by_choice(tmp_path):
    student, teacher = multi_crop(1), multi_crop(2)
    content = {
        "student": Named(module=student).state_dict(),
        "teacher": teacher.state_dict(),
        "optimizer": {},
        "epoch": 4,
        "args": argparse.Namespace(arch="vit_small"),
        "dino_loss": {"center": torch.zeros(1, 7)},
    }
    torch.save(content, tmp_path / "dino.pth")
    for name, net, container in (
        ("", teacher, "teacher"),
        ("#student", student, "student"),
        ("#teacher", teacher, "teacher"),
    ):
        model, report, checkpoint = reread(f"{tmp_path / 'dino.pth'}{name}")
        assert (checkpoint.source, checkpoint.container) == ("dino", container)
        same(model(IMAGES), net.backbone(IMAGES))
        assert report.loaded + sum(len(keys) for keys in report.dropped.values()) == len(net.state_dict())


def test_a_copy_that_is_not_there_is_named(tmp_path):
    torch.save({"student": multi_crop(1).state_dict(), "teacher": multi_crop(2).state_dict()}, tmp_path / "dino.pth")
    with pytest.raises(CheckpointError, match="no copy 'pupil' of the network: it has teacher, student"):
        read(tmp_path / "dino.pth#pupil")


def test_dino_released_backbone_is_flat(tmp_path):
    net = randomise(ViT(dim=384, heads=6, depth=1))
    torch.save(net.state_dict(), tmp_path / "dino.pth")
    model, _, _ = reread(tmp_path / "dino.pth")
    same(model(IMAGES), net(IMAGES))


def test_dino_resnet_lacks_a_classifier(tmp_path):
    net = randomise(resnet())
    torch.save(net.state_dict(), tmp_path / "dino.pth")
    model, _, _ = reread(tmp_path / "dino.pth")
    same(model(IMAGES), net(IMAGES))


@pytest.mark.parametrize("mean", [False, True])
def test_ibot(tmp_path, mean):
    net = multi_crop(3, gamma=True, mean=mean)
    net.backbone.masked_embed = layouts.vector(1, 128)
    torch.save({"student": net.state_dict(), "teacher": net.state_dict(), "ibot_loss": {}}, tmp_path / "ibot.pth")
    model, report, checkpoint = reread(tmp_path / "ibot.pth")
    assert checkpoint.source == "ibot"
    same(model(IMAGES), net.backbone(IMAGES))
    assert any("backbone.masked_embed" in keys for keys in report.dropped.values())


def test_ibot_released_teacher(tmp_path):
    net = randomise(ViT())
    net.masked_embed = layouts.vector(1, 128)
    torch.save({"state_dict": net.state_dict()}, tmp_path / "ibot.pth")
    model, _, _ = reread(tmp_path / "ibot.pth")
    same(model(IMAGES), net(IMAGES))


# --- SimMIM, BEiT, Swin


def test_simmim_shares_one_table_and_has_no_positions(tmp_path):
    net = randomise(layouts.SimMIM(Beit(shared=True, mean=False, classes=0), 32))
    torch.save({"model": net.state_dict(), "optimizer": {}, "lr_scheduler": {}, "epoch": 1}, tmp_path / "simmim.pth")
    model, report, checkpoint = reread(tmp_path / "simmim.pth")
    assert checkpoint.source == "simmim"
    same(model.forward_features(IMAGES), net.encoder.tokens(IMAGES))
    assert report.loaded + sum(len(keys) for keys in report.dropped.values()) == len(net.state_dict())
    # The model that SimMIM fine-tunes has one table per block, and starts with the shared one in each.
    own = timm.create_model(
        "beit_base_patch16_224",
        img_size=32,
        patch_size=8,
        embed_dim=32,
        depth=2,
        num_heads=4,
        num_classes=0,
        global_pool="token",
    ).double()
    report = load_into(own.eval(), tmp_path / "simmim.pth")
    assert report.adapted[0] == "the table of relative positions that all blocks share was copied into 2 blocks"
    same(own.forward_features(IMAGES), net.encoder.tokens(IMAGES))


@pytest.mark.parametrize(("mean", "positions"), [(True, False), (False, True)])
def test_beit_tuned(tmp_path, mean, positions):
    net = randomise(Beit(mean=mean, positions=positions))
    torch.save({"model": net.state_dict()}, tmp_path / "beit.pth")
    model, report, checkpoint = reread(tmp_path / "beit.pth")
    assert checkpoint.source == "beit"
    same(model(IMAGES), net(IMAGES))
    assert all("relative_position_index" in key for keys in report.dropped.values() for key in keys)


def test_beit_pretrained(tmp_path):
    net = randomise(Beit(shared=True, mean=False, classes=0))
    net.mask_token, net.lm_head = layouts.vector(1, 1, 32), nn.Linear(32, 50)
    torch.save({"model": net.state_dict()}, tmp_path / "beit.pth")
    model, _, _ = reread(tmp_path / "beit.pth")
    same(model.forward_features(IMAGES), net.tokens(IMAGES))
    same(model(IMAGES), net.tokens(IMAGES)[:, 1:].mean(1))


@pytest.mark.parametrize("buffers", [True, False])
def test_swin(tmp_path, buffers):
    net = randomise(Swin())
    state = {k: x for k, x in net.state_dict().items() if buffers or not k.endswith(("_index", "attn_mask"))}
    torch.save({"model": state}, tmp_path / "swin.pth")
    # its attention masks tell the size of the images, which its weights do not
    model, _, checkpoint = reread(tmp_path / "swin.pth", **({} if buffers else {"img_size": 32}))
    assert checkpoint.source == "swin"
    same(model(IMAGES), net(IMAGES))


def test_simmim_swin(tmp_path):
    net = randomise(layouts.SimMIM(Swin(classes=0), 16))
    torch.save({"model": net.state_dict()}, tmp_path / "simmim.pth")
    model, _, checkpoint = reread(tmp_path / "simmim.pth")
    assert checkpoint.source == "simmim"
    same(model.forward_features(IMAGES), net.encoder.tokens(IMAGES))


# --- SparK, ConvNeXt


def test_spark_resnet(tmp_path):
    net = randomise(layouts.SparK(resnet(), widths()[::-1], nn.BatchNorm2d))
    content = {"args": "…", "input_size": 224, "arch": "resnet50", "epoch": 1, "module": net.state_dict()}
    torch.save({**content, "optimizer": {}, "is_pretrain": True}, tmp_path / "spark.pth")
    model, report, checkpoint = reread(tmp_path / "spark.pth")
    assert (checkpoint.source, checkpoint.hints) == ("spark", ("resnet50",))
    same(model(IMAGES), net.sparse_encoder.sp_cnn(IMAGES))
    assert report.loaded + sum(len(keys) for keys in report.dropped.values()) == len(net.state_dict())


def test_spark_convnext_has_no_last_norm(tmp_path):
    net = randomise(layouts.SparK(ConvNeXt(classes=0, last=""), (20, 16, 12, 8), nn.LayerNorm))
    torch.save({"module": net.state_dict(), "arch": "convnext_small"}, tmp_path / "spark.pth")
    model, report, _ = reread(tmp_path / "spark.pth")
    (made,) = report.fresh.values()
    assert made == ("head.norm.weight", "head.norm.bias")
    assert (model.head.norm.weight == 1).all() and (model.head.norm.bias == 0).all()
    same(model.forward_features(IMAGES), net.sparse_encoder.sp_cnn.feature_map(IMAGES))


def test_spark_released_files_are_flat(tmp_path):
    net = randomise(ConvNeXt(head="fc"))
    torch.save(net.state_dict(), tmp_path / "convnext_official_style.pth")
    model, _, _ = reread(tmp_path / "convnext_official_style.pth")
    same(model(IMAGES), net(IMAGES))


def test_convnext_and_its_average(tmp_path):
    net, average = randomise(ConvNeXt(), 1), randomise(ConvNeXt(), 2)
    torch.save({"model": net.state_dict(), "model_ema": average.state_dict()}, tmp_path / "convnext.pth")
    for name, wanted in (("", average), ("#model_ema", average), ("#model", net)):
        model, _, checkpoint = reread(f"{tmp_path / 'convnext.pth'}{name}")
        assert checkpoint.source == "convnext"
        same(model(IMAGES), wanted(IMAGES))


# --- DeiT


def test_deit_distilled(tmp_path):
    net = randomise(ViT(dist=True, head=nn.Linear(128, 9)))
    torch.save({"model": net.state_dict()}, tmp_path / "deit.pth")
    model, _, _ = reread(tmp_path / "deit.pth")
    same(model(IMAGES), net(IMAGES))


def test_deit_iii(tmp_path):
    net = randomise(ViT(gamma=True, bare=True, head=nn.Linear(128, 9)))
    torch.save({"model": net.state_dict()}, tmp_path / "deit3.pth")
    model, _, checkpoint = reread(tmp_path / "deit3.pth")
    assert checkpoint.source == "deit iii"
    same(model(IMAGES), net(IMAGES))


# --- torchvision


def test_torchvision_resnet(tmp_path):
    net = randomise(resnet(classes=9))
    torch.save(net.state_dict(), tmp_path / "net.pth")
    model, _, _ = reread(tmp_path / "net.pth")
    same(model(IMAGES), net(IMAGES))


@pytest.mark.parametrize("name", ["resnext50_32x4d", "wide_resnet50_2", "resnet34"])
def test_torchvision_resnets_by_name(tmp_path, name):
    with torch.device("meta"):  # their shapes alone are looked at
        net = getattr(torchvision.models, name)(num_classes=9)
    torch.save(net.half().to_empty(device="cpu").state_dict(), tmp_path / "net.pth")
    found = guess(read(tmp_path / "net.pth"))
    assert (found.name, found.arguments) == (name, {"num_classes": 9})


def test_torchvision_vit_of_both_ages(tmp_path):
    net = torchvision.models.VisionTransformer(32, 8, 2, 2, 128, 512, num_classes=9)
    randomise(net)
    state = net.state_dict()
    torch.save(state, tmp_path / "new.pth")
    old = {key.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): x for key, x in state.items()}
    torch.save(old, tmp_path / "old.pth")
    for name in ("new.pth", "old.pth"):
        model, _, checkpoint = reread(tmp_path / name)
        assert checkpoint.source == "torchvision vit"
        same(model(IMAGES), net(IMAGES))


def test_torchvision_convnext(tmp_path):
    from torchvision.models.convnext import CNBlockConfig

    blocks = [CNBlockConfig(8, 12, 1), CNBlockConfig(12, 16, 1), CNBlockConfig(16, 20, 2), CNBlockConfig(20, None, 1)]
    net = randomise(torchvision.models.ConvNeXt(blocks, num_classes=9))
    torch.save(net.state_dict(), tmp_path / "net.pth")
    model, _, checkpoint = reread(tmp_path / "net.pth")
    assert checkpoint.source == "torchvision convnext"
    same(model(IMAGES), net(IMAGES))


# --- OpenMixup and mmpretrain


def mm(backbone, **parts):
    return randomise(Named(backbone=backbone, **parts))


def mm_save(net, path, **more):
    meta = {"mmcls_version": "0.2.9", "config": "model = dict()", "epoch": 3, "iter": 9}
    torch.save({"meta": meta, "state_dict": net.state_dict(), **more}, path, _use_new_zipfile_serialization=False)


def test_a2mim_vit(tmp_path):
    """Absolute and relative positions, layer scale, biases of queries and values, mask token and its scale."""
    vit = MMViT(dim=32, heads=4, beit=True, scale="openmixup", mask=True, ratio=3)
    neck = Named(decoder_pred=nn.Sequential(nn.Conv2d(32, 192, 1), nn.PixelShuffle(8)))
    net = mm(vit, neck=neck)
    mm_save(net, tmp_path / "full_a2mim.pth", optimizer={})
    model, report, checkpoint = reread(tmp_path / "full_a2mim.pth")
    assert checkpoint.source == "openmixup or mmpretrain"
    same(model.forward_features(IMAGES), vit.tokens(IMAGES))
    assert report.loaded + sum(len(keys) for keys in report.dropped.values()) == len(net.state_dict())


def test_a2mim_extracted_backbone(tmp_path):
    vit = randomise(MMViT(dim=32, heads=4, beit=True, scale="openmixup", mask=True))
    torch.save({"state_dict": vit.state_dict(), "author": "openmixup"}, tmp_path / "backbone.pth")
    model, _, _ = reread(tmp_path / "backbone.pth")
    same(model.forward_features(IMAGES), vit.tokens(IMAGES))


def test_a2mim_tuned_vit(tmp_path):
    vit = MMViT(dim=32, heads=4, beit=True, scale="openmixup", mean=True)
    net = mm(vit, head=Named(fc=nn.Linear(32, 9)))
    mm_save(net, tmp_path / "ft.pth")
    model, _, _ = reread(tmp_path / "ft.pth")
    same(model(IMAGES), net.head.fc(vit(IMAGES)))


def test_openmixup_average_by_choice(tmp_path):
    net, average = (randomise(Named(backbone=MMViT(), head=Named(fc=nn.Linear(128, 9))), seed) for seed in (1, 2))
    state = net.state_dict() | {f"ema_{key.replace('.', '_')}": x for key, x in average.state_dict().items()}
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "ft.pth")
    for name, wanted in (("", net), ("#weights", net), ("#ema", average)):
        model, report, _ = reread(f"{tmp_path / 'ft.pth'}{name}")
        same(model(IMAGES), wanted.head.fc(wanted.backbone(IMAGES)))
        assert sum(len(keys) for keys in report.dropped.values()) == len(net.state_dict())


def test_a2mim_resnet(tmp_path):
    cnn = resnet()
    cnn.mask_token = layouts.vector(1, widths()[2], 1, 1)
    neck = Named(decoder_pred=nn.Sequential(nn.Conv2d(widths()[-1], 96, 1), nn.PixelShuffle(8)))
    net = mm(cnn, neck=neck)
    mm_save(net, tmp_path / "r50_full.pth")
    torch.save({"state_dict": cnn.state_dict(), "author": "openmixup"}, tmp_path / "r50_backbone.pth")
    for name in ("r50_full.pth", "r50_backbone.pth"):
        model, _, checkpoint = reread(tmp_path / name)
        assert checkpoint.source == "openmixup or mmpretrain"
        same(model(IMAGES), cnn(IMAGES))


def test_openmixup_tuned_resnet(tmp_path):
    cnn = resnet()
    net = mm(cnn, head=Named(fc=nn.Linear(widths()[-1], 9)))
    mm_save(net, tmp_path / "r50_ft.pth")
    model, _, _ = reread(tmp_path / "r50_ft.pth")
    same(model(IMAGES), net.head.fc(cnn(IMAGES)))


@pytest.mark.parametrize("linear", [True, False])
def test_mm_convnext_with_linear_layers_or_convolutions(tmp_path, linear):
    cnn = layouts.MMConvNeXt(linear)
    net = mm(cnn, head=Named(fc=nn.Linear(20, 9)))
    mm_save(net, tmp_path / "convnext.pth")
    model, _, _ = reread(tmp_path / "convnext.pth")
    same(model(IMAGES), net.head.fc(cnn(IMAGES)))


def test_mmpretrain_vit_with_a_layer_scale(tmp_path):
    vit = MMViT(scale="mm", mean="mm")
    net = mm(vit, head=Named(layers=Named(head=nn.Linear(128, 9))), data_preprocessor=nn.Module())
    net.data_preprocessor.register_buffer("mean", torch.zeros(3, 1, 1))
    mm_save(net, tmp_path / "vit.pth")
    model, _, _ = reread(tmp_path / "vit.pth")
    same(model(IMAGES), net.head.layers.head(vit(IMAGES)))


def test_mmpretrain_linear_probe(tmp_path):
    vit = MMViT()
    head = Named(bn=nn.BatchNorm1d(128, affine=False, eps=1e-6), fc=nn.Linear(128, 9))
    net = mm(vit, head=head)
    mm_save(net, tmp_path / "probe.pth")
    model, _, _ = reread(tmp_path / "probe.pth")
    same(model(IMAGES), head.fc(head.bn(vit(IMAGES))))


@pytest.mark.parametrize("make", [MMViT, resnet])
def test_mmpretrain_linear_probe_with_its_batch_norm_in_the_neck(tmp_path, make):
    """mmpretrain's mae_vit-base-p16_8xb2048-linear-coslr-90e_in1k: ClsBatchNormNeck, then a linear head."""
    backbone = make()
    wide = 128 if make is MMViT else widths()[-1]
    fc = nn.Linear(wide, 9)
    head = Named(layers=Named(head=fc)) if make is MMViT else Named(fc=fc)
    neck = Named(bn=nn.BatchNorm1d(wide, affine=False, eps=1e-6))
    net = mm(backbone, neck=neck, head=head)
    mm_save(net, tmp_path / "probe.pth")
    model, report, _ = reread(tmp_path / "probe.pth")
    same(model(IMAGES), fc(neck.bn(backbone(IMAGES))))
    assert not report.dropped


@pytest.mark.parametrize("neck", [{"fc": nn.Linear(128, 128)}, {"bn": nn.BatchNorm1d(128)}])
def test_another_neck_before_a_classifier_is_refused(tmp_path, neck):
    net = mm(MMViT(), neck=Named(**neck), head=Named(fc=nn.Linear(128, 9)))
    mm_save(net, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"unexpected keys? \(neck\."):
        reread(tmp_path / "net.pth")


def test_mmpretrain_swin_merges_patches_in_another_order(tmp_path):
    swin = layouts.MMSwin()
    net = mm(swin, head=Named(fc=nn.Linear(32, 9)))
    mm_save(net, tmp_path / "swin.pth")
    model, _, _ = reread(tmp_path / "swin.pth", img_size=32)
    same(model(IMAGES), net.head.fc(swin(IMAGES)))


# --- Hugging Face


def hf_save(net, path):
    save_file({key: x.contiguous() for key, x in net.state_dict().items()}, path, metadata={"format": "pt"})


def test_hugging_face_vit(tmp_path):
    net = randomise(Named(vit=HFViT(), classifier=nn.Linear(128, 9)))
    hf_save(net, tmp_path / "model.safetensors")
    model, report, checkpoint = reread(tmp_path / "model.safetensors")
    assert checkpoint.source == "hugging face"
    assert report.adapted == ("the epsilon of 5 layer norms became 1e-12, it was 1e-06",)
    same(model(IMAGES), net.classifier(net.vit.tokens(IMAGES)[:, 0]))


def test_hugging_face_base_model_and_its_configuration(tmp_path):
    net = HFViT(eps=1e-5, heads=4)
    net.pooler = Named(dense=nn.Linear(128, 128))
    randomise(net)
    hf_save(net, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "vit", "num_attention_heads": 4, "layer_norm_eps": 1e-05}')
    model, report, _ = reread(tmp_path / "model.safetensors")
    same(model.forward_features(IMAGES), net.tokens(IMAGES))
    (dropped,) = report.dropped.items()
    assert dropped[0] == "pooler, a layer that no classifier uses"
    assert sorted(dropped[1]) == ["pooler.dense.bias", "pooler.dense.weight"]


def test_hugging_face_vit_mae(tmp_path):
    decoder = Named(
        decoder_embed=nn.Linear(128, 64), decoder_pred=nn.Linear(64, 192), mask_token=layouts.vector(1, 1, 64)
    )
    net = randomise(Named(vit=HFViT(), decoder=decoder))
    torch.save(net.state_dict(), tmp_path / "pytorch_model.bin")
    model, _, _ = reread(tmp_path / "pytorch_model.bin")
    same(model.forward_features(IMAGES), net.vit.tokens(IMAGES))


def test_hugging_face_distilled_deit(tmp_path):
    heads = {"cls_classifier": nn.Linear(128, 9), "distillation_classifier": nn.Linear(128, 9)}
    net = randomise(Named(deit=HFViT(dist=True), **heads))
    hf_save(net, tmp_path / "model.safetensors")
    model, _, _ = reread(tmp_path / "model.safetensors")
    x = net.deit.tokens(IMAGES)
    same(model(IMAGES), (net.cls_classifier(x[:, 0]) + net.distillation_classifier(x[:, 1])) / 2)


def test_hugging_face_beit_tuned(tmp_path):
    net = randomise(Named(beit=HFViT(dim=32, heads=4, beit=True, mean=True), classifier=nn.Linear(32, 9)))
    hf_save(net, tmp_path / "model.safetensors")
    model, _, _ = reread(tmp_path / "model.safetensors")
    same(model(IMAGES), net.classifier(net.beit.pooler.layernorm(net.beit.tokens(IMAGES)[:, 1:].mean(1))))


def test_hugging_face_beit_pretrained(tmp_path):
    net = Named(beit=HFViT(dim=32, heads=4, beit=True, shared=True, mean=True), lm_head=nn.Linear(32, 50))
    del net.beit.pooler
    net.layernorm = nn.LayerNorm(32, eps=1e-12)
    randomise(net)
    hf_save(net, tmp_path / "model.safetensors")
    model, _, _ = reread(tmp_path / "model.safetensors")
    same(model.forward_features(IMAGES), net.layernorm(net.beit.tokens(IMAGES)))


def test_hugging_face_convnext(tmp_path):
    net = randomise(Named(convnext=layouts.HFConvNeXt(), classifier=nn.Linear(20, 9)))
    # Features so small that the last norm depends on its epsilon.
    for x in net.convnext.parameters():
        x.data *= 0.3
    hf_save(net, tmp_path / "model.safetensors")
    model, _, _ = reread(tmp_path / "model.safetensors")
    assert (model.head.norm.eps, model.stem[1].eps) == (1e-12, 1e-6)
    same(model(IMAGES), net.classifier(net.convnext(IMAGES)))


@pytest.mark.parametrize("bottleneck", [True, False])
def test_hugging_face_resnet(tmp_path, bottleneck):
    net = randomise(layouts.HFResNet(bottleneck))
    net = Named(resnet=net, classifier=nn.Sequential(nn.Flatten(), randomise(nn.Linear(net.wide, 9))))
    hf_save(net, tmp_path / "model.safetensors")
    model, _, _ = reread(tmp_path / "model.safetensors")
    same(model(IMAGES), net.classifier(net.resnet(IMAGES)))


@pytest.mark.parametrize(
    "said", [{"downsample_in_bottleneck": True}, {"downsample_in_first_stage": True}, {"hidden_act": "gelu"}]
)
def test_a_hugging_face_resnet_that_computes_something_else_is_refused(tmp_path, said):
    """Of the same names and shapes; what its configuration usually says is no reason."""
    net = randomise(layouts.HFResNet(first=8))
    hf_save(Named(resnet=net), tmp_path / "model.safetensors")
    usual = {"model_type": "resnet", "hidden_act": "relu", "downsample_in_bottleneck": False}
    (tmp_path / "config.json").write_text(json.dumps(usual))
    assert read(tmp_path / "model.safetensors").source == "hugging face"
    (tmp_path / "config.json").write_text(json.dumps(usual | said))
    with pytest.raises(CheckpointError, match=f"states {next(iter(said))} = .*, which no ResNet of timm's has"):
        read(tmp_path / "model.safetensors")


# --- mutations


def mutated_files():
    """One small state dict of each kind of names, and what makes a container of it."""
    beit = Beit(shared=True, mean=False, classes=0)
    return {
        "mae": layouts.MAE(),
        "moco": moco_v3(lambda: ViT(), 128, 3, "head"),
        "dino": Named(backbone=ViT(), head=layouts.DINOHead(128)),
        "simmim": layouts.SimMIM(beit, 32),
        "beit": Beit(),
        "swin": Swin(),
        "spark": layouts.SparK(resnet(), widths()[::-1], nn.BatchNorm2d),
        "convnext": ConvNeXt(),
        "deit iii": ViT(gamma=True, bare=True, head=nn.Linear(128, 9)),
        "mm vit": Named(backbone=MMViT(beit=True, dim=32, heads=4, scale="openmixup"), head=Named(fc=nn.Linear(32, 9))),
        "mm swin": Named(backbone=layouts.MMSwin(), head=Named(fc=nn.Linear(32, 9))),
        "hf vit": Named(vit=HFViT(), classifier=nn.Linear(128, 9)),
        "hf beit": Named(beit=HFViT(dim=32, heads=4, beit=True, mean=True), classifier=nn.Linear(32, 9)),
        "hf convnext": Named(convnext=layouts.HFConvNeXt(), classifier=nn.Linear(20, 9)),
        "torchvision vit": torchvision.models.VisionTransformer(32, 8, 2, 2, 128, 512, num_classes=9),
    }


NETS = {name: randomise(net).state_dict() for name, net in mutated_files().items()}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The timm model of each file, whole."""
    made = {}
    for name, state in NETS.items():
        path = tmp_path_factory.mktemp("whole") / "net.pth"
        torch.save({"model": state}, path)
        checkpoint = read(path)
        found = guess(checkpoint)
        arguments = found.arguments | ({"img_size": 32} if found.family == "swin" else {})
        model = timm.create_model(found.name, **arguments)
        assert load_into(model, checkpoint).complete
        made[name] = (model, {key for keys in checkpoint.dropped.values() for key in keys}, path)
    return made


def mutate(state, key, how):
    """False where the mutation cannot show: a square matrix looks the same transposed."""
    x = state[key]
    if how == "remove":
        del state[key]
    elif how == "rename":
        state[f"{key}_"] = state.pop(key)
    elif how == "reshape":
        state[key] = x.reshape(1, *x.shape)
    else:
        turned = x.transpose(0, 1).contiguous() if x.ndim > 1 else x
        if turned.shape == x.shape:
            return False
        state[key] = turned
    return True


@settings(max_examples=250, deadline=None)
@given(
    name=st.sampled_from(list(NETS)), how=st.sampled_from(["remove", "rename", "transpose", "reshape"]), data=st.data()
)
def test_a_mutated_key_is_never_absorbed(models, name, how, data):
    model, droppable, path = models[name]
    key = data.draw(st.sampled_from(sorted(NETS[name])))
    state = dict(NETS[name])
    if not mutate(state, key, how):
        return
    torch.save({"model": state}, path.with_name("bad.pth"))
    module_key = key.removeprefix("module.")
    if module_key in droppable and how != "rename":
        # What a rule drops is not looked at; that it was dropped, or is no longer there, shows in the report.
        if name == "moco" and how == "remove" and module_key.startswith("base_encoder."):
            with pytest.raises(
                CheckpointError, match="base_encoder, the copy to read, lacks what momentum_encoder has"
            ):
                load_into(model, path.with_name("bad.pth"))
            return
        report = load_into(model, path.with_name("bad.pth"))
        dropped = {each for keys in report.dropped.values() for each in keys}
        assert (module_key in dropped) == (how != "remove")
        return
    if how in ("remove", "reshape") and key.endswith("relative_position_index"):  # the model computes it by itself
        assert load_into(model, path.with_name("bad.pth")).complete
        return
    before = {each: x.clone() for each, x in model.state_dict().items()}
    with pytest.raises(CheckpointError) as refused:
        load_into(model, path.with_name("bad.pth"))
    assert "\n" not in str(refused.value)
    assert all(torch.equal(x, before[each]) for each, x in model.state_dict().items())


@pytest.mark.parametrize("copy", ["", "#momentum_encoder"])
@pytest.mark.parametrize("hurt", ["base_encoder", "momentum_encoder"])
@pytest.mark.parametrize("how", ["remove", "rename"])
def test_one_copy_never_fills_the_gaps_of_the_other(models, tmp_path, copy, hurt, how):
    model, _, _ = models["moco"]
    state = dict(NETS["moco"])
    mutate(state, f"module.{hurt}.blocks.0.attn.proj.bias", how)
    torch.save({"state_dict": state}, tmp_path / "moco.pth")
    if how == "remove" and hurt not in (copy[1:] or "base_encoder"):
        assert load_into(model, f"{tmp_path / 'moco.pth'}{copy}").complete  # the copy that is not read has the gap
        return
    with pytest.raises(CheckpointError, match=r"attn\.proj\.bias"):
        load_into(model, f"{tmp_path / 'moco.pth'}{copy}")


def test_weights_never_fill_the_gaps_of_their_average(tmp_path):
    net = randomise(Named(backbone=MMViT(), head=Named(fc=nn.Linear(128, 9)))).state_dict()
    state = net | {f"ema_{key.replace('.', '_')}": x for key, x in net.items()}
    del state["ema_backbone_layers_0_ln1_bias"]
    torch.save({"state_dict": state}, tmp_path / "ft.pth")
    assert read(tmp_path / "ft.pth").copies == ("weights", "ema")
    with pytest.raises(CheckpointError, match=r"lacks 1 of the weights \(backbone\.layers\.0\.ln1\.bias\)"):
        read(tmp_path / "ft.pth#ema")
