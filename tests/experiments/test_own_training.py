"""Backbones, methods and recipes of one's own, as docs/extending.md shows them, through the training commands."""

import json
import re
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from torch import nn

from a2mim import METHODS, OwnBackbone
from a2mim.backbones import read_structure
from a2mim.maps import all_maps
from a2mim.plain import to_plain
from experiments.cli import main
from experiments.commands import finetune
from experiments.commands.pretrain import Settings
from experiments.training.asked import resolved
from experiments.training.recipe_files import read_settings
from tests.a2mim.scenes import write_scenes
from tests.a2mim.tiny import write_images

pytestmark = pytest.mark.usefixtures("sketches")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
BEGIN = "import torch\nfrom torch import nn\nimages = torch.randn(4, 3, 24, 24)\n"
SMALL = "--image-size 24 --workers 0 --epochs 1 --warmup-epochs 0 --lr-batch 8 --batch 8 --device cpu"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with images, and with the page's blocks on backbones, methods and recipes as modules and files."""
    folder = tmp_path_factory.mktemp("own")
    write_images(folder / "photos" / "train", per_class=4, size=24)
    write_images(folder / "photos" / "val", per_class=2, size=24)
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    own = [block for block in blocks if "def small(" in block or "class Turns(" in block]
    (folder / "own_of_the_page.py").write_text(BEGIN + "\n\n".join(own))
    (folder / "my_recipes.py").write_text(next(block for block in blocks if "def turns(" in block))
    (folder / "settings.yaml").write_text(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("own_of_the_page", None)  # of tests run one by one none may have taken it


def call(*words):
    return main([part for word in words for part in str(word).split(" ")])


def refused(capsys, *words):
    capsys.readouterr()
    assert call(*words) == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="module")
def turned(place):
    """A run of the page's own method on the page's own backbone."""
    words = f"--method own_of_the_page:Turns --model own_of_the_page:small --set turns=2 --data {place}/photos {SMALL}"
    assert not call("pretrain", words, "--out", place / "turned")
    return place / "turned"


def test_own_method_and_backbone_are_trained_and_kept(turned):
    run = json.loads((turned / "run.json").read_text())
    assert run["finished"] and run["method_settings"] == {"turns": 2} and 0 < run["last"]["loss"] < 3
    with safe_open(turned / "backbone.safetensors", "pt") as file:
        assert {"encoder.0.0.weight", "encoder.1.1.running_var"} <= set(file.keys())
        assert not any(key.startswith("head") for key in file.keys())  # noqa: SIM118  it is no dictionary


def test_own_weights_are_fine_tuned_probed_and_measured(turned, place, capsys):
    again = f"--model own_of_the_page:small --weights {turned} --data {place}/photos"
    assert not call("finetune", again, SMALL, "--layer-decay 1 --out", place / "tuned")
    assert "layers" in refused(capsys, "finetune", again, SMALL, "--out", place / "other")  # the default layer decay
    assert not call("knn", again, "--image-size 24 --workers 0 --k 3 --device cpu --out", place / "knn.json")
    measured = f"own_of_the_page:small --weights {place / 'tuned'} --num-classes 4 --data {place}/photos --grid 2"
    small = "--radius 1 --ratios 0 1 --images 2 --budget 60 --design exact --device cpu --out"
    assert not call("profile", measured, small, place / "profile")
    record = json.loads((place / "profile" / "run.json").read_text())
    assert record["classes"] == 4 and record["image_shape"] == [3, 24, 24]


def test_what_a_record_names_as_code_is_named_again(turned, capsys):
    words = ("pretrain", "--resume", turned, "--device cpu")
    assert "own_of_the_page:small" in refused(capsys, *words)
    said = refused(capsys, *words, "--model own_of_the_page:small")
    assert (
        "names the method 'own_of_the_page:Turns', which is code: name it again with --method, or use --trust" in said
    )
    assert not call(*words, "--model own_of_the_page:small --method own_of_the_page:Turns")
    assert not call(*words, "--trust-factory")
    assert "runs the code of 'own_of_the_page:Turns'" in capsys.readouterr().err


