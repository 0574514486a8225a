"""The CIFAR-10 recipes: networks, pre-training, fine-tuning and profiles fit together."""

import pytest

from a2mim.backbones import find_place
from a2mim.shapes import shapes_alone
from experiments.recipes import cifar10
from experiments.training.asked import find_recipe
from experiments.training.assembly import make_method, make_network

NAMES = [
    f"{method}_{family}{size}"
    for method in ("simmim", "a2mim", "spatial")
    for family in ("vit", "cnn")
    for size in ("", "_cpu")
]


@pytest.mark.parametrize("name", NAMES)
def test_weights_pass_from_pretraining_to_finetuning_to_the_profile(name):
    recipe, network = find_recipe(f"cifar10:{name}")(), name.split("_", 1)[1]
    tuned = find_recipe(f"cifar10:finetune_{network}")()
    with shapes_alone():
        before, _, _ = make_network(recipe.network, 0, 32, 0)
        after, _, _ = make_network(tuned.network, 10, 32, 0)
        profiled = getattr(cifar10, network)(10)
    shapes = {key: tensor.shape for key, tensor in after.state_dict().items()}
    assert {key: tensor.shape for key, tensor in profiled.state_dict().items()} == shapes
    carried = {key: tensor.shape for key, tensor in before.state_dict().items()}
    assert carried.items() <= shapes.items() and all("head" in key for key in shapes.keys() - carried.keys())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:SimMIM on ResNetV2")  # leaks, as published
def test_a_mask_cell_is_a_position_of_the_map_that_the_token_joins(name):
    recipe = find_recipe(f"cifar10:{name}")()
    model, _, _ = make_network(recipe.network, 0, 32, 0)
    method = make_method(recipe.method, model, {"mask_cell": recipe.mask_cell, **cifar10_settings(recipe)}, 32, 0)
    assert method.mask_token.place.layout.grid == (32 // recipe.mask_cell,) * 2 == (8, 8)
    if recipe.method == "a2mim":
        assert method.mask_token.place == find_place(model, method.structure, "default")


def cifar10_settings(recipe):
    from a2mim.plain import pairs

    return pairs(recipe.set)


def test_profiles_show_the_whole_image():
    for network in (cifar10.vit, cifar10.cnn_cpu):
        config = network().pretrained_cfg
        assert config["crop_pct"] == 1.0 and tuple(config["input_size"]) == (3, 32, 32)
