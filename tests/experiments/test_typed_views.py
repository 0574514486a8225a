"""The views of contrastive methods: what is typed counts where it is Augmentation's own value, too, and run.json says
which views were made."""

import json
from dataclasses import replace

import pytest

from a2mim.plain import from_plain
from a2mim.runs import read_run
from a2mim.settings import OWN_VIEWS, Augmentation
from experiments.cli import main, start
from experiments.commands import pretrain
from experiments.training.asked import resolved
from tests.a2mim.siamese import SETTINGS, made
from tests.a2mim.tiny import write_images

OFF = (
    "--scale 0.67 1.0 --color-jitter 0 --hue 0 --color-jitter-prob 1 --grayscale 0 --blur 0 --solarize 0 "
    "--interpolation bicubic"
)


def augmentation_of(line, capsys):
    """The augmentations that a command line of pretrain asks for; what it says where that is refused."""
    seen = []
    code = start(
        pretrain.Settings,
        lambda given: seen.append(resolved(given, "pretrain")),
        line.split(),
        "a2mim pretrain",
        pretrain.usual,
    )
    return seen[0].augment if code == 0 else " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", SETTINGS)
def test_typed_usual_values_win_in_every_view(name, capsys):
    given = augmentation_of(f"--method {name} --image-size 224 --out x {OFF}", capsys)
    for view in made(name).views(given):
        shown = replace(view, image_size=224, saturation=None)
        # of DINO's local crops the scale is --set local_scale
        assert replace(shown, scale=Augmentation.scale) == Augmentation()
        assert view.scale == ((0.05, 0.4) if view.image_size != 224 else Augmentation.scale)


def test_what_methods_have_views_of_their_own_for_is_known():
    usual, own = Augmentation(), set()
    for name in SETTINGS:
        own |= {
            each for view in made(name).views(usual)[:2] for each, x in vars(view).items() if x != vars(usual)[each]
        }
    assert own == {*OWN_VIEWS, "saturation"}  # whose usual value cannot be typed


def test_typed_values_that_change_nothing_leave_no_trace(capsys):
    """So that the same run may be asked for with them and without."""
    for line in ("--method simmim --blur 0", "--method simclr --blur 0.3 --image-size 224", "--method simclr"):
        assert augmentation_of(f"{line} --out x", capsys).typed == ()
    assert augmentation_of("--method simclr --hue 0 --blur 0 --out x", capsys).typed == ("hue", "blur")


@pytest.mark.parametrize("typed", ["blur", "3", "[3]", "{blur: 1}"])
def test_what_a_file_cannot_call_typed(typed, capsys, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"method: simclr\ntyped: {typed}\n")
    said = augmentation_of(f"--recipe {tmp_path / 'mine.yaml'} --out x", capsys)
    assert "mine.yaml: typed" in said and "name settings of the views, such as [blur]" in said


@pytest.mark.parametrize("kind", ["its name", "a file"])
def test_beside_a_recipe(kind, capsys, tmp_path):
    (tmp_path / "mine.yaml").write_text("method: simclr\nscale: [0.08, 1.0]\nhue: 0.0\nblur: 0.0\ntyped: [blur]\n")
    recipe = "cifar10_baselines:simclr_vit" if kind == "its name" else tmp_path / "mine.yaml"
    given = augmentation_of(f"--recipe {recipe} --out x --scale 0.67 1.0", capsys)
    first, _ = made("simclr").views(given)
    assert first.scale == (0.67, 1.0) and first.color_jitter == 0.8
    # a file may hold all settings of a run, which are not asked for by that
    assert (first.hue, first.blur) == (0.2, 0.5 if kind == "its name" else 0.0)


def test_a_run_tells_its_views_and_goes_on_with_them(tmp_path, capsys):
    images, out = write_images(tmp_path / "images", per_class=4, size=36), tmp_path / "run"
    words = ["pretrain", "--method", "simclr", "--model", "test_vit", "--data", str(images), "--image-size", "32"]
    words += ["--epochs", "2", "--warmup-epochs", "1", "--lr-batch", "8", "--batch", "8", "--workers", "0"]
    words += ["--set", "hidden=8", "embedding=4", "--device", "cpu", "--minutes", "1e-9", "--out", str(out)]
    assert main([*words, "--hue", "0", "--grayscale", "0"]) == 0
    views = [from_plain(Augmentation, each) for each in read_run(out)["views"]]
    own = Augmentation(32, scale=(0.08, 1.0), color_jitter=0.8, color_jitter_prob=0.8, blur=0.5)
    assert views == [own, own]
    capsys.readouterr()
    assert main(words) == 2 and "augment.typed was ['hue', 'grayscale'], is []" in capsys.readouterr().err
    resume = ["pretrain", "--resume", str(out), "--device", "cpu"]
    assert main([*resume, "--blur", "0"]) == 2
    assert "augment.typed was ['hue', 'grayscale'], is ['hue', 'grayscale', 'blur']" in capsys.readouterr().err
    assert main([*resume, "--hue", "0"]) == 0
    assert read_run(out)["finished"] and len(read_run(out)["views"]) == 2


def test_a_run_from_before_goes_on_with_the_views_it_had(tmp_path, capsys):
    """Its record knows neither what was typed, which had no effect then, nor its views."""
    images, out = write_images(tmp_path / "images", per_class=4, size=36), tmp_path / "run"
    words = ["pretrain", "--method", "simclr", "--model", "test_vit", "--data", str(images), "--image-size", "32"]
    words += ["--epochs", "2", "--warmup-epochs", "1", "--lr-batch", "8", "--batch", "8", "--workers", "0"]
    words += ["--set", "hidden=8", "embedding=4", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    assert main([*words, "--minutes", "1e-9", "--out", str(out)]) == 0
    run = read_run(out)
    del run["settings"]["augment"]["typed"], run["views"]
    (out / "run.json").write_text(json.dumps(run))
    assert main([*words, "--out", str(out)]) == 0
    weights = [(folder / "backbone.safetensors").read_bytes() for folder in (out, tmp_path / "whole")]
    assert weights[0] == weights[1] and read_run(out)["views"][0]["blur"] == 0.5