def test_what_is_no_method(place, capsys):
    words = f"--model test_resnet --data {place}/photos {SMALL} --out {place}/none --method"
    for method, said in (
        ("own_of_the_page:small", "'own_of_the_page:small' is no method: write a class that inherits a2mim.Method"),
        ("own_of_the_page:Truns", "has no function 'Truns', did you mean Turns"),
        ("no_such_module:Turns", "module 'no_such_module' of the method"),
        ("nothing", "there is no method 'nothing': choose a2mim, "),
        ("own_of_the_page:Turns --set trun=3", "has no setting 'trun', did you mean turns?"),
    ):
        assert said in refused(capsys, "pretrain", words, method)
        assert not (place / "none").exists()


class Features(nn.Module):
    """A timm model as an encoder of one's own: its map of features, and nothing else of it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model.forward_features(x)


STAGES = [f"layer{k}" for k in range(1, 5)], [f"blocks.{k}" for k in range(6)]


@pytest.mark.parametrize(("name", "stages"), list(zip(("test_resnet", "test_vit"), STAGES, strict=True)))
def test_an_own_backbone_trains_as_the_timm_model_that_it_wraps(name, stages):
    def make(own):
        torch.manual_seed(0)
        arguments = {"img_size": 32} if name == "test_vit" else {}
        model = timm.create_model(name, num_classes=0, **arguments)
        if not own:
            return model
        prefix, names = getattr(model, "num_prefix_tokens", 0), [f"model.{name}" for name in stages]
        return OwnBackbone(Features(model), model.num_features, stages=names, num_prefix_tokens=prefix, image_size=32)

    model, own = make(False), make(True)
    theirs, ours = read_structure(model, 32), read_structure(own, 32)
    assert (ours.features, ours.stride) == (theirs.features, theirs.stride)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(own.forward_features(images), model.forward_features(images), rtol=0, atol=0)
    losses = []
    for backbone, last in ((model, theirs), (own, ours)):
        torch.manual_seed(0)
        settings = METHODS["a2mim"].Settings(image_size=32, mask_cell=16, mask_at=str(last.places[-1].module))
        method = METHODS["a2mim"](backbone, settings).eval()
        losses.append(method({"image": images}, torch.Generator().manual_seed(2))["loss"])
    torch.testing.assert_close(*losses, rtol=0, atol=0)


@pytest.mark.parametrize(("name", "stages"), list(zip(("test_resnet", "test_vit"), STAGES, strict=True)))
def test_an_own_backbone_gives_the_maps_of_the_timm_model_that_it_wraps(name, stages):
    arguments = {"img_size": 32, "dynamic_img_size": True} if name == "test_vit" else {}
    model = timm.create_model(name, num_classes=0, **arguments)
    prefix = getattr(model, "num_prefix_tokens", 0)
    names = [f"model.{name}" for name in stages]
    own = OwnBackbone(Features(model), model.num_features, stages=names, num_prefix_tokens=prefix, image_size=32).eval()
    images = torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(1))
    model.eval()
    raw, normed = (model.forward_intermediates(images, norm=norm, intermediates_only=True) for norm in (False, True))
    ours = own.forward_intermediates(images)
    assert len(ours) == len(stages)
    torch.testing.assert_close(ours[:-1], raw[-len(ours) : -1], rtol=0, atol=0)
    torch.testing.assert_close(ours[-1], normed[-1], rtol=0, atol=0)
    torch.testing.assert_close(own.forward_intermediates(images, indices=[1, 0]), ours[1::-1], rtol=0, atol=0)
    taken = all_maps(own)
    assert taken.channels == tuple(x.shape[1] for x in ours)
    assert taken.strides == tuple(32 // x.shape[2] for x in ours)


def test_a_backbone_without_maps_is_told_what_to_do():
    with pytest.raises(ValueError, match=r"Flatten has no forward_intermediates.* or put your encoder into a2mim\."):
        all_maps(nn.Flatten())
    pooled = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match="what the encoder of this OwnBackbone gives is no map of the image"):
        all_maps(OwnBackbone(pooled, 8, image_size=32))


def test_own_weights_segment(turned, place, capsys):
    write_scenes(place / "scenes", {"train": 4, "val": 1}, size=(24, 48), cell=8)
    words = f"--model own_of_the_page:small --weights {turned} --frozen --data {place}/scenes --ignore 11 --crop 24 24"
    words += " --batch 4 --epochs 1 --device cpu --workers 0 --out"
    assert not call("segment", words, place / "segmented")
    assert json.loads((place / "segmented" / "run.json").read_text())["finished"]
    said = refused(capsys, "segment --decoder fpn", words, place / "none")
    assert "OwnBackbone has maps of stride 4, 8, none of 16, which fpn needs: use --decoder linear" in said
    assert not (place / "none").exists()


def test_the_pages_recipes_are_settings(place):
    given = Settings(recipe=f"{place}/my_recipes.py:turns", out="x", set=("gamma=1",))
    made = resolved(given, "pretrain")
    assert (made.method, made.mask_ratio, made.optim.epochs, made.loop.batch) == ("simmim", 0.5, 20, 256)
    assert made.set == ("gamma=1",) and made.network.model == "resnet18"
    plain = resolved(Settings(recipe=f"{place}/settings.yaml", out="x"), "pretrain")
    assert (plain.method, plain.optim.lr, plain.optim.betas) == ("simmim", 1e-3, (0.9, 0.95))
    assert plain.loop.channels_last and not plain.loop.compile
    with pytest.raises(ValueError, match="is not one of `a2mim finetune`"):
        resolved(finetune.Settings(recipe=f"{place}/my_recipes.py:turns", out="x"), "finetune")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("a.py:turn", "def turns(): ...", "a.py' has no function 'turn', did you mean turns?"),
        ("a.py:turns", "import nothing_of_the_kind", "a.py' fails: ModuleNotFoundError: No module named"),
        (
            "a.py:turns",
            "def turns(): return 1 / 0",
            "a.py:turns fails: ZeroDivisionError: division by zero (a.py, line 1)",
        ),
        ("a.py:turns", "def turns(): return 3", "is not one of `a2mim pretrain`"),
        ("a.yaml", "lrr: 0.1", "a.yaml: there is no setting 'lrr', did you mean lr"),
        ("a.yaml", "epochs: many", "a.yaml: epochs cannot be 'many'"),
        ("a.yaml", "compile: 3", "a.yaml: compile cannot be 3"),
        ("a.yaml", "betas: [0.9]", "a.yaml: betas cannot be [0.9]"),
        ("a.yaml", "network: {model: resnet18}", "a.yaml: there is no setting 'network'"),
        ("a.yaml", "batch: 0", "--batch 0 is too small"),
        ("a.yaml", "out: there", "a.yaml: 'out' is no part of a recipe, type --out"),
        ("a.yaml", "model: own_of_the_page:small", "a.yaml names the network 'own_of_the_page:small'"),
        ("a.yaml", "method: own_of_the_page:Turns", "a.yaml names the method 'own_of_the_page:Turns', which is code"),
        ("a.yaml", "model: resnet18\ndata: hfds/someone/photos", "a.yaml names the data set 'hfds/someone/photos'"),
        ("a.yaml", "a: !!python/object/apply:os.getcwd []", "a.yaml is no YAML: could not determine a constructor"),
        ("a.yaml", "a: &a [x, x]\nset: [*a, *a]", "a.yaml is no YAML: an alias stands for a value, write it out"),
        pytest.param("a.yaml", "set: " + "x" * 100_000, "a.yaml has 100,005 bytes, and is read up to", id="long"),
        pytest.param("a.yaml", "epochs: " + "x" * 999, f"a.yaml: epochs cannot be '{'x' * 118}…", id="a long value"),
        ("a.yaml", "just words", "a.yaml holds no settings: write an option a line"),
        ("b.yaml", "", "there is no file of settings"),
        ("b.py:turns", "", "there is no recipe file"),
    ],
)
def test_what_is_no_recipe(file, content, said, place, tmp_path, capsys):
    (tmp_path / re.sub("^b", "a", file.partition(":")[0])).write_text(content)
    words = ("pretrain", f"--recipe {tmp_path / file} --out {tmp_path}/run")
    assert said in refused(capsys, *words)
    assert not (tmp_path / "run").exists()


def test_plain_settings_come_back_as_they_were(tmp_path):
    """Every option of a recipe, written as the plain data that YAML holds."""
    from experiments.training.asked import ELSEWHERE, find_recipe

    for name in ("imagenet:a2mim_resnet50", "imagenet:dino_vit_small"):
        recipe = find_recipe(name)()
        plain = to_plain(recipe)
        flat = {key: value for key, value in plain.items() if not isinstance(value, dict) and key not in ELSEWHERE}
        for part in plain.values():
            flat |= part if isinstance(part, dict) else {}
        path = tmp_path / "recipe.json"
        path.write_text(json.dumps(flat))
        assert read_settings(path, Settings, ELSEWHERE) == recipe
