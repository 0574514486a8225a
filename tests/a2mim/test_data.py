"""Images on their way to the model: their order, their augmentation, and that only (seed, epoch, image) decides."""

import io
import os
import random
import signal
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from timm.data import Mixup, auto_augment, create_transform
from timm.data.auto_augment import rand_augment_transform
from torch.utils.data import IterableDataset
from torchvision import transforms

from a2mim import images as pictures
from a2mim import samples
from a2mim.bounds import check
from a2mim.data import Source, examples, make_source, open_images, refuse_training_images
from a2mim.dist import World
from a2mim.gallery import Gallery, decoded, make_gallery, refuse_shared_stream
from a2mim.images import Images
from a2mim.loading import Unreadable, WorkerDied, mixer, normalised
from a2mim.memory import MemoryImages, padded_crop, random_table, resized_crop
from a2mim.plan import Key, Plan
from a2mim.samples import Samples, posterize_to_black, view_transform
from a2mim.seeds import seed_everything, seed_of, seeded
from a2mim.settings import Augmentation, Data, Evaluation, Mixing
from a2mim.trees import ReadFailed
from experiments.training.assembly import open_held_out
from tests.a2mim.siamese import made
from tests.a2mim.tiny import VIEW, WORLD, Net, tiny_images, tiny_source, write_images

CPU = torch.device("cpu")
CIFAR = Path(__file__).resolve().parents[2] / ".." / "shared/data/cifar10-test.tar"
AS_IS = Augmentation(image_size=16, crop="centre")


# ------------------------------------------------------------------------------------------- seeds


def test_seeds_are_functions_of_their_parts():
    assert seed_of(1, "view", 2) == seed_of(1, "view", 2)
    assert len({seed_of(a, b, word) for a in range(4) for b in range(4) for word in ("view", "mix")}) == 32
    assert 0 <= seed_of(0) < 2**63


def test_seeded_gives_back_the_generators():
    seed_everything(3)
    expected = [random.random(), float(np.random.rand()), float(torch.rand(1))]
    seed_everything(3)
    with seeded(1, 2):
        inside = [random.random(), float(np.random.rand()), float(torch.rand(1))]
    assert [random.random(), float(np.random.rand()), float(torch.rand(1))] == expected
    with seeded(1, 2):
        assert [random.random(), float(np.random.rand()), float(torch.rand(1))] == inside


# ------------------------------------------------------------------------------------------- order


@given(samples=st.integers(8, 60), parts=st.integers(1, 4), share=st.integers(1, 2), seed=st.integers(0, 5))
def test_an_epoch_shows_each_image_once_whatever_the_slots(samples, parts, share, seed):
    batch = parts * share
    plan = Plan(samples, batch, seed, slots=parts)
    whole = Plan(samples, batch, seed)
    for epoch in range(2):
        seen: list[Key] = []
        for step in range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch):
            dealt = [key for slot in range(parts) for key in plan.keys(step, slot)]
            assert sorted(dealt) == sorted(whole.keys(step, 0))
            seen += dealt
        assert len(seen) == len({key.image for key in seen}) == samples // batch * batch
        assert {key.epoch for key in seen} == {epoch}
    assert plan.keys(0, 0) != plan.keys(plan.steps_per_epoch, 0) or samples < 10


def test_repeated_augmentation_deals_copies_to_different_slots():
    plan = Plan(samples=30, batch=6, slots=3, repeats=3)
    for step in range(plan.steps_per_epoch):
        slots = [plan.keys(step, slot) for slot in range(3)]
        assert all(len({key.image for key in keys}) == len(keys) for keys in slots)
        assert Counter(key.image for keys in slots for key in keys) == {key.image: 3 for key in slots[0]}
    epoch = [key for step in range(plan.steps_per_epoch) for slot in range(3) for key in plan.keys(step, slot)]
    assert len(epoch) == 30 and len({key.image for key in epoch}) == 10


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        (
            {"samples": 10, "batch": 16},
            "a batch of 16 is larger than the data set of 10 images: use --batch 10 or less",
        ),
        ({"samples": 10, "batch": 6, "slots": 4}, "a batch of 6 cannot be dealt out evenly to 4"),
        ({"samples": 10, "batch": 0}, "must each be at least 1"),
    ],
)
def test_plans_that_cannot_be(plan, sentence):
    with pytest.raises(ValueError, match=sentence):
        Plan(**plan)


