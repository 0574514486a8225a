"""Detection on a backbone's maps: levels against timm's own maps, pooling and anchors at any size, torchvision's own
model as the oracle of losses and detections, and gradients where they belong."""

from collections import OrderedDict

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import roi_align

from a2mim.detect.method import Detect, taken
from a2mim.optim import parameter_groups
from a2mim.settings import Optim
from a2mim.trainer import recompute

pytest.importorskip("pycocotools")

ANY_SIZE = {"test_vit": {"dynamic_img_size": True}}
ANCHORS = (8, 16, 32, 64, 128)


TINY = {"embed_dim": 16, "depths": (1, 2, 1, 1), "num_heads": (1, 1, 1, 1), "window_size": 2, "img_size": 64}
WINDOWED = ("swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256")
ONE_SIZE = {
    "beit_base_patch16_224": {"depth": 2, "embed_dim": 32, "num_heads": 2, "use_rel_pos_bias": True},
    "hiera_tiny_224": {"embed_dim": 16, "stages": (1, 1, 1, 1), "num_heads": 1},
}


def made(name, detector="faster_rcnn", classes=3, network=None, **more):
    torch.manual_seed(0)
    backbone = timm.create_model(name, num_classes=0, **(network or ANY_SIZE.get(name, {})))
    given = {
        "frozen": False,
        "frozen_norms": True,
        "size": (64, 64),
        "anchors": ANCHORS,
        "regions": 32,
        "width": 32,
        **more,
    }
    return Detect(backbone, classes, detector, **given)


def fewer(*methods):
    """Detections of a picture: a mask takes as long as a picture."""
    for method in methods:
        method.roi_heads.detections_per_img = 10


