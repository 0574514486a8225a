"""Every recipe of a GPU's size: what it names is there, and its network, method and schedule take a step together."""

import re
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from a2mim.data import Source
from a2mim.dist import World
from a2mim.export import export_backbone, save
from a2mim.gallery import normalisation
from a2mim.images import Images
from a2mim.memory import MemoryImages
from a2mim.methods import Supervised, SupervisedSettings
from a2mim.optim import layer_scales, parameter_groups
from a2mim.settings import Network
from a2mim.shapes import shapes_alone
from a2mim.trainer import Trainer
from experiments.commands.finetune import Settings as Finetune
from experiments.commands.pretrain import Settings as Pretrain
from experiments.commands.pretrain import method_settings
from experiments.models import create_model
from experiments.recipes import cifar10, cifar10_baselines, cifar10_masked, imagenet, recipes_of
from experiments.training.asked import find_recipe
from experiments.training.assembly import make_method, make_network


def recipes(module: ModuleType) -> list[str]:
    """All functions of the module that return settings, but those for two cores."""
    returned = {name: each.__annotations__.get("return") for name, each in recipes_of(module).items()}
    known = [name for name in returned if returned[name] in ("Settings", "Pretrain", "Finetune")]
    return [f"{module.__name__.split('.')[2]}:{name}" for name in known if not name.endswith("_cpu")]


CIFAR = [name for module in (cifar10, cifar10_baselines, cifar10_masked) for name in recipes(module)]
IMAGENET = recipes(imagenet)
# One of a family, narrow and with one block a stage: a ViT-L or a ResNet-200 at 224 px is more than a test may take.
NARROW = ("depth=1", "embed_dim=48", "num_heads=4")
SHALLOW = {
    "resnet": ("resnet50", "layers=(1, 1, 1, 1)", "channels=(16, 32, 48, 64)"),
    "resnetv": ("resnetv2_18d", "layers=(1, 1)", "channels=(16, 32)"),
    "convnext": ("convnext_small", "depths=(1, 1, 1, 1)", "dims=(16, 32, 48, 64)"),
    "beit": ("beit_base_patch16_224", *NARROW),
    "deit": ("deit_small_patch16_224", *NARROW),
    "vit": ("vit_small_patch16_224", *NARROW),
}
# Of what a method adds to the network, what takes longest.
SMALLER = {
    "byol": ("hidden=64",),
    "dino": ("prototypes=256", "hidden=64", "local_crops=2"),
    "mae": ("decoder_depth=1", "decoder_width=96"),
    "mocov3": ("hidden=64",),
    "simclr": ("hidden=64",),
    "spark": ("decoder_width=96",),
}


def shallow(name: str) -> Any:
    """The recipe on a network of one block, or of one a stage, with less beside it, and images of at most 64 px."""
    recipe = find_recipe(name)()
    network, *small = SHALLOW[re.match("[a-z]+", recipe.network.model)[0]]
    if isinstance(recipe, Pretrain):
        recipe = replace(recipe, set=(*recipe.set, *SMALLER.get(recipe.method, ())))
    return replace(
        recipe,
        network=replace(recipe.network, model=network, model_args=(*recipe.network.model_args, *small)),
        augment=replace(recipe.augment, image_size=min(recipe.augment.image_size, 64)),
    )


def without_numbers(name: str) -> str:
    """The shallow recipe, where a number that is not 0 is as good as another: how often, how fast, how strong."""
    return re.sub(r"(?<![\w.])\d[\d.]*(e-\d+)?", lambda number: "n" if float(number[0]) else "0", repr(shallow(name)))


def full(name: str) -> tuple[Network, int, int]:
    """The recipe's network, its classes and the side of its images."""
    recipe = find_recipe(name)()
    return recipe.network, 1000 if isinstance(recipe, Finetune) else 0, recipe.augment.image_size


def distinct(names: list[str], part: Callable[[str], Any]) -> list[str]:
    """The first of those that are alike in `part`."""
    return list({repr(part(name)): name for name in reversed(names)}.values())[::-1]


