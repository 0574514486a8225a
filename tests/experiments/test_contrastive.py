"""Contrastive methods through the command, and their recipes."""

import json
from dataclasses import replace

import pytest
import torch

from a2mim.settings import Augmentation
from a2mim.shapes import shapes_alone
from experiments.cli import main
from experiments.commands.pretrain import method_settings
from experiments.recipes import cifar10_baselines, imagenet, recipes_of
from experiments.training.asked import find_recipe
from experiments.training.assembly import make_method, make_network
from tests.a2mim.tiny import log_of, write_images

METHODS = ("simclr", "byol", "mocov3", "dino")
CIFAR = [f"cifar10_baselines:{name}" for name in vars(cifar10_baselines) if name.startswith(METHODS)]
IMAGENET = [f"imagenet:{name}" for name in recipes_of(imagenet) if name.startswith(METHODS)]
COLOURS = Augmentation(color_jitter=0.4, saturation=0.2, hue=0.1, color_jitter_prob=0.8, grayscale=0.2)
RATE = ("--warmup-epochs", "1", "--lr-batch", "8", "--batch", "8", "--epochs", "2", "--workers", "0")


def views_as_published(name: str) -> list[Augmentation]:
    """The views of a recipe, from the papers and from its own words."""
    cifar, method = name in CIFAR, name.split(":")[1].split("_")[0]
    side = 32 if cifar else 224
    if method == "simclr":
        s, scale = (0.5, (0.2, 1.0) if name.endswith("_cpu") else (0.08, 1.0)) if cifar else (1.0, (0.08, 1.0))
        colours = {"color_jitter": 0.8 * s, "hue": 0.2 * s, "color_jitter_prob": 0.8, "grayscale": 0.2}
        return [Augmentation(side, scale=scale, **colours, blur=0 if cifar else 0.5)] * 2
    scale = {"mocov3_resnet50": (0.2, 1.0), "dino_resnet50": (0.14, 1.0), "dino_vit_small": (0.4, 1.0)}
    usual = ((0.4, 1.0) if method == "dino" and not name.endswith("_cpu") else (0.2, 1.0)) if cifar else (0.08, 1.0)
    first = replace(COLOURS, image_size=side, scale=scale.get(name.split(":")[1], usual), blur=0 if cifar else 1.0)
    first = replace(first, interpolation="bilinear" if method == "mocov3" else "bicubic")
    both = [first, replace(first, blur=0 if cifar else 0.1, solarize=0.2)]
    if method != "dino" or name.endswith("_cpu"):
        return both
    local = {"image_size": 16 if cifar else 96, "scale": (0.05, 0.14) if "dino_resnet50" in name else (0.05, 0.4)}
    return [*both, *[replace(first, blur=0 if cifar else 0.5, **local)] * (4 if cifar else 8)]


def test_dino_by_the_command_with_crops_of_two_sizes(tmp_path, capsys):
    images = write_images(tmp_path / "images", per_class=4, size=36)
    words = ["pretrain", "--method", "dino", "--model", "test_vit", "--data", str(images), "--image-size", "32", *RATE]
    words += ["--set", "local_crops=2", "prototypes=16", "hidden=8", "bottleneck=4", "--device", "cpu"]
    assert main([*words, "--model-args", "dynamic_img_size=False", "--out", str(tmp_path / "no")]) == 2
    assert "a ViT takes several with dynamic_img_size=True" in " ".join(capsys.readouterr().err.split())
    words += ["--model-args", "dynamic_img_size=True", "--out", str(tmp_path / "run")]
    assert main([*words, "--minutes", "1e-9"]) == 0
    assert main(["pretrain", "--resume", str(tmp_path / "run"), "--device", "cpu"]) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["finished"]
    assert {"loss", "entropy"} <= set(log_of(tmp_path / "run")[-1])
    assert not (tmp_path / "run" / "pictures").exists()


@pytest.mark.parametrize("name", CIFAR)
def test_recipes_for_cifar10_take_a_step(name):
    if not name.endswith("_cpu"):
        # of temperatures, momentum and heads a short run needs others; the views stay, but for DINO's local crops
        short = ["temperature", "teacher_temperature", "momentum", "hidden", "embedding", "bottleneck", "prototypes"]
        short += ["batch_norm", "local_crops", "local_size"] if "dino" in name else []
        words = set(find_recipe(name)().set) ^ set(find_recipe(f"{name}_cpu")().set)
        assert {word.split("=")[0] for word in words} <= set(short)
        return
    recipe = find_recipe(name)()
    network, _, _ = make_network(recipe.network, 0, 32, 0)
    method = make_method(recipe.method, network, method_settings(recipe), 32, 0)
    views = method.views(recipe.augment)
    assert list(views) == views_as_published(name)
    assert all(view.blur == 0 and view.color_jitter > 0 for view in views) and views[0].scale == recipe.augment.scale
    batch = {"image": [torch.randn(4, 3, view.image_size, view.image_size) for view in views]}
    out = method(batch, torch.Generator())
    out["loss"].backward()
    assert out["loss"].isfinite()


@pytest.mark.parametrize("name", IMAGENET)
def test_recipes_for_imagenet_can_be_made(name):
    recipe = find_recipe(name)()
    blocks = "depth=1" if "vit" in name else "layers=(1, 1, 1, 1)"
    described = replace(recipe.network, model_args=(*recipe.network.model_args, blocks))
    with shapes_alone():
        network, _, _ = make_network(described, 0, 224, 0)
        method = make_method(recipe.method, network, method_settings(recipe), 224, 0)
    views = method.views(recipe.augment)
    assert list(views) == views_as_published(name)
    assert views[0].image_size == 224 and views[0].color_jitter_prob == 0.8
    if recipe.augment != Augmentation():
        assert views[0].scale == recipe.augment.scale
    if "mocov3_vit" in name:
        assert network.blocks[0].attn.num_heads == 12 and not network.patch_embed.proj.weight.requires_grad
    if recipe.method == "dino":
        assert [view.image_size for view in views[2:]] == [96] * 8
