"""Images to measure: labels and pixels of a folder, a tar or a named data set, and what damaged ones do."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from a2mim.decoding import Damaged
from a2mim.images import Images
from experiments.datasets import (
    ImageData,
    Stream,
    evaluation_transform,
    known_classes,
    open_images,
    size_arguments,
)
from tests.experiments.test_unread_checkpoints import shards

PHOTOGRAPHS = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "imagenet-1-per-class.tar"
CONFIG = {
    "input_size": (3, 8, 8),
    "interpolation": "bicubic",
    "mean": (0.5, 0.25, 0.0),
    "std": (0.5, 0.25, 1.0),
    "crop_pct": 1.0,
    "crop_mode": "center",
}
TRANSFORM = evaluation_transform(CONFIG)


def save(path, colour=(255, 0, 0), size=(10, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two photos of class `ant`, one of `bee` and one of `cow`."""
    place = tmp_path / "photos"
    for name in ("bee/1.png", "ant/2.png", "ant/1.png", "cow/1.png"):
        save(place / name)
    return place


def as_tar(folder):
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        tar.add(folder, ".")
    return path


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_labels_are_the_places_of_the_folders(folder, kind):
    data = open_images(str(folder if kind == "folder" else as_tar(folder)), TRANSFORM)
    assert [Path(name).as_posix() for name in data.names] == ["ant/1.png", "ant/2.png", "bee/1.png", "cow/1.png"]
    assert [data[k][1] for k in range(len(data))] == [0, 0, 1, 2]
    assert data.classes == 3 and data.labelled and not data.streamed


def test_pixels_are_resized_and_normalised_as_the_model_asks(folder):
    image_CHW, _ = open_images(str(folder), TRANSFORM)[0]
    assert image_CHW.shape == (3, 8, 8)
    for channel, expected in enumerate((1.0, -1.0, 0.0)):  # (1, 0, 0) with the means and deviations above
        torch.testing.assert_close(image_CHW[channel], torch.full((8, 8), expected))


def test_another_image_size_takes_the_place_of_the_models(folder):
    assert open_images(str(folder), evaluation_transform(CONFIG, 6))[0][0].shape == (3, 6, 6)


def test_transform_crops_the_middle(tmp_path):
    picture = np.zeros((16, 16, 3), dtype=np.uint8)
    picture[4:12, 4:12] = 255
    (tmp_path / "a").mkdir()
    Image.fromarray(picture).save(tmp_path / "a" / "1.png")
    transform = evaluation_transform(CONFIG | {"crop_pct": 0.5, "mean": (0, 0, 0), "std": (1, 1, 1)})
    assert open_images(str(tmp_path), transform)[0][0].min() > 0.99  # resized to 16, then 8×8 out of the middle


def test_grey_pictures_become_colour_and_colour_grey(tmp_path):
    Image.new("L", (10, 10), 255).save(tmp_path / "1.png")
    assert open_images(str(tmp_path), TRANSFORM)[0][0].shape == (3, 8, 8)
    grey = evaluation_transform(CONFIG | {"input_size": (1, 8, 8), "mean": (0.5,), "std": (0.5,)})
    save(tmp_path / "2.png", (0, 255, 0))
    image_CHW, _ = open_images(str(tmp_path), grey, channels=1)[1]
    assert image_CHW.shape == (1, 8, 8) and image_CHW.mean() == pytest.approx((0.587 - 0.5) / 0.5, abs=0.01)


@pytest.mark.parametrize("kind", ["folder", "tar"])
@pytest.mark.parametrize("below", [".", "all"])
def test_images_in_one_folder_have_no_label(tmp_path, kind, below):
    place = tmp_path / "photos"
    for k in range(3):
        save(place / below / f"{k}.jpg")
    data = open_images(str(place if kind == "folder" else as_tar(place)), TRANSFORM)
    assert [data[k][1] for k in range(3)] == [None] * 3 and data.classes is None and len(data.names) == 3


def test_reads_the_part_of_a_folder_that_is_asked_for(tmp_path):
    for name in ("train/a/1.png", "train/b/1.png", "val/a/2.png", "val/b/3.png"):
        save(tmp_path / name)
    assert open_images(str(tmp_path), TRANSFORM).names == ["a/2.png", "b/3.png"]
    assert open_images(str(tmp_path), TRANSFORM, split="train").names == ["a/1.png", "b/1.png"]


def test_class_map_says_which_label_a_folder_has(folder, tmp_path):
    (tmp_path / "classes.txt").write_text("wasp\ncow\nant\nbee\n")
    data = open_images(str(folder), TRANSFORM, class_map=str(tmp_path / "classes.txt"))
    assert [data[k][1] for k in range(4)] == [2, 2, 3, 1]


