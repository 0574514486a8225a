"""Pictures with instances: what their file may say, what is refused, and views whose boxes and masks move along."""

import json
import random
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from a2mim.detect.annotations import Pictured, mask_complaint, read_listing, unpacked
from a2mim.detect.pictures import Things, open_coco
from a2mim.detect.settings import Coco, Frames
from a2mim.detect.views import evaluation_view, padded, training_view
from tests.a2mim.instances import COLOURS, annotation, stated, write, write_instances
from tests.a2mim.scenes import save

mask_tools = pytest.importorskip("pycocotools.mask")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_instances(tmp_path_factory.mktemp("instances"))


# ------------------------------------------------------------------------------------------- reading


def test_pictures_come_with_their_instances(data, tmp_path):
    images = open_coco(Coco(data=str(data)), masks=True)
    assert images.samples == 8 and images.classes == {"red": 0, "green": 1, "blue": 2}
    rows = stated(data)["annotations"]
    for number in range(8):
        picture, things = images.raw[number]
        mine = [row for row in rows if row["image_id"] == number]
        assert things.boxes.tolist() == [[x, y, x + w, y + h] for x, y, w, h in (row["bbox"] for row in mine)]
        assert [list(COLOURS)[label] for label in things.labels] == [row["category_id"] for row in mine]
        pixels = np.asarray(picture)
        for mask, row in zip(things.masks, mine, strict=True):  # the colour is where the mask is
            np.testing.assert_array_equal(mask == 1, (pixels == COLOURS[row["category_id"]][1]).all(-1) & (mask == 1))
            assert mask.sum() == row["area"]
    assert len(images.raw[1][1].boxes) == 0 and images.raw[1][1].masks.shape[0] == 0
    held_out = open_coco(Coco(data=str(data)), True, False, images)
    assert held_out.samples == 4 and held_out.name.endswith("val2017") and images.name.endswith("train2017")
    assert open_coco(Coco(data=str(data), annotated_only=True), True).samples == 7
    few = open_coco(Coco(data=str(data), limit=3), False)
    assert few.samples == 3 and few.raw[0][1].masks is None
    with tarfile.open(tmp_path / "coco.tar", "w") as tar:
        for kind in ("images", "annotations"):
            tar.add(data / kind, f"./wrapped/{kind}")
    packed = open_coco(Coco(data=str(tmp_path / "coco.tar")), True)
    assert packed.samples == 8
    for (one, there), (same, other) in zip(images.raw, packed.raw, strict=True):
        assert one.tobytes() == same.tobytes() and (there.masks == other.masks).all()


def test_cocos_own_folders_are_known(data, tmp_path):
    (tmp_path / "annotations").symlink_to(data / "annotations")
    for part in ("train2017", "val2017"):
        (tmp_path / part).symlink_to(data / "images" / part)
    assert open_coco(Coco(data=str(tmp_path)), True).samples == 8


def test_crowds_are_no_instances_and_boxes_end_at_the_picture(tmp_path):
    folder = write_instances(tmp_path, (("train2017", 1),))
    rows = stated(folder)
    size = [rows["images"][0]["height"], rows["images"][0]["width"]]
    runs = {"size": size, "counts": [3, 5, size[0] * size[1] - 8]}
    rows["annotations"] = [
        annotation(1, 0, 5, (-2, 40, 12, 60)),
        annotation(2, 0, 5, (1, 1, 5, 5), iscrowd=1, segmentation=runs),
        annotation(3, 0, 7, (1, 1, 5, 5), segmentation=runs),
    ]
    write(folder, "train2017", rows)
    raw = open_coco(Coco(data=str(folder)), True).raw
    things = raw.things(0)
    assert things.boxes.tolist() == [[0, 40, 10, size[0]], [1, 1, 6, 6]] and len(raw.pictured(0).instances) == 3
    assert things.masks[1].T.ravel()[:10].tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 0, 0] and things.masks[1].sum() == 5


# ------------------------------------------------------------------------------------------- what is refused


def changed(part, number=0, /, **values):
    def change(rows):
        rows[part][number].update(values)

    return change


def twice(part):
    return lambda rows: rows[part].append(dict(rows[part][0]))


def without(part):
    return lambda rows: rows.update({part: []})


