"""Newer formats: a layout with random weights, in its container, gives the same numbers through the reader."""

import collections
import datetime
import json
import weakref

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from a2mim.checkpoints import CheckpointError, architecture, joined, load_into, read
from a2mim.checkpoints.architecture import build, guess, left_open
from a2mim.checkpoints.describe import describe
from a2mim.checkpoints.identify import identify
from experiments.models import create_model
from tests.a2mim.checkpoints import layouts, newer_layouts
from tests.a2mim.checkpoints.layouts import Beit, HFViT, Named, Swin, ViT, randomise, vector
from tests.a2mim.checkpoints.newer_layouts import CLIPTower, ConvNeXtV2, ConvStemViT, DINOv2
from tests.a2mim.checkpoints.resnets import resnet
from tests.a2mim.checkpoints.test_sources import IMAGES, multi_crop, reread, same, sin_cos


def every_key_is_accounted_for(report, checkpoint, state):
    made = sum(map(len, report.fresh.values()))
    assert report.loaded - made + sum(map(len, report.dropped.values())) == len(state)


# --- DINOv2


@pytest.mark.parametrize(("registers", "gated"), [(0, False), (3, False), (2, True)])
def test_dinov2(tmp_path, registers, gated):
    net = randomise(DINOv2(registers, gated))
    torch.save(net.state_dict(), tmp_path / "dinov2.pth")
    model, report, checkpoint = reread(tmp_path / "dinov2.pth")
    assert checkpoint.source == "dinov2" and checkpoint.positions == ("antialiased" if registers else "dino")
    same(model.forward_features(IMAGES), net.tokens(IMAGES))
    every_key_is_accounted_for(report, checkpoint, net.state_dict())


def test_dinov2_of_a_large_training(tmp_path):
    """A teacher file: backbone and heads, the blocks cut into chunks that are counted before them."""
    net = randomise(
        Named(backbone=DINOv2(), dino_head=Named(mlp=nn.Linear(4, 4)), ibot_head=Named(mlp=nn.Linear(4, 4)))
    )
    state = {key.replace("blocks.", f"blocks.{0}."): x for key, x in net.state_dict().items()}
    torch.save({"teacher": state}, tmp_path / "teacher_checkpoint.pth")
    model, report, _ = reread(tmp_path / "teacher_checkpoint.pth")
    same(model.forward_features(IMAGES), net.backbone.tokens(IMAGES))
    every_key_is_accounted_for(report, None, state)


# --- CLIP


@pytest.mark.parametrize("openai", [True, False])
def test_clips_image_tower(tmp_path, openai):
    net = randomise(Named(visual=CLIPTower(), ln_final=nn.LayerNorm(8), logit_scale=vector(1)))
    net.transformer = Named(resblocks=nn.ModuleList([nn.Linear(8, 8)])).double()
    numbers = {key: torch.tensor(7) for key in ("input_resolution", "context_length", "vocab_size")} if openai else {}
    state = {**net.state_dict(), **numbers}
    torch.save(state, tmp_path / "clip.pt")
    model, report, checkpoint = reread(tmp_path / "clip.pt")
    same(model(IMAGES), net.visual.features(IMAGES, quick=openai))
    assert checkpoint.pixels[0][0] == pytest.approx(0.48145466)
    every_key_is_accounted_for(report, checkpoint, state)