# ------------------------------------------------------------------------------------------- augmentation


def batches_of(source, steps=range(6), slots=(0,), plan=None):
    return list(source.batches(plan or Plan(source.images.samples, 8, seed=1), steps, list(slots), CPU))


def equal(first, second):
    return all(
        torch.equal(a["image"], b["image"])
        and torch.equal(a["index"], b["index"])
        and torch.equal(a["target"], b["target"])
        for a, b in zip(first, second, strict=True)
    )


HARD = replace(VIEW, auto_augment="rand-m9-mstd0.5-inc1", erasing=0.5, grayscale=0.3, blur=0.3, interpolation="random")


@pytest.mark.parametrize("view", [VIEW, HARD, replace(VIEW, crop="padded", image_size=20)])
def test_pixels_do_not_depend_on_workers_or_on_where_the_run_began(view):
    mixing = Mixing(mixup=0.8, cutmix=1.0, smoothing=0.1)
    source = tiny_source(view=view, mixing=mixing)
    whole = batches_of(source)
    assert equal(whole, batches_of(replace(source, workers=2)))
    random.seed(5)
    np.random.seed(5)
    assert equal(whole[3:], batches_of(source, range(3, 6)))
    other = batches_of(source, plan=Plan(32, 8, seed=2))
    assert not torch.equal(whole[0]["image"], other[0]["image"])
    assert whole[0]["target"].shape == (8, 4)


def test_one_image_is_augmented_anew_in_every_epoch_and_copy():
    shown = Samples(tiny_images().raw, [view_transform(VIEW, (0,) * 3, (1,) * 3)], seed=0)
    pixels = [shown[Key(*key)]["image"] for key in ((0, 3, 0), (1, 3, 0), (0, 3, 1), (0, 4, 0))]
    assert torch.equal(pixels[0], shown[Key(0, 3)]["image"])
    assert all(not torch.equal(pixels[0], other) for other in pixels[1:])


def test_pixels_are_timms():
    """With the generators seeded alike, timm's own transform of the same name gives the same normalised pixels."""
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    timms = create_transform(
        16, is_training=True, scale=(0.67, 1.0), color_jitter=0.3, interpolation="bicubic", mean=mean, std=std
    )
    source = replace(tiny_source(), mean=mean, std=std)
    (batch,) = batches_of(source, range(1))
    for number, key in enumerate(Plan(32, 8, seed=1).keys(0, 0)):
        with seeded(1, "view", *key):
            expected = timms(source.images.raw[key.image][0])
        torch.testing.assert_close(batch["image"][number], expected)


def test_colours_blur_and_solarisation_are_torchvisions():
    """In the order of BYOL, MoCo v3 and DINO, with SimCLR's kernel of a tenth of the side."""
    crop = Augmentation(image_size=48, scale=(0.2, 1.0))
    colours = {"color_jitter": 0.4, "saturation": 0.2, "hue": 0.1, "color_jitter_prob": 0.8, "grayscale": 0.3}
    ours = view_transform(replace(crop, **colours, blur=0.6, solarize=0.4), (0,) * 3, (1,) * 3)
    theirs = transforms.Compose(
        [
            create_transform(
                48, is_training=True, scale=crop.scale, color_jitter=None, interpolation="bicubic", separate=True
            )[0],
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8),
            transforms.RandomGrayscale(0.3),
            transforms.RandomApply([transforms.GaussianBlur(5, (0.1, 2.0))], 0.6),
            transforms.RandomSolarize(128, 0.4),
            transforms.PILToTensor(),
        ]
    )
    image = tiny_images(1, 60).raw[0][0]
    for seed in range(20):
        with seeded(seed):
            made = ours(image)
        with seeded(seed):
            assert torch.equal(made, theirs(image)), seed


OPS = sorted(auto_augment.NAME_TO_OP)


