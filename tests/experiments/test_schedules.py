"""Learning rates of the ImageNet recipes, each against its release's own formula, written out here from its source."""

import inspect
import math
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from a2mim.notes import notes
from a2mim.optim import group_rate, learning_rate, scaled_lr
from experiments.commands import finetune, pretrain
from experiments.help import parse
from experiments.recipes import cifar10, cifar10_baselines, cifar10_masked, coco, imagenet, recipes_of
from experiments.training.asked import find_recipe

Curve = Callable[[float, float, float], float]  # epoch, all epochs T, warm-up w -> the rate


def annealing(end: float, peak: float, part: float) -> float:
    return end + 0.5 * (peak - end) * (math.cos(math.pi * part) + 1)


def step_fix(peak: float, end: float) -> Curve:
    """OpenMixup, core/hooks/lr_scheduler.py, StepFixCosineAnnealingLrUpdaterHook, by iteration; mmcv's LrUpdaterHook
    takes the warm-up's share of the regular rate of the very iteration."""

    def at(t: float, total: float, warmup: float) -> float:
        regular = annealing(end, peak, (t - warmup) / (total - warmup))
        return regular * t / warmup if t < warmup else regular

    return at


def mmcv_cosine(peak: float, end: float, ratio: float, by_epoch: bool) -> Curve:
    """mmcv 1.x, runner/hooks/lr_updater.py, CosineAnnealing with a linear warm-up; RSB by epoch, ConvNeXt not."""

    def at(t: float, total: float, warmup: float) -> float:
        regular = annealing(end, peak, (math.floor(t) if by_epoch else t) / total)
        return regular * (1 - (1 - t / warmup) * (1 - ratio)) if t < warmup else regular

    return at


def mmcv_step(peak: float, milestone: int) -> Curve:
    """The same, StepLrUpdaterHook, gamma 0.1."""

    def at(t: float, total: float, warmup: float) -> float:
        regular = peak * 0.1 ** (t >= milestone)
        return regular * (1 - (1 - t / warmup) * (1 - 5e-7 * 4)) if t < warmup else regular

    return at


def after_warmup(peak: float, end: float = 0.0, first: float = 0.0) -> Curve:
    """MAE util/lr_sched.py, MoCo v3 main_moco.py, DINO utils.cosine_scheduler, SlowFast utils/lr_policy.py with
    COSINE_AFTER_WARMUP, ConvNeXt utils.cosine_scheduler, BYOL utils/schedules.py, SimCLR's WarmUpAndCosineDecay."""

    def at(t: float, total: float, warmup: float) -> float:
        if t < warmup:
            return first + (peak - first) * t / warmup
        return end + (peak - end) * 0.5 * (1 + math.cos(math.pi * (t - warmup) / (total - warmup)))

    return at


def spark(peak: float) -> Curve:
    """SparK, pretrain/utils/lr_control.py, lr_wd_annealing."""

    def at(t: float, total: float, warmup: float) -> float:
        if t < warmup:
            return 0.005 * peak + 0.995 * peak * t / warmup
        return 0.001 * peak + 0.999 * peak * (0.5 + 0.5 * math.cos(math.pi * (t - warmup) / (total - warmup)))

    return at


def timm_rule(peak: float, end: float, first: float) -> Curve:
    """timm's CosineLRScheduler by epoch, without warmup_prefix, as DeiT and RSB call it."""

    def at(t: float, total: float, warmup: float) -> float:
        t = math.floor(t)
        return first + t * (peak - first) / warmup if t < warmup else annealing(end, peak, t / total)

    return at