def test_open_clip_with_a_network_of_timms(tmp_path):
    net = randomise(timm.create_model("vit_base_patch16_siglip_224", embed_dim=64, depth=1, num_heads=1, img_size=32))
    state = {f"visual.trunk.{key}": x for key, x in net.state_dict().items()}
    torch.save({**state, "logit_scale": torch.zeros(()), "text.ln.weight": torch.zeros(3)}, tmp_path / "open_clip.pt")
    checkpoint = read(tmp_path / "open_clip.pt")
    assert checkpoint.tensors.keys() == net.state_dict().keys() and sum(map(len, checkpoint.dropped.values())) == 2
    said = {"model_cfg": {"vision_cfg": {"timm_model_name": "vit_base_patch16_siglip_gap_224"}}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(said))
    assert "vit_base_patch16_siglip_gap_224" in read(tmp_path / "open_clip.pt").hints


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("act", ["gelu", "quick_gelu", None])
def test_clip_of_hugging_face_as_its_configuration_says(tmp_path, nested, act):
    """Of both towers the configuration says of images what stands under vision_config."""
    net = randomise(CLIPTower(heads=4))
    save_file(newer_layouts.hugging_clip(net), tmp_path / "model.safetensors")
    said = {"model_type": "clip_vision_model", "num_attention_heads": 4, **({"hidden_act": act} if act else {})}
    whole = {"model_type": "clip", "vision_config": said, "text_config": {"hidden_act": "gelu"}}
    (tmp_path / "config.json").write_text(json.dumps(whole if nested else said))
    model, report, checkpoint = reread(tmp_path / "model.safetensors")
    assert checkpoint.source == "hugging face" and not report.assumed
    same(model(IMAGES), net.features(IMAGES, quick=act != "gelu"))


def test_a_classifier_on_clips_patches_is_no_network_of_timms(tmp_path):
    """It was read as one on the class token, behind the norm that it does not see."""
    state = {**newer_layouts.hugging_clip(randomise(CLIPTower(heads=4))), "classifier.weight": torch.zeros(5, 128)}
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="is a classifier on the mean of CLIP's patches"):
        reread(tmp_path / "model.safetensors")


def test_a_classifier_of_siglip_sees_the_mean_of_its_patches(tmp_path):
    """Not what its attention pools, whose weights lie in the file."""
    sizes = {"embed_dim": 64, "depth": 1, "num_heads": 1, "img_size": 32, "num_classes": 5}
    net = (
        randomise(timm.create_model("vit_base_patch16_siglip_gap_224", act_layer="gelu_tanh", **sizes)).double().eval()
    )
    names = {"patch_embed.proj": "embeddings.patch_embedding", "norm": "post_layernorm", "head": "classifier"}
    names |= {f"blocks.0.{ours}": f"encoder.layers.0.{theirs}" for ours, theirs in (
        ("norm1", "layer_norm1"), ("norm2", "layer_norm2"), ("attn.proj", "self_attn.out_proj"),
        ("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2"),
    )}  # fmt: skip
    state = {"embeddings.position_embedding.weight": net.pos_embed[0], "head.probe": torch.zeros(1, 1, 64)}
    for key, x in net.state_dict().items():
        module, _, leaf = key.rpartition(".")
        if module in names:
            state[f"{names[module]}.{leaf}"] = x
        elif module.endswith("qkv"):
            parts = zip("qkv", x.chunk(3), strict=True)
            state |= {f"encoder.layers.0.self_attn.{part}_proj.{leaf}": third for part, third in parts}
    state = {key if key.startswith("classifier") else f"vision_model.{key}": x.clone() for key, x in state.items()}
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False, "image_mean": [0.3] * 3}))
    model, _, checkpoint = reread(tmp_path / "model.safetensors")
    same(model(IMAGES), net(IMAGES))
    assert checkpoint.pixels == ((0.0,) * 3, (1.0,) * 3)


def open_clip(folder, net, **said):
    """A file of open_clip's hub, with what it states beside it."""
    state = {f"visual.{key}": x for key, x in net.state_dict().items()}
    torch.save(state, folder / "open_clip_pytorch_model.bin")
    preprocess = {"mean": [0.5] * 3, "std": [0.25] * 3}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": said, "preprocess_cfg": preprocess}))
    return folder / "open_clip_pytorch_model.bin"


MEAN = {"pool_type": "avg", "final_ln_after_pool": True}


@pytest.mark.parametrize(("quick", "tower"), [(True, {}), (False, {}), (False, MEAN), (False, {"head_width": 32})])
def test_open_clips_own_configuration(tmp_path, quick, tower):
    net = randomise(CLIPTower(heads=4 if tower.get("head_width") else 2))
    file = open_clip(tmp_path, net, quick_gelu=quick, vision_cfg={"width": 128, **tower})
    model, _, checkpoint = reread(file)
    same(model(IMAGES), net.features(IMAGES, quick=quick, mean=tower == MEAN))
    assert checkpoint.pixels == ((0.5,) * 3, (0.25,) * 3) and not describe(checkpoint)["assumed"]


