"""The training loop against hand-worked values: steps, schedules, layer-wise decay, averages, and what stops it."""

import dataclasses
import json
import math
import os
import signal
import time
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from timm.scheduler import CosineLRScheduler
from torch import nn

from a2mim.averages import Average
from a2mim.bounds import check
from a2mim.data import make_source
from a2mim.methods import METHODS, A2MIMSettings
from a2mim.optim import (
    group_rate,
    layer_scales,
    learning_rate,
    make_optimizer,
    of_classifier,
    parameter_groups,
    scaled_lr,
    set_learning_rate,
    set_weight_decay,
    tables,
)
from a2mim.runs import open_run, read_run
from a2mim.settings import Augmentation, Loop, Optim
from a2mim.train import Hooks, Trainer, train, training
from a2mim.trainer import synchronised
from tests.a2mim.siamese import SETTINGS, made
from tests.a2mim.tiny import (
    LOOP,
    OPTIM,
    VIEW,
    WORLD,
    Classify,
    Denoise,
    Net,
    gap,
    log_of,
    same,
    state_of,
    tiny_images,
    tiny_method,
    tiny_run,
    tiny_source,
)

SGD = Optim(
    epochs=3,
    optimizer="momentum",
    lr=0.1,
    lr_batch=8,
    momentum=0.0,
    weight_decay=0.0,
    warmup_epochs=0,
    schedule="constant",
)
PLAIN = {"norm": False, "dropout": 0.0}


@pytest.mark.parametrize(
    ("name", "decay", "told"), [("lars", 0.0, 1), ("lamb", 0.0, 1), ("lars", 1e-6, 0), ("adamw", 0.0, 0)]
)
def test_optimizers_that_adapt_where_weights_decay_tell_where_none_do(name, decay, told, recwarn):
    make_optimizer(tiny_method(Classify), with_(OPTIM, optimizer=name, weight_decay=decay), 8)
    assert sum("adapts its rate to weights that decay alone" in str(one.message) for one in recwarn) == told


@pytest.mark.parametrize(("before", "after"), [(4, 1), (1, 4), (2, 3), (3, 3)])
def test_a_mean_over_steps_goes_on_with_another_number_of_processes(before, after):
    """A loss of 1 everywhere was told as 3.4 and as 0.4."""

    def processes(count):
        world = [SimpleNamespace(size=count, main=rank == 0, total=None) for rank in range(count)]
        return world, [Average(torch.device("cpu")) for _ in range(count)]

    def summed(averages):
        return lambda _: sum(each.sums for each in averages)

    (world, *_), averages = processes(before)
    for each in averages * 3:
        each.add({"loss": torch.tensor(1.0)})
    world.total = summed(averages)
    state = averages[0].state(world)
    worlds, averages = processes(after)
    for each, its in zip(averages, worlds, strict=True):
        each.load(state, its)
        for _ in range(2):
            each.add({"loss": torch.tensor(1.0)})
    worlds[0].total = summed(averages)
    assert averages[0].means(worlds[0]) == pytest.approx({"loss": 1.0})


def with_(settings, **changes):
    return dataclasses.replace(settings, **changes)


def steps_of(folder, method, optim=SGD, loop=LOOP, source=None):
    open_run(folder, "test", {})
    return training(method, source or tiny_source(), folder, optim, loop, WORLD, {"architecture": "tiny"})


# ------------------------------------------------------------------------------------------- one step


def test_a_step_is_gradient_descent_on_the_batch(tmp_path):
    method = tiny_method(Classify, **PLAIN)
    by_hand = tiny_method(Classify, **PLAIN)
    source = tiny_source()
    trainer = Trainer(method, source, SGD, LOOP, WORLD)
    (batch,) = source.batches(trainer.plan, range(1), [0], torch.device("cpu"))
    by_hand(batch, torch.Generator())["loss"].backward()
    trainer.advance(iter([batch]))
    for parameter, expected in zip(method.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected - 0.1 * expected.grad)


def test_accumulated_micro_batches_equal_one_batch(tmp_path):
    whole, _ = tiny_run(tmp_path / "1", Classify, net=PLAIN)
    for parts in (2, 4):
        cut, _ = tiny_run(tmp_path / str(parts), Classify, loop=with_(LOOP, accumulate=parts), net=PLAIN)
        assert gap(whole.state_dict(), cut.state_dict()) < 1e-6
    other, _ = tiny_run(tmp_path / "other", Classify, loop=with_(LOOP, seed=1), net=PLAIN)
    assert gap(whole.state_dict(), other.state_dict()) > 1e-3


