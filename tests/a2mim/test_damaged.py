"""Images that cannot be decoded: told by name and left out, in evaluation and in training, wherever they lie."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from a2mim.data import examples, open_images
from a2mim.dist import World
from a2mim.evaluate.accuracy import accuracy, pooled_features
from a2mim.gallery import decoded, make_gallery
from a2mim.loading import Unreadable
from a2mim.plan import Plan
from a2mim.runs import read_run
from a2mim.settings import Augmentation, Data, Evaluation
from a2mim.train import Hooks
from tests.a2mim.tiny import LOOP, WORLD, Net, same, state_of, tiny_run, tiny_source, write_images

CPU = torch.device("cpu")
AS_IS = Augmentation(image_size=16, crop="centre")


def break_file(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.fixture
def folder(tmp_path):
    """32 images of four classes, of which the sixth (class0/5.png) and the last are damaged."""
    folder = write_images(tmp_path / "images", size=16)
    break_file(folder / "class0" / "5.png")
    (folder / "class3" / "7.png").write_text("no image")
    return folder


def index_of(images):
    return {name: n for n, name in enumerate(images.names)}


class Colour(nn.Module):
    """Four classes by the place of the brightest of four corners."""

    num_classes = 4

    def forward(self, x_BCHW):
        return torch.stack([x_BCHW.mean(1)[:, i, j] for i in (0, -1) for j in (0, -1)], dim=1)


def test_validation_counts_the_images_that_are_there(tmp_path, capsys):
    """Four classes, one image each, of which the second is damaged: 1 of 3 right, and not one of four."""
    for label in range(4):
        pixels = np.zeros((16, 16, 3), dtype=np.uint8)
        corner = {0: 0, 1: 1, 2: 3, 3: 2}[label]  # the last two are taken for each other
        pixels[0 if corner < 2 else -1, 0 if corner % 2 == 0 else -1] = 255
        (tmp_path / f"class{label}").mkdir()
        Image.fromarray(pixels).save(tmp_path / f"class{label}" / "1.png")
    break_file(tmp_path / "class1" / "1.png")
    images = open_images(Data(data=str(tmp_path), split="."))
    for in_memory, workers in ((False, 0), (False, 1), (True, 0)):
        gallery = make_gallery(images, Net(), 16, CPU, Evaluation(crop_pct=1.0), workers=workers, in_memory=in_memory)
        found = accuracy(Colour(), gallery, WORLD)
        assert found["val_images"] == 3 and found["top1"] == pytest.approx(100 / 3)
    assert capsys.readouterr().err.count("left out class1/1.png: ") == 1
    assert [(row["image"], row["name"], row["part"]) for row in images.reports.skipped("validation")] == [
        (1, "class1/1.png", "validation")
    ]
    features, target, index = pooled_features(Net(), gallery, WORLD)
    assert len(features) == 3 and target.tolist() == index.tolist() == [0, 2, 3]


def test_nothing_but_damage_is_told(folder):
    for path in folder.rglob("*.png"):
        path.write_text("no image")
    images = open_images(Data(data=str(folder)))
    gallery = make_gallery(images, Net(), 16, CPU)
    for measured in (lambda: accuracy(Net(), gallery, WORLD), lambda: pooled_features(Net(), gallery, WORLD)):
        with pytest.raises(ValueError, match=r"none of the 32 images of .* can be decoded"):
            measured()
    with pytest.raises(ValueError, match=r"none of the 32 images of .* can be decoded"):
        decoded(images, 16)
    with pytest.raises(Unreadable, match="100 images in a row could not be decoded"):
        list(tiny_source(images).batches(Plan(32, 8), range(1), [0], CPU))


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_batch_keeps_its_size_and_no_neighbour_takes_the_place(folder, in_memory):
    images = open_images(Data(data=str(folder)))
    broken = {index_of(images)[name] for name in ("class0/5.png", "class3/7.png")}
    source = tiny_source(images, AS_IS)
    if in_memory:
        source = dataclasses.replace(source, memory=decoded(images, 16))
    plan = Plan(32, 8, seed=3)
    instead = set()
    for step, batch in enumerate(source.batches(plan, range(40), [0], CPU)):
        for n, key in enumerate(plan.keys(step, 0)):
            index = int(batch["index"][n])
            assert (index == key.image) != (key.image in broken) and index not in broken
            pixels = np.asarray(images.raw[index][0]).transpose(2, 0, 1) / 255
            assert int(batch["target"][n]) == images.raw[index][1]
            torch.testing.assert_close(batch["image"][n] * 0.25 + 0.5, torch.tensor(pixels, dtype=torch.float32))
            if key.image in broken:
                instead.add(index)
    assert len(instead) > 10  # drawn from all over the set: 20 times in 10 epochs
    assert len(images.reports.damaged) == 2
    assert len(examples(source, 32, CPU)["image"]) == 32


def test_files_and_memory_agree_whatever_the_workers_and_the_slots(folder):
    images = open_images(Data(data=str(folder)))
    source = tiny_source(images, AS_IS)
    whole = list(source.batches(Plan(32, 8, seed=3), range(8), [0], CPU))
    others = [
        list(dataclasses.replace(source, workers=2).batches(Plan(32, 8, seed=3), range(8), [0], CPU)),
        list(dataclasses.replace(source, memory=decoded(images, 16)).batches(Plan(32, 8, seed=3), range(8), [0], CPU)),
        list(source.batches(Plan(32, 8, seed=3), range(3, 8), [0], CPU)),
    ]
    for batches in others:
        for first, second in zip(whole[-len(batches) :], batches, strict=True):
            assert torch.equal(first["index"], second["index"]) and torch.equal(first["image"], second["image"])
    slots = [list(source.batches(Plan(32, 8, seed=3, slots=2), range(8), [slot], CPU)) for slot in range(2)]
    for step in range(8):
        dealt = torch.stack([slots[slot][step]["index"] for slot in range(2)], dim=1).flatten()
        assert torch.equal(dealt, whole[step]["index"])


def test_a_run_records_what_it_left_out_and_resumes_to_the_same_bits(folder, tmp_path):
    Image.new("RGB", (16, 16), (9, 9, 9)).save(folder / "class1" / "0.png")
    images = open_images(Data(data=str(folder)))
    held_out = open_images(Data(data=str(folder)))
    held_out.reports.add("damaged", 5, "broken")
    hooks = Hooks(held_out=held_out)
    whole, _ = tiny_run(tmp_path / "whole", source=tiny_source(images), hooks=hooks)
    cut = dataclasses.replace(LOOP, minutes=1e-9)
    for loop in (cut, cut, cut, LOOP):  # each start finds out anew, and three of them see one batch each
        fresh = open_images(Data(data=str(folder)))
        resumed, _ = tiny_run(tmp_path / "cut", source=tiny_source(fresh, workers=1), loop=loop, hooks=hooks)
    assert same(whole.state_dict(), resumed.state_dict())
    assert same(
        state_of(tmp_path / "whole")["optimizer"]["state"][0], state_of(tmp_path / "cut")["optimizer"]["state"][0]
    )
    for run in ("whole", "cut"):
        record = read_run(tmp_path / run)
        found = [(row["part"], row["name"]) for row in record["skipped"]]
        assert found == [("train", "class0/5.png"), ("train", "class3/7.png"), ("validation", "class0/5.png")]
        assert record["constant"] == [{"part": "train", "image": 8, "name": "class1/0.png"}]


def test_a_file_that_goes_away_stops_the_run_and_the_state_is_kept(folder, tmp_path):
    images = open_images(Data(data=str(folder)))

    class Going:
        """Removes its files after two steps."""

        def __init__(self):
            self.read = 0

        def __len__(self):
            return 32

        def __getitem__(self, index):
            self.read += 1
            if self.read == 20:
                for path in folder.rglob("*.png"):
                    path.unlink()
            return images.raw[index]

    source = tiny_source(dataclasses.replace(images, raw=Going()))
    with pytest.raises(
        ValueError, match=r"png cannot be read any more: No such .* \(step 2\); the state before it .* is"
    ):
        tiny_run(tmp_path / "run", source=source)
    assert state_of(tmp_path / "run")["step"] == 2


def test_a_process_without_an_image_takes_part(tmp_path):
    """One image for two processes: the second has an empty share, and gathers what the first has."""
    images = dataclasses.replace(open_images(Data(data=str(write_images(tmp_path / "i", 1)))), samples=1)
    gallery = make_gallery(images, Net(), 16, CPU)
    shares = [list(gallery.batches(World(rank, 2))) for rank in range(2)]
    assert [len(share) for share in shares] == [1, 0]

    class Pair(World):
        def collect(self, content):
            return [torch.ones(1, *content.shape[1:]), torch.zeros(0)]

    assert len(Pair(1, 2).gather(torch.zeros(0))) == 1