@pytest.mark.parametrize("magnitude", [0, 2, 5, 10, 30])
def test_every_operation_of_timms_policies_is_made_at_its_extremes(magnitude):
    policy = rand_augment_transform(f"rand-m{magnitude}-p1-mmax30", transforms=OPS)
    posterize_to_black(policy)
    image = tiny_images(1, 24).raw[0][0]
    for op in policy.ops:
        for seed in range(2):  # operations turn or shift to both sides
            with seeded(seed):
                made = op(image)
            assert (made.mode, made.size) == ("RGB", image.size), op.name


@pytest.mark.parametrize(
    ("policy", "draws"),
    [
        ("rand-m9-mstd0.5-inc1", range(450, 600)),  # 2 draws of no bit, of 6 in the first 5,000
        ("rand-m10-inc1", range(30)),
        ("v0", range(100)),
        ("augmix-m10-mstd1", range(10)),
    ],
)
def test_posterizing_that_keeps_no_bit_blackens_and_leaves_all_else_as_timm_makes_it(policy, draws, monkeypatch):
    """By the formula of Pillow before 13, which took any number of bits."""
    asked: list[int] = []

    def before_13(image: Image.Image, bits: int) -> Image.Image:
        asked.append(bits)
        return image.point([value & ~(2 ** (8 - bits) - 1) for value in range(256)] * 3)

    image, views = tiny_images(1, 24).raw[0][0], view_transform(replace(VIEW, auto_augment=policy), (0,) * 3, (1,) * 3)
    made = {}
    for draw in draws:
        with seeded(draw):
            made[draw] = views(image)
    monkeypatch.setattr(ImageOps, "posterize", before_13)
    monkeypatch.setattr(samples, "posterize_to_black", lambda policy: None)
    timms = view_transform(replace(VIEW, auto_augment=policy), (0,) * 3, (1,) * 3)
    for draw in draws:
        with seeded(draw):
            assert torch.equal(made[draw], timms(image)), draw
    assert min(asked) < 1, "nothing was drawn that Pillow 13 refuses"


def test_a_centre_crop_goes_with_no_other_augmentation():
    """Typed, or a method's own: two views of an image would be the same."""
    check(replace(AS_IS, flip=0.5))
    for name, value in {"color_jitter": 0.4, "auto_augment": "rand-m9", "erasing": 0.25, "blur": 0.5}.items():
        told = f"--crop centre shows the middle square of an image as it is, without --{name.replace('_', '-')}: turn"
        with pytest.raises(ValueError, match=told):
            check(replace(AS_IS, **{name: value}))
    source = replace(tiny_source(), views=made("simclr").views(AS_IS))
    with pytest.raises(ValueError, match="without --color-jitter, --hue, --grayscale, --blur: turn them off"):
        source.check(Plan(32, 8))


def test_mixing_is_timms_with_the_seed_of_the_step():
    plan = Plan(32, 8, seed=1, slots=2)
    plain = batches_of(tiny_source(), range(2), (1,), plan)
    mixed = batches_of(tiny_source(mixing=Mixing(mixup=0.8, cutmix=1.0, smoothing=0.1)), range(2), (1,), plan)
    timms = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=4)
    for step in range(2):
        with seeded(1, "mix", step, 1):
            image, target = timms(plain[step]["image"].clone(), plain[step]["target"])
        assert torch.equal(mixed[step]["image"], image) and torch.equal(mixed[step]["target"], target)


def test_smoothing_alone():
    (batch,) = batches_of(tiny_source(mixing=Mixing(smoothing=0.2)), range(1))
    (plain,) = batches_of(tiny_source(), range(1))
    expected = torch.full((8, 4), 0.05)
    expected[torch.arange(8), plain["target"]] = 0.85
    torch.testing.assert_close(batch["target"], expected)


def test_mixing_that_cannot_be():
    with pytest.raises(ValueError, match="need labelled images"):
        mixer(Mixing(mixup=0.8), 0, 8)
    with pytest.raises(ValueError, match="7 in a micro-batch is odd"):
        mixer(Mixing(cutmix=1.0), 4, 7)
    assert mixer(Mixing(), 0, 7) is None