def test_clipping_bounds_the_norm_of_the_whole_gradient(tmp_path):
    method = tiny_method(Classify, **PLAIN)
    before = [p.detach().clone() for p in method.parameters()]
    next(steps_of(tmp_path / "run", method, with_(SGD, clip_grad=0.01, lr=1.0)))
    moved = math.sqrt(
        sum(float((p - b).detach().square().sum()) for p, b in zip(method.parameters(), before, strict=True))
    )
    assert moved == pytest.approx(0.01, rel=1e-3)


def test_moving_average_by_hand(tmp_path):
    method = tiny_method(Classify)
    open_run(tmp_path / "run", "test", {})
    trainer: Any = Trainer(method, tiny_source(), OPTIM, with_(LOOP, ema=0.9), WORLD)
    batches = tiny_source().batches(trainer.plan, range(5), [0], torch.device("cpu"))
    expected: Any = None
    for _ in range(5):
        trainer.advance(batches)
        now = {name: t.double() for name, t in method.state_dict().items()}
        # timm's first update copies; then 0.9 of the average stays
        expected = now if expected is None else {n: 0.9 * expected[n] + 0.1 * now[n] for n in now}
    averaged = trainer.ema.module.state_dict()
    floats = [name for name, t in averaged.items() if t.is_floating_point()]
    assert gap({n: averaged[n] for n in floats}, {n: expected[n] for n in floats}) < 1e-6
    assert trainer.evaluated is trainer.ema.module


def test_a_decay_that_rises_in_the_first_epochs_by_hand():
    """OpenMixup's EMAHook with warmup='linear', warmup_ratio=0.9, from the initial weights; then its full decay."""
    method = tiny_method(Classify)
    trainer: Any = Trainer(method, tiny_source(), OPTIM, with_(LOOP, ema=0.95, ema_warmup_epochs=1.5), WORLD)
    batches = tiny_source().batches(trainer.plan, range(9), [0], torch.device("cpu"))
    floats = [name for name, t in method.state_dict().items() if t.is_floating_point()]
    expected = {name: method.state_dict()[name].double() for name in floats}
    rising = 6  # 1.5 epochs of 4 steps
    for i in range(9):
        trainer.advance(batches)
        m = (1 - (1 - i / rising) * (1 - 0.9)) * 0.95 if i <= rising else 0.95
        expected = {name: m * expected[name] + (1 - m) * method.state_dict()[name].double() for name in floats}
    averaged = trainer.ema.module.state_dict()
    assert gap({n: averaged[n] for n in floats}, expected) < 1e-6


def test_two_rules_for_the_decay_are_refused():
    with pytest.raises(ValueError, match="two rules for one decay"):
        Trainer(
            tiny_method(), tiny_source(), OPTIM, with_(LOOP, ema=0.9, ema_warmup=True, ema_warmup_epochs=1.0), WORLD
        )


@pytest.mark.parametrize("name", ["lamb", "LAMB", "clambw", "lookahead_lamb"])
@pytest.mark.parametrize(("limit", "largest"), [(0.0, 1.0), (5.0, 5.0)])
def test_lamb_clips_where_it_is_told_to_and_at_1_otherwise(name, limit, largest):
    """A gradient of length 20, by the first moment of the optimizer: (1 − β1) · g · largest / 20."""
    method = tiny_method(Classify, **PLAIN)
    optim = with_(SGD, optimizer=name, clip_grad=limit)
    trainer: Any = Trainer(method, tiny_source(), optim, LOOP, WORLD)
    length = 20 / math.sqrt(sum(p.numel() for p in method.parameters()))
    for parameter in method.parameters():
        parameter.grad = torch.full_like(parameter, length)
    trainer._update()
    moments = torch.cat([state["exp_avg"].flatten() for state in trainer.optimizer.state_dict()["state"].values()])
    assert float(moments.norm()) == pytest.approx(0.1 * largest, rel=1e-4)


def test_after_step_tells_the_progress(tmp_path):
    method, _ = tiny_run(tmp_path / "run", Classify)
    assert method.progress == pytest.approx([step / 12 for step in range(1, 13)])
    assert method.begun == pytest.approx([step / 12 for step in range(12)])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_computes_in_it(tmp_path, precision):
    seen = set()

    class Watch(Classify):
        def forward(self, batch, generator):
            logits = self.backbone(batch["image"])
            seen.add(logits.dtype)
            return {"loss": nn.functional.cross_entropy(logits, batch["target"])}

    method, _ = tiny_run(tmp_path / "run", Watch, loop=with_(LOOP, precision=precision))
    exact, _ = tiny_run(tmp_path / "exact", Classify)
    assert seen == {torch.bfloat16 if precision == "bf16" else torch.float16}
    assert next(method.parameters()).dtype == torch.float32
    assert 0 < gap(method.backbone.state_dict(), exact.backbone.state_dict()) < 0.1
    assert bool(state_of(tmp_path / "run")["scaler"]) == (precision == "fp16")


# ------------------------------------------------------------------------------------------- learning rates