# Recipe -> its release's curve, all epochs, epochs of warm-up.
RELEASES: dict[str, tuple[Curve, int, int]] = {
    **{f"a2mim_vit_{s}": (mmcv_step(4e-4, 700), 800, 10) for s in ("small", "base", "large")},
    **{f"simmim_vit_{s}": (mmcv_step(4e-4, 700), 800, 10) for s in ("small", "base", "large")},
    **{
        f"a2mim_{net}": (step_fix(1.2e-3, 1e-5), 300, 10) for net in ("resnet50", "resnet101", "resnet152", "resnet200")
    },
    "a2mim_resnet50_100": (step_fix(1.2e-3, 1e-5), 100, 10),
    **{f"a2mim_convnext_{s}": (step_fix(1.2e-3, 1e-5), 300, 10) for s in ("tiny", "small", "base")},
    **{f"simmim_resnet{n}": (step_fix(8e-4, 1e-5), 300, 10) for n in (50, 101, 152, 200)},
    **{f"simmim_convnext_{s}": (step_fix(8e-4, 1e-5), 300, 10) for s in ("tiny", "small", "base")},
    "simclr_resnet50": (after_warmup(4.8), 1000, 10),
    "byol_resnet50": (after_warmup(4.8), 300, 10),
    "mocov3_resnet50": (after_warmup(4.8), 300, 10),
    "mocov3_vit_small": (after_warmup(2.4e-3), 300, 40),
    "mocov3_vit_base": (after_warmup(2.4e-3), 300, 40),
    "dino_vit_small": (after_warmup(2e-3, 1e-6), 300, 10),
    "dino_resnet50": (after_warmup(0.06, 1e-6), 100, 10),
    "mae_vit_base": (after_warmup(2.4e-3), 1600, 40),
    "mae_vit_large": (after_warmup(2.4e-3), 1600, 40),
    # 8 shards of 256 images, by which BASE_LR, WARMUP_START_LR and COSINE_END_LR are multiplied
    "maskfeat_vit_base": (after_warmup(1.6e-3, 8e-6, 8e-6), 1600, 30),
    "maskfeat_vit_large": (after_warmup(1.6e-3, 8e-6, 8e-6), 1600, 30),
    **{f"spark_resnet{n}": (spark(3.2e-3), 1600, 40) for n in (50, 101, 152, 200)},
    **{f"spark_convnext_{s}": (spark(3.2e-3), 1600, 40) for s in ("small", "base")},
    "finetune_vit_small": (step_fix(1e-2, 1e-6), 200, 20),
    "finetune_vit_base": (step_fix(1e-2, 1e-6), 100, 20),
    "finetune_vit_large": (step_fix(1e-2, 1e-6), 150, 20),
    "finetune_mae_vit_base": (after_warmup(2e-3, 1e-6), 100, 5),
    "finetune_mae_vit_large": (after_warmup(4e-3, 1e-6), 50, 5),
    "finetune_maskfeat_vit_base": (after_warmup(8e-3, 4e-6, 4e-8), 100, 20),  # 4 shards of 512
    **{f"finetune_resnet{n}": (mmcv_cosine(5e-3, 1e-6, 1e-5, True), 300, 5) for n in (50, 101, 152, 200)},
    "finetune_resnet50_a3": (mmcv_cosine(8e-3, 1e-6, 1e-5, True), 100, 5),
    "finetune_convnext_tiny": (mmcv_cosine(4e-4, 1e-6, 1e-5, False), 400, 5),
    **{f"finetune_convnext_{s}": (mmcv_cosine(4e-3, 1e-6, 1e-5, False), 300, 5) for s in ("small", "base")},
    **{f"supervised_vit_{s}": (timm_rule(1e-3, 1e-5, 1e-6), 300, 5) for s in ("small", "base", "large")},
    **{f"supervised_resnet{n}": (timm_rule(5e-3, 1e-6, 0.0), 300, 5) for n in (50, 101, 152, 200)},
    "supervised_resnet50_a3": (timm_rule(8e-3, 1e-6, 0.0), 100, 5),
    **{f"supervised_convnext_{s}": (after_warmup(4e-3, 1e-6), 300, 20) for s in ("small", "base")},
}
# These releases change the rate once an epoch, which here changes with every step.
BY_EPOCH = ("finetune_resnet", "supervised_resnet", "supervised_vit")
STEPS = 10  # an epoch


def rates(recipe: Any) -> list[float]:
    """The recipe's learning rate at each step."""
    optim, peak = recipe.optim, scaled_lr(recipe.optim, recipe.loop.batch)
    return [learning_rate(optim, peak, step, STEPS) for step in range(optim.epochs * STEPS)]


def largest_jump(curve: list[float]) -> float:
    """Between two steps, as a part of the highest rate."""
    return max(abs(after - before) for before, after in pairwise(curve)) / max(curve)


def test_every_recipe_has_its_release_here():
    assert recipes_of(imagenet).keys() == RELEASES.keys()


@pytest.mark.parametrize("name", RELEASES)
def test_the_learning_rate_is_the_releases(name):
    """At five epochs: half of the warm-up, its end, a third, two thirds and the last one; and no jump that it lacks."""
    curve, total, warmup = RELEASES[name]
    recipe = find_recipe(f"imagenet:{name}")()
    ours = rates(recipe)
    assert (recipe.optim.epochs, recipe.optim.warmup_epochs) == (total, warmup)
    for epoch in (warmup // 2, warmup, total // 3, 2 * total // 3, total - 1):
        expected = curve(epoch, total, warmup)
        assert ours[epoch * STEPS] == pytest.approx(expected, rel=2e-5, abs=1e-8), (name, epoch)
    theirs = [curve(step / STEPS, total, warmup) for step in range(total * STEPS)]
    assert largest_jump(ours) <= largest_jump(theirs) * (1 + 1e-4)
    if not name.startswith(BY_EPOCH):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5 * max(theirs))


def convnext(peak: float, end: float) -> Curve:
    return mmcv_cosine(peak, end, 1e-5, False)