def test_normalisation_is_that_of_the_model():
    x = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    made = normalised(x, (0.0, 0.1, 0.5), (1.0, 0.2, 0.25)).flatten()
    torch.testing.assert_close(made, torch.tensor([0.0, 0.5, 2.0]))
    source = make_source(tiny_images(), (VIEW,), Net(), CPU)
    assert source.mean == (0.485, 0.456, 0.406)


# ------------------------------------------------------------------------------------------- images in memory


def test_padded_crop_by_hand():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (20, 3, 8, 8)).astype(np.uint8)
    numbers, flip = rng.random((20, 5), dtype=np.float32), rng.random(20) < 0.5
    made = padded_crop(torch.tensor(images), torch.tensor(numbers), torch.tensor(flip), 2)
    for n, image in enumerate(images):
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)))
        x, y = (int(number * 5) for number in numbers[n, 2:4])
        expected = padded[:, y : y + 8, x : x + 8]
        assert (made[n].numpy() == (expected[:, :, ::-1] if flip[n] else expected)).all()


def test_resized_crop_of_everything_is_the_image_and_flips():
    x = torch.randint(0, 255, (6, 3, 8, 8), dtype=torch.uint8)
    view = Augmentation(image_size=8, scale=(1, 1), ratio=(1, 1))
    flip = torch.tensor([False, True] * 3)
    made = resized_crop(x, torch.rand(6, 5), flip, view)
    assert torch.equal(made[::2], x[::2]) and torch.equal(made[1::2], x[1::2].flip(3))


def test_resized_crop_against_sampling_by_hand():
    """Bilinear interpolation at the places that a crop of area a, ratio r and corner (x, y) asks for."""
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (1, 3, 12, 12)).astype(np.uint8)
    view = Augmentation(image_size=5, scale=(0.2, 0.9), ratio=(0.5, 2.0))
    numbers = rng.random((1, 5), dtype=np.float32)
    made = resized_crop(torch.tensor(image), torch.tensor(numbers), torch.tensor([False]), view)
    area, ratio = 0.2 + 0.7 * numbers[0, 0], 0.5 * 4 ** numbers[0, 1]
    width, height = 12 * min(1, (area * ratio) ** 0.5), 12 * min(1, (area / ratio) ** 0.5)
    left, top = numbers[0, 2] * (12 - width), numbers[0, 3] * (12 - height)
    for i in range(5):
        for j in range(5):
            x = np.clip(left + (j + 0.5) * width / 5 - 0.5, 0, 11)
            y = np.clip(top + (i + 0.5) * height / 5 - 0.5, 0, 11)
            x0, y0 = min(int(x), 10), min(int(y), 10)
            fx, fy = x - x0, y - y0
            box = image[0, :, y0 : y0 + 2, x0 : x0 + 2].astype(float)
            expected = (box * np.outer([1 - fy, fy], [1 - fx, fx])).sum((1, 2))
            assert np.abs(made[0, :, i, j].numpy() - expected).max() <= 0.51


def test_memory_shows_an_image_alike_in_any_batch():
    memory = decoded(tiny_images(size=16), 16)
    keys = [Key(2, image) for image in (5, 9, 1, 30)]
    view = Augmentation(image_size=16, flip=0.5)
    whole = memory.batch(keys, (view,), seed=3)
    for number, key in enumerate(keys):
        alone = memory.batch([key], (view,), seed=3)
        assert torch.equal(whole["image"][number], alone["image"][0]) and alone["index"].item() == key.image
    assert not torch.equal(whole["image"], memory.batch([k._replace(epoch=3) for k in keys], (view,), 3)["image"])
    copies = [k._replace(copy=1) for k in keys]
    twice = replace(view, repeats=2)
    assert not torch.equal(memory.batch(keys, (twice,), 3)["image"], memory.batch(copies, (twice,), 3)["image"])
    two = memory.batch(keys, (view, view), seed=3)["image"]
    assert torch.equal(two[0], whole["image"]) and not torch.equal(two[0], two[1])
    assert random_table(4, 1, 0, 0, 0, CPU).shape == (1, 4, 5)