def test_folders_named_by_synsets_have_the_labels_of_timms_lists(tmp_path):
    """Goldfish and tench, and the numbers that timm's lists of 1,000, 11,821, 21,843, 21,841 and 21,842 classes say."""
    place = tmp_path / "photos"
    for synset in ("n01443537", "n01440764"):
        save(place / synset / "1.png")
    for classes, tench, goldfish in (
        (1000, 0, 1),
        (11821, 216, 220),
        (21843, 359, 368),
        (21841, 359, 368),
        (21842, 0, 1),
        (2, 0, 1),  # as many as there are folders: their places
    ):
        data = open_images(str(place), TRANSFORM, model_classes=classes)
        assert [data[k][1] for k in range(2)] == [tench, goldfish], classes
    for classes in (1001, None):
        with pytest.raises(ValueError, match=r"2 folders called by synsets.*--class-map FILE"):
            open_images(str(place), TRANSFORM, model_classes=classes)
        unneeded = open_images(str(place), TRANSFORM, model_classes=classes, labels_needed=False)
        assert unneeded[0][1] is None and not unneeded.labelled
    (tmp_path / "map.txt").write_text("n01443537\nn01440764\n")
    mapped = open_images(str(place), TRANSFORM, model_classes=1001, class_map=str(tmp_path / "map.txt"))
    assert [mapped[k][1] for k in range(2)] == [1, 0]
    save(place / "zebra" / "1.png")
    with pytest.raises(ValueError, match=r"folders zebra in .* are none of the classes of timm's list of imagenet-1k"):
        open_images(str(place), TRANSFORM, model_classes=1000)


def test_weights_in_parts_state_their_classes(tmp_path):
    """Hugging Face's, whose configuration lies beside the list of the parts."""
    shards(tmp_path)
    names = {str(number): name for number, name in enumerate("abcdefghi")}
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 2, "id2label": names}))
    known = known_classes(nn.Identity(), str(tmp_path / "model.safetensors.index.json"))
    assert known == {name: number for number, name in enumerate("abcdefghi")}


def test_one_synset_folder_alone_is_labelled(tmp_path):
    save(tmp_path / "n01443537" / "1.png")
    assert open_images(str(tmp_path), TRANSFORM, model_classes=1000)[0][1] == 1


def test_damaged_image_is_an_error_of_its_own_and_no_other_takes_its_place(folder):
    whole = (folder / "ant" / "2.png").read_bytes()
    (folder / "ant" / "2.png").write_bytes(whole[: len(whole) // 2])
    (folder / "bee" / "1.png").write_text("no image")
    data = open_images(str(folder), TRANSFORM)
    for broken in (1, 2):
        with pytest.raises(Damaged, match=r"truncated|cannot identify"):
            data[broken]
    assert data[0][1] == 0 and data[3][1] == 2


def test_bad_places_are_one_sentence(tmp_path):
    def refused(kind, said, place, **options):
        with pytest.raises(kind, match=said):
            open_images(str(place), TRANSFORM, **options)

    refused(FileNotFoundError, "there are no images at .*nowhere", tmp_path / "nowhere")
    refused(ValueError, "holds no images that can be read", tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    refused(ValueError, r"neither a folder nor a \.tar", tmp_path / "notes.txt")
    (tmp_path / "broken.tar").write_text("hello")
    refused(ValueError, r"broken\.tar' holds no images: it is no whole, uncompressed tar", tmp_path / "broken.tar")
    tarfile.open(tmp_path / "empty.tar", "w").close()
    refused(ValueError, r"empty\.tar' holds no images", tmp_path / "empty.tar")
    save(tmp_path / "photos" / "1.png")
    refused(FileNotFoundError, "no class map at", tmp_path / "photos", class_map="nowhere.txt")
    (tmp_path / "empty.txt").write_text("\n")
    refused(ValueError, "names no class: give class names", tmp_path / "photos", class_map=str(tmp_path / "empty.txt"))
    refused(ValueError, "timm cannot open .*torch/nothing", "torch/nothing", root=str(tmp_path))
    refused(ValueError, "timm cannot open .*torch/cifar10", "torch/cifar10", root=str(tmp_path))


def test_data_set_by_timms_name(folder):
    data = open_images("torch/image_folder", TRANSFORM, root=str(folder))
    assert [data[k][1] for k in range(4)] == [0, 0, 1, 2] and data.classes == 3


def test_stream_is_read_forward_once():
    read = []

    def photos():
        for k in range(10):
            read.append(k)
            yield Image.new("RGB", (10, 10), (k, 0, 0)), k

    data = ImageData(Images(Stream(photos(), 10), "stream", 10, streamed=True), TRANSFORM)
    assert data[3][1] == 3 and read == [0, 1, 2, 3]
    assert data[1][1] == 1 and read == [0, 1, 2, 3]
    assert data[4][1] == 4 and read == [0, 1, 2, 3, 4]
    assert torch.equal(data[3][0], data[3][0]) and len(data) == 10


def test_only_models_of_one_size_are_told_another():
    assert size_arguments("vit_small_patch16_224", 112) == {"img_size": 112}
    assert size_arguments("resnet50", 112) == {}
    assert size_arguments("vit_small_patch16_224", None) == {}
    assert size_arguments("tests.interactions.tiny:network", 112) == {}


@pytest.mark.skipif(not PHOTOGRAPHS.is_file(), reason="the ImageNet photographs are not there")
def test_real_photographs_have_their_imagenet_labels():
    data = open_images(str(PHOTOGRAPHS), TRANSFORM, model_classes=1000)
    assert len(data) == 1000 and data.classes == 1000
    synsets = sorted({Path(name).parts[0] for name in data.names})
    for k in (0, 281, 999):
        assert data[k][1] == synsets.index(Path(data.names[k]).parts[0]) == k