def test_learning_rate_follows_the_global_batch():
    optim = Optim(lr=4e-4, lr_batch=2048)
    assert scaled_lr(optim, 4096) == pytest.approx(8e-4)
    assert scaled_lr(with_(optim, lr_scaling="sqrt"), 512) == pytest.approx(2e-4)
    assert scaled_lr(with_(optim, lr_scaling="none"), 512) == pytest.approx(4e-4)


@pytest.mark.parametrize("begin", ["warmup", "start"])
def test_warmup_and_cosine_by_hand(tmp_path, begin):
    optim = with_(OPTIM, lr=0.02, lr_batch=16, min_lr=0.001, warmup_lr=0.002, cosine_from=begin)
    tiny_run(tmp_path / "run", optim=optim, loop=with_(LOOP, log_every=1))
    rates = [line["lr"] for line in log_of(tmp_path / "run") if line["kind"] == "train"]
    peak, total, warm = 0.01, 12, 4
    expected = [0.002 + step * (peak - 0.002) / warm for step in range(warm)]
    first = warm if begin == "warmup" else 0
    parts = [(step - first) / (total - first) for step in range(warm, total)]
    expected += [0.001 + (peak - 0.001) * (1 + math.cos(math.pi * part)) / 2 for part in parts]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(("epochs", "warmup"), [(10, 2.0), (10, 0.5), (300, 5.0), (7, 0.0)])
@pytest.mark.parametrize("begin", ["warmup", "start"])
def test_cosines_are_timms(epochs, warmup, begin):
    """To the bit for timm's own rule, by which runs from before the choice go on."""
    optim = Optim(epochs=epochs, warmup_epochs=warmup, min_lr=1e-5, warmup_lr=1e-6, cosine_from=begin)
    steps, peak = 13, 3e-3
    parameter = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    prefix = begin == "warmup"
    length = (epochs - warmup if prefix else epochs) * steps
    theirs = CosineLRScheduler(
        parameter, length, 1e-5, warmup_t=warmup * steps, warmup_lr_init=1e-6, warmup_prefix=prefix, t_in_epochs=False
    )
    for step in range(epochs * steps):
        theirs.step_update(step)
        ours, expected = learning_rate(optim, peak, step, steps), parameter.param_groups[0]["lr"]
        assert ours == expected if begin == "start" else ours == pytest.approx(expected, rel=1e-12)


def test_a_warmup_to_the_schedule_meets_it_and_one_to_the_peak_may_not():
    """mmcv's rule, the warm-up's share of what the schedule gives at the step; by hand at half of the warm-up."""
    jump = {}
    for begin in ("warmup", "start"):
        for to in ("schedule", "peak"):
            optim = Optim(epochs=100, warmup_epochs=20.0, cosine_from=begin, warmup_to=to)
            rates = [learning_rate(optim, 1.0, step, 100) for step in range(100 * 100)]
            jump[begin, to] = max(abs(after - before) for before, after in pairwise(rates))
            if to == "schedule":
                offset = -10 / 80 if begin == "warmup" else 10 / 100
                assert rates[1000] == pytest.approx(0.5 * (1 + math.cos(math.pi * offset)) / 2)
    assert jump["start", "peak"] == pytest.approx(1 - (1 + math.cos(0.2 * math.pi)) / 2, rel=0.02)
    assert max(each for kind, each in jump.items() if kind != ("start", "peak")) < 1e-3
    still = Optim(epochs=3, warmup_epochs=3.0, warmup_to="schedule")
    assert learning_rate(still, 1.0, 15, 10) == 0.5  # nothing but warm-up


@pytest.mark.parametrize("to", ["peak", "schedule"])
def test_multistep_by_hand(to):
    optim = with_(OPTIM, epochs=10, schedule="multistep", milestones=(4, 8), warmup_epochs=2, warmup_to=to)
    rates = {step: learning_rate(optim, 1e-2, step, 100) for step in (0, 100, 200, 399, 400, 799, 800, 999)}
    expected = {0: 0, 100: 5e-3, 200: 1e-2, 399: 1e-2, 400: 1e-3, 799: 1e-3, 800: 1e-4, 999: 1e-4}
    assert rates == pytest.approx(expected)


def test_groups_get_their_factor_of_the_learning_rate():
    model = timm.create_model("vit_tiny_patch16_224", depth=2, embed_dim=12, num_heads=1, img_size=32)
    optim = with_(OPTIM, layer_decay=0.5, warmup_epochs=0, min_lr=0.05)
    optimizer = make_optimizer(Classify(model), optim, 8)
    set_learning_rate(optimizer, optim, 0.45, 15, 10)  # half of the way: 0.25
    assert len({group["lr_scale"] for group in optimizer.param_groups}) > 2
    assert all(group["lr"] == pytest.approx(0.25 * group["lr_scale"]) for group in optimizer.param_groups)
    set_learning_rate(optimizer, with_(optim, min_lr_scaled=False), 0.45, 15, 10)
    halves = {group["lr_scale"]: (0.45 * group["lr_scale"] + 0.05) / 2 for group in optimizer.param_groups}
    assert all(group["lr"] == pytest.approx(halves[group["lr_scale"]]) for group in optimizer.param_groups)


