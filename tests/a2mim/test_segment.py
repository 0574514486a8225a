"""Segmentation: scores against brute force and torchmetrics, views whose masks move along, maps against timm's own, and
sliding windows."""

import tarfile
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from timm.layers import resample_abs_pos_embed

from a2mim.export import export_backbone
from a2mim.segment.decoders import taken
from a2mim.segment.evaluate import SceneGallery, by_windows, predicted, starts
from a2mim.segment.method import Segment
from a2mim.segment.pairs import IGNORE, open_scenes
from a2mim.segment.scores import counts_of, difference, intervals, per_class, summary
from a2mim.segment.settings import Crops, Scenes
from a2mim.segment.views import GREY, evaluation_view, training_view
from a2mim.settings import Network
from experiments.training.segmenting import make_backbone
from tests.a2mim.scenes import VOID, save, write_scenes

# ------------------------------------------------------------------------------------------- scores


def random_maps(seed, images=12, classes=5):
    """Predictions and annotations with ignored pixels; class 4 occurs nowhere."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes - 1, (images, 9, 7))
    found = np.where(rng.random(target.shape) < 0.6, target, rng.integers(0, classes - 1, target.shape))
    target[rng.random(target.shape) < 0.2] = IGNORE
    return torch.tensor(found), torch.tensor(target)


def counted(found, target, classes=5):
    return np.stack([counts_of(f, t, classes).numpy() for f, t in zip(found, target, strict=True)])


def by_brute_force(found, target, classes=5):
    ious, accuracies, right, count = [], [], 0, 0
    for f, t in zip(found.flatten().tolist(), target.flatten().tolist(), strict=True):
        right, count = right + (t != IGNORE and f == t), count + (t != IGNORE)
    for k in range(classes):
        pairs = [
            (f, t) for f, t in zip(found.flatten().tolist(), target.flatten().tolist(), strict=True) if t != IGNORE
        ]
        both = sum(f == k and t == k for f, t in pairs)
        if either := sum(f == k or t == k for f, t in pairs):
            ious.append(both / either)
        if actual := sum(t == k for _, t in pairs):
            accuracies.append(both / actual)
    return 100 * np.mean(ious), 100 * np.mean(accuracies), 100 * right / count


def test_scores_are_those_of_brute_force_and_of_torchmetrics():
    found, target = random_maps(0)
    scores = summary(counted(found, target).sum(0))
    expected = by_brute_force(found, target)
    assert [float(scores[name]) for name in ("miou", "mean_accuracy", "pixel_accuracy")] == pytest.approx(expected)
    iou, accuracy = per_class(counted(found, target).sum(0))
    assert np.isnan(iou[4]) and np.isnan(accuracy[4]) and not np.isnan(iou[:4]).any()
    classification = pytest.importorskip("torchmetrics.classification")
    metric = classification.MulticlassJaccardIndex(5, ignore_index=IGNORE, average="none")
    np.testing.assert_allclose(metric(found, target).numpy()[:4], iou[:4], rtol=1e-5)
    metric = classification.MulticlassJaccardIndex(5, ignore_index=IGNORE, average="macro")
    assert 100 * float(metric(found, target)) == pytest.approx(float(scores["miou"]), rel=1e-5)


def test_the_interval_is_of_images_drawn_again():
    found, target = random_maps(1, images=40)
    counts = counted(found, target)
    ends = intervals(counts)
    rng = np.random.default_rng(5)
    drawn = [float(summary(counts[rng.integers(0, 40, 40)].sum(0))["miou"]) for _ in range(1000)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    assert abs(ends["miou_low"] - low) < 0.4 and abs(ends["miou_high"] - high) < 0.4 < high - low
    assert ends == intervals(counts) and not intervals(counts[:7])
    assert set(ends) == {f"{a}_{b}" for a in ("miou", "mean_accuracy", "pixel_accuracy") for b in ("low", "high")}


def test_a_difference_is_of_the_same_images():
    found, target = random_maps(2, images=30)
    counts = counted(found, target)
    assert difference(counts, counts) == {"difference": 0, "difference_low": 0, "difference_high": 0}
    better = counted(torch.where(torch.rand(found.shape) < 0.5, target.clamp(min=0), found), target)
    gain = difference(counts, better)
    apart = intervals(better)["miou_high"] - intervals(better)["miou_low"]
    expected = by_brute_force_of(better) - by_brute_force_of(counts)
    assert gain["difference"] == pytest.approx(expected)
    assert gain["difference_low"] < expected < gain["difference_high"]
    assert 0 < gain["difference_high"] - gain["difference_low"] < 2 * apart
    assert difference(counts[:5], better[:5]).keys() == {"difference"}


def by_brute_force_of(counts_N3K):
    right, actual, predicted = counts_N3K.sum(0)[:, :4]
    return 100 * np.mean([r / (a + p - r) for r, a, p in zip(right, actual, predicted, strict=True)])


# ------------------------------------------------------------------------------------------- views


def coordinates(height=40, width=60):
    """A picture whose red and green say where a pixel was, and classes that say it too, in cells of 10 pixels."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([columns * 4, rows * 6, np.full_like(rows, 200)], -1).astype(np.uint8)
    return Image.fromarray(pixels), (rows // 10 * 10 + columns // 10).astype(np.int64)


VIEWS = {
    "crop": Crops((24, 32), 40, (1, 1), 0, 0),
    "flip": Crops((40, 60), 40, (1, 1), 1, 0),
    "larger": Crops((24, 32), 40, (2, 2), 0, 0),
    "smaller": Crops((40, 44), 40, (0.5, 0.9), 0, 0),
    "all": Crops((32, 32), 40, (0.5, 2), 0.5, 0),
}


@pytest.mark.parametrize("name", VIEWS)
def test_masks_move_with_their_pictures(name):
    picture, mask = coordinates()
    for seed in range(5):
        torch.manual_seed(seed)
        image, classes = training_view(VIEWS[name])(picture, mask)
        assert image.dtype == torch.uint8 and image.shape == (3, *VIEWS[name].crop) == (3, *classes.shape)
        there = classes != IGNORE
        assert torch.equal(image[:, ~there], torch.full_like(image[:, ~there], GREY))
        column, row = image[0, there] / 4, image[1, there] / 6
        middle_c, middle_r = classes[there] % 10 * 10 + 4.5, classes[there] // 10 * 10 + 4.5
        off = torch.maximum((column - middle_c).abs(), (row - middle_r).abs())
        assert off.max() < (5 if name in ("crop", "flip") else 7) and there.sum() > 200
        if name == "smaller":
            assert (~there).any()


def test_colours_leave_the_annotation_alone_and_the_scale_is_random():
    picture, mask = coordinates()
    torch.manual_seed(0)
    plain, classes = training_view(VIEWS["all"])(picture, mask)
    torch.manual_seed(0)
    coloured, same = training_view(replace(VIEWS["all"], color_jitter=0.8, hue=0.3))(picture, mask)
    assert torch.equal(classes, same) and not torch.equal(plain, coloured)
    shares = set()
    for seed in range(6):
        torch.manual_seed(seed)
        shares.add(int((training_view(replace(VIEWS["smaller"], scale=(0.3, 0.9)))(picture, mask)[1] == IGNORE).sum()))
    assert len(shares) > 3
    image, classes = evaluation_view(20)(picture, mask)
    assert image.shape == (3, 20, 30) and torch.equal(classes, torch.from_numpy(mask))


# ------------------------------------------------------------------------------------------- maps of backbones

ANY_SIZE = {"test_vit": {"dynamic_img_size": True, "img_size": (32, 64)}}


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_efficientnet", "test_convnext"])
@pytest.mark.parametrize("size", [(32, 96), (50, 41)])
def test_the_decoder_sees_timms_maps_at_any_size(name, size):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, **ANY_SIZE.get(name, {}))
    method = Segment(model, 3, "linear", True, (32, 64)).eval()
    last = model.feature_info[-1] if isinstance(model.feature_info, list) else model.feature_info.info[-1]
    image = torch.randn(2, 3, *size)
    padded = F.pad(image, (0, -size[1] % method.maps.multiple, 0, -size[0] % method.maps.multiple))
    (found,) = method.features(image)
    (direct,) = model.forward_intermediates(padded, indices=1, norm=True, intermediates_only=True)
    assert torch.equal(found, direct) and found.shape[1] == last["num_chs"]
    # timm's other way to maps: what forward_features returns
    features = model.forward_features(padded)
    if name == "test_vit":
        features = features[:, model.num_prefix_tokens :].transpose(1, 2).reshape(found.shape)
    if name != "test_efficientnet":  # which goes on to its head's convolution
        torch.testing.assert_close(found, features)
    assert method.logits(image).shape == (2, 3, *size)


