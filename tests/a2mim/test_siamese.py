"""SimCLR, BYOL, MoCo v3 and DINO against NumPy from their papers' formulas, and where their parts stand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch import nn

from a2mim import networks  # noqa: F401
from a2mim.data import Source
from a2mim.dist import World
from a2mim.methods import METHODS
from a2mim.methods.byol import regression_loss
from a2mim.methods.dino import dino_loss
from a2mim.methods.siamese import embed, embedding_width, mlp, momentum_copy, views_of
from a2mim.methods.simclr import nt_xent
from a2mim.optim import make_optimizer
from a2mim.settings import Augmentation
from a2mim.trainer import Trainer
from tests.a2mim import siamese
from tests.a2mim.siamese import (
    GIVEN,
    LOOP,
    OPTIM,
    POOLED,
    RESNET,
    SETTINGS,
    SIZE,
    VIT,
    backbone,
    batch_of,
    made,
    run,
    without_norms,
)
from tests.a2mim.tiny import gap, log_of, same, state_of, tiny_images
from tests.children import exit_codes_of_two

pytestmark = pytest.mark.xdist_group("children")

FOLLOWERS = {
    "byol": {"target_backbone": "backbone", "target_projector": "projector"},
    "mocov3": {"momentum_backbone": "backbone", "momentum_projector": "projector"},
    "dino": {"backbone": "student", "teacher_head": "student_head"},
}
GENERATOR = torch.Generator()


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def array(x):
    return x.detach().double().numpy()


def unit(x):
    return x / np.sqrt((x**2).sum(-1, keepdims=True))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# ------------------------------------------------------------------------------------------- the formulas, in NumPy


def numpy_nt_xent(z, tau):
    """Equation 1 of SimCLR, pair by pair; rows k and k + N are the two views of image k."""
    z, count, total = unit(z), len(z), 0.0
    for i in range(count):
        j = (i + count // 2) % count
        others = sum(math.exp(z[i] @ z[k] / tau) for k in range(count) if k != i)
        total += -math.log(math.exp(z[i] @ z[j] / tau) / others)
    return total / count


def numpy_moco(q, k, tau):
    q, k = unit(q), unit(k)
    total = 0.0
    for i in range(len(q)):
        total += -math.log(math.exp(q[i] @ k[i] / tau) / sum(math.exp(q[i] @ each / tau) for each in k))
    return 2 * tau * total / len(q)


def numpy_byol(q, z):
    return ((unit(q) - unit(z)) ** 2).sum(-1).mean()


def numpy_dino(student, teacher, centre, tau_s, tau_t):
    total, terms = 0.0, 0
    for g, t in enumerate(teacher):
        for v, s in enumerate(student):
            if g != v:
                total += -(softmax((t - centre) / tau_t) * np.log(softmax(s / tau_s))).sum(-1).mean()
                terms += 1
    return total / terms


def gradient_by_differences(function, x, step=1e-3):
    """Central differences of fourth order."""
    found = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        values = []
        for times in (-2, -1, 1, 2):
            moved = x.copy()
            moved[place] += times * step
            values.append(function(moved))
        found[place] = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
    return found


def test_nt_xent_and_its_gradient_through_both_views():
    z = noise(6, 4).requires_grad_()
    loss, accuracy = nt_xent(z, 0.5)
    loss.backward()
    assert loss.item() == pytest.approx(numpy_nt_xent(array(z), 0.5), rel=1e-6)
    expected = gradient_by_differences(lambda x: numpy_nt_xent(x, 0.5), array(z))
    np.testing.assert_allclose(z.grad, expected, atol=1e-6)
    similar = unit(array(z)) @ unit(array(z)).T - 9 * np.eye(6)
    assert accuracy.item() == pytest.approx(np.mean(similar.argmax(1) == (np.arange(6) + 3) % 6))


def test_regression_loss_sends_no_gradient_to_its_target():
    q, z = noise(5, 4).requires_grad_(), noise(5, 4, seed=1).requires_grad_()
    loss = regression_loss(q, z)
    loss.backward()
    assert loss.item() == pytest.approx(numpy_byol(array(q), array(z)), rel=1e-6) and z.grad is None
    expected = gradient_by_differences(lambda x: numpy_byol(x, array(z)), array(q))
    np.testing.assert_allclose(q.grad, expected, atol=1e-6)


def test_dino_loss_and_its_gradient():
    student, teacher, centre = noise(4, 3, 5), noise(2, 3, 5, seed=1), noise(5, seed=2)
    student.requires_grad_()
    teacher.requires_grad_()
    loss = dino_loss(list(student), list(teacher), centre, 0.1, 0.04)
    loss.backward()
    values = array(teacher), array(centre), 0.1, 0.04
    assert loss.item() == pytest.approx(numpy_dino(array(student), *values), rel=1e-5) and teacher.grad is None
    expected = gradient_by_differences(lambda x: numpy_dino(x, *values), array(student))
    np.testing.assert_allclose(student.grad, expected, atol=1e-5)


# ------------------------------------------------------------------------------------------- the parts in their places


def apart(method):
    """Move the follower away from what it follows, so that the two cannot be taken for each other."""
    for follower in FOLLOWERS[name_of(method)]:
        for number, parameter in enumerate(getattr(method, follower).parameters()):
            parameter.data += 0.1 * noise(*parameter.shape, seed=number).to(parameter)
    return method


def name_of(method):
    return next(name for name, kind in METHODS.items() if type(method) is kind)


@pytest.mark.parametrize("architecture", [VIT, RESNET], ids=["vit", "resnet"])
def test_losses_of_whole_methods(architecture):
    """Backbone, heads and predictor where the papers have them: the loss from their outputs by NumPy."""
    for name in ("simclr", "byol", "mocov3"):
        method = made(name, architecture)
        batch = batch_of(method)
        first, second = batch["image"]
        if name == "simclr":
            z = method.projector(embed(method.backbone, torch.cat([first, second])))
            expected = numpy_nt_xent(array(z), 0.1)
        else:
            apart(method)
            online = [method.predictor(method.projector(embed(method.backbone, x))) for x in (first, second)]
            copies = [getattr(method, copy) for copy in FOLLOWERS[name]]
            targets = [copies[1](embed(copies[0], x)) for x in (first, second)]
            (q1, q2), (k1, k2) = map(array, online), map(array, targets)
            if name == "byol":
                expected = numpy_byol(q1, k2) + numpy_byol(q2, k1)
            else:
                tau = 0.2 if architecture is VIT else 1.0
                expected = numpy_moco(q1, k2, tau) + numpy_moco(q2, k1, tau)
        assert method(batch, GENERATOR)["loss"].item() == pytest.approx(expected, rel=1e-5), name


@pytest.mark.parametrize("architecture", [VIT, RESNET], ids=["vit", "resnet"])
@pytest.mark.parametrize("normed", [True, False])
def test_loss_of_dino_with_its_centre_and_crops(architecture, normed):
    method = apart(made("dino", architecture, norm_last_layer=normed))
    batch, centre = batch_of(method), 0.1 * noise(10).float()
    method.centre.copy_(centre)

    def head(module, x):
        directions = unit(array(module.prototypes.weight)) * (1 if normed else array(module.lengths))
        return unit(array(module.mlp(x))) @ directions.T

    large, small = torch.cat(batch["image"][:2]), torch.cat(batch["image"][2:])
    teacher = head(method.teacher_head, embed(method.backbone, large)).reshape(2, 4, 10)
    student = [head(method.student_head, embed(method.student, x)) for x in (large, small)]
    student = np.concatenate(student).reshape(5, 4, 10)
    out = method(batch, GENERATOR)
    # the centre of before this batch, the temperature of the beginning
    assert out["loss"].item() == pytest.approx(numpy_dino(student, teacher, array(centre), 0.1, 0.04), rel=1e-5)
    targets = softmax((teacher - array(centre)) / 0.04).reshape(8, 10)
    p = targets.mean(0)
    assert out["entropy"].item() == pytest.approx(-(p * np.log(p)).sum(), rel=1e-3, abs=1e-6)
    single = -(targets * np.log(targets)).sum(1).mean()
    assert out["target_entropy"].item() == pytest.approx(single, rel=1e-3, abs=1e-6)
    assert torch.equal(method.centre, centre)
    method.after_step(0.0, 0.05)
    np.testing.assert_allclose(array(method.centre), 0.9 * array(centre) + 0.1 * teacher.mean((0, 1)), atol=1e-6)
    assert method.teacher_temperature.item() == pytest.approx(0.055)  # half of the warm-up
    method(batch, GENERATOR)
    method(batch, GENERATOR)  # a second micro-batch
    seen, before = method.teacher_sum.clone() / 16, method.centre.clone()
    method.after_step(0.4, 0.5)
    np.testing.assert_allclose(method.centre, 0.9 * before + 0.1 * seen, atol=1e-6)
    assert method.teacher_temperature.item() == pytest.approx(0.07)


@pytest.mark.parametrize("name", FOLLOWERS)
def test_the_follower_moves_by_momentum_alone(name):
    method = apart(made(name, RESNET))
    batch, pairs = batch_of(method), FOLLOWERS[name]
    before = {f: {n: array(p).copy() for n, p in getattr(method, f).named_parameters()} for f in pairs}
    optimizer = make_optimizer(method, OPTIM, 8)
    method(batch, GENERATOR)["loss"].backward()
    optimizer.step()
    for follower in pairs:
        for n, parameter in getattr(method, follower).named_parameters():
            assert parameter.grad is None and not parameter.requires_grad
            np.testing.assert_array_equal(array(parameter), before[follower][n])
    for begun, done in ((0.0, 0.3), (0.3, 0.6), (0.6, 1.0)):
        method.after_step(begun, done)
        # DINO and BYOL: that of the step just made; MoCo v3 moves its copy when the next one begins
        progress = done if name == "mocov3" else begun
        m = 1 - (1 - 0.9) * (math.cos(math.pi * progress) + 1) / 2
        for follower, online in pairs.items():
            for n, parameter in getattr(method, online).named_parameters():
                expected = m * before[follower][n] + (1 - m) * array(parameter)
                moved = array(getattr(method, follower).get_parameter(n))
                np.testing.assert_allclose(moved, expected, atol=1e-6)
                before[follower][n] = moved.copy()


@pytest.mark.parametrize("architecture", [VIT, RESNET], ids=["vit", "resnet"])
@pytest.mark.parametrize("name", SETTINGS)
def test_gradient_reaches_all_that_trains_and_the_export_is_timms(name, architecture):
    method = made(name, architecture)
    method.after_step(0.4, 0.5)  # DINO's prototypes are frozen at first
    method(batch_of(method), GENERATOR)["loss"].backward()
    trained = {n for n, p in method.named_parameters() if p.requires_grad}
    assert all((p.grad is not None) == (n in trained) for n, p in method.named_parameters())
    assert all(method.get_parameter(n).grad.abs().max() > 0 for n in trained)
    exported = backbone(architecture)
    exported.load_state_dict(method.backbone.state_dict())
    frozen = {n.removeprefix("backbone.") for n in dict(method.named_parameters()) if n.startswith("backbone.")} - {
        n.removeprefix("backbone.") for n in trained
    }
    if name == "mocov3" and architecture is VIT:
        assert frozen == {"patch_embed.proj.weight", "patch_embed.proj.bias", "pos_embed"}
    elif name != "dino":
        assert not frozen


def test_prototypes_are_frozen_at_first():
    method = made("dino", VIT)
    batch = batch_of(method)
    for progress, frozen in ((0.009, True), (0.01, False)):
        method.after_step(0.0, progress)
        method.zero_grad()
        method(batch, GENERATOR)["loss"].backward()
        assert bool((method.student_head.prototypes.weight.grad == 0).all()) == frozen
        assert method.student_head.mlp[0].weight.grad.abs().max() > 0


def test_moco_freezes_the_embedding_of_a_transformer():
    method = made("mocov3")
    table = np.zeros((16, 16))
    for row in range(4):
        for column in range(4):
            angles = [place / 10000 ** (i / 4) for place in (row, column) for i in range(4)]
            waves = [wave(angle) for part in (angles[:4], angles[4:]) for wave in (np.sin, np.cos) for angle in part]
            table[4 * row + column] = waves
    np.testing.assert_allclose(array(method.backbone.pos_embed)[0, 1:], table, atol=1e-6)
    assert method.backbone.pos_embed[0, 0].eq(0).all()
    bound = math.sqrt(6 / (3 * 4 * 4 + 16))
    weight, fresh = method.backbone.patch_embed.proj.weight, backbone(VIT).patch_embed.proj.weight
    assert 0.9 * bound < weight.abs().max() <= bound and not torch.equal(weight, fresh)
    kept = made("mocov3", patch_embedding="kept").backbone
    assert torch.equal(kept.patch_embed.proj.weight, fresh) and not kept.pos_embed.requires_grad
    assert made("mocov3", patch_embedding="trained").backbone.pos_embed.requires_grad
    stem = {"architecture": "vit_conv_small_patch16_224", "img_size": 32, "embed_dim": 16, "depth": 1, "num_heads": 1}
    trained = made(
        "mocov3", {**stem, "num_classes": 0}, image_size=32
    ).backbone  # as in the official code, whose norms learn, too
    assert {weight.requires_grad for weight in trained.patch_embed.parameters()} == {True}
    assert not trained.pos_embed.requires_grad
    with pytest.raises(ValueError, match="no channels in fours, for sine–cosine positions: use patch_embedding"):
        made("mocov3", VIT | {"embed_dim": 18})
    hiera = {"architecture": "hiera_tiny_224", "img_size": 32, "embed_dim": 16, "num_heads": 1, "num_classes": 0}
    hiera |= {"stages": (1, 1, 1, 1)}
    with pytest.raises(ValueError, match=r"Hiera has no grid of patches, or .*: use patch_embedding"):
        made("mocov3", hiera, image_size=32)
    assert made("mocov3", hiera, image_size=32, patch_embedding="kept").backbone.patch_embed is not None


def kinds(head):
    return [type(layer).__name__ for layer in head]


def test_heads_are_those_of_the_papers():
    hidden, end = ["Linear", "BatchNorm1d", "ReLU"], ["Linear", "BatchNorm1d"]
    vit, resnet, byol = made("mocov3"), made("mocov3", RESNET), made("byol")
    assert kinds(vit.projector) == hidden * 2 + end and kinds(vit.predictor) == hidden + end
    assert kinds(resnet.projector) == hidden + end and kinds(resnet.predictor) == [*hidden, "Linear"]
    assert kinds(byol.projector) == kinds(byol.predictor) == [*hidden, "Linear"]
    assert kinds(made("simclr").projector) == hidden + end
    assert kinds(made("dino").student_head.mlp) == ["Linear", "GELU", "Linear", "GELU", "Linear"]
    normed = ["Linear", "BatchNorm1d", "GELU"]
    assert kinds(made("dino", batch_norm=True).student_head.mlp) == [*normed, *normed, "Linear"]
    head = mlp(5, 7, 3, layers=3)
    assert [tuple(layer.weight.shape) for layer in head if isinstance(layer, nn.Linear)] == [(7, 5), (7, 7), (3, 7)]
    assert all(layer.bias is None for layer in head if isinstance(layer, nn.Linear)) and head[-1].weight is None


def test_a_copy_drops_nothing_and_keeps_its_own_statistics():
    net = backbone(RESNET, drop_path_rate=0.5, drop_rate=0.5)
    twin = momentum_copy(net)
    x = torch.randn(4, 3, SIZE, SIZE)
    assert torch.equal(embed(twin, x), embed(twin, x)) and not torch.equal(embed(net, x), embed(net, x))
    assert twin.training and not torch.equal(
        twin.state_dict()["stages.0.blocks.0.norm1.running_mean"],
        backbone(RESNET).state_dict()["stages.0.blocks.0.norm1.running_mean"],
    )
    method = made("dino", RESNET | {"drop_path_rate": 0.5})
    assert not any(getattr(each, "drop_prob", 0) for each in method.backbone.modules())
    assert any(getattr(each, "drop_prob", 0) for each in method.student.modules())


# ------------------------------------------------------------------------------------------- views


VIT_DROPS = {"drop_rate": 0.5, "patch_drop_rate": 0.5, "pos_drop_rate": 0.5, "attn_drop_rate": 0.5}
EVA = {"embed_dim": 48, "depth": 1, "num_heads": 4, "patch_size": 8}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet10t", {"drop_rate": 0.5, "drop_block_rate": 0.5}),  # by a function, and blocks of the map
        ("test_efficientnet", {"drop_rate": 0.5, "drop_path_rate": 0.5}),
        ("test_vit", {"img_size": 32, **VIT_DROPS}),
        ("eva02_tiny_patch14_224", {"img_size": 32, "patch_drop_rate": 0.5, **EVA}),
    ],
)
def test_a_follower_drops_nothing_of_whatever_a_network_drops(name, arguments):
    net = timm.create_model(name, num_classes=5, **arguments).train()
    x_BCHW, copied = torch.randn(4, 3, 32, 32), momentum_copy(net)
    assert not net(x_BCHW).equal(net(x_BCHW))
    assert copied.training and copied(x_BCHW).equal(copied(x_BCHW))


def test_views_are_the_papers_unless_something_else_is_given():
    first, second = made("simclr", strength=0.5, blur=0.0).views(replace(GIVEN, scale=(0.2, 1.0)))
    assert first == second and (first.image_size, first.scale, first.blur) == (SIZE, (0.2, 1.0), 0.0)
    assert (first.color_jitter, first.saturation, first.hue, first.color_jitter_prob) == (0.4, None, 0.1, 0.8)
    for name in ("byol", "mocov3"):
        first, second = made(name).views(Augmentation())
        assert (first.image_size, first.scale, first.grayscale) == (224, (0.08, 1.0), 0.2)
        assert (first.blur, second.blur) == (1.0, 0.1) and (first.solarize, second.solarize) == (0.0, 0.2)
        assert replace(second, blur=1.0, solarize=0.0) == first
    crops = made("dino", local_crops=8, local_size=None).views(GIVEN)
    assert [crop.image_size for crop in crops] == [SIZE] * 2 + [8] * 8  # two patches of 4 px are nearest to 96/224
    assert crops[0].scale == crops[1].scale == (0.4, 1.0) and {crop.scale for crop in crops[2:]} == {(0.05, 0.4)}
    assert [crop.blur for crop in crops[:3]] == [1.0, 0.1, 0.5] and crops[1].solarize == 0.2 != crops[2].solarize
    assert len(made("dino", local_crops=0).views(GIVEN)) == 2
    for name in SETTINGS:
        assert made(name).views(replace(GIVEN, hue=0.3, flip=0.0))[-1].hue == 0.3


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match=r"of 8×8 px .*dynamic_img_size=True"):
        made("dino", VIT | {"dynamic_img_size": False})
    with pytest.raises(ValueError, match="compares 5 views of each image and was given 2"):
        views_of({"image": [0, 0]}, 5)
    with pytest.raises(ValueError, match="compares 2 views of each image and was given 1"):
        made("simclr")({"image": torch.zeros(2, 3, SIZE, SIZE)}, GENERATOR)
    net = backbone(RESNET, num_classes=3)
    assert embedding_width(net, SIZE) == 16 and not net.head.fc.weight.requires_grad
    assert all(p.requires_grad for n, p in net.named_parameters() if not n.startswith("head"))


@pytest.mark.parametrize("name", ["simclr", "byol", "mocov3"])
def test_one_image_at_a_time_is_refused_where_images_are_compared(name, tmp_path):
    """SimCLR would have nothing to tell it from, and its loss be 0; a batch norm of the others would stop it."""
    told = f"{METHODS[name].__name__} compares images of a micro-batch, and --batch 8 leaves one in each of 8: use"
    with pytest.raises(ValueError, match=told):
        run(tmp_path, made(name), accumulate=8)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


# ------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("name", SETTINGS)
def test_a_training_that_stopped_ends_with_the_same_bits(name, tmp_path):
    """The copies, the centre and what the schedules have reached are in the state."""
    whole = made(name, RESNET)
    run(tmp_path / "whole", whole, RESNET, accumulate=2)
    for _ in range(2):
        run(tmp_path / "cut", made(name, RESNET), RESNET, minutes=1e-9, accumulate=2)
    assert state_of(tmp_path / "cut")["step"] == 2
    resumed = made(name, RESNET)
    result = run(tmp_path / "cut", resumed, RESNET, accumulate=2)
    assert result["finished"] and same(whole.state_dict(), resumed.state_dict())
    assert log_of(tmp_path / "whole")[-1]["loss"] == log_of(tmp_path / "cut")[-1]["loss"]
    assert gap(whole.state_dict(), made(name, RESNET).state_dict()) > 1e-3
    path = str(tmp_path / "cut" / "backbone.safetensors")
    arguments = {key: value for key, value in RESNET.items() if key != "architecture"}
    exported = timm.create_model(str(RESNET["architecture"]), checkpoint_path=path, **arguments)
    assert same(exported.state_dict(), resumed.backbone.state_dict())


def test_a_step_behind_the_end_of_a_shorter_training_is_one_of_the_longer(tmp_path):
    """DINO's first step used the shorter one's temperature and trained prototypes that are fixed in the longer one."""
    given = {"temperature_warmup": 0.8, "freeze_prototypes": 0.5}
    run(tmp_path, made("dino", **given))  # 2 epochs of 4 steps
    state, source = state_of(tmp_path), Source(tiny_images(), made("dino").views(GIVEN), (0.5,) * 3, (0.25,) * 3)
    for epochs, risen in ((2, 1.0), (5, 0.5)):
        method = made("dino", **given)
        trainer = Trainer(method, source, replace(OPTIM, epochs=epochs), LOOP, World())
        trainer.load(state)
        assert method.teacher_temperature.item() == pytest.approx(0.04 + risen * 0.03)
        assert method.student_head.trainable == (epochs == 2)
        if epochs == 2:  # to the bit what was saved
            assert same(method.state_dict(), state["method"])


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The folder that two processes have trained in."""
    folder = tmp_path_factory.mktemp("pair")
    assert exit_codes_of_two(siamese.pair, folder) == (0, 0)
    return folder


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_equal_one_with_the_doubled_batch(pair, name, tmp_path):
    """Keys, negatives with their gradients, and the centre are those of all processes."""
    ranks = [torch.load(pair / f"{name}-{rank}.pt", weights_only=True) for rank in range(2)]
    alone = without_norms(made(name, POOLED))
    run(tmp_path / "run", alone, POOLED)
    assert gap(ranks[0], alone.state_dict()) < 5e-6 and gap(ranks[0], ranks[1]) == 0
    assert gap(alone.state_dict(), without_norms(made(name, POOLED)).state_dict()) > 1e-3