def test_a_factor_of_nothing_stops_a_group_whatever_the_lowest_rate_is():
    for scaled in (True, False):
        assert group_rate(with_(OPTIM, min_lr=0.1, min_lr_scaled=scaled), 1e-2, 25, 10, 0.0) == 0


def test_weight_decay_along_a_cosine():
    optim = with_(OPTIM, weight_decay=0.04, weight_decay_end=0.4)
    optimizer = make_optimizer(tiny_method(Classify), optim, 8)
    for progress, expected in ((0.0, 0.04), (0.5, 0.22), (1.0, 0.4)):
        set_weight_decay(optimizer, optim, progress)
        assert {round(group["weight_decay"], 6) for group in optimizer.param_groups} == {0.0, expected}


def test_a_weight_decay_does_not_rise_from_nothing():
    """What does not decay would be in one group with what does."""
    with pytest.raises(ValueError, match=r"--weight-decay 0 cannot rise to --weight-decay-end 0.4: begin with a small"):
        check(Optim(weight_decay=0.0, weight_decay_end=0.4))
    for sound in (Optim(weight_decay=0.0), Optim(weight_decay=0.0, weight_decay_end=0.0), Optim(weight_decay_end=0.4)):
        check(sound)


def test_weight_decay_and_factors_reach_the_right_parameters():
    class Named(Classify):
        def __init__(self, backbone):
            super().__init__(backbone)
            self.token = nn.Parameter(torch.zeros(2, 2))

        def no_weight_decay(self):
            return {"token"}

        def lr_scales(self):
            return {"token": 0.1}

    method = Named(Net())
    found = {
        name: (group["weight_decay"], group["lr_scale"])
        for group in parameter_groups(method, OPTIM)
        for name, parameter in method.named_parameters()
        if any(parameter is each for each in group["params"])
    }
    assert found["token"] == (0.0, 0.1)
    assert found["backbone.stem.weight"] == (0.05, 1.0)
    assert found["backbone.stem.bias"] == found["backbone.norm.weight"] == (0.0, 1.0)
    assert len(found) == len(list(method.named_parameters()))
    also = with_(OPTIM, decay_also=("token", "norm.w"))
    decayed = {id(p) for group in parameter_groups(method, also) if group["weight_decay"] for p in group["params"]}
    matrices = {id(p) for p in method.parameters() if p.ndim > 1}
    assert decayed == matrices | {id(method.token), id(method.backbone.norm.weight)}
    with pytest.raises(ValueError, match="no trained parameter has gamma_C in its name"):
        parameter_groups(method, with_(OPTIM, decay_also=("gamma_C",)))


def test_layer_decay_by_hand():
    model = timm.create_model("beit_base_patch16_224", depth=3, embed_dim=16, num_heads=1, img_size=32, num_classes=5)
    scales = layer_scales(model, 0.5)
    # BEiT's layers: final norm and head, then blocks 2, 1, 0, then the embedding
    assert scales["head.weight"] == scales["fc_norm.weight"] == 1
    assert [scales[f"blocks.{n}.mlp.fc1.weight"] for n in (2, 1, 0)] == [0.5, 0.25, 0.125]
    assert scales["patch_embed.proj.weight"] == scales["cls_token"] == 0.0625


def test_layer_decay_below_a_decoder_is_detectrons():
    """get_vit_lr_decay_rate of Detectron2: decay^(blocks + 1 − layer), the embedding 0, block i the layer i + 1."""
    model = timm.create_model("vit_tiny_patch16_224", depth=3, embed_dim=12, num_heads=1, img_size=32, num_classes=0)
    scales = layer_scales(model, 0.7)
    assert set(scales) == {name for name, _ in model.named_parameters()}
    blocks = [scales[f"blocks.{n}.mlp.fc1.weight"] for n in range(3)]
    assert blocks == pytest.approx([0.7 ** (4 - (n + 1)) for n in range(3)])
    assert scales["patch_embed.proj.weight"] == scales["pos_embed"] == pytest.approx(0.7**4)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
def test_layers_decay_alike_with_and_without_a_classifier(name):
    """What stands in the place of the classifier is as far above a block as the classifier is."""
    with_head, without = (layer_scales(timm.create_model(name, num_classes=n), 0.5) for n in (4, 0))
    assert without == {each: with_head[each] for each in without} and len(without) < len(with_head)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "vit_tiny_patch16_224", "beit_base_patch16_224"])