@pytest.mark.parametrize("tower", [{"pool_type": "avg"}, {"global_average_pool": True}, {"width": 8}, {"width": "8"}])
def test_open_clips_configuration_of_another_network_is_refused(tmp_path, tower):
    with pytest.raises(CheckpointError, match=r"open_clip_config.json beside '.*' states (a pooling that|no width)"):
        read(open_clip(tmp_path, randomise(CLIPTower()), vision_cfg=tower))


def test_the_activation_of_clip_is_said_to_be_assumed(tmp_path):
    """OpenAI's weights that were saved again, and open_clip's without their configuration."""
    net = randomise(CLIPTower())
    state = {f"visual.{key}": x.float() for key, x in net.state_dict().items()}
    torch.save(state, tmp_path / "ViT-B-32-openai.pt")
    said = describe(read(tmp_path / "ViT-B-32-openai.pt"))["assumed"]
    assert set(said) == {"num_heads", "act_layer"} and said["act_layer"].startswith("activations are assumed: GELU")
    quick = {"act_layer": "quick_gelu"}
    assert set(describe(read(tmp_path / "ViT-B-32-openai.pt"), arguments=quick)["assumed"]) == {"num_heads"}
    model, config = create_model("auto", tmp_path / "ViT-B-32-openai.pt", **quick)
    assert set(config["assumed"]) == {"num_heads"}
    same(model.double().eval()(IMAGES), net.float().double().features(IMAGES, quick=True))


def test_a_named_clip_keeps_its_activation(tmp_path):
    """timm's name of the network says GELU, OpenAI's code has another, and no shape tells."""
    net = randomise(CLIPTower(dim=768, heads=12, depth=1, image=32, patch=32))
    numbers = {key: torch.tensor(7) for key in ("input_resolution", "context_length", "vocab_size")}
    torch.save({**{f"visual.{key}": x for key, x in net.state_dict().items()}, **numbers}, tmp_path / "clip.pt")
    model, report, _ = renamed("vit_base_patch32_clip_224", tmp_path / "clip.pt", depth=1, img_size=32, num_classes=0)
    assert report.complete
    same(model(IMAGES), net.features(IMAGES, quick=True))


def renamed(name, path, **arguments):
    """The timm model of that name with what a file says of it, in float64, the report, and what the file said."""
    checkpoint = read(path)
    said = left_open(name, checkpoint)
    model = timm.create_model(name, **{**said, **arguments}).double()
    return model.eval(), load_into(model, checkpoint), said


# --- ConvNeXt V2


@pytest.mark.parametrize("sparse", [False, True])
def test_convnext_v2(tmp_path, sparse):
    net = randomise(ConvNeXtV2(**({"classes": 0, "last": ""} if sparse else {})))
    state = net.state_dict()
    if sparse:
        decoder = {
            "mask_token": torch.zeros(1, 4, 1, 1),
            "proj.weight": torch.zeros(4, 20, 1, 1),
            "pred.bias": vector(3),
        }
        state = {**newer_layouts.sparse_names(state), **decoder, "decoder.0.grn.gamma": torch.zeros(1, 1, 1, 16)}
    torch.save({"model": state}, tmp_path / "convnextv2.pt")
    model, report, checkpoint = reread(tmp_path / "convnextv2.pt")
    assert checkpoint.source == ("fcmae" if sparse else "convnext v2")
    same(model.forward_features(IMAGES), net.feature_map(IMAGES))
    if not sparse:
        same(model(IMAGES), net(IMAGES))
    every_key_is_accounted_for(report, checkpoint, state)


# --- Swin


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("average", [False, True])
def test_torchvision_swin(tmp_path, second, average):
    net = newer_layouts.torchvision_swin(second)
    state = net.state_dict()
    if average:
        state = {"n_averaged": torch.tensor(3), **{f"module.{key}": x for key, x in state.items()}}
    torch.save({"model_ema": state} if average else state, tmp_path / "swin.pth")
    model, _report, checkpoint = reread(tmp_path / "swin.pth", img_size=32)
    assert checkpoint.source == ("torchvision swin v2" if second else "torchvision swin")
    same(model(IMAGES), net(IMAGES))