@pytest.mark.parametrize(
    ("name", "curve", "peak", "end", "scale"),
    [
        ("finetune_vit_base", step_fix, 1e-2, 1e-6, 0.65**13),
        ("finetune_vit_large", step_fix, 1e-2, 1e-6, 0.65**25),  # a peak below min_lr: the rate rises to it
        ("finetune_convnext_tiny", convnext, 4e-4, 1e-6, 0.7**7),
        ("a2mim_resnet50", step_fix, 1.2e-3, 1e-5, 0.1),
        ("a2mim_resnet50_100", step_fix, 1.2e-3, 1e-5, 0.1),
        ("a2mim_convnext_base", step_fix, 1.2e-3, 1e-5, 0.1),
    ],
)
def test_a_group_of_openmixups_is_annealed_to_the_lowest_rate_itself(name, curve, peak, end, scale):
    """mmcv, LrUpdaterHook.get_regular_lr: get_lr of each group's initial_lr, which holds its factor, to one min_lr."""
    optim = find_recipe(f"imagenet:{name}")().optim
    ours = [group_rate(optim, peak, step, STEPS, scale) for step in range(optim.epochs * STEPS)]
    of_group = curve(peak * scale, end)
    theirs = [of_group(step / STEPS, optim.epochs, optim.warmup_epochs) for step in range(len(ours))]
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5 * max(theirs))
    assert ours[-1] == pytest.approx(end, rel=0.01)


@pytest.mark.parametrize("name", ["finetune_mae_vit_base", "finetune_maskfeat_vit_base", "spark_resnet50"])
def test_a_group_of_other_releases_keeps_its_factor_to_the_end(name):
    """MAE util/lr_sched.py, SlowFast models/optimizer.py, SparK lr_control.py: lr · lr_scale."""
    optim = find_recipe(f"imagenet:{name}")().optim
    last = optim.epochs * STEPS - 1
    assert group_rate(optim, 1e-3, last, STEPS, 0.01) == 0.01 * learning_rate(optim, 1e-3, last, STEPS)


def test_the_numbers_of_fine_tuning_a_vit_b():
    """10⁻² at the end of the warm-up, where it was 9.05·10⁻³; 2.22·10⁻³ (not 1.47·10⁻³) at epoch 75."""
    ours = rates(find_recipe("imagenet:finetune_vit_base")())
    assert ours[20 * STEPS] == pytest.approx(1e-2) and ours[75 * STEPS] == pytest.approx(2.22e-3, abs=5e-6)


@pytest.mark.parametrize("module", [cifar10, cifar10_baselines, cifar10_masked])
def test_recipes_for_cifar10_have_the_schedule_that_their_results_were_trained_with(module):
    makers = [each for name, each in recipes_of(module).items() if name not in ("network", "vit", "cnn")]
    made = [each() for each in makers if not inspect.signature(each).parameters]
    trained = [each.optim for each in made]
    assert len(trained) > 5 and all(optim.cosine_from == "warmup" for optim in trained)


def told(name: str, epochs: int = 0, weights: str = "") -> str:
    """What is said of a recipe, or of it with so many epochs."""
    recipe = find_recipe(name)()
    return " ".join(notes(replace(recipe.optim, epochs=epochs or recipe.optim.epochs), recipe.loop.batch, weights))


def test_of_baselines_from_random_weights_nothing_is_told():
    from_random = [name for name in RELEASES if "finetune" not in name]
    assert not [name for name in from_random if told(f"imagenet:{name}", weights="random")]
    assert not [part for part in ("vit", "cnn", "vit_cpu", "cnn_cpu") if told(f"cifar10:finetune_{part}", 0, "random")]


@pytest.mark.parametrize("module", [imagenet, coco])
def test_of_recipes_as_they_are_nothing_is_told(module):
    assert not [name for name in recipes_of(module) if told(f"{module.__name__.split('.')[2]}:{name}")]


@pytest.mark.parametrize(
    ("name", "epochs", "said"),
    [
        ("imagenet:mae_vit_base", 40, "the 40 epochs of warm-up are all of --epochs 40: the learning rate climbs"),
        ("imagenet:finetune_vit_base", 20, "the 20 epochs of warm-up are all of --epochs 20"),
        ("imagenet:a2mim_vit_base", 100, "no milestone (700) lies before the end of --epochs 100: the learning rate"),
        ("coco:vit_base_1x", 10, "of the milestones 9, 11 the training does not reach 11: give --milestones that lie"),
        ("coco:resnet50_1x", 6, "no milestone (8.18666, 10.9155) lies before the end of --epochs 6"),
    ],
)
def test_a_recipe_of_fewer_epochs_says_what_its_schedule_does_not_reach(name, epochs, said):
    assert told(name, epochs).startswith(said)


def test_the_example_of_fine_tuning_for_20_epochs_has_another_warm_up_than_the_usual():
    assert "--epochs 20 \\\n            --warmup-epochs 2 " in finetune.Settings.__doc__
    assert not notes(replace(finetune.OPTIM, epochs=20, warmup_epochs=2.0), 1024)


def test_the_example_of_byol_has_the_rate_of_its_recipe():
    """At the usual rate LARS trains almost nothing."""
    (example,) = re.findall(r"a2mim pretrain (--method byol(?:.*\\\n)*.*)", pretrain.Settings.__doc__)
    optim = parse(pretrain.Settings, args=shlex.split(example.replace("\\\n", " "))).optim
    recipe = find_recipe("imagenet:byol_resnet50")().optim
    assert (optim.lr, optim.lr_batch, optim.weight_decay) == (recipe.lr, recipe.lr_batch, recipe.weight_decay)
    assert optim.optimizer == recipe.optimizer == "lars" and not notes(optim, 2048)