def test_layer_decay_is_timms(name):
    arguments: dict[str, Any] = {"depth": 2, "img_size": 32} if "patch" in name else {}
    model: Any = timm.create_model(name, num_classes=3, **arguments)
    method = Classify(model)
    ours = {id(p): g for g in parameter_groups(method, Optim(layer_decay=0.75)) for p in g["params"]}
    skipped = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
    theirs = param_groups_layer_decay(model, weight_decay=0.05, no_weight_decay_list=skipped, layer_decay=0.75)
    assert sum(len(group["params"]) for group in theirs) == len(ours)
    for group in theirs:
        for parameter in group["params"]:
            assert ours[id(parameter)]["lr_scale"] == pytest.approx(group["lr_scale"])
            assert ours[id(parameter)]["weight_decay"] == group["weight_decay"]


def test_the_backbone_may_learn_at_a_rate_of_its_own():
    """A new classifier at the whole rate, the weights that were there at a tenth; beside layer-wise decay."""
    backbone: Any = timm.create_model("test_vit", num_classes=4)
    block = backbone.blocks[-1].attn.qkv.weight
    for optim, rate in ((Optim(backbone_rate=0.1), 0.1), (Optim(backbone_rate=0.1, layer_decay=0.5), 0.05)):
        scale = {id(p): g["lr_scale"] for g in parameter_groups(Classify(backbone), optim) for p in g["params"]}
        assert scale[id(backbone.head.weight)] == scale[id(backbone.head.bias)] == 1.0
        assert scale[id(block)] == pytest.approx(rate)
    assert of_classifier(timm.create_model("test_vit", num_classes=0)) == of_classifier(nn.Identity()) == []


@pytest.mark.parametrize("name", SETTINGS)
def test_a_copy_that_trains_in_the_place_of_the_backbone_has_its_rates(name):
    """DINO exports the teacher and trains a student."""
    method = made(name)
    groups = parameter_groups(method, Optim(backbone_rate=0.1, layer_decay=0.5))
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    backbone = getattr(method, method.trained)
    assert scale[id(backbone.cls_token)] == pytest.approx(0.025)  # below the one block, which is below the heads
    assert scale[id(backbone.blocks[0].mlp.fc1.weight)] == pytest.approx(0.05)
    heads = {n: p for n, p in method.named_parameters() if p.requires_grad and not n.startswith(f"{method.trained}.")}
    assert heads and {scale[id(p)] for p in heads.values()} == {1.0}


TABLES = {"depth": 1, "embed_dim": 16, "num_heads": 4, "img_size": 32, "num_classes": 4}


def test_muon_leaves_tables_to_adamw():
    """BEiT's position biases have the shape of a matrix; --decay-also decays them, and does not make them one."""
    backbone: Any = timm.create_model("beit_base_patch16_224", **TABLES)
    table, matrix = backbone.blocks[0].attn.relative_position_bias_table, backbone.blocks[0].attn.qkv.weight
    method = Classify(backbone)
    for also, decay in ((), 0.0), (("relative_position_bias_table",), 0.05):
        optim = with_(OPTIM, optimizer="muon", decay_also=also)
        optimizer = make_optimizer(method, optim, 8)
        for parameter in (table, matrix, backbone.cls_token):
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        by_muon = [optimizer.state[parameter]["use_muon"] for parameter in (table, matrix, backbone.cls_token)]
        assert by_muon == [False, True, False]
        (group,) = [each for each in optimizer.param_groups if each.get("use_fallback")]
        assert len(group["params"]) == 1 and group["params"][0] is table and group["weight_decay"] == decay
        assert not any("use_fallback" in each for each in parameter_groups(method, with_(optim, optimizer="adamw")))
    dino = made("dino", {"architecture": "beit_base_patch16_224", **TABLES}, local_crops=0, image_size=32)
    assert tables(dino) == {"student.blocks.0.attn.relative_position_bias_table"}


@pytest.mark.parametrize(
    ("name", "betas", "told"),
    [
        ("adahessian", None, "adahessian needs second derivatives, and none are computed: use another, such as adamw"),
        ("lookahead_adahessian", None, "lookahead_adahessian needs second derivatives"),
        ("adan", (0.9, 0.95), "--optimizer adan has 3 betas, and --betas gives 2: leave --betas out"),
        ("nope", None, "nope"),
    ],
)
def test_optimizers_that_cannot_be(name, betas, told):
    with pytest.raises(ValueError, match=told):
        make_optimizer(tiny_method(Classify), with_(OPTIM, optimizer=name, betas=betas), 8)


@pytest.mark.skipif(torch.cuda.is_available(), reason="they may be had here")
@pytest.mark.parametrize("name", ["fusedadam", "bnbadamw8bit"])
def test_optimizers_of_other_libraries_need_cuda(name):
    with pytest.raises(ValueError, match=rf"--optimizer {name} cannot be had here \(CUDA required .*: use another"):
        make_optimizer(tiny_method(Classify), with_(OPTIM, optimizer=name), 8)


