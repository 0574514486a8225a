"""SparK: an encoder for which masked positions do not exist, held against NumPy, dense timm and hand-made passes."""

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from a2mim.methods.spark import Densify, SparK, SparKSettings
from a2mim.sparse import Visible, sparse
from tests.a2mim.masked import CNN, cnn, images, normalised_loss, resumed_and_whole, seeded

SIZE = 96  # 3×3 cells at a stride of 32 px
NETS = ("test_resnet", "test_convnext", "test_efficientnet")


def spark(name="test_resnet", **settings):
    return SparK(cnn(name), SparKSettings(**({"image_size": SIZE, "decoder_width": 32} | settings)))


def case(method, ratio=0.6, size=SIZE):
    image = images(size)
    return image, method.draw_mask(image, seeded(3))


def masked_positions(mask, x, nchw=True):
    """Indicator of the masked positions of a map, by NumPy."""
    side = x.shape[2]
    finer = np.kron(mask.numpy(), np.ones((side // mask.shape[1], side // mask.shape[1])))
    shaped = finer[:, None] if nchw else finer[..., None]
    return np.broadcast_to(shaped > 0, x.shape)


@pytest.mark.parametrize(("name", "size"), [*((name, SIZE) for name in NETS), ("test_resnet", 64)])
def test_masked_positions_are_zero_after_every_layer(name, size):
    """Of every map that any module gives out, in training, with weights none of which is zero; of 2×2 cells, too."""
    method = spark(name, image_size=size).train()
    image, mask = case(method, size=size)
    visible = Visible(mask, image.device)
    seen = set()

    def check(module, args, x):
        if isinstance(x, torch.Tensor) and x.ndim == 4 and len(x) == len(image) and x.shape[2] > 1:
            # some maps have as many channels as rows, so that their shape does not tell which is which
            layouts = [nchw for nchw in (True, False) if x.shape[2] == x.shape[3 if nchw else 1]]
            hidden = [masked_positions(mask, x, nchw) for nchw in layouts]
            assert any(np.all(x.detach().numpy()[h] == 0) for h in hidden), type(module)
            assert all(np.any(x.detach().numpy()[~h] != 0) for h in hidden)
            seen.add(type(module).__name__)

    with sparse(method.backbone, method.plan, visible):
        handles = [module.register_forward_hook(check) for module in method.backbone.modules()]
        features = method.backbone.forward_features(visible.hide(image))
    for handle in handles:
        handle.remove()
    assert torch.equal(features, visible.hide(features))
    expected = {
        "test_resnet": {"Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", "Bottleneck", "BasicBlock"},
        "test_convnext": {"Conv2d", "LayerNorm", "Linear", "ConvNeXtBlock"},
        "test_efficientnet": {"Conv2d", "BatchNormAct2d", "SqueezeExcite"},
    }
    assert expected[name] <= seen | {"Bottleneck", "BasicBlock"}, seen
    assert all(torch.equal(x, visible.hide(x)) for x in method.encode(image, mask))


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_biases_that_are_zero_at_first_do_not_fill_masked_positions_later(name):
    method = SparK(timm.create_model(name, num_classes=0), SparKSettings(image_size=SIZE, decoder_width=32)).eval()
    image, mask = case(method)
    with torch.no_grad():
        for parameter in method.backbone.parameters():
            if parameter.ndim == 1:
                parameter.add_(1.0)
    for x in method.encode(image, mask):
        assert np.all(x.detach().numpy()[masked_positions(mask, x)] == 0)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("training", [False, True])
def test_without_a_mask_the_sparse_encoder_is_the_dense_one(name, training):
    method = spark(name).train(training)
    dense = cnn(name).train(training)
    image = images(SIZE)
    maps = method.encode(image, torch.zeros(2, 3, 3))
    expected = []
    for tap in method.taps:
        dense.get_submodule(tap).register_forward_hook(lambda m, args, y: expected.insert(0, y))
    expected = [dense.forward_features(image), *expected]
    assert len(maps) == 4
    torch.testing.assert_close(maps, expected, rtol=1e-3, atol=1e-4)
    if training:
        torch.testing.assert_close(
            dict(method.backbone.named_buffers()), dict(dense.named_buffers()), atol=1e-4, rtol=1e-3
        )


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_batch_statistics_are_those_of_visible_positions(name):
    """Gathered and computed in NumPy: what each normalisation gives out, and what it keeps for later."""
    method = spark(name).train()
    image, mask = case(method)
    visible = Visible(mask, image.device)
    before = {n: b.clone() for n, b in method.backbone.named_buffers()}
    inputs, outputs = {}, {}
    norms = {
        n: m for n, m in method.backbone.named_modules() if isinstance(m, _BatchNorm) and n in method.plan.gathered
    }
    handles = []
    for norm_name, norm in norms.items():  # before the sparse hooks: what goes in is still a map
        handles.append(
            norm.register_forward_pre_hook(lambda _, args, n=norm_name: inputs.__setitem__(n, args[0].detach().clone()))
        )
    with sparse(method.backbone, method.plan, visible):
        for norm_name, norm in norms.items():
            handles.append(
                norm.register_forward_hook(lambda _, a, y, n=norm_name: outputs.__setitem__(n, y.detach().clone()))
            )
        method.backbone.forward_features(visible.hide(image))
    for handle in handles:
        handle.remove()
    assert len(inputs) == len(norms) > 5
    for norm_name, norm in norms.items():
        x, y = inputs[norm_name].double().numpy(), outputs[norm_name].double().numpy()
        keep = ~masked_positions(mask, x)[:, 0]
        rows = x.transpose(0, 2, 3, 1)[keep]
        mean, variance, n = rows.mean(0), rows.var(0), len(rows)
        expected = (rows - mean) / np.sqrt(
            variance + norm.eps
        ) * norm.weight.detach().numpy() + norm.bias.detach().numpy()
        if hasattr(norm, "act"):
            expected = norm.act(torch.from_numpy(expected)).numpy()
        np.testing.assert_allclose(y.transpose(0, 2, 3, 1)[keep], expected, rtol=2e-3, atol=2e-3)
        for kept, now in (("running_mean", mean), ("running_var", variance * n / (n - 1))):
            moved = (1 - norm.momentum) * before[f"{norm_name}.{kept}"].numpy() + norm.momentum * now
            np.testing.assert_allclose(getattr(norm, kept).numpy(), moved, rtol=1e-3, atol=1e-4)


def test_the_stem_by_hand():
    """Convolution of zeros, masked; statistics as kept; rectified; the largest of a window, masked again."""
    method = spark().eval()
    image, mask = case(method)
    net = method.backbone
    m1, m2, m4 = ((1 - mask).repeat_interleave(s, 1).repeat_interleave(s, 2)[:, None] for s in (32, 16, 8))
    x = image * m1
    for layer in net.conv1 if isinstance(net.conv1, nn.Sequential) else [net.conv1]:
        x = layer(x) * m2
    x = F.relu(net.bn1(x) * m2)
    assert torch.allclose(spied(method, image, mask, "act1"), x, atol=1e-5)
    assert torch.allclose(spied(method, image, mask, "maxpool"), net.maxpool(x) * m4, atol=1e-5)


def spied(method, image, mask, module):
    found = []
    visible = Visible(mask, image.device)
    with sparse(method.backbone, method.plan, visible):
        handle = method.backbone.get_submodule(module).register_forward_hook(lambda m, a, y: found.append(y))
        method.backbone.forward_features(visible.hide(image))
    handle.remove()
    return found[0]


def test_squeeze_and_excitation_takes_the_mean_of_visible_positions():
    method = spark("test_efficientnet").eval()
    image, mask = case(method)
    name = method.plan.pooled[0]
    block, seen = method.backbone.get_submodule(name.rpartition(".")[0]), {}
    visible = Visible(mask, image.device)
    with sparse(method.backbone, method.plan, visible):
        hooks = [
            block.register_forward_pre_hook(lambda m, args: seen.__setitem__("map", args[0])),
            method.backbone.get_submodule(name).register_forward_pre_hook(
                lambda m, args: seen.__setitem__("mean", args[0])
            ),
        ]
        method.backbone.forward_features(visible.hide(image))
    for hook in hooks:
        hook.remove()
    x = seen["map"].detach().numpy()
    for b in range(2):
        keep = ~masked_positions(mask, x)[b, 0]
        np.testing.assert_allclose(seen["mean"][b, :, 0, 0].detach(), x[b][:, keep].mean(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_masked_pixels_reach_neither_maps_nor_prediction(name):
    method = spark(name).eval()
    image, mask = case(method)
    pixels = (mask.repeat_interleave(32, 1).repeat_interleave(32, 2)[:, None] > 0).expand_as(image)
    other = torch.where(pixels, 9 * images(SIZE, seed=5), image)
    for one, two in zip(method.encode(image, mask), method.encode(other, mask), strict=True):
        assert torch.equal(one, two)
    assert torch.equal(method.reconstruct(image, mask), method.reconstruct(other, mask))
    assert not torch.equal(
        method.reconstruct(image, mask), method.reconstruct(torch.where(pixels, image, image + 1), mask)
    )


def test_the_loss_patch_by_patch():
    method = spark().eval()
    image, mask = case(method)
    assert mask.sum((1, 2)).tolist() == [5, 5]  # round(0.4 · 9) = 4 of 9 are visible
    loss = method({"image": image}, seeded(3))["loss"]
    with torch.no_grad():
        prediction = method.reconstruct(image, mask)
    rows = [
        [prediction[b, :, 32 * i : 32 * i + 32, 32 * j : 32 * j + 32] for i in range(3) for j in range(3)]
        for b in (0, 1)
    ]
    flat = np.array([[x.permute(1, 2, 0).flatten().double().numpy() for x in row] for row in rows])
    assert loss.item() == pytest.approx(normalised_loss(flat, image, mask.flatten(1), 32), rel=1e-5)


def test_visible_predictions_get_no_gradient():
    method = spark()
    image, mask = case(method)
    prediction = nn.Parameter(torch.randn_like(image))
    method.reconstruct = lambda *_: prediction
    method({"image": image}, seeded(3))["loss"].backward()
    masked = (mask.repeat_interleave(32, 1).repeat_interleave(32, 2)[:, None] > 0).expand_as(image)
    assert prediction.grad[~masked].abs().max() == 0 and (prediction.grad[masked] != 0).all()


def test_densified_maps():
    """Normalised over visible positions, the token wherever it is empty, then projected."""
    mask = torch.tensor([[[1.0, 0], [0, 1]], [[0, 0], [1, 1]]])
    visible = Visible(mask, mask.device)
    x = visible.hide(torch.randn(2, 5, 4, 4))
    densify = Densify(5, 7, nn.BatchNorm2d(5), kernel=3).train()
    hidden = masked_positions(mask, x)[:, 0]
    rows = x.permute(0, 2, 3, 1).numpy()[~hidden]
    full = np.empty((2, 4, 4, 5), np.float32)
    full[~hidden] = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5)
    full[hidden] = densify.mask_token_C.detach().numpy()
    expected = densify.project(torch.from_numpy(full).permute(0, 3, 1, 2))
    torch.testing.assert_close(densify(x, visible), expected)
    same = Densify(5, 5, LayerNorm2d(5), kernel=1)
    assert isinstance(same.project, nn.Identity) and torch.equal(same(x, visible)[0, :, 0, 0], same.mask_token_C)


def test_the_published_architecture():
    """ResNet-50: maps of 2048, 1024, 512 and 256 channels into a decoder of 768 channels at stride 32, halved to 24."""
    method = SparK(timm.create_model("resnet50"), SparKSettings(image_size=64))
    assert method.taps == ("layer3", "layer2", "layer1")
    shapes = [tuple(d.project.weight.shape) for d in method.densify]
    assert shapes == [(768, 2048, 1, 1), (384, 1024, 3, 3), (192, 512, 3, 3), (96, 256, 3, 3)]
    assert [block[4].out_channels for block in method.decoder] == [384, 192, 96, 48, 24]
    assert all(isinstance(d.norm, nn.BatchNorm2d) for d in method.densify)
    assert method.head.weight.shape == (3, 24, 1, 1)
    assert {f"densify.{i}.mask_token_C" for i in range(4)} <= method.no_weight_decay()
    assert all(isinstance(d.norm, LayerNorm2d) for d in spark("test_convnext").densify)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_every_weight_gets_a_gradient_and_the_backbone_stays_timm_s(name):
    method = spark(name).train()
    image = images(SIZE)
    method({"image": image}, seeded())["loss"].backward()
    for parameter_name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, parameter_name
    fresh = timm.create_model(name, num_classes=0)
    assert list(method.backbone.state_dict()) == list(fresh.state_dict()) and type(method.backbone) is type(fresh)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in method.backbone.modules())
    fresh.load_state_dict(method.backbone.state_dict())
    assert torch.equal(fresh.eval()(image), method.backbone.eval()(image))


def test_synchronised_batch_statistics_stay_sparse():
    """The trainer may replace the normalisations after the method is made."""
    from timm.layers import convert_sync_batchnorm

    method = spark().eval()
    image, mask = case(method)
    expected = method.encode(image, mask)
    converted = convert_sync_batchnorm(method).eval()
    assert any(isinstance(m, nn.SyncBatchNorm) for m in converted.backbone.modules())
    for one, two in zip(converted.encode(image, mask), expected, strict=True):
        torch.testing.assert_close(one, two)


def test_pictures():
    method = spark().train()
    image, mask = case(method)
    pixels = (mask.repeat_interleave(32, 1).repeat_interleave(32, 2)[:, None] > 0).expand_as(image)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    shown = method.pictures({"image": image}, seeded(3))
    assert all(torch.equal(before[k], v) for k, v in method.state_dict().items()) and method.backbone.training
    assert shown["masked"][pixels].abs().max() == 0 and torch.equal(shown["composite"][~pixels], image[~pixels])
    assert torch.equal(shown["composite"][pixels], shown["predicted"][pixels])


def test_resume(tmp_path):
    def method():
        return SparK(timm.create_model("resnetv2_18d", **CNN), SparKSettings(image_size=16, decoder_width=16))

    trained = resumed_and_whole(tmp_path, method)
    path = str(tmp_path / "whole" / "backbone.safetensors")
    loaded = timm.create_model("resnetv2_18d", checkpoint_path=path, **CNN).eval()
    assert torch.equal(loaded(images(16)), trained.backbone.eval()(images(16)))


def test_compiled():
    backbone = timm.create_model("resnetv2_18d", **CNN)  # tracing takes a network's operations one by one
    method, batch = SparK(backbone, SparKSettings(image_size=16, decoder_width=16)).eval(), {"image": images(16)}
    expected = method(batch, seeded())["loss"].item()
    method.compile(backend="eager")
    assert [method(batch, seeded())["loss"].item() for _ in range(2)] == pytest.approx([expected] * 2, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "arguments", "settings", "message"),
    [
        ("test_vit", {"img_size": 32}, {"image_size": 32}, "needs a CNN whose last map .* is NLC with a stride of 16"),
        ("test_resnet", {}, {"mask_cell": 16}, "A mask cell of 16 px is no multiple of the stride of ResNet"),
        ("test_resnet", {}, {"mask_ratio": 0.01, "image_size": 32}, "One mask cell covers the whole image"),
        ("test_resnet", {}, {"decoder_width": 16}, "cannot be halved 5 times"),
        ("poolformer_s12", {}, {"image_size": 64}, "is a GroupNorm1, whose statistics would count"),
    ],
)
def test_what_does_not_fit_is_refused(name, arguments, settings, message):
    backbone = timm.create_model(name, num_classes=0, **arguments)
    with pytest.raises(ValueError, match=message):
        SparK(backbone, SparKSettings(**({"image_size": SIZE, "decoder_width": 32} | settings)))
