"""MAE: what the encoder sees, what is predicted, and the loss, each against a computation of its own."""

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from a2mim.methods.mae import MAE, MAESettings, sincos_positions
from a2mim.targets import normalised, patchify, unpatchify
from tests.a2mim.masked import VIT, images, normalised_loss, patches, resumed_and_whole, seeded, vit

SMALL = {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}


def mae(backbone=None, **settings):
    torch.manual_seed(1)
    return MAE(vit() if backbone is None else backbone, MAESettings(**(SMALL | settings)))


def pixels_of(mask_BL, patch=8):
    rows = mask_BL.view(len(mask_BL), 1, 4, 4)
    return rows.repeat_interleave(patch, 2).repeat_interleave(patch, 3)


def test_patches_and_back():
    image = torch.randn(2, 3, 16, 24)
    rows = patchify(image, 4)
    assert rows.shape == (2, 24, 48)
    np.testing.assert_array_equal(rows[1].double(), patches(image[1], 4))
    assert torch.equal(unpatchify(rows, 4, (16, 24)), image)
    with pytest.raises(ValueError, match="Patches of 5 px do not tile an image of 16×24 px"):
        patchify(image, 5)


def test_normalised_patches():
    rows = 3 + 2 * torch.randn(2, 5, 12)
    found, mean, std = normalised(rows)
    x = rows.double().numpy()
    centred = x - x.mean(-1, keepdims=True)
    np.testing.assert_allclose(found, centred / np.sqrt(x.var(-1, ddof=1, keepdims=True) + 1e-6), atol=1e-5)
    assert torch.allclose(found * std + mean, rows, atol=1e-5)
    assert normalised(torch.ones(1, 1, 12))[0].abs().max() == 0


@pytest.mark.parametrize("normalise", [True, False])
def test_the_loss_patch_by_patch(normalise):
    method, image = mae(normalised_target=normalise), 2 + 3 * images(32)
    loss = method({"image": image}, seeded(3))["loss"]
    mask_BL = method.draw_mask(image, seeded(3))
    assert mask_BL.sum(1).tolist() == [12, 12]  # ceil(0.75 · 16)
    with torch.no_grad():
        prediction = method.decode(method.encode(image, mask_BL), mask_BL).double().numpy()
    assert loss.item() == pytest.approx(normalised_loss(prediction, image, mask_BL, 8, normalise), rel=1e-5)


def test_mae_by_hand():
    """Positions, dropping, class token, blocks, norm; projection, mask token, positions, blocks, norm, head."""
    method, image, net = mae(), images(32), None
    net = method.backbone
    mask_BL = method.draw_mask(image, seeded(3))
    for b in range(2):
        keep = [i for i in range(16) if mask_BL[b, i] == 0]
        tokens = net.patch_embed(image[b : b + 1])[0] + net.pos_embed[0, 1:]
        x = torch.stack([net.cls_token[0, 0] + net.pos_embed[0, 0], *(tokens[i] for i in keep)])[None]
        for block in net.blocks:
            x = block(x)
        x = net.norm(x)
        assert torch.allclose(method.encode(image, mask_BL)[b], x[0], atol=1e-5)
        z = method.embed(x)[0]
        full = [method.mask_token_C] * 16
        for place, i in enumerate(keep):
            full[i] = z[1 + place]
        positions = sincos_positions((4, 4), 16)
        y = torch.stack([z[0], *(token + positions[i] for i, token in enumerate(full))])[None]
        for block in method.decoder_blocks:
            y = block(y)
        y = method.head(method.decoder_norm(y))[0, 1:]
        found = method.decode(method.encode(image, mask_BL), mask_BL)[b]
        assert torch.allclose(found, y, atol=1e-5)


@pytest.mark.parametrize("arguments", [{}, {"class_token": False, "global_pool": "avg", "fc_norm": False}])
def test_masked_patches_cannot_reach_the_encoder(arguments):
    method, image = mae(vit(**arguments)).eval(), images(32)
    mask_BL = method.draw_mask(image, seeded(3))
    other = torch.where(pixels_of(mask_BL) > 0, 9 * images(32, seed=5), image)
    seen, same = method.encode(image, mask_BL), method.encode(other, mask_BL)
    assert torch.equal(seen, same) and seen.shape == (2, 4 + method.structure.features.prefix, 16)
    assert torch.equal(method.decode(seen, mask_BL), method.decode(same, mask_BL))
    visible = torch.where(pixels_of(mask_BL) > 0, image, image + 1)
    assert not torch.equal(method.encode(visible, mask_BL), seen)  # and the test can fail


def test_no_masked_pixel_gets_a_gradient_from_the_encoder():
    method, image = mae(), images(32).requires_grad_()
    mask_BL = method.draw_mask(image, seeded(3))
    method.encode(image, mask_BL).square().sum().backward()
    masked = (pixels_of(mask_BL) > 0).expand_as(image)
    assert image.grad[masked].abs().max() == 0 and image.grad[~masked].abs().max() > 0


