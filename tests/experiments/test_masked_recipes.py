"""The recipes of MAE, MaskFeat and SparK: they make a method that runs, and its weights pass on to fine-tuning."""

import json

import pytest
import torch

from a2mim.export import export_backbone
from a2mim.settings import Network
from experiments.benchmarks.train import new_method
from experiments.cli import main
from experiments.commands.pretrain import Settings as Pretrain
from experiments.training.asked import find_recipe
from experiments.training.assembly import make_method, make_network, with_overwritten
from tests.a2mim.tiny import write_images

CIFAR = [f"{name}{size}" for name in ("mae_vit", "maskfeat_vit", "spark_cnn") for size in ("", "_cpu")]
IMAGENET = {
    "mae_vit_base": (1600, 4096, 2.4e-3),
    "mae_vit_large": (1600, 4096, 2.4e-3),
    "maskfeat_vit_base": (1600, 2048, 1.6e-3),
    "maskfeat_vit_large": (1600, 2048, 1.6e-3),
    **{f"spark_resnet{depth}": (1600, 4096, 3.2e-3) for depth in (50, 101, 152, 200)},
    "spark_convnext_small": (1600, 4096, 3.2e-3),
    "spark_convnext_base": (1600, 4096, 3.2e-3),
}


@pytest.mark.parametrize("name", CIFAR)
def test_cifar10_recipes_run_and_their_weights_fit_the_fine_tuning(name):
    recipe = find_recipe(f"cifar10_masked:{name}")()
    method, _ = new_method(recipe)
    loss = method({"image": torch.randn(2, 3, 32, 32)}, torch.Generator().manual_seed(0))["loss"]
    loss.backward()
    assert loss.isfinite()
    after, _, _ = make_network(find_recipe(f"cifar10:finetune_{name.split('_', 1)[1]}")().network, 10, 32, 0)
    carried = {key: tensor.shape for key, tensor in method.backbone.state_dict().items()}
    shapes = {key: tensor.shape for key, tensor in after.state_dict().items()}
    assert carried.items() <= shapes.items() and all("head" in key for key in shapes.keys() - carried.keys())


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_recipes_have_the_released_schedules(name):
    recipe = find_recipe(f"imagenet:{name}")()
    epochs, batch, rate = IMAGENET[name]
    assert isinstance(recipe, Pretrain) and recipe.method == name.split("_")[0]
    assert (recipe.optim.epochs, recipe.loop.batch) == (epochs, batch)
    assert recipe.optim.lr * batch / recipe.optim.lr_batch == pytest.approx(rate)


@pytest.mark.parametrize("family", ["mae", "maskfeat"])
def test_weights_of_a_vit_fit_its_fine_tuning_but_for_the_last_norm(family):
    before = find_recipe(f"imagenet:{family}_vit_base")().network
    tuned = find_recipe(f"imagenet:finetune_{family}_vit_base")()
    small = ("depth=1", "embed_dim=48", "num_heads=3")
    shapes = []
    for network in (before, tuned.network):
        arguments = (*network.model_args, *small)
        model, _, _ = make_network(type(network)(network.model, arguments), 0, 224, 0)
        shapes.append({key: tensor.shape for key, tensor in model.state_dict().items()})
    assert {key for key in shapes[0] if shapes[0][key] != shapes[1].get(key)} == {"norm.weight", "norm.bias"}
    assert tuned.network.partial and {key for key in shapes[1] if key not in shapes[0]} == {
        "fc_norm.weight",
        "fc_norm.bias",
    }


@pytest.mark.parametrize("name", ["mae_vit_cpu", "spark_cnn_cpu"])
def test_from_images_to_a_fine_tuned_network(name, tmp_path):
    write_images(tmp_path / "images" / "train", per_class=4, size=32)
    write_images(tmp_path / "images" / "val", per_class=1, size=32)
    few = [
        "--data",
        tmp_path / "images",
        "--batch",
        8,
        "--epochs",
        1,
        "--warmup-epochs",
        0,
        "--device",
        "cpu",
        "--limit",
        0,
    ]
    first = ["pretrain", "--recipe", f"cifar10_masked:{name}", "--out", tmp_path / "first", "--pictures-every", 1, *few]
    assert main([str(word) for word in first]) == 0
    tune = ["finetune", "--recipe", f"cifar10:finetune_{name.split('_', 1)[1]}", "--weights", tmp_path / "first"]
    assert main([str(word) for word in (*tune, "--out", tmp_path / "second", *few)]) == 0
    told = json.loads((tmp_path / "second" / "run.json").read_text())
    assert told["finished"] and told["loaded"]["missing"] == []
    assert len(list((tmp_path / "first" / "pictures").glob("*.png"))) == 1


@pytest.mark.parametrize(
    ("method", "given", "lost"),
    [
        ("mae", {}, ["pos_embed"]),
        ("mae", {"positions": "own"}, []),
        ("mocov3", {}, ["pos_embed", "patch_embed.proj.weight"]),
        ("mocov3", {"patch_embedding": "kept"}, []),
    ],
)
def test_loaded_weights_that_a_method_overwrites_are_told(method, given, lost, tmp_path, capsys):
    small = ("img_size=32", "patch_size=8", "embed_dim=32", "depth=1", "num_heads=2")
    first, architecture, _ = make_network(Network("vit_tiny_patch16_224", model_args=small), 0, 32, 0)
    export_backbone(first, tmp_path / "backbone.safetensors", architecture)
    model, _, report = make_network(Network(weights=str(tmp_path / "backbone.safetensors")), 0, 32, 0)
    assert report is not None and report.adapted == ()
    loaded = {name: x.clone() for name, x in model.state_dict().items()}
    make_method(method, model, given, 32, 0)
    (*said,) = with_overwritten(report, loaded, model, method).adapted
    assert bool(said) == bool(lost) == ("note: " in capsys.readouterr().out)
    assert all(f"{name}" in said[0] for name in lost)