BAD = [
    (changed("annotations", image_id=99), "is of the picture 99, which the file does not list"),
    (changed("annotations", category_id=1), "is of the category 1, which the file does not list"),
    (changed("annotations", bbox=[3, 3, 0, 9]), "has the empty box [3, 3, 0, 9]: mend it, or leave such out"),
    (changed("annotations", bbox=[300, 3, 5, 9]), "has the empty box"),
    (changed("annotations", bbox=[3, 3, 4]), "has no bbox of four numbers"),
    (changed("annotations", bbox=[3, 3, 4, float("nan")]), "has no bbox of four numbers"),
    (changed("annotations", bbox=[3, 3, 4, 1e300]), "has no bbox of four numbers"),
    (changed("annotations", bbox=["3", 3, 4, 5]), "has no bbox of four numbers"),
    (changed("annotations", area=-1), "has no area"),
    (changed("annotations", iscrowd=2), "has 2 as its iscrowd"),
    (changed("annotations", segmentation=[]), "has no mask"),
    (changed("annotations", segmentation=[[1, 2, 3, 4]]), "has an outline that is not x and y of three points"),
    (changed("annotations", segmentation=[[1, 2, 3, 4, 5, 900]]), "has an outline far outside of its picture"),
    (changed("annotations", segmentation={"size": [4, 4], "counts": [16]}), "has run lengths of the size [4, 4], not"),
    (changed("annotations", segmentation={"size": [64, 48], "counts": [9]}), "has run lengths that do not add up"),
    (changed("annotations", segmentation={"size": [64, 48], "counts": "\x7f"}), "has run lengths that do not add up"),
    (changed("images", file_name="nowhere.png"), "names 1 pictures that are not in"),
    (changed("images", file_name="../val2017/0.png"), "names 1 pictures that are not in"),
    (changed("images", width=47), "is 48×64 px and"),
    (changed("images", width=0), "is said to be 0×64 px"),
    (changed("images", width=None), "has no whole number as its width"),
    (changed("images", file_name=3), "has no text as its file_name"),
    (twice("images"), "has two images with the id 0"),
    (twice("categories"), "has two categories with the id 5"),
    (changed("categories", name="blue"), "have one name"),
    (without("categories"), "has no categories"),
    (without("annotations"), "there is no instance in the 2 pictures"),
    (lambda rows: rows.update(images={}), "is not in COCO's format"),
    (lambda rows: rows["annotations"].append([1]), "annotation number"),
]


@pytest.mark.parametrize(("spoil", "sentence"), BAD, ids=range(len(BAD)))
def test_what_a_file_may_not_say(tmp_path, spoil, sentence):
    folder = write_instances(tmp_path, (("train2017", 2),))
    rows = stated(folder)
    spoil(rows)
    write(folder, "train2017", rows)
    with pytest.raises(ValueError) as told:
        open_coco(Coco(data=str(folder)), True)
    assert sentence in str(told.value) and "\n" not in str(told.value)