# Millions of parameters: A²MIM's own table, DeiT's for its ViTs, timm's results for the plain ViT-L.
SIZES = {
    "finetune_vit_small": 48.8,
    "finetune_vit_base": 86.7,
    "finetune_vit_large": 304.6,
    "finetune_mae_vit_base": 86.6,
    "finetune_mae_vit_large": 304.3,
    "finetune_resnet50": 25.6,
    "finetune_resnet50_a3": 25.6,
    "finetune_resnet101": 44.5,
    "finetune_resnet152": 60.2,
    "finetune_resnet200": 64.7,
    "finetune_convnext_tiny": 28.6,
    "finetune_convnext_small": 50.2,
    "finetune_convnext_base": 88.6,
    "supervised_vit_small": 22.1,
    "supervised_vit_base": 86.6,
    "supervised_vit_large": 304.3,
}


# What the released configurations exempt from decay though it is no vector, what they let decay though it is one, and
# the factors on learning rates (OpenMixup: paramwise_options, regular expressions on names, later ones over earlier).
POSITIONS = {"backbone.cls_token", "backbone.pos_embed", "backbone.blocks.0.attn.relative_position_bias_table"}
TOKEN, GAMMA = "mask_token.token_C", "mask_token.gamma_C"
RULES = {
    "a2mim_vit_base": (POSITIONS, set(), {}),
    "simmim_vit_base": (POSITIONS, set(), {}),
    "finetune_vit_base": (POSITIONS, set(), None),
    "a2mim_resnet50": (set(), {GAMMA}, {TOKEN: 0.1}),
    "a2mim_resnet50_100": (set(), set(), {TOKEN: 0.1, GAMMA: 0.1}),
    "a2mim_resnet101": (set(), {GAMMA}, {TOKEN: 0.1}),
    "a2mim_resnet200": (set(), {GAMMA}, {TOKEN: 0.1}),
    "a2mim_convnext_small": (set(), set(), {TOKEN: 0.1, GAMMA: 0.1}),
    "simmim_resnet152": (set(), set(), {}),
    "simmim_convnext_tiny": (set(), set(), {}),
    "mae_vit_base": (set(), {"mask_token_C"}, {}),  # the official positions are fixed
    "maskfeat_vit_base": (set(), {TOKEN}, {}),
    "finetune_mae_vit_base": ({"backbone.cls_token", "backbone.pos_embed"}, set(), None),
    "finetune_maskfeat_vit_base": (set(), set(), None),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.filterwarnings("ignore:SimMIM on")
def test_weight_decay_and_factors_are_the_released_ones(name):
    exempt, also, factors = RULES[name]
    recipe = shallow(f"imagenet:{name}")
    method, names = made_method(recipe), {}
    for group in parameter_groups(method, recipe.optim):
        for parameter in group["params"]:
            names[id(parameter)] = (group["weight_decay"], group["lr_scale"])
    found = {n: (p.ndim > 1, *names[id(p)]) for n, p in method.named_parameters() if p.requires_grad}
    assert {n for n, (matrix, decay, _) in found.items() if matrix and not decay} == exempt
    assert {n for n, (matrix, decay, _) in found.items() if decay and not matrix} == also
    assert {decay for _, decay, _ in found.values()} == {0.0, 0.05}
    assert factors is None or {n: f for n, (_, _, f) in found.items() if f != 1} == factors


# Recipe -> drop path, interpolation of the crop, precision (bf16 for released fp16), gradient norm.
FACTS = {
    "a2mim_vit_small": (0.1, "bilinear", "float32", 5),
    "a2mim_vit_base": (0.1, "bilinear", "float32", 5),
    "a2mim_vit_large": (0.1, "bilinear", "float32", 5),
    "simmim_vit_small": (0.1, "bilinear", "bf16", 5),
    "simmim_vit_base": (0.1, "bilinear", "float32", 5),
    "simmim_vit_large": (0.1, "bilinear", "bf16", 5),
    "a2mim_resnet50": (0, "bilinear", "float32", 0),
    "a2mim_resnet200": (0, "bilinear", "float32", 0),
    "a2mim_convnext_base": (0, "bilinear", "bf16", 0),
    "simmim_resnet101": (0, "bilinear", "bf16", 0),
    "simmim_convnext_small": (0, "bilinear", "bf16", 0),
    "mae_vit_base": (0, "bicubic", "bf16", 0),
    "maskfeat_vit_base": (0, "bicubic", "bf16", 0.02),
    "spark_resnet50": (0.05, "bicubic", "float32", 5),
    "spark_resnet101": (0.08, "bicubic", "float32", 5),
    "spark_resnet152": (0.1, "bicubic", "float32", 5),
    "spark_resnet200": (0.15, "bicubic", "float32", 5),
    "spark_convnext_small": (0.2, "bicubic", "float32", 5),
    "spark_convnext_base": (0.3, "bicubic", "float32", 5),
    "finetune_resnet50": (0.05, "bicubic", "bf16", 0),
}


@pytest.mark.parametrize("name", FACTS)
def test_recipes_have_the_released_facts(name):
    recipe = find_recipe(f"imagenet:{name}")()
    with shapes_alone():
        network, _, _ = make_network(recipe.network, 0, 224, 0)
    drop_path = max((getattr(module, "drop_prob", 0.0) or 0.0 for module in network.modules()), default=0.0)
    expected, *others = FACTS[name]
    assert [recipe.augment.interpolation, recipe.loop.precision, recipe.optim.clip_grad] == others
    assert drop_path == pytest.approx(expected)


def test_layers_of_convnext_tiny_decay_from_the_head_to_the_stem_as_released():
    """0.7 to the power of 7: six groups of layers, and the head above them."""
    recipe = find_recipe("imagenet:finetune_convnext_tiny")()
    with shapes_alone():
        network, _, _ = make_network(recipe.network, 10, 224, 0)
    scales = layer_scales(network, recipe.optim.layer_decay)
    assert scales["head.fc.weight"] == 1 and scales["stem.0.weight"] == pytest.approx(0.7**7)


def test_averages_rise_for_20_epochs_where_the_released_ones_do():
    tuned = {name: find_recipe(name)().loop for name in IMAGENET if "finetune" in name}
    averaged = {name.removeprefix("imagenet:finetune_") for name, loop in tuned.items() if loop.ema}
    assert averaged == {"vit_base", "vit_large", "resnet50", "convnext_tiny", "convnext_small", "convnext_base"}
    assert all(loop.ema_warmup_epochs == (20 if loop.ema else 0) for loop in tuned.values())


def test_batch_statistics_are_of_all_processes_where_the_released_ones_are():
    """OpenMixup: norm_cfg SyncBN of its ResNets, before and in fine-tuning; not timm, from random weights."""
    made = {name: find_recipe(name)() for name in IMAGENET if "resnet" in name}
    own = {name for name, recipe in made.items() if not recipe.loop.sync_bn}
    assert own == {name for name in made if "supervised" in name} and len(own) == 5


@pytest.mark.parametrize("method", ["a2mim", "simmim"])
@pytest.mark.filterwarnings("ignore:SimMIM on")
def test_the_last_norm_of_a_convnext_passes_on_to_fine_tuning(method, tmp_path):
    before, tuned = (shallow(f"imagenet:{each}_convnext_small") for each in (method, "finetune"))
    made = made_method(before)
    torch.nn.init.uniform_(made.backbone.norm_pre.weight)
    assert made.settings.mask_token == {"a2mim": "add", "simmim": "add"}[method]
    assert made.settings.fill == {"a2mim": "image_mean", "simmim": "none"}[method]
    _, architecture, _ = make_network(before.network, 0, 64, 0)
    export_backbone(made.backbone, tmp_path / "backbone.safetensors", architecture)
    network = replace(tuned.network, weights=str(tmp_path / "backbone.safetensors"))
    after, _, report = make_network(network, 10, 64, 0)
    assert report.missing == () and torch.equal(after.head.norm.weight, made.backbone.norm_pre.weight)


# Plain transformers, whose class token may be what the network hands out frozen.
MASKED = ["a2mim_vit_base", "simmim_vit_base", "maskfeat_vit_base", "mae_vit_base"]


@pytest.mark.parametrize("name", [f"imagenet:{each}" for each in MASKED] + ["cifar10:simmim_vit", "cifar10:a2mim_vit"])
def test_the_loss_reaches_what_the_frozen_network_hands_out(name):
    method, size = made_method(shallow(name)), shallow(name).augment.image_size
    tokens = []
    method.backbone.norm.register_forward_hook(lambda module, args, output: tokens.append(output))
    loss = method({"image": torch.randn(2, 3, size, size)}, torch.Generator().manual_seed(0))["loss"]
    (reached,) = torch.autograd.grad(loss, tokens[0])
    x_BND = tokens[0].detach().requires_grad_()
    (handed,) = torch.autograd.grad(method.backbone.forward_head(x_BND, pre_logits=True).square().sum(), x_BND)
    assert reached[handed != 0].abs().max() > 0


@pytest.mark.parametrize("method", ["a2mim", "simmim"])
def test_an_own_vit_is_measured_like_the_same_weights_of_a_released_file(method, tmp_path):
    recipe = shallow(f"imagenet:{method}_vit_base")
    made, architecture, _ = make_network(recipe.network, 0, 64, 0)
    torch.nn.init.normal_(made.cls_token)
    export_backbone(made, tmp_path / "own.safetensors", architecture)
    save(made.state_dict(), tmp_path / "released.safetensors")
    own, released = (create_model("auto", tmp_path / f"{name}.safetensors")[0].eval() for name in ("own", "released"))
    image = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(own(image), released(image))
    torch.testing.assert_close(own(image), made.eval().forward_features(image)[:, 1:].mean(1))


@pytest.mark.parametrize("stated", [True, False], ids=["own", "released"])
@pytest.mark.parametrize("method", ["a2mim", "maskfeat"])
def test_fine_tuning_loads_all_but_the_last_norm(method, stated, tmp_path):
    """Behind the mean over tokens there is a new one, whatever the file says of pooling."""
    before, after = f"{method}_vit_base", "finetune_vit_base" if method == "a2mim" else f"finetune_{method}_vit_base"
    made, architecture, _ = make_network(shallow(f"imagenet:{before}").network, 0, 64, 0)
    if stated:
        export_backbone(made, tmp_path / "x.safetensors", architecture)
    else:
        save(made.state_dict(), tmp_path / "x.safetensors")
    network = replace(shallow(f"imagenet:{after}").network, weights=str(tmp_path / "x.safetensors"))
    tuned, _, report = make_network(network, 10, 64, 0)
    assert report.missing == ("fc_norm.weight", "fc_norm.bias")
    assert sorted(report.unexpected) == ["norm.bias", "norm.weight"]
    assert tuned.global_pool == "avg" and isinstance(tuned.norm, nn.Identity)


def made_method(recipe):
    """The method of a recipe, with its backbone."""
    size, seed = recipe.augment.image_size, recipe.loop.seed
    backbone, _, _ = make_network(recipe.network, 10 if isinstance(recipe, Finetune) else 0, size, seed)
    if isinstance(recipe, Finetune):
        return Supervised(backbone, SupervisedSettings(recipe.loss, 0.0, recipe.bce_threshold))
    return make_method(recipe.method, backbone, method_settings(recipe), size, seed)


def take_a_step(recipe):
    """One step of the training loop on two images of noise; the trainer."""
    size, classes = recipe.augment.image_size, 10 if isinstance(recipe, Finetune) else 0
    method = made_method(recipe)
    pixels = torch.randint(256, (2, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    source = Source(
        Images(None, "noise", 2),
        method.views(recipe.augment),
        *normalisation(method.backbone),
        mixing=recipe.mixing,
        classes=classes,
        memory=MemoryImages(pixels, torch.tensor([0, 1])),
    )
    loop = replace(recipe.loop, batch=2, sync_bn=False)  # which needs CUDA
    trainer = Trainer(method, source, recipe.optim, loop, World())
    trainer.advance(source.batches(trainer.plan, range(1), trainer.slots, trainer.device, loop.laid_out))
    return trainer


@pytest.mark.parametrize("name", [*CIFAR, *distinct(IMAGENET, without_numbers)])
@pytest.mark.filterwarnings("ignore:SimMIM on")  # leaks on a CNN, as published
def test_a_recipe_takes_a_step_on_a_shallow_network(name):
    trainer = take_a_step(shallow(name))
    assert trainer.step == 1 and trainer.losses.isfinite().all() and trainer.finite()


@pytest.mark.parametrize("name", distinct(IMAGENET, full))
def test_the_network_of_a_recipe_for_imagenet_is_the_papers(name):
    described, classes, size = full(name)
    with shapes_alone():
        network, _, _ = make_network(described, classes, size, 0)
    million = sum(p.numel() for p in network.parameters()) / 1e6
    known = SIZES.get(name.removeprefix("imagenet:"))
    assert (known is None) == (classes == 0) and (known is None or million == pytest.approx(known, abs=0.06))
    with_few_blocks(network)
    with torch.device("meta"), torch.no_grad():
        features = network.eval()(torch.empty(2, 3, size, size))
    assert features.shape == (2, classes or network.num_features)


def with_few_blocks(network):
    """Without the blocks that are like the first of their stage: on the meta device each operation is Python's."""
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential | nn.ModuleList) and len(module) > 4:
            del module[1:]