@pytest.mark.parametrize("masked", [False, True])
def test_swin_v2_in_the_originals_names(tmp_path, masked):
    net = newer_layouts.torchvision_swin(second=True)
    state = newer_layouts.original_swin_v2(net.state_dict())
    if masked:  # SimMIM pre-trains it
        state = {f"encoder.{key}": x for key, x in state.items() if not key.startswith("head.")}
        state |= {"encoder.mask_token": torch.zeros(1, 1, 16), "decoder.0.weight": torch.zeros(3, 32, 1, 1)}
    torch.save({"model": state}, tmp_path / "swin.pth")
    model, report, checkpoint = reread(tmp_path / "swin.pth", img_size=32)
    assert checkpoint.source == ("simmim" if masked else "swin v2")
    wanted = net.norm(net.features(IMAGES))
    same(model.forward_features(IMAGES), wanted)
    every_key_is_accounted_for(report, checkpoint, {key: x for key, x in state.items() if "qkv.bias" not in key})


@pytest.mark.parametrize("trained", [0, 7])
def test_swin_v2_of_hugging_face(tmp_path, trained):
    """Its weights do not tell the windows, nor those that its biases were first trained with: config.json does."""
    net = newer_layouts.torchvision_swin(second=True)
    if trained:
        for name, table in net.named_buffers():
            if "coords" in name:
                apart = torch.stack(torch.meshgrid(*[torch.arange(-3, 4.0)] * 2, indexing="ij"), -1)[None]
                table.data = (apart.sign() * torch.log2((apart / (trained - 1) * 8).abs() + 1) / 3).double()
    state = newer_layouts.hugging_swin_v2(net.state_dict())
    save_file({key: x.contiguous() for key, x in state.items()}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="do not tell the size of its windows"):
        identify(read(tmp_path / "model.safetensors"))
    sizes = {"window_size": 4, "image_size": 32, "pretrained_window_sizes": [trained, trained]}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "swinv2", "layer_norm_eps": 1e-5, **sizes}))
    model, report, checkpoint = reread(tmp_path / "model.safetensors")
    assert checkpoint.source == "hugging face" and report.complete
    same(model(IMAGES), net(IMAGES))


class Added(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, x):
        return x + self.what


def test_swin_with_absolute_positions(tmp_path):
    net = randomise(Swin())
    positions = torch.randn(1, 64, 16, dtype=torch.float64)
    torch.save({"model": {**net.state_dict(), "absolute_pos_embed": positions}}, tmp_path / "swin_ape.pth")
    model, _, _ = reread(tmp_path / "swin_ape.pth")
    net.patch_embed.norm = nn.Sequential(net.patch_embed.norm, Added(positions.view(1, 8, 8, 16)))
    same(model(IMAGES), net(IMAGES))


# --- Hiera


@pytest.mark.parametrize("pooled", [2, 3])
def test_the_encoder_of_mae_on_hiera(tmp_path, pooled):
    """Pre-training pools twice; its last map has four positions in each mask unit, which timm counts unit by unit."""
    net = randomise(newer_layouts.Hiera(pooled=pooled))
    torch.save({"model_state": net.state_dict()}, tmp_path / "mae_hiera_tiny_224.pth")
    model, report, checkpoint = reread(tmp_path / "mae_hiera_tiny_224.pth")
    assert checkpoint.source == "mae, hiera" and describe(checkpoint)["method"] == "MAE"
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = net.feature_map(images)
    tokens, maps = model.forward_features(images, return_intermediates=True)
    same(maps[-1].movedim(-1, 1), wanted)
    same(model.forward_head(tokens, pre_logits=True), net.encoder_norm(wanted.mean((2, 3))))
    every_key_is_accounted_for(report, checkpoint, net.state_dict())


# --- torchvision's other networks