def test_layer_decay_needs_layers():
    with pytest.raises(ValueError, match="does not name its layers"):
        layer_scales(nn.Linear(2, 2), 0.5)


@pytest.mark.parametrize("mask_at", ["bn1", "default"])
def test_a_mask_token_stays_where_statistics_are_synchronised(mask_at):
    """Where it acts at a batch normalisation, too, which is then another module."""
    backbone = timm.create_model("test_resnet", num_classes=0)
    method = METHODS["a2mim"](backbone, A2MIMSettings(image_size=64, mask_at=mask_at)).eval()
    image, mask = torch.randn(2, 3, 64, 64), torch.eye(2).expand(2, 2, 2)
    expected = method.encode(image, mask)
    made = synchronised(method)
    assert any(isinstance(m, nn.SyncBatchNorm) for m in made.backbone.modules())
    torch.testing.assert_close(made.encode(image, mask), expected)
    torch.nn.init.constant_(made.mask_token.token_C, 3.0)
    assert (made.encode(image, mask) - expected).abs().max() > 0.01


def test_warmup_longer_than_training_is_refused(tmp_path):
    with pytest.raises(ValueError, match="5 epochs of warm-up do not fit into --epochs 3"):
        tiny_run(tmp_path / "run", optim=with_(OPTIM, warmup_epochs=5))


# ------------------------------------------------------------------------------------------- what is written


def test_a_run_leaves_its_log_states_result_and_weights(tmp_path):
    folder = tmp_path / "run"
    _, result = tiny_run(folder, loop=with_(LOOP, keep=1))
    lines = log_of(folder)
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2, 4, 6, 8, 10, 12]
    assert [line["epoch"] for line in lines if line["kind"] == "epoch"] == [1, 2, 3]
    assert sorted(path.name for path in (folder / "state").iterdir()) == ["best.pt", "step-00000012.pt"]
    assert result["finished"] and read_run(folder)["last"] == result["last"]
    epochs = [line["loss"] for line in lines if line["kind"] == "epoch"]
    assert result["best"]["loss"] == min(epochs)
    best = torch.load(folder / "state" / "best.pt", weights_only=True)
    assert best["step"] == 4 * (1 + epochs.index(min(epochs)))
    assert not list(folder.rglob("*.tmp"))


def test_first_and_last_steps_are_logged_whatever_the_interval(tmp_path):
    tiny_run(tmp_path / "run", loop=with_(LOOP, log_every=5))
    assert [line["step"] for line in log_of(tmp_path / "run") if line["kind"] == "train"] == [1, 5, 10, 12]


def test_logged_losses_are_means_since_the_line_before(tmp_path):
    tiny_run(tmp_path / "every", loop=with_(LOOP, log_every=1))
    tiny_run(tmp_path / "some", loop=with_(LOOP, log_every=4))
    every = {line["step"]: line["loss"] for line in log_of(tmp_path / "every") if line["kind"] == "train"}
    some = {line["step"]: line["loss"] for line in log_of(tmp_path / "some") if line["kind"] == "train"}
    assert some[4] == pytest.approx(np.mean([every[n] for n in (2, 3, 4)]))
    assert some[8] == pytest.approx(np.mean([every[n] for n in (5, 6, 7, 8)]))
    epochs = [line["loss"] for line in log_of(tmp_path / "every") if line["kind"] == "epoch"]
    assert epochs[1] == pytest.approx(np.mean([every[n] for n in (5, 6, 7, 8)]))


def test_evaluation_chooses_the_best_and_sees_the_moving_average(tmp_path):
    scores, seen = iter([10.0, 30.0, 20.0]), []

    def evaluate(method):
        seen.append(method)
        method.eval()
        return {"top1": next(scores), "val_loss": math.inf}

    method, result = tiny_run(
        tmp_path / "run", loop=with_(LOOP, ema=0.5, save_every=100), hooks=Hooks(evaluate=evaluate)
    )
    assert result["best"]["top1"] == 30 and result["best"]["step"] == 8 and result["last"]["top1"] == 20
    assert torch.load(tmp_path / "run" / "state" / "best.pt", weights_only=True)["step"] == 8
    assert result["best"]["val_loss"] is None and result["last"]["val_loss"] is None, "infinite goes into no JSON"
    assert method.training and all(each is not method for each in seen)
    assert (tmp_path / "run" / "backbone_without_ema.safetensors").exists()