def batch_of(sizes=((64, 80), (50, 41), (33, 90)), counts=(2, 0, 1), masks=False, seed=0):
    """Pictures of several sizes, with boxes (all masks filled)."""
    generator = torch.Generator().manual_seed(seed)
    height, width = (max(size[n] for size in sizes) for n in (0, 1))
    boxes = torch.tensor([[4.0, 6.0, 30.0, 28.0], [20.0, 10.0, 60.0, 60.0], [5.0, 5.0, 50.0, 30.0]])
    whole = torch.zeros(3, height, width, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(whole, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    batch = {
        "image": torch.randn(len(sizes), 3, height, width, generator=generator),
        "size": torch.tensor(sizes),
        "count": torch.tensor(counts),
        "boxes": boxes,
        "labels": torch.tensor([0, 2, 1]),
        "index": torch.arange(len(sizes)),
    }
    return {**batch, "masks": whole} if masks else batch


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_efficientnet", "test_convnext"])
@pytest.mark.parametrize("size", [(32, 96), (50, 41)])
def test_the_detector_sees_timms_maps_at_any_size(name, size):
    method = made(name, "faster_rcnn").eval()
    image = torch.randn(2, 3, *size)
    padded = F.pad(image, (0, -size[1] % method.maps.multiple, 0, -size[0] % method.maps.multiple))
    direct = method.backbone.forward_intermediates(padded, norm=True, intermediates_only=True)
    found = method.features(image)
    assert all(torch.equal(x, direct[n]) for x, n in zip(found, method.maps.indices, strict=True))
    levels = method.levels(method.padded(image))
    assert list(levels) == ["0", "1", "2", "3", "pool"] and all(x.shape[1] == 32 for x in levels.values())
    for stride, level in zip((4, 8, 16, 32), list(levels.values())[:4], strict=True):
        assert [n * stride for n in level.shape[2:]] == list(padded.shape[2:])
    if name == "test_vit":
        assert len(found) == 1 and found[0].shape[2:] == (padded.shape[2] // 16, padded.shape[3] // 16)


@pytest.mark.parametrize("name", WINDOWED)
def test_windows_and_their_positions_follow_the_picture(name):
    """The oracle: the same network, told the very size by timm's own set_input_size."""
    method = made(name, network={**TINY, "dynamic_img_size": True}).eval()
    told = timm.create_model(name, num_classes=0, **TINY).eval()
    told.load_state_dict(method.backbone.state_dict())
    for size in ((64, 64), (64, 96), (96, 160)):
        told.set_input_size(img_size=size, window_size=2)
        image = torch.randn(1, 3, *size)
        expected = told.forward_intermediates(image, norm=True, intermediates_only=True)
        for found, direct in zip(method.features(image), expected, strict=True):
            torch.testing.assert_close(found, direct)
    loss = method.train()(batch_of(), torch.Generator())["loss"]
    loss.backward()
    assert torch.isfinite(loss) and all(p.grad is not None for p in method.backbone.layers.parameters())
    assert method.eval().found(torch.randn(1, 3, 50, 90), (100, 180))["boxes"].shape[1] == 4


@pytest.mark.parametrize("name", ONE_SIZE)
def test_a_network_of_one_size_sees_every_picture_padded_to_it(name):
    network = {**ONE_SIZE[name], "img_size": (64, 96)}
    with pytest.raises(ValueError, match="fill every picture up to one size with --pad"):
        made(name, size=(64, 96), network=network)
    method = made(name, size=(64, 96), network=network, pad=True).eval()
    image = torch.randn(1, 3, 40, 50)
    whole = F.pad(image, (0, 46, 0, 24))
    for found, direct in zip(method.features(image), method.features(whole), strict=True):
        assert torch.equal(found, direct)
    boxes = method.found(image, (80, 100))["boxes"]
    assert (boxes >= 0).all() and (boxes[:, 2] <= 100).all() and (boxes[:, 3] <= 80).all()
    method.train()(batch_of(), torch.Generator())["loss"].backward()


def test_a_network_that_bears_no_upright_picture_is_refused(monkeypatch):
    given = timm.models.ResNet.forward_intermediates

    def lying(self, x, **more):
        assert x.shape[2] <= 64, "too tall"
        return given(self, x, **more)

    monkeypatch.setattr(timm.models.ResNet, "forward_intermediates", lying)
    with pytest.raises(ValueError, match=r"images of 96×32 px .*too tall.* with --pad"):
        made("test_resnet", size=(64, 96))


def test_sam_gives_its_tokens_without_its_neck():
    """Of which timm makes the norm a part, and other channels."""
    narrow = {"depth": 2, "embed_dim": 32, "num_heads": 2, "global_attn_indexes": (1,), "window_size": 2}
    method = made("samvit_base_patch16", network={**narrow, "img_size": 64}).eval()
    image = torch.randn(1, 3, 64, 96)
    direct = method.backbone.forward_intermediates(image, indices=1, intermediates_only=True)
    assert method.maps.channels == (32,) and torch.equal(method.features(image)[0], direct[0])


@pytest.mark.parametrize("detector", ["mask_rcnn", "faster_rcnn"])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_losses_and_detections_are_torchvisions(name, detector):
    method = made(name, detector, width=256)  # as torchvision has it
    masks = detector == "mask_rcnn"
    batch = batch_of(masks=masks)

    class Whole(nn.Module):
        out_channels = 256

        def forward(self, x):
            return method.neck(
                method.backbone.forward_intermediates(
                    x, indices=list(method.maps.indices), norm=True, intermediates_only=True
                )
            )

    # torchvision's own model as a whole: it resizes (to the same size), pads to 32 and asks the same maps
    anchors = AnchorGenerator([(n,) for n in ANCHORS], ((0.5, 1.0, 2.0),) * 5)
    kind = MaskRCNN if masks else FasterRCNN
    whole = kind(
        Whole(), 4, rpn_anchor_generator=anchors, image_mean=[0] * 3, image_std=[1] * 3, box_batch_size_per_image=32
    )
    whole.transform.resize = lambda image, target=None: (image, target)
    whole.rpn.load_state_dict(method.rpn.state_dict())
    whole.roi_heads.load_state_dict(method.roi_heads.state_dict())
    sizes, counts = batch["size"].tolist(), batch["count"].tolist()
    images = [image[:, :h, :w] for image, (h, w) in zip(batch["image"], sizes, strict=True)]
    targets = [
        {"boxes": b, "labels": t + 1}
        for b, t in zip(batch["boxes"].split(counts), batch["labels"].split(counts), strict=True)
    ]
    if masks:
        targets = [
            {**t, "masks": m[:, :h, :w]}
            for t, m, (h, w) in zip(targets, batch["masks"].split(counts), sizes, strict=True)
        ]
    torch.manual_seed(1)
    expected = whole.train()(images, targets)
    torch.manual_seed(1)
    found = method(batch, torch.Generator())
    assert set(found) == {"loss", *expected} and len(expected) == 4 + masks
    torch.testing.assert_close({name: found[name] for name in expected}, {n: x.detach() for n, x in expected.items()})
    assert float(found["loss"].detach()) == pytest.approx(float(sum(expected.values()).detach()))
    assert method.roi_heads.detections_per_img == whole.roi_heads.detections_per_img
    fewer(method, whole)
    with torch.no_grad():
        image = images[0][None]
        found = method.eval().found(image, (64, 80))
        (expected,) = whole.eval()(list(image))
    assert len(found["boxes"]) == len(expected["boxes"]) > 0
    torch.testing.assert_close(found["boxes"], expected["boxes"])
    torch.testing.assert_close(found["scores"], expected["scores"])
    assert torch.equal(found["labels"], expected["labels"] - 1)
    if masks:
        assert torch.equal(found["masks"], expected["masks"][:, 0] > 0.5)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_autocast_leaves_boxes_as_they_are(name, monkeypatch):
    """bfloat16 has 8 bits: beyond 256 it knows even pixels alone, and no 301.7."""
    method, given = made(name, "mask_rcnn", size=(320, 320)), {}
    batch = {**batch_of(((320, 320),) * 3, masks=True), "boxes": torch.tensor([[3.3, 5.1, 301.7, 299.3]] * 3)}
    select = method.roi_heads.select_training_samples

    def watched(proposals, targets):
        given["proposals"], given["boxes"] = proposals[0], targets[0]["boxes"]
        selected = select(proposals, targets)
        given["trained on"] = selected[0][0]
        return selected

    monkeypatch.setattr(method.roi_heads, "select_training_samples", watched)
    method.rpn.anchor_generator.register_forward_hook(lambda *call: given.update(anchors=call[2][0]))
    with torch.autocast("cpu", torch.bfloat16):
        assert method.levels(batch["image"])["0"].dtype == torch.bfloat16
        loss = method(batch, torch.Generator())["loss"]
    assert {name: x.dtype for name, x in given.items()} == dict.fromkeys(given, torch.float32) and len(given) == 4
    # the instances themselves are among the regions that the heads are trained on
    assert (given["trained on"][:, None] == given["boxes"]).all(-1).any()
    loss.backward()


def test_detections_are_told_in_the_pictures_own_pixels():
    method = made("test_resnet", "mask_rcnn").eval()
    fewer(method)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        same, twice = method.found(image, (64, 96)), method.found(image, (128, 288))
    torch.testing.assert_close(twice["boxes"], same["boxes"] * torch.tensor([3.0, 2, 3, 2]))
    assert twice["masks"].shape[1:] == (128, 288)
    share = same["masks"].float().mean((1, 2)) - twice["masks"].float().mean((1, 2))
    assert share.abs().max() < 0.02


@pytest.mark.parametrize(("name", "strides"), [("test_resnet", (4, 8, 16, 32)), ("test_vit", (4, 8, 16, 32))])
def test_pooling_knows_its_strides_from_the_first_picture_on(name, strides):
    method = made(name)
    pool = method.roi_heads.box_roi_pool
    levels = OrderedDict((str(n), torch.randn(1, 5, 96 // stride, 96 // stride)) for n, stride in enumerate(strides))
    boxes = torch.tensor([[3.0, 4.0, 30.0, 33.0], [0.0, 0.0, 33.0, 20.0]])
    found = pool(levels, [boxes], [(33, 33)])  # a small picture, padded: its size says nothing of strides
    rois = torch.cat([torch.zeros(2, 1), boxes], 1)
    torch.testing.assert_close(found, roi_align(levels["0"], rois, (7, 7), 1 / 4, 2))


def test_what_lies_beside_a_picture_is_not_seen():
    method = made("test_resnet")
    batch = batch_of()
    other = {**batch, "image": batch["image"].clone()}
    for image, (height, width) in zip(other["image"], batch["size"].tolist(), strict=True):
        image[:, height:], image[:, :, width:] = 9.0, -9.0
    losses = []
    for each in (batch, other):
        torch.manual_seed(0)
        losses.append(method(each, torch.Generator())["loss"].detach())
    assert torch.equal(*losses)


def test_what_is_frozen_stays_and_the_rest_learns():
    method = made("test_resnet")
    norms = [m for m in method.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [m.running_mean.clone() for m in norms]
    method.train()
    method(batch_of(), torch.Generator())["loss"].backward()
    assert norms and all(torch.equal(m.running_mean, x) for m, x in zip(norms, before, strict=True))
    assert all(m.weight.grad is None and not m.training for m in norms)
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)
    moving = made("test_resnet", frozen_norms=False)
    moving(batch_of(), torch.Generator())
    assert any(
        not torch.equal(m.running_mean, x)
        for m, x in zip((m for m in moving.backbone.modules() if isinstance(m, nn.BatchNorm2d)), before, strict=True)
    )
    frozen = made("test_vit", frozen=True)
    frozen.train()
    frozen(batch_of(), torch.Generator())["loss"].backward()
    assert all(p.grad is None for p in frozen.backbone.parameters()) and not frozen.backbone.training
    assert all(p.grad is not None for p in frozen.neck.parameters())


def test_pictures_without_instances_teach_the_background():
    method = made("test_vit", "mask_rcnn")
    batch = {**batch_of(counts=(0, 0, 0)), "boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    batch["masks"] = torch.zeros(0, 64, 90, dtype=torch.uint8)
    found = method(batch, torch.Generator())
    found["loss"].backward()
    assert torch.isfinite(found["loss"]) and float(found["loss_mask"]) == float(found["loss_box_reg"]) == 0


def test_layers_decay_and_blocks_are_computed_again():
    method = made("test_vit")
    groups = parameter_groups(method, Optim(layer_decay=0.5))
    scales = {round(g["lr_scale"], 6) for g in groups}
    assert len(scales) > 2 and max(scales) == 1
    head = {id(p) for p in method.roi_heads.parameters()}
    assert all(g["lr_scale"] == 1 for g in groups if head & {id(p) for p in g["params"]})
    losses = []
    for again in (False, True):
        if again:
            recompute(method)
        torch.manual_seed(0)
        losses.append(method(batch_of(), torch.Generator())["loss"].detach())
    torch.testing.assert_close(*losses)


def test_networks_without_such_maps_are_refused():
    with pytest.raises(ValueError, match="none of 16, which a detector needs: use another network"):
        taken(timm.create_model("test_resnet", output_stride=8))
    with pytest.raises(ValueError, match="patches of 14 px give no levels of a quarter"):
        taken(timm.create_model("test_vit", patch_size=14, img_size=56))
    with pytest.raises(ValueError, match="has no forward_intermediates"):
        taken(nn.Conv2d(3, 3, 1))
    with pytest.raises(ValueError, match="does not run on images of 64×64 px"):
        Detect(
            timm.create_model("test_vit", num_classes=0, dynamic_img_size=False), 3, "mask_rcnn", False, True, (64, 64)
        )