def test_memory_and_files_hold_the_same_images():
    images = tiny_images(size=16)
    memory = decoded(images, 16)
    assert len(memory) == 32 and memory.targets_N.tolist() == [n % 4 for n in range(32)]
    for number in (0, 17):
        assert (memory.images_NCHW[number].permute(1, 2, 0).numpy() == np.asarray(images.raw[number][0])).all()
    as_is = tiny_source(images, AS_IS)
    assert equal(batches_of(as_is), batches_of(replace(as_is, memory=memory)))
    shown = [examples(each, 5, CPU) for each in (as_is, replace(as_is, memory=memory))]
    assert shown[0] and shown[1] and torch.equal(shown[0]["image"], shown[1]["image"])


def test_a_gallery_in_memory_shows_the_same():
    images = tiny_images(13)
    galleries = [
        make_gallery(images, Net(), 16, CPU, Evaluation(eval_batch=4), in_memory=kept) for kept in (False, True)
    ]
    assert equal(*(list(gallery.batches(WORLD)) for gallery in galleries))
    assert equal(*(list(gallery.batches(World(1, 2))) for gallery in galleries))


def test_memory_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="auto_augment, erasing: images in memory are only cropped and flipped"):
        make_source(tiny_images(), (HARD,), Net(), CPU, in_memory=True)
    memory = MemoryImages(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match="use --image-size 8"):
        memory.check((Augmentation(image_size=16, crop="padded"),))
    with pytest.raises(ValueError, match="resized bilinearly, not by --interpolation lanczos"):
        memory.check((Augmentation(image_size=8, interpolation="lanczos"),))


@pytest.mark.parametrize("size", [12, 20, 32])
def test_a_padded_crop_has_the_scale_of_images_in_memory(size):
    """Without padding and flip nothing is left to chance: the whole image, at the size that the model sees."""
    images = tiny_images(samples=4, size=24)
    view = Augmentation(image_size=size, crop="padded", padding=0, flip=0.0)
    files, memory = (make_source(images, (view,), Net(), CPU, in_memory=kept) for kept in (False, True))
    made = view_transform(view, files.mean, files.std)
    assert memory.memory is not None
    for number, kept in enumerate(memory.memory.images_NCHW):
        assert torch.equal(torch.as_tensor(made(images.raw[number][0])), kept)


# ------------------------------------------------------------------------------------------- data sets


def as_tar(folder, path):
    with tarfile.open(path, "w") as tar:
        tar.add(folder, arcname=".")
    return path


def test_a_folder_and_a_tar_hold_the_same(tmp_path):
    folder = write_images(tmp_path / "images")
    tar = as_tar(folder, tmp_path / "images.tar")
    opened = [open_images(Data(data=str(place))) for place in (folder, tar)]
    assert [images.samples for images in opened] == [32, 32]
    assert opened[0].classes == opened[1].classes == {f"class{n}": n for n in range(4)}
    galleries = [Gallery(images, 16, (0.5,) * 3, (0.5,) * 3, workers=2) for images in opened]
    rows = [list(gallery.batches(WORLD)) for gallery in galleries]
    assert equal(*rows) and rows[0][0]["target"].tolist() == sorted(rows[0][0]["target"].tolist())


def test_workers_read_a_tar_that_the_main_process_has_open(tmp_path):
    images = open_images(Data(data=str(as_tar(write_images(tmp_path / "images"), tmp_path / "images.tar"))))
    images.raw[0]  # a forked worker inherits this handle, with its place in the file
    source = tiny_source(images, AS_IS)
    assert equal(batches_of(source), batches_of(replace(source, workers=2)))


def test_images_without_labels(tmp_path):
    write_images(tmp_path / "deep" / "nest", per_class=3)
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate((tmp_path / "deep").rglob("*.png")):
        path.rename(flat / f"{number}.png")
    images = open_images(Data(data=str(flat)))
    assert images.samples == 12
    assert len(batches_of(tiny_source(images), range(1), plan=Plan(12, 8))) == 1


def test_splits_and_the_labels_of_a_smaller_validation_set(tmp_path):
    write_images(tmp_path / "train")
    write_images(tmp_path / "val", per_class=2)
    for path in (tmp_path / "val" / "class0").iterdir():
        path.unlink()
    train = open_images(Data(data=str(tmp_path)))
    val = open_images(Data(data=str(tmp_path)), train=False, classes=train.classes)
    assert (train.samples, val.samples) == (32, 6)
    targets = torch.cat([b["target"] for b in make_gallery(val, Net(), 16, CPU, Evaluation()).batches(WORLD)])
    assert targets.tolist() == [1, 1, 2, 2, 3, 3]