def test_pictures_are_of_the_same_images_in_their_own_colours(tmp_path):
    drawn: list[Any] = []
    ended: list[Any] = []
    tiny_run(
        tmp_path / "run",
        loop=with_(LOOP, pictures_every=2),
        hooks=Hooks(pictures=drawn.append, finished=ended.append),
    )
    assert [path.name for path in drawn] == ["step-00000008.npz", "step-00000012.npz"] and ended == [tmp_path / "run"]
    first, last = (np.load(path) for path in drawn)
    assert set(first) == {"original", "masked", "predicted", "composite"} and first["original"].shape == (8, 3, 16, 16)
    assert (first["original"] == last["original"]).all() and (first["predicted"] != last["predicted"]).any()
    raw = tiny_images().raw[0][0].resize((16, 16), resample=3)
    assert np.abs(first["original"][0] - np.asarray(raw).transpose(2, 0, 1) / 255).max() < 1e-5


# ------------------------------------------------------------------------------------------- what stops it


class Poison(Denoise):
    """Its loss is not a number from the step on that `bad` says; batch norm has seen the poison by then."""

    bad = 6

    def forward(self, batch, generator):
        if len(self.progress) >= self.bad:
            batch = {**batch, "image": batch["image"] * math.nan}
        return super().forward(batch, generator)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loss_that_is_not_finite_stops_with_the_state_before_it_saved(tmp_path, accumulate):
    loop = with_(LOOP, accumulate=accumulate, save_every=4)
    with pytest.raises(
        ValueError, match=r"NaN or infinite at step 6 \(epoch 1\); the state before it \(step 6\) is sav"
    ):
        tiny_run(tmp_path / "bad", Poison, loop=loop)
    steps = steps_of(tmp_path / "good", tiny_method(Denoise), OPTIM, with_(loop, save_every=6))
    while next(steps) < 6:
        pass
    saved, expected = state_of(tmp_path / "bad"), state_of(tmp_path / "good")
    assert saved["step"] == 6 and same(saved["method"], expected["method"])
    assert torch.isfinite(saved["method"]["backbone.norm.running_mean"]).all()


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    class BadGradient(Denoise):
        def forward(self, batch, generator):
            values = super().forward(batch, generator)
            if len(self.progress) == 5:  # finite loss, infinite gradient
                values["loss"] = values["loss"] + (next(self.parameters()).sum() * 0).sqrt()
            return values

    with pytest.raises(ValueError, match=r"at step 6.*the last good state is that of step 4"):
        tiny_run(tmp_path / "run", BadGradient, loop=with_(LOOP, save_every=4))
    assert state_of(tmp_path / "run")["step"] == 4


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_saves_and_stops_and_the_run_goes_on_to_the_same_bits(tmp_path, name):
    class Signalled(Denoise):
        def after_step(self, begun, done):
            super().after_step(begun, done)
            if len(self.progress) == 5:
                os.kill(os.getpid(), signal.Signals[name])

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    loop = with_(LOOP, save_every=100, ema=0.9)
    _, result = tiny_run(tmp_path / "run", Signalled, loop=loop)
    # the loop sees the signal when it begins the step after
    assert (result["stopped_by"], result["finished"], result["step"]) == (name, False, 6)
    assert before == (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT))
    resumed, result = tiny_run(tmp_path / "run", Denoise, loop=loop)
    whole, _ = tiny_run(tmp_path / "whole", Denoise, loop=loop)
    assert result["finished"] and same(resumed.state_dict(), whole.state_dict())
    assert log_of(tmp_path / "run") == log_of(tmp_path / "whole")


def test_minutes_cut_a_run_into_chunks_with_the_same_result(tmp_path):
    loop = with_(LOOP, minutes=1e-9)
    for chunk in range(12):
        _, result = tiny_run(tmp_path / "run", loop=loop)
        assert (result["step"], result["finished"]) == (chunk + 1, False)
        assert result["stopped_by"] == "minutes"
    _, result = tiny_run(tmp_path / "run", loop=loop)
    whole, _ = tiny_run(tmp_path / "whole")
    assert result["finished"] and same(state_of(tmp_path / "run")["method"], whole.state_dict())


def test_a_dead_loader_process_is_one_sentence_and_loses_nothing(tmp_path):
    class Deadly:
        def __init__(self, raw):
            self.raw = raw

        def __len__(self):
            return len(self.raw)

        def __getitem__(self, index):
            if index == 31:
                os.kill(os.getpid(), signal.SIGKILL)
            return self.raw[index]

    images = with_(tiny_images(), raw=Deadly(tiny_images().raw))
    with pytest.raises(
        ValueError, match=r"a process that decodes images died.*(is saved in|no state had been saved).*--resume"
    ):
        tiny_run(tmp_path / "run", source=tiny_source(images, workers=1))


# ------------------------------------------------------------------------------------------- what a run costs


class Laborious(list):
    """Images that take so much processor time each to read."""

    def __getitem__(self, index):
        until = time.process_time() + 0.01
        while time.process_time() < until:
            pass
        return super().__getitem__(index)