@pytest.mark.parametrize("name", ["efficientnet_b0", "regnet_y_400mf", "mobilenet_v3_small"])
def test_torchvision_cnns(tmp_path, name):
    net = randomise(getattr(torchvision.models, name)(num_classes=5))
    torch.save(net.state_dict(), tmp_path / "net.pth")
    model, _, checkpoint = reread(tmp_path / "net.pth")
    assert checkpoint.source.startswith("torchvision")
    with torch.no_grad():
        same(model(IMAGES[:1]), net(IMAGES[:1]))


def test_a_named_mobilenet_keeps_the_epsilon_of_its_batch_norms(tmp_path):
    net = randomise(torchvision.models.mobilenet_v3_small(num_classes=5))
    torch.save(net.state_dict(), tmp_path / "net.pth")
    model, _, said = renamed("mobilenetv3_small_100", tmp_path / "net.pth", num_classes=5)
    assert said == {"bn_eps": 1e-3}
    with torch.no_grad():
        same(model(IMAGES[:1]), net(IMAGES[:1]))


@pytest.mark.parametrize(("name", "made"), [("efficientnet_v2_s", 1), ("regnet_x_400mf", 3)])
def test_which_of_many_models_is_told_without_making_all_of_them(tmp_path, monkeypatch, name, made):
    """By their numbers of tensors; three of the RegNets have 428."""
    torch.save(getattr(torchvision.models, name)(num_classes=5).state_dict(), tmp_path / "net.pth")
    tried = []
    monkeypatch.setattr(architecture, "build", lambda each: tried.append(each.name) or build(each))
    found = guess(read(tmp_path / "net.pth"))
    assert found.name == {"efficientnet_v2_s": "efficientnetv2_s", "regnet_x_400mf": "regnetx_004_tv"}[name]
    assert len(tried) <= made


# --- training files of contrastive methods


def projector():
    return nn.Sequential(nn.Linear(256, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8))


def headless():
    return resnet()


def sequential(net):
    return nn.Sequential(*list(net.children())[:-1])


def with_fc(net, fc):
    net.fc = fc
    return net


def prefixed(prefix, net):
    return {f"{prefix}{key}": x for key, x in net.state_dict().items()}


LIGHTNING = {"pytorch-lightning_version": "2.1", "global_step": 3, "loops": {}, "hyper_parameters": {"lr": 0.1}}


def moco(net):
    both = Named(encoder_q=with_fc(net, projector()), encoder_k=with_fc(headless(), projector()))
    queue = {"module.queue": torch.zeros(8, 4), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    return {"state_dict": {**prefixed("module.", both), **queue}, "arch": "resnet50"}


def swav(net):
    net.fc = nn.Identity()
    heads = {"projection_head.0.weight": torch.zeros(8, 256), "prototypes.weight": torch.zeros(30, 8)}
    return {f"module.{key}": x for key, x in {**net.state_dict(), **heads}.items()}


def barlow_twins(net):
    whole = Named(backbone=net, projector=projector(), bn=nn.BatchNorm1d(8, affine=False))
    return {"epoch": 3, "model": prefixed("module.", whole), "optimizer": {}}


def vicreg(net):
    return {"epoch": 3, "model": prefixed("module.", Named(backbone=net, projector=projector()))}


def simclr(net):
    net.fc = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 8))
    return {"state_dict": prefixed("backbone.", net), "arch": "resnet18"}


def solo_learn(net):
    whole = Named(backbone=net, classifier=nn.Linear(256, 5), projector=projector(), predictor=projector())
    whole.momentum_backbone, whole.momentum_projector = headless(), projector()
    return {"state_dict": whole.state_dict(), **LIGHTNING}


def lightly(net):
    whole = Named(backbone=sequential(net), projection_head=Named(layers=projector()))
    whole.backbone_momentum, whole.projection_head_momentum = sequential(headless()), Named(layers=projector())
    return {"state_dict": whole.state_dict(), **LIGHTNING}


def lightning(net):
    return {"state_dict": Named(backbone=net, online_classifier=nn.Linear(256, 3)).state_dict(), **LIGHTNING}


def another(net):
    return {"state_dict": prefixed("backbone.", net)}