def test_a_limit_keeps_the_same_images(tmp_path):
    folder = write_images(tmp_path / "images")
    first, second = (open_images(Data(data=str(folder), limit=10)) for _ in range(2))
    whole = open_images(Data(data=str(folder))).names
    drawn = np.sort(np.random.default_rng(0).permutation(32)[:10])
    assert first.samples == second.samples == 10
    assert first.names == second.names == [whole[n] for n in drawn]
    assert equal(
        batches_of(tiny_source(first, AS_IS), range(1)), batches_of(tiny_source(second, AS_IS, workers=2), range(1))
    )


@pytest.mark.skipif(not CIFAR.exists(), reason="the real CIFAR-10 images are not here")
def test_real_images_from_a_tar():
    images = open_images(Data(data=str(CIFAR), limit=64))
    assert images.samples == 64 and len(images.classes) == 10
    memory = decoded(images, 32)
    assert memory.images_NCHW.shape == (64, 3, 32, 32) and 90 < memory.images_NCHW.float().mean() < 150
    assert np.array_equal(memory.images_NCHW[7].permute(1, 2, 0), np.asarray(images.raw[7][0]))


class Endless(IterableDataset):
    """A streamed data set with the verbs of timm's readers."""

    def __init__(self, images=24):
        self.images = images
        self.epoch = self.workers = 0

    def set_epoch(self, count):
        self.epoch = count

    def set_loader_cfg(self, num_workers=None):
        self.workers = num_workers

    def __iter__(self):
        worker: Any = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.epoch, worker.id])
        for _ in range(self.images):
            yield Image.fromarray(rng.integers(0, 255, (20, 20, 3)).astype(np.uint8)), int(rng.integers(4))


def test_the_training_images_by_another_name_are_no_validation_images(tmp_path):
    write_images(tmp_path / "photos" / "all", 3)  # a wrapping, which is taken off
    data = Data(data=str(tmp_path / "photos"), val=str(tmp_path / "photos" / "all"), split=".", val_split=".")
    with pytest.raises(ValueError, match=r"are the training images in .*, by another name"):
        open_held_out(data, open_images(data))
    with pytest.raises(ValueError, match="the validation images would be the training images, train of torch/cifar10"):
        refuse_training_images(Data(data="torch/cifar10", val_split="train"))
    refuse_training_images(Data(data="torch/cifar10"))


def test_processes_do_not_share_a_stream_that_is_evaluated():
    images = Images(Endless(), "wds/photos", 32, streamed=True)
    refuse_shared_stream(images, World())
    with pytest.raises(ValueError, match="wds/photos is streamed, of which 2 processes would see some images twice"):
        refuse_shared_stream(images, World(0, 2, CPU))


def test_a_stream_goes_on_within_an_epoch():
    source = Source(Images(Endless(), "stream", 32, streamed=True), (VIEW,), (0.5,) * 3, (0.25,) * 3, workers=2)
    plan = Plan(32, 8, seed=1)
    whole = list(source.batches(plan, range(8), [0], CPU))
    assert len(whole) == 8 and not torch.equal(whole[0]["image"], whole[4]["image"])
    for start in (3, 4, 6):
        assert equal(whole[start:], list(source.batches(plan, range(start, 8), [0], CPU)))
    with pytest.raises(ValueError, match="a streamed data set cannot be decoded into memory"):
        decoded(source.images, 16)
    assert examples(source, 4, CPU) is None
    with pytest.raises(ValueError, match="arrive in one order, once each: repeated views need --repeats 1"):
        make_source(source.images, (replace(VIEW, repeats=3),), timm.create_model("test_vit"), CPU)