class Idle(Classify):
    """Waits, which costs no processor time."""

    def after_step(self, begun, done):
        time.sleep(0.05)


def test_processor_time_counts_image_processes_and_all_parts_of_a_run_but_no_waiting(tmp_path):
    images = tiny_images()
    source = tiny_source(with_(images, raw=Laborious(images.raw)), workers=1)
    tiny_run(tmp_path, Classify, source, loop=with_(LOOP, minutes=1e-9))
    first = read_run(tmp_path)
    tiny_run(tmp_path, Classify, source)
    both = read_run(tmp_path)
    assert first["cpu_seconds"] > 8 * 0.01 and both["cpu_seconds"] > first["cpu_seconds"] + 88 * 0.01
    tiny_run(tmp_path / "idle", Idle)
    idle = read_run(tmp_path / "idle")
    assert idle["seconds"] > 12 * 0.05 and idle["cpu_seconds"] < idle["seconds"] - 0.3


class Killed(Idle):
    """Dies without a word in the middle of the run."""

    def after_step(self, begun, done):
        super().after_step(begun, done)
        if done > 0.7:
            raise MemoryError


def test_a_run_that_was_killed_counts_the_time_up_to_its_last_state(tmp_path):
    with pytest.raises(MemoryError):
        tiny_run(tmp_path, Killed, loop=with_(LOOP, save_every=2))
    killed = read_run(tmp_path)
    assert not killed["finished"] and killed["seconds"] > 6 * 0.05
    tiny_run(tmp_path, Idle, loop=with_(LOOP, save_every=2))
    assert read_run(tmp_path)["seconds"] > 12 * 0.05


def test_processor_time_is_not_known_of_a_run_that_began_before_it_was_counted(tmp_path):
    tiny_run(tmp_path, loop=with_(LOOP, minutes=1e-9))
    old = read_run(tmp_path)
    del old["cpu_seconds"]
    (tmp_path / "run.json").write_text(json.dumps(old))
    for _ in range(2):
        _, result = tiny_run(tmp_path)
        assert result["cpu_seconds"] is None and result["seconds"] > old["seconds"]


# ------------------------------------------------------------------------------------------- real methods


@pytest.mark.parametrize(
    ("method_name", "architecture"),
    [
        ("a2mim", {"architecture": "test_resnet", "num_classes": 0}),
        ("simmim", {"architecture": "test_vit", "img_size": 64, "num_classes": 0}),
        ("supervised", {"architecture": "test_convnext", "num_classes": 4}),
    ],
)
def test_real_methods_train_stop_and_go_on_to_the_same_bits(tmp_path, method_name, architecture):
    torch.manual_seed(0)
    arguments = dict(architecture)
    name = arguments.pop("architecture")
    kind: Any = METHODS[method_name]
    settings = kind.Settings(**({"image_size": 64} if method_name != "supervised" else {}))
    optim, loop = Optim(epochs=2, warmup_epochs=1, lr_batch=4, lr=1e-3, clip_grad=5.0), Loop(batch=4, ema=0.9)

    def run(folder, minutes=0.0):
        open_run(folder, "test", {})
        torch.manual_seed(0)
        method = kind(timm.create_model(name, **arguments), settings)
        images = tiny_images(8, 64)
        source = make_source(images, (Augmentation(image_size=64),), method.backbone, WORLD.device)
        result = train(method, source, folder, optim, with_(loop, minutes=minutes), WORLD, architecture)
        return method, result

    whole, _ = run(tmp_path / "whole")
    _, result = run(tmp_path / "cut", minutes=1e-9)
    assert result["step"] == 1
    resumed, result = run(tmp_path / "cut")
    assert result["finished"] and same(whole.state_dict(), resumed.state_dict())
    assert read_run(tmp_path / "cut")["seconds"] > 0

    exported: Any = timm.create_model(
        name, checkpoint_path=tmp_path / "cut" / "backbone.safetensors", **arguments
    ).eval()
    averaged = state_of(tmp_path / "cut")["ema"]
    original: Any = timm.create_model(name, **arguments).eval()
    original.load_state_dict({n.removeprefix("backbone."): t for n, t in averaged.items() if n.startswith("backbone.")})
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(exported.forward_features(x), original.forward_features(x))
    assert json.loads((tmp_path / "cut" / "run.json").read_text())["finished"]


def test_views_can_be_many(tmp_path):
    class TwoViews(Classify):
        def forward(self, batch, generator):
            large, small = batch["image"]
            assert large.shape[2:] == (16, 16) and small.shape[2:] == (8, 8)
            gap = self.backbone(large) - self.backbone(small)
            return {"loss": gap.square().mean()}

    source = with_(tiny_source(), views=(VIEW, with_(VIEW, image_size=8)))
    _, result = tiny_run(tmp_path / "run", TwoViews, source=source)
    assert result["finished"]