METHODS = {
    moco: "moco",
    swav: "swav",
    barlow_twins: "barlow twins",
    vicreg: "vicreg",
    simclr: "simclr",
    solo_learn: "solo-learn",
    lightly: "lightly",
    lightning: "lightly",
    another: "backbone of another project",
}


@pytest.mark.parametrize("make", METHODS, ids=lambda each: each.__name__)
def test_training_files_of_contrastive_methods(tmp_path, make):
    net = randomise(headless())
    torch.save(make(net), tmp_path / "checkpoint.ckpt")
    net.double().fc = nn.Identity()
    model, report, checkpoint = reread(tmp_path / "checkpoint.ckpt")
    assert checkpoint.source == METHODS[make] and report.complete
    same(model(IMAGES), net(IMAGES))


@pytest.mark.parametrize(("make", "padding", "block"), [(solo_learn, 2, Bottleneck), (simclr, 1, BasicBlock)])
def test_resnets_of_small_images(tmp_path, make, padding, block):
    """solo/methods/base.py and others: a first convolution of 3×3 without stride, nothing pooled behind it."""
    net = resnet(block)
    net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, 1, padding, bias=False), nn.Identity()
    randomise(net)
    torch.save(make(net), tmp_path / "checkpoint.ckpt")
    net.double().fc = nn.Identity()
    model, _, checkpoint = reread(tmp_path / "checkpoint.ckpt")
    assert f"padding {padding}" in identify(checkpoint).assumed["stem_padding"]
    same(model(IMAGES), net(IMAGES))


def test_the_momentum_encoder_of_moco(tmp_path):
    torch.save(moco(randomise(headless())), tmp_path / "moco.pth.tar")
    keys = read(tmp_path / "moco.pth.tar#encoder_k").copies
    assert keys == ("encoder_k", "encoder_q")


# --- others


def test_moco_v3_with_a_convolutional_stem(tmp_path):
    net = randomise(ConvStemViT(heads=12, depth=1))
    net.pos_embed.data = sin_cos(384, 2, row_first=True)
    head = Named(head=layouts.moco_mlp(3, 384, 12, 6)).double()
    both = {
        f"module.{name}.{key}": x
        for name in ("base_encoder", "momentum_encoder")
        for key, x in net.state_dict().items()
    }
    both |= {
        f"module.{name}.{key}": x
        for name in ("base_encoder", "momentum_encoder")
        for key, x in head.state_dict().items()
    }
    torch.save({"state_dict": both, "arch": "vit_conv_small"}, tmp_path / "vit-s-conv.pth.tar")
    checkpoint = read(tmp_path / "vit-s-conv.pth.tar")
    assert identify(checkpoint).name == "vit_conv_small_patch16_224"
    model, _, _ = reread(tmp_path / "vit-s-conv.pth.tar")
    same(model.forward_features(IMAGES), net.tokens(IMAGES))


def test_ibot_on_a_swin(tmp_path):
    net = randomise(Named(backbone=Swin(classes=0), head=layouts.DINOHead(32)))
    net.backbone.masked_embed = vector(1, 16)
    torch.save({"teacher": net.state_dict(), "epoch": 3}, tmp_path / "ibot.pth")
    for module in net.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    model, _report, checkpoint = reread(tmp_path / "ibot.pth")
    assert checkpoint.source == "ibot"
    same(model.forward_features(IMAGES), net.backbone.tokens(IMAGES))


def test_ibot_with_a_layer_scale_is_no_deit(tmp_path):
    torch.save({"state_dict": randomise(ViT(gamma=True)).state_dict()}, tmp_path / "checkpoint_teacher.pth")
    assert "iBOT" in describe(read(tmp_path / "checkpoint_teacher.pth"))["method"]


def test_a_head_with_a_last_norm_is_left_out(tmp_path):
    net = multi_crop(0)
    net.head.last_norm = nn.BatchNorm1d(7).double()
    torch.save({"teacher": net.state_dict()}, tmp_path / "ibot.pth")
    _model, report, checkpoint = reread(tmp_path / "ibot.pth")
    every_key_is_accounted_for(report, checkpoint, net.state_dict())