def test_visible_predictions_get_no_gradient():
    method, image = mae(), images(32)
    prediction = nn.Parameter(torch.randn(2, 16, 192))
    method.decode = lambda *_: prediction
    method({"image": image}, seeded(3))["loss"].backward()
    masked = method.draw_mask(image, seeded(3)) > 0
    assert prediction.grad[~masked].abs().max() == 0 and (prediction.grad[masked] != 0).all()


def test_positions_are_the_published_ones():
    """Column first, sines before cosines (the released get_2d_sincos_pos_embed, in NumPy)."""
    width, rows, columns = 16, 3, 5
    omega = 1.0 / 10000 ** (np.arange(width // 4) / (width / 4))
    for index, found in enumerate(sincos_positions((rows, columns), width).numpy()):
        row, column = divmod(index, columns)
        expected = [f(place * omega) for place in (column, row) for f in (np.sin, np.cos)]
        np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-6)
    backbone = vit()
    method = mae(backbone)
    assert torch.equal(backbone.pos_embed[0, 1:], sincos_positions((4, 4), 16)) and not backbone.pos_embed.requires_grad
    assert backbone.pos_embed[0, 0].abs().max() == 0 and "backbone.pos_embed" in method.no_weight_decay()
    before = (backbone := vit()).pos_embed.clone()
    mae(backbone, positions="own")
    assert torch.equal(backbone.pos_embed, before) and backbone.pos_embed.requires_grad


def test_mask_cells_larger_than_a_patch():
    method, image = mae(mask_cell=16, mask_ratio=0.5), images(32)
    cells = method.draw_mask(image, seeded()).view(2, 4, 4)
    assert torch.equal(cells, F.interpolate(cells[:, None, ::2, ::2], scale_factor=2)[:, 0]) and cells.mean() == 0.5
    assert method({"image": image}, seeded())["loss"].isfinite()


def test_pictures():
    method, image = mae().train(), images(32)
    shown = method.pictures({"image": image}, seeded(3))
    masked = (pixels_of(method.draw_mask(image, seeded(3))) > 0).expand_as(image)
    assert list(shown) == ["original", "masked", "predicted", "composite"] and method.backbone.training
    assert shown["masked"][masked].abs().max() == 0 and torch.equal(shown["composite"][~masked], image[~masked])
    method.decode = lambda *_: normalised(patchify(image, 8))[0]  # what is predicted rightly is shown as it is
    assert torch.allclose(method.pictures({"image": image}, seeded(3))["composite"], image, atol=1e-5)


def test_learning_lowers_the_loss():
    method = mae(decoder_width=32)
    smooth = F.interpolate(images(4, batch=8), (32, 32), mode="bilinear")
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(40):
        loss = method({"image": smooth}, seeded(3))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_resume_and_export(tmp_path):
    """Bit for bit, and what is exported is timm's network and nothing else."""

    def method():
        return MAE(vit(img_size=16, patch_size=4, embed_dim=16, depth=1), MAESettings(**SMALL))

    trained = resumed_and_whole(tmp_path, method)
    arguments = VIT | {"img_size": 16, "patch_size": 4, "depth": 1}
    path = str(tmp_path / "whole" / "backbone.safetensors")
    loaded = timm.create_model("vit_tiny_patch16_224", checkpoint_path=path, **arguments).eval()
    assert torch.equal(loaded(images(16)), trained.backbone.eval()(images(16)))
    assert not loaded._forward_hooks and not trained.backbone.patch_drop._forward_hooks


def test_compiled():
    method, batch = mae().eval(), {"image": images(32)}
    expected = method(batch, seeded())["loss"].item()
    method.compile(backend="eager")
    assert [method(batch, seeded())["loss"].item() for _ in range(2)] == pytest.approx([expected] * 2, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments", "settings", "message"),
    [
        ("test_resnet", {"num_classes": 0}, {"image_size": 64}, "ResNet has no patch_embed and patch_drop"),
        ("test_vit", {"img_size": 32}, {"mask_cell": 12}, "mask cells of 12 px do not fit VisionTransformer"),
        ("test_vit", {"img_size": 64}, {"decoder_width": 18}, "need a width that 4 divides, not 18"),
        ("test_vit", {"img_size": 64}, {"mask_ratio": 1.0}, "masks 16 of 16 cells"),
        ("test_vit", {"img_size": 64, "pos_embed": "none"}, {}, "has no pos_embed of one vector a patch"),
    ],
)
def test_what_does_not_fit_is_refused(name, arguments, settings, message):
    with pytest.raises(ValueError, match=message):
        mae(timm.create_model(name, **arguments), **settings)


def test_a_patch_embedding_that_mixes_patches_is_refused():
    backbone = vit()
    backbone.patch_embed.proj = nn.Conv2d(3, 16, 16, stride=8, padding=4)
    with pytest.raises(ValueError, match="mixes patches, so masked ones would reach the encoder"):
        mae(backbone)