@pytest.mark.parametrize(
    ("name", "decoder"), [("test_resnet", "fpn"), ("test_convnext", "upernet"), ("test_vit", "fpn")]
)
def test_pyramids_see_four_strides(name, decoder):
    pytest.importorskip("segmentation_models_pytorch")
    more = {"depth": 4, "patch_size": 8, "img_size": (32, 64)} if name == "test_vit" else {}
    model = timm.create_model(name, num_classes=0, **more)
    method = Segment(model, 3, decoder, False, (32, 64))
    maps = method.features(torch.randn(2, 3, 32, 64))
    direct = model.forward_intermediates(torch.zeros(1, 3, 32, 64), intermediates_only=True)
    assert [tuple(x.shape[1:]) for x in maps] == [tuple(direct[n].shape[1:]) for n in method.maps.indices]
    ahead = method.decoder.resize(maps) if method.maps.plain else maps
    assert [32 // x.shape[2] for x in ahead] == ([2, 4, 8, 16] if name == "test_vit" else [4, 8, 16, 32])
    loss = method({"image": torch.randn(2, 3, 32, 64), "target": torch.zeros(2, 32, 64).long()}, torch.Generator())
    loss["loss"].backward()
    assert method.logits(torch.randn(2, 3, 32, 64)).shape == (2, 3, 32, 64)
    assert all(p.grad is not None for p in method.decoder.parameters())


def test_a_backbone_without_such_strides_is_refused():
    with pytest.raises(ValueError, match="has maps of stride 2, 4, 8, 8, 8, none of 16, which fpn needs"):
        taken(timm.create_model("test_resnet", output_stride=8), "fpn")


def test_tables_of_positions_are_resized_as_timm_does(tmp_path):
    old = timm.create_model("test_vit", num_classes=0)
    architecture = {"architecture": "test_vit", "num_classes": 0}
    export_backbone(old, tmp_path / "old.safetensors", architecture)
    model, told, _ = make_backbone(Network(weights=str(tmp_path / "old.safetensors")), (32, 96), 0)
    expected = resample_abs_pos_embed(old.pos_embed, (2, 6), num_prefix_tokens=old.num_prefix_tokens)
    torch.testing.assert_close(model.pos_embed, expected)
    assert told["img_size"] == (32, 96)
    other = timm.create_model("test_vit", num_classes=0, img_size=(48, 64)).eval()
    state = {**model.state_dict(), "pos_embed": resample_abs_pos_embed(model.pos_embed, (3, 4), (2, 6), 1)}
    other.load_state_dict(state)
    image = torch.randn(1, 3, 48, 64)
    (found,) = Segment(model, 2, "linear", True, (32, 96)).features(image)
    torch.testing.assert_close(
        found, other.forward_intermediates(image, indices=1, norm=True, intermediates_only=True)[0]
    )


def test_pixels_without_class_weigh_nothing():
    method = Segment(timm.create_model("test_resnet", num_classes=0), 3, "linear", False, (32, 32)).eval()
    image, target = torch.randn(2, 3, 32, 32), torch.randint(0, 3, (2, 32, 32))
    target[:, :9] = IGNORE
    found = method({"image": image, "target": target}, torch.Generator())
    logits = method.logits(image).log_softmax(1).detach()
    pairs = [(b, r, c) for b in range(2) for r in range(9, 32) for c in range(32)]
    losses = [-float(logits[b, target[b, r, c], r, c]) for b, r, c in pairs]
    assert float(found["loss"].detach()) == pytest.approx(np.mean(losses), rel=1e-5)
    nothing = method({"image": image, "target": torch.full_like(target, IGNORE)}, torch.Generator())
    assert float(nothing["loss"].detach()) == 0


# ------------------------------------------------------------------------------------------- windows


class Pointwise(torch.nn.Module):
    """Scores that are the picture itself; with `windows`, of which sizes it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def logits(self, image):
        self.asked.append(tuple(image.shape[2:]))
        return image


@pytest.mark.parametrize(("size", "overlap"), [((40, 70), 1 / 3), ((16, 16), 0.5), ((20, 9), 0.0), ((17, 33), 0.9)])
def test_windows_cover_a_picture_and_agree_with_the_whole(size, overlap):
    method, image = Pointwise(), torch.randn(1, 4, *size)
    torch.testing.assert_close(by_windows(method, image, (16, 16), overlap), image)
    assert set(method.asked) == {(16, 16)}
    for length in size:
        begin = starts(max(length, 16), 16, overlap)
        assert begin[0] == 0 and begin[-1] == max(length, 16) - 16 and list(begin) == sorted(set(begin))
        assert max(np.diff(begin), default=0) <= max(1, round(16 * (1 - overlap)))


def test_a_prediction_has_the_annotations_size():
    scores = torch.zeros(1, 3, 8, 8)
    scores[:, 1, :, :4], scores[:, 2, :, 4:] = 1, 1
    for window in (None, (4, 4)):
        gallery = SceneGallery(None, 8, (0.5,) * 3, (0.5,) * 3, window)
        found = predicted(Pointwise(), scores, (32, 40), gallery)
        assert found.shape == (32, 40) and (found[:, :20] == 1).all() and (found[:, 20:] == 2).all()


# ------------------------------------------------------------------------------------------- pictures with annotations


VALUES = np.arange(6).reshape(2, 3)


def as_voc(folder, names):
    """PASCAL VOC's folders; pictures without annotation lie among them, as in the real one."""
    root = folder / "VOCdevkit" / "VOC2012"
    for name in [*names["train"], *names["val"], "2007_other"]:
        save(root / "JPEGImages" / f"{name}.jpg", np.full((2, 3, 3), 9))
        if name != "2007_other":
            number = [*names["train"], *names["val"]].index(name)
            image = Image.fromarray(((VALUES + number) % 21).astype(np.uint8), "P")
            image.putpalette(list(range(256)) * 3)
            (root / "SegmentationClass").mkdir(parents=True, exist_ok=True)
            image.save(root / "SegmentationClass" / f"{name}.png")
    for part, listed in names.items():
        (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("\n".join(listed) + "\n")
    return root


@pytest.mark.parametrize("packed", [False, True])
def test_voc_is_read_as_it_is_published(tmp_path, packed):
    names = {"train": ["2007_2", "2007_10", "2008_1"], "val": ["2009_1", "2009_2"]}
    root = as_voc(tmp_path, names)
    place = tmp_path / "voc.tar" if packed else tmp_path
    if packed:
        with tarfile.open(place, "w") as tar:
            tar.add(tmp_path / "VOCdevkit", "VOCdevkit")
    train = open_scenes(Scenes(data=str(place)))
    val = open_scenes(Scenes(data=str(place)), train=False, classes={str(n): n for n in range(21)})
    assert (train.samples, val.samples) == (3, 2) and train.name.endswith("JPEGImages (train.txt)")
    for number in range(3):
        np.testing.assert_array_equal(train.raw[number][1], VALUES + number)
    np.testing.assert_array_equal(val.raw[1][1], VALUES + 4)
    if packed:
        return
    with pytest.raises(ValueError, match=r"has no ImageSets/Segmentation/test.txt \(there are train, val\)"):
        open_scenes(Scenes(data=str(place), split="test"))
    (root / "SegmentationClass" / "2009_2.png").unlink()
    with pytest.raises(ValueError, match=r"the picture 2009_2 in .* has no annotation"):
        open_scenes(Scenes(data=str(place)), train=False)
    (root / "JPEGImages" / "2008_1.jpg").unlink()
    with pytest.raises(ValueError, match=r"the annotation 2008_1 in .* has no picture"):
        open_scenes(Scenes(data=str(place)))


def test_pictures_are_paired_and_their_values_become_classes(tmp_path):
    write_scenes(tmp_path, {"training": 3, "validation": 2})
    images = open_scenes(Scenes(data=str(tmp_path), first_class=1, ignore=(0, VOID)))
    picture, mask = images.raw[1]
    raw = np.asarray(Image.open(tmp_path / "annotations" / "training" / "1.png")).astype(int)
    assert picture.size == (64, 32) and images.classes == {"0": 0, "1": 1} and images.samples == 3
    np.testing.assert_array_equal(mask, np.where((raw == 0) | (raw == VOID), IGNORE, raw - 1))
    held_out = open_scenes(Scenes(data=str(tmp_path), first_class=1, ignore=(0, VOID)), False, images.classes)
    assert held_out.samples == 2 and held_out.name.endswith("validation") and images.name.endswith("training")
    few = open_scenes(Scenes(data=str(tmp_path), ignore=(VOID,), limit=2))
    assert few.samples == 2 and len(few.raw[0]) == 2
    with tarfile.open(tmp_path / "scenes.tar", "w") as tar:
        for kind in ("images", "annotations"):
            tar.add(tmp_path / kind, f"./wrapped/{kind}")
    packed = open_scenes(Scenes(data=str(tmp_path / "scenes.tar"), first_class=1, ignore=(0, VOID)))
    assert packed.samples == 3 and packed.classes == images.classes
    for (one, mask), (same, other) in zip(images.raw, packed.raw, strict=True):
        assert one.tobytes() == same.tobytes() and (mask == other).all()