def test_beit_v2_pretrained(tmp_path):
    net = randomise(Beit(shared=True, mean=False, classes=0))
    extra = {
        "mask_token": torch.zeros(1, 1, 32),
        "cls_pt_layers.0.norm1.weight": torch.zeros(32),
        "lm_head.bias": vector(9),
    }
    torch.save({"model": {**net.state_dict(), **extra}}, tmp_path / "beit.pth")
    checkpoint = read(tmp_path / "beit.pth")
    assert sum(map(len, checkpoint.dropped.values())) >= 3 and checkpoint.pixels[0][0] == 0.485


def test_a_linear_classifier_alone_is_named(tmp_path):
    torch.save(
        {"state_dict": {"module.linear.weight": torch.zeros(5, 8), "module.linear.bias": vector(5)}}, tmp_path / "x.pth"
    )
    with pytest.raises(CheckpointError, match=r"a linear classifier alone, without the network .* --probe"):
        identify(read(tmp_path / "x.pth"))


def sharded(folder, places=None, name="model", kind="safetensors"):
    net = randomise(Named(vit=HFViT(), classifier=nn.Linear(128, 9)))
    state = {key: x.contiguous() for key, x in net.state_dict().items()}
    cut = len(state) // 2
    files = {f"{name}-{n:05d}-of-00002.{kind}": keys for n, keys in ((1, list(state)[:cut]), (2, list(state)[cut:]))}
    save = save_file if kind == "safetensors" else torch.save
    for file, keys in files.items():
        save({key: state[key] for key in keys}, folder / file)
    there = {key: file for file, keys in files.items() for key in keys}
    index = {"metadata": {}, "weight_map": {**there, **(places or {})}}
    (folder / f"{name}.{kind}.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({"num_attention_heads": 2, "layer_norm_eps": 1e-12}))
    return net, folder / f"{name}.{kind}.index.json"


@pytest.mark.parametrize(("name", "kind"), [("model", "safetensors"), ("pytorch_model", "bin")])
def test_a_network_in_several_files(tmp_path, name, kind):
    net, index = sharded(tmp_path, name=name, kind=kind)
    model, _, _ = reread(index)
    same(model(IMAGES), net.classifier(net.vit.tokens(IMAGES)[:, 0]))


def test_queries_keys_and_values_are_joined_where_they_are_loaded_and_not_before(tmp_path, monkeypatch):
    """So that `inspect` reads no values, and loading holds one joined tensor at a time."""
    _, index = sharded(tmp_path)
    made, alive = [], []

    def counted(x):
        assert all(each() is None for each in alive)
        y = torch.cat(x.parts)
        made.append(y.numel() * y.element_size())
        alive.append(weakref.ref(y))
        return y

    monkeypatch.setattr(joined, "whole", counted)
    checkpoint = read(index)
    assert describe(checkpoint)["fits"] and made == []
    lazy = [x for x in checkpoint.tensors.values() if isinstance(x, joined.Joined)]
    model = timm.create_model(identify(checkpoint).name, **identify(checkpoint).arguments)
    load_into(model, checkpoint)
    assert len(lazy) == 4 and sorted(made) == sorted(x.numel() * x.element_size() for x in lazy)


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ({"x": "../model.safetensors"}, "something else than files beside it"),
        ({"x": "/etc/passwd"}, "something else than files beside it"),
        ({"x": "model-00001-of-00002.safetensors"}, "disagree about x"),
        ({"x": 3}, "names no files of a network"),
    ],
)
def test_an_index_leads_nowhere_else(tmp_path, places, said):
    _, index = sharded(tmp_path, places)
    with pytest.raises(CheckpointError, match=said):
        read(index)


def test_times_and_tables_with_defaults_are_read_as_nothing(tmp_path):
    logs = {"t": datetime.datetime(2024, 1, 2), "d": datetime.timedelta(3), "n": collections.defaultdict(list, a=[1])}
    torch.save({"state_dict": resnet(classes=3).state_dict(), **logs}, tmp_path / "x.pth")
    assert read(tmp_path / "x.pth").container == "state_dict"