def test_places_that_are_not_there_are_told(data, tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_coco(Coco(data=str(tmp_path / "nowhere")), True)
    with pytest.raises(ValueError, match=r"has no annotations/instances_train.json \(in annotations are instances_tra"):
        open_coco(Coco(data=str(data), split="train"), True)
    images = open_coco(Coco(data=str(data)), True)
    with pytest.raises(ValueError, match="would be the training pictures"):
        open_coco(Coco(data=str(data), val_split="train2017"), True, False, images)
    folder = write_instances(tmp_path / "other", (("val2017", 1),))
    rows = stated(folder, "val2017")
    rows["categories"][0]["name"] = "pink"
    write(folder, "val2017", rows)
    with pytest.raises(ValueError, match="has other categories than the training pictures"):
        open_coco(Coco(data=str(data), val=str(folder)), True, False, images)
    (folder / "annotations" / "instances_val2017.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="is no JSON"):
        open_coco(Coco(data=str(folder), split="val2017"), True)


def test_empty_boxes_are_left_out_where_that_is_wanted_and_masks_may_miss_for_boxes(tmp_path):
    folder = write_instances(tmp_path, (("train2017", 3),))
    rows = stated(folder)
    rows["annotations"].append(annotation(77, 0, 5, (3, 3, 4, 0), segmentation=[[3, 3, 4, 4, 5, 5]]))
    write(folder, "train2017", rows)
    whole = len(rows["annotations"]) - 1
    raw = open_coco(Coco(data=str(folder), drop_empty=True), True).raw
    assert sum(len(raw.things(n).boxes) for n in range(3)) == whole
    rows["annotations"] = [{k: v for k, v in row.items() if k != "segmentation"} for row in rows["annotations"]]
    read_listing(json.dumps(rows).encode(), "it", False, True)
    with pytest.raises(ValueError, match="has no mask"):
        read_listing(json.dumps(rows).encode(), "it", True, True)


def test_packed_run_lengths_are_read_as_cocos_code_packs_them():
    rng = random.Random(0)
    for _ in range(50):
        height, width = rng.randint(1, 90), rng.randint(1, 90)
        mask = np.asfortranarray(
            np.random.default_rng(rng.randint(0, 99)).random((height, width)) < rng.random(), np.uint8
        )
        packed = mask_tools.encode(mask)["counts"].decode()
        counts = unpacked(packed)
        flat = np.repeat(np.arange(len(counts)) % 2, counts)
        np.testing.assert_array_equal(flat, mask.T.ravel())
        picture = Pictured(0, "", width, height)
        assert mask_complaint({"size": [height, width], "counts": packed}, picture) is None
        assert mask_complaint({"size": [height, width], "counts": packed[:-1]}, picture)


def test_an_outline_without_end_is_refused():
    picture = Pictured(0, "", 100, 100)
    zigzag = [x for n in range(4000) for x in (n % 2 * 150 - 25, n % 3)]
    assert "without end" in mask_complaint([zigzag], picture)
    short = [x for n in range(4000) for x in (n / 100, n % 2)]
    assert mask_complaint([short], picture) is None


# ------------------------------------------------------------------------------------------- views


def painted(height=60, width=90):
    """A dark picture with a red and a green rectangle, and where they are."""
    boxes = np.array([[10, 8, 40, 30], [50, 20, 85, 55]], np.float32)
    pixels, masks = np.full((height, width, 3), 20, np.uint8), np.zeros((2, height, width), np.uint8)
    for mask, (left, top, right, bottom), colour in zip(
        masks, boxes.astype(int), ((255, 0, 0), (0, 255, 0)), strict=True
    ):
        pixels[top:bottom, left:right], mask[top:bottom, left:right] = colour, 1
    return Image.fromarray(pixels), Things(boxes, np.array([0, 1]), masks)


def found_again(image, label):
    """Left, top, right, bottom of what has the label's colour in a view, by its pixels alone."""
    bright = image[label].float() - image[1 - label].float() > 110
    rows, columns = bright.any(1).nonzero()[:, 0], bright.any(0).nonzero()[:, 0]
    if not len(rows):
        return None, bright
    return torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float(), bright


def within(box, margin, image):
    """The pixels of an image whose middle lies in the box and a margin around it."""
    left, top, right, bottom = box.tolist()
    row, column = (torch.arange(n) + 0.5 for n in image.shape[1:])
    rows = (row > top - margin) & (row < bottom + margin)
    return rows[:, None] & (column > left - margin) & (column < right + margin)


VIEWS = {
    "as it is": Frames((60,), 90, flip=0),
    "flip": Frames((60,), 90, flip=1),
    "sizes": Frames((40, 90, 120), 200, flip=0.5),
    "limited": Frames((120,), 130, flip=0.5),
    "jitter": Frames((60,), 90, (50, 50), (0.5, 3.0), 0.5),
}


@pytest.mark.parametrize("name", VIEWS)
def test_boxes_and_masks_move_with_their_pictures(name):
    picture, things = painted()
    seen, shapes = 0, set()
    for seed in range(25):
        torch.manual_seed(seed)
        made = training_view(VIEWS[name])(picture, things)
        image = made["image"]
        shapes.add(tuple(image.shape))
        assert image.dtype == torch.uint8 and made["masks"].shape == (len(made["labels"]), *image.shape[1:])
        for box, label, mask in zip(made["boxes"], made["labels"].tolist(), made["masks"], strict=True):
            place, bright = found_again(image, label)
            edge = 1.5 * max(1.0, max(image.shape[1:]) / 60)  # where resizing mixes colours
            assert place is not None and (box - place).abs().max() <= edge
            for is_there in (mask == 1, bright):
                assert is_there[within(box, -edge, image)].all() and not is_there[~within(box, edge, image)].any()
            seen += 1
        missing = {0, 1} - set(made["labels"].tolist())
        assert all(found_again(image, label)[1].sum() < 8 for label in missing)
    assert seen > 30
    assert len(shapes) == {"as it is": 1, "flip": 1, "sizes": 3, "limited": 1}.get(name, len(shapes))
    if name == "jitter":
        assert len(shapes) > 5 and all(h <= 50 and w <= 50 for _, h, w in shapes)
    if name == "limited":
        assert shapes == {(3, 87, 130)}


def test_a_crop_leaves_the_boxes_of_what_is_left(monkeypatch):
    """Of a thing like an L the rectangle that a crop leaves of its box need not hold a pixel of it."""
    mask = np.zeros((2, 60, 60), np.uint8)
    mask[0, 10:50, 10:14] = mask[0, 46:50, 10:50] = 1
    mask[1, 30:58, 2:50] = 1
    things = Things(np.array([[10, 10, 50, 50], [2, 30, 50, 58]], np.float32), np.array([1, 2]), mask)
    picture = Image.fromarray(np.full((60, 60, 3), 9, np.uint8))
    gone = smaller = 0
    for seed in range(60):
        torch.manual_seed(seed)
        made = training_view(Frames((60,), 60, (60, 60), (1.5, 2.0), 0.5))(picture, things)
        gone += 1 not in made["labels"]
        for box, mask_HW in zip(made["boxes"].tolist(), made["masks"], strict=True):
            rows, columns = mask_HW.any(1).nonzero().flatten(), mask_HW.any(0).nonzero().flatten()
            assert box == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            smaller += box[2] - box[0] < 0.2 * (box[3] - box[1])
    assert gone > 5 and smaller > 5


def test_a_thin_picture_keeps_a_pixel():
    picture = Image.new("RGB", (2000, 1))
    nothing = Things(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros((0, 1, 2000), np.uint8))
    for frames in (Frames((30,), 60), Frames((30,), 60, (30, 30), (0.1, 0.1))):
        made = training_view(frames)(picture, nothing)
        assert min(made["image"].shape[1:]) == 1 and made["boxes"].shape == (0, 4)
    assert evaluation_view(30, 60)(picture, nothing)["image"].shape == (3, 1, 60)


@pytest.mark.parametrize(("width", "height", "side"), [(500, 375, 800), (375, 500, 800), (612, 612, 320)])
def test_what_ends_with_its_picture_is_kept(width, height, side):
    """Resizing rounds such an edge to beyond the picture, and what reaches beyond was taken away."""
    boxes = np.array([[5, 5, width, 60], [5, 5, 60, height], [5, 5, 60, 60]], np.float32)
    things = Things(boxes, np.arange(3), np.ones((3, height, width), np.uint8))
    for seed in range(4):  # flipped and not
        torch.manual_seed(seed)
        made = training_view(Frames((side,), 1333))(Image.new("RGB", (width, height)), things)
        assert made["labels"].tolist() == [0, 1, 2]
        right, bottom = made["boxes"].amax(0)[2:].tolist()
        assert made["boxes"].min() >= 0 and right <= made["image"].shape[2] and bottom == made["image"].shape[1]


def test_pictures_of_a_batch_lie_in_its_corner():
    picture, things = painted()
    torch.manual_seed(0)
    samples = [training_view(Frames((side,), 200))(picture, things) | {"index": side} for side in (30, 60)]
    nothing = Things(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros((0, 20, 99), np.uint8))
    samples.append(training_view(Frames((20,), 200))(Image.new("RGB", (99, 20)), nothing) | {"index": 3})
    batch = padded(samples)
    assert batch["image"].shape == (3, 3, 60, 99) and batch["size"].tolist() == [[30, 45], [60, 90], [20, 99]]
    assert batch["count"].tolist() == [2, 2, 0] and batch["masks"].shape == (4, 60, 99)
    assert torch.equal(batch["image"][0, :, :30, :45], samples[0]["image"])
    assert not batch["image"][0, :, 30:].any() and not batch["masks"][:2, 30:].any()
    assert torch.equal(batch["boxes"], torch.cat([samples[0]["boxes"], samples[1]["boxes"]]))


def test_damaged_pictures_are_left_to_the_reader(tmp_path):
    folder = write_instances(tmp_path, (("train2017", 2),))
    (folder / "images" / "train2017" / "1.png").write_bytes(b"no picture")
    assert open_coco(Coco(data=str(folder)), True).samples == 2
    save(folder / "images" / "train2017" / "1.png", np.zeros((5, 5, 3)))
    with pytest.raises(ValueError, match="is 5×5 px"):
        open_coco(Coco(data=str(folder)), True)