def test_a_limit_of_a_stream_is_refused(monkeypatch):
    """It was left out of account without a word."""
    trains = []

    def open_named(*asked):
        trains.append(asked[6])
        return Images(Endless(), "stream", 32, streamed=True)

    monkeypatch.setattr(pictures, "open_named", open_named)
    assert open_images(Data(data="wds/photos")).streamed and open_images(Data(data="wds/photos"), once=True).streamed
    assert trains == [True, False]  # features are of each image once, and not of an epoch
    with pytest.raises(ValueError, match="--limit draws images at random, and those of wds/photos arrive in one order"):
        open_images(Data(data="wds/photos", limit=8))


def test_a_stream_begins_again_where_its_processes_have_too_few_images_for_an_epoch():
    """timm's readers give a process its share of the images, of which whole batches are made: fewer than an epoch's."""
    images = Images(Endless(11), "stream", 32, streamed=True)
    source = Source(images, (VIEW,), (0.5,) * 3, (0.25,) * 3, workers=2)
    plan = Plan(32, 8, seed=1)
    whole = list(source.batches(plan, range(8), [0], CPU))
    first = torch.cat([batch["index"] for batch in whole[:4]])
    assert len(whole) == 8 and sorted(first.tolist()) == list(range(32))
    again = torch.cat([batch["image"] for batch in whole[:4]])
    assert not torch.equal(again[first == 0], again[first == 22])  # the same image, at the second place that it has
    assert equal(whole[5:], list(source.batches(plan, range(5, 8), [0], CPU)))
    gallery = Gallery(images, 16, (0.5,) * 3, (0.25,) * 3, workers=2)
    assert sum(len(batch["target"]) for batch in gallery.batches(WORLD)) == 22


def test_a_stream_without_images_is_told_in_one_sentence():
    source = Source(Images(Endless(0), "wds/none", 32, streamed=True), (VIEW,), (0.5,) * 3, (0.25,) * 3)
    with pytest.raises(Unreadable, match="the data set wds/none gave 0 of the 4 batches of an epoch and then no more"):
        batches_of(source)


# ------------------------------------------------------------------------------------------- bad input


def test_places_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there are no images at '.*nowhere': it does not exist"):
        open_images(Data(data=str(tmp_path / "nowhere")))
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    with tarfile.open(tmp_path / "empty.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("notes.txt"), io.BytesIO())
    for place in ("empty", "empty.tar"):
        with pytest.raises(ValueError, match=rf"{place}' holds no images that can be read"):
            open_images(Data(data=str(tmp_path / place)))
    with pytest.raises(ValueError, match="neither a folder nor a"):
        open_images(Data(data=str(tmp_path / "notes.txt")))
    with pytest.raises(ValueError, match="no images were named: use --data"):
        open_images(Data())


def test_validation_on_the_training_images_is_refused(tmp_path):
    folder = write_images(tmp_path / "images", per_class=1)
    with pytest.raises(ValueError, match="the validation images would be the training images"):
        open_images(Data(data=str(folder)), train=False)


@pytest.mark.parametrize("name", ["torch/cifar10", "hfds/nobody/nothing", "wds/shards", "torch/typo"])
def test_named_data_sets_that_cannot_be_opened(tmp_path, name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="timm cannot open the split train of the data set"):
        open_images(Data(data=name, data_root=str(tmp_path)))


class Failing:
    """A data set of 32 images, of which those from 20 on end it in some way."""

    def __init__(self, end):
        self.end = end

    def __len__(self):
        return 32

    def __getitem__(self, index) -> Any:
        if index >= 20:
            self.end()
        return Image.new("RGB", (16, 16)), 0


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def fail():
    raise ReadFailed("photos/7.png cannot be read any more: Input/output error")


def test_failing_loaders_are_told_in_one_sentence():
    with pytest.raises(WorkerDied):
        batches_of(tiny_source(Images(Failing(die), "deadly", 32), workers=1))
    for workers in (0, 1):
        with pytest.raises(Unreadable, match=r"^photos/7.png cannot be read any more: Input/output error$"):
            batches_of(tiny_source(Images(Failing(fail), "failing", 32), workers=workers))


def test_a_gallery_shares_its_images_out():
    gallery = Gallery(tiny_images(13), 16, (0.5,) * 3, (0.25,) * 3, batch=4)
    shares = [list(gallery.batches(World(rank, 3))) for rank in range(3)]
    assert sorted(int(i) for share in shares for batch in share for i in batch["index"]) == list(range(13))
