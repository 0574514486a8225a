"""What is an image, and what is its label: folders, tars, parts, classes, and every kind of picture."""

import io
import os
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from a2mim.decoding import Damaged, decode, is_constant
from a2mim.images import open_place
from a2mim.trees import ReadFailed, Tar

KINDS = pytest.mark.parametrize("kind", ["folder", "tar"])


def save(path, colour=(255, 0, 0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 6), colour).save(path)


def place(tmp_path, kind, *names, empty=()):
    """A folder or tar with small pictures of these names, and empty folders."""
    root = tmp_path / "data"
    root.mkdir()
    for name in names:
        save(root / name)
    for name in empty:
        (root / name).mkdir(parents=True)
    if kind == "folder":
        return root
    with tarfile.open(tmp_path / "data.tar", "w") as tar:
        tar.add(root, ".")
    return tmp_path / "data.tar"


def labels(root, split="validation", default="validation", **options):
    """name -> label of what is found."""
    images = open_place(str(root), split, default, **options)
    return {os.path.normpath(name): images.raw[n][1] for n, name in enumerate(images.names)}


# ------------------------------------------------------------------------------------------- parts


@KINDS
def test_a_missing_part_is_never_the_whole(tmp_path, kind):
    root = place(tmp_path, kind, "train/a/1.png", "train/b/2.png", "test/a/3.png", "test/b/4.png")
    with pytest.raises(
        ValueError, match=r"has no part 'validation': it holds test, train: choose one, as --split test"
    ):
        labels(root)
    with pytest.raises(ValueError, match=r"has no part 'val': .* as --val-split test"):
        labels(root, "val", "validation", flag="--val-split")
    with pytest.raises(ValueError, match=r"name it itself, as .*data(\.tar)?/test$"):
        labels(root, flag="")
    assert list(labels(root, "test").values()) == list(labels(root, "training").values()) == [0, 1]
    assert len(labels(root, ".")) == 4


@KINDS
@pytest.mark.parametrize("name", ["train", "valid"])
@pytest.mark.parametrize("default", ["train", "validation"])
def test_a_class_called_like_a_part_is_a_class_among_its_sisters(tmp_path, kind, name, default):
    root = place(tmp_path, kind, *(f"{each}/{n}.png" for each in ("bus", "car", name) for n in range(3)))
    found = labels(root, default, default)
    assert len(found) == 9 and found[f"{name}/1.png"] == 2
    images = open_place(str(root), default, default)
    assert images.classes == {"bus": 0, "car": 1, name: 2}
    assert any(f"{name} is taken for a class" in note for note in images.notes)
    if name == "valid":
        with pytest.raises(
            ValueError, match=r"holds valid beside bus, car, which may be parts of a data set or classes"
        ):
            labels(root, "valid")


def test_parts_beside_other_folders(tmp_path):
    """Annotations are no class; what holds the same classes are parts, whatever lies beside them; else a user says."""
    root = place(tmp_path, "folder", *(f"{part}/{c}/1.png" for part in ("train", "val") for c in "ab"), "more/1.png")
    (root / "notes").mkdir()
    (root / "notes" / "all.txt").write_text("none")
    assert list(labels(root)) == ["a/1.png", "b/1.png"]
    assert list(labels(root, "more")) == ["1.png"]
    for name in ("train", "val"):
        for c in "ab":
            (root / name / c / "1.png").rename(root / name / f"{c}.png")
            (root / name / c).rmdir()
    with pytest.raises(ValueError, match=r"holds train, val beside more, .* name one itself \(.*data/train\)"):
        labels(root)
    assert list(labels(root / "val")) == ["a.png", "b.png"]


def test_two_folders_for_one_part(tmp_path):
    root = place(tmp_path, "folder", "train/a/1.png", "val/a/1.png", "valid/a/1.png")
    with pytest.raises(ValueError, match="holds val, valid, which mean the same: choose one, as --split val"):
        labels(root)
    assert len(labels(root, "valid")) == 1


@KINDS
def test_a_part_that_is_asked_for_must_be_there(tmp_path, kind):
    root = place(tmp_path, kind, "a/1.png", "b/1.png")
    with pytest.raises(ValueError, match="has no part 'test': it holds a, b: leave out --split for all of it"):
        labels(root, "test")
    assert len(labels(root)) == 2


@KINDS
def test_a_folder_around_everything_is_a_wrapping(tmp_path, kind):
    root = place(tmp_path, kind, "set/train/a/1.png", "set/train/b/2.png", "set/val/a/3.png", "set/val/b/4.png")
    assert list(labels(root).values()) == [0, 1] and all("val" in name or kind == "folder" for name in labels(root))
    (tmp_path / "2").mkdir()
    assert list(labels(place(tmp_path / "2", kind, "set/a/1.png", "set/b/2.png")).values()) == [0, 1]
    (tmp_path / "3").mkdir()
    nested = place(tmp_path / "3", kind, "train/cat/day/1.png", "train/cat/night/2.png")
    assert list(labels(nested, "train").values()) == [-1, -1]  # one class, and so none


# ------------------------------------------------------------------------------------------- labels


@KINDS
def test_hidden_files_and_folders_are_not_there(tmp_path, kind):
    junk = (".ipynb_checkpoints/1.png", "a/.ipynb_checkpoints/1.png", "a/._1.png", "__MACOSX/a/1.png", "@eaDir/1.png")
    root = place(tmp_path, kind, "a/1.png", "b/1.png", *junk)
    assert labels(root) == {"a/1.png": 0, "b/1.png": 1}


@KINDS
def test_known_classes_decide(tmp_path, kind):
    known = {"cat": 0, "dog": 1, "fox": 2}
    root = place(tmp_path, kind, "cat/1.png", "fox/1.png")
    assert labels(root, known=known) == {"cat/1.png": 0, "fox/1.png": 2}
    (tmp_path / "one").mkdir()
    assert labels(place(tmp_path / "one", kind, "fox/1.png"), known=known) == {"fox/1.png": 2}
    (tmp_path / "other").mkdir()
    other = place(tmp_path / "other", kind, "cat/1.png", "Dog/1.png", "foxes/1.png")
    with pytest.raises(ValueError, match=r"folders Dog, foxes in .* classes of the training images \(cat, dog, fox\)"):
        labels(other, known=known)


@KINDS
def test_an_empty_folder_is_a_class_and_one_of_other_files_is_none(tmp_path, kind):
    root = place(tmp_path, "folder", "cat/1.png", "fox/1.png", empty=("dog",))
    (root / "data").mkdir()
    (root / "data" / "boxes.xml").write_text("")
    if kind == "tar":
        with tarfile.open(tmp_path / "data.tar", "w") as tar:
            tar.add(root, ".")
        root = tmp_path / "data.tar"
    assert labels(root) == {"cat/1.png": 0, "fox/1.png": 2}
    notes = open_place(str(root), "train", "train").notes
    assert notes == (
        "no images lie in dog, which counts as a class",
        "no images lie in data (1 files), which is no class",
    )


@KINDS
def test_the_first_level_is_the_class(tmp_path, kind):
    root = place(tmp_path, kind, "train/cat/day/1.png", "train/cat/night/1.png", "train/dog/day/1.png")
    assert list(labels(root, "train", "train").values()) == [0, 0, 1]


def test_links_count_each_file_once(tmp_path):
    root = place(tmp_path, "folder", "cat/1.png", "dog/1.png")
    for link, target in (("latest", "."), ("cat/again", ".."), ("kitty", "cat"), ("up", ".."), ("cat/round", "round")):
        (root / link).symlink_to(target)
    assert labels(root) == {"cat/1.png": 0, "dog/1.png": 1}
    elsewhere = tmp_path / "elsewhere"
    save(elsewhere / "1.png")
    (root / "bee").symlink_to(elsewhere)
    assert labels(root) == {"bee/1.png": 0, "cat/1.png": 1, "dog/1.png": 2}


def test_links_do_not_hide_the_parts(tmp_path):
    root = place(tmp_path, "folder", "train/a/1.png", "train/b/1.png", "val/a/2.png", "val/b/2.png")
    (root / "latest").symlink_to(".")
    assert list(labels(root)) == ["a/2.png", "b/2.png"]


def test_images_beside_class_folders_have_no_label(tmp_path):
    root = place(tmp_path, "folder", "a/1.png", "b/1.png", "cover.png")
    assert labels(root) == {"a/1.png": 0, "b/1.png": 1, "cover.png": -1}
    assert "1 images lie beside the class folders and have no label" in open_place(str(root), ".", ".").notes


def test_kinds_of_files(tmp_path):
    root = tmp_path / "data"
    for n, suffix in enumerate(("png", "JPEG", "webp", "bmp", "tiff", "gif", "ppm")):
        path = root / "ab"[n % 2] / f"{n}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 6), (0, 200, 0)).save(path)
    (root / "a" / "7.heic").write_bytes(b"")
    (root / "a" / "notes.txt").write_text("")
    images = open_place(str(root), ".", ".")
    assert images.samples == 7 and images.notes == ("not read: 1 .heic",)
    assert all(abs(int(images.raw[n][0].getpixel((3, 3))[1]) - 200) < 3 for n in range(7))


def test_threads_share_the_file_of_a_tar_that_is_opened_once(tmp_path, monkeypatch):
    """Of two that they had opened, one would be closed while it is read."""
    root = place(tmp_path, "tar", *(f"{k}.png" for k in range(8)))
    tree, opened, ready, really = Tar(root), [], threading.Barrier(8), Path.open

    def slowly(path, *words, **more):
        time.sleep(0.02)
        opened.append(path)
        return really(path, *words, **more)

    def read(entry):
        ready.wait()
        return tree.read(entry)

    entries = tree.scan().images
    monkeypatch.setattr(Path, "open", slowly)
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(read, entries))
    assert opened == [root] and len(contents) == 8
    assert all(
        content == (tmp_path / "data" / entry.name).read_bytes()
        for entry, content in zip(entries, contents, strict=True)
    )


def test_tars_in_a_tar_and_second_names(tmp_path):
    """As ImageNet's training images are packed: a tar of each class; and a hard link's content is the first name's."""
    content = io.BytesIO()
    Image.new("RGB", (6, 6), (9, 9, 9)).save(content, "PNG")
    with tarfile.open(tmp_path / "data.tar", "w") as outer:
        for name in ("cat", "dog"):
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w") as inner:
                for n in range(2):
                    member = tarfile.TarInfo(f"{n}.png")
                    member.size = len(content.getvalue())
                    inner.addfile(member, io.BytesIO(content.getvalue()))
                second = tarfile.TarInfo("again.png")
                second.type, second.linkname = tarfile.LNKTYPE, "1.png"
                inner.addfile(second)
            member = tarfile.TarInfo(f"{name}.tar")
            member.size = len(packed.getvalue())
            outer.addfile(member, io.BytesIO(packed.getvalue()))
    images = open_place(str(tmp_path / "data.tar"), ".", ".")
    assert images.names == [f"{c}/{n}.png" for c in ("cat", "dog") for n in (0, 1, "again")]
    assert [images.raw[n][1] for n in range(6)] == [0, 0, 0, 1, 1, 1]
    assert all(images.raw[n][0].getpixel((0, 0)) == (9, 9, 9) for n in range(6))


def test_a_class_map_names_each_class_once(tmp_path):
    root = place(tmp_path, "folder", "a/1.png", "b/1.png")
    (tmp_path / "map.txt").write_text("b\na\nb\n")
    with pytest.raises(ValueError, match="names b twice"):
        labels(root, class_map=str(tmp_path / "map.txt"))
    (tmp_path / "map.txt").write_text("c\na\n")
    with pytest.raises(ValueError, match=r"the folders b in .* none of the classes of the class map .* \(c, a\)"):
        labels(root, class_map=str(tmp_path / "map.txt"))


# ------------------------------------------------------------------------------------------- pictures


def encoded(image, kind="PNG", **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


RAMP = np.linspace(0, 65535, 64 * 64).round().astype(np.uint16).reshape(64, 64)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PGM", "big-endian TIFF"])
def test_a_ramp_of_16_bits_is_a_ramp(kind):
    if kind == "PGM":
        content = b"P5 64 64 65535\n" + RAMP.astype(">u2").tobytes()
    elif kind == "big-endian TIFF":
        content = encoded(Image.frombytes("I;16B", (64, 64), RAMP.astype(">u2").tobytes()), "TIFF")
    else:
        content = encoded(Image.fromarray(RAMP), kind)
    made = np.asarray(decode(content))
    assert made.shape == (64, 64, 3) and abs(made.mean() / 255 - 0.5) < 1e-3
    assert np.array_equal(made[..., 0], np.rint(RAMP / 257)) and np.array_equal(
        np.asarray(decode(content, "L")), made[..., 0]
    )


def test_numbers_without_a_white_are_refused():
    with pytest.raises(Damaged, match="integers of 32 bits have no stated white"):
        decode(encoded(Image.fromarray(RAMP.astype(np.int32)), "TIFF"))
    with pytest.raises(Damaged, match="outside of 0 to 1 have no stated white"):
        decode(encoded(Image.fromarray(RAMP.astype(np.float32)), "TIFF"))
    made = np.asarray(decode(encoded(Image.fromarray((RAMP / 65535).astype(np.float32)), "TIFF")))
    assert np.array_equal(made[..., 0], np.rint(RAMP / 257))


def test_what_is_transparent_shows_white():
    """Half transparent red over white is (255, 127 or 128, …); alone, Pillow would drop the alpha and give red."""
    red = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    assert decode(encoded(red)).getpixel((0, 0)) == pytest.approx((255, 127, 127), abs=1)
    assert decode(encoded(Image.new("LA", (4, 4), (0, 0)))).getpixel((0, 0)) == (255, 255, 255)
    assert decode(encoded(Image.new("RGB", (4, 4), (1, 2, 3)), transparency=(1, 2, 3))).getpixel((0, 0)) == (255,) * 3
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    assert decode(encoded(palette)).getpixel((0, 0)) == (10, 200, 30)
    assert decode(encoded(palette, transparency=1)).getpixel((0, 0)) == (255, 255, 255)
    assert decode(encoded(palette, "GIF", transparency=1)).getpixel((0, 0)) == (255, 255, 255)


def test_other_kinds_of_pictures():
    assert decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")).getpixel((4, 4)) == pytest.approx(
        (255, 0, 0), abs=4
    )
    assert decode(encoded(Image.new("1", (4, 4), 1))).getpixel((0, 0)) == (255,) * 3
    grey = decode(encoded(Image.new("RGB", (4, 4), (0, 255, 0))), "L")
    assert grey.mode == "L" and grey.getpixel((0, 0)) == pytest.approx(0.587 * 255, abs=1)
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        lossless = {"lossless": True} if kind == "WEBP" else {}
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **lossless)
        assert decode(content).getpixel((0, 0)) == (255, 0, 0), kind


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(kind, orientation):
    """EXIF: which corner of the scene the first row and column are at, from the standard's table."""
    scene = np.zeros((16, 24, 3), dtype=np.uint8)
    scene[:8, :8] = 255  # white at the top left
    stored = {
        1: scene,
        2: scene[:, ::-1],
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.transpose(1, 0, 2),
        6: scene.transpose(1, 0, 2)[::-1],
        7: scene.transpose(1, 0, 2)[::-1, ::-1],
        8: scene.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    lossless = {"lossless": True} if kind == "WEBP" else {}
    made = np.asarray(decode(encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **lossless)))
    assert made.shape == scene.shape and np.abs(made.astype(int) - scene).mean() < 3


def test_damage_says_what_it_is():
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)), "JPEG")
    for content, said in (
        (b"", "the file is empty"),
        (b"hello", "cannot identify image file"),
        (whole[:800], "truncated"),
    ):
        with pytest.raises(Damaged, match=said) as caught:
            decode(content)
        assert "0x" not in str(caught.value)


def test_constant_pictures():
    dotted = Image.new("RGB", (40, 40), (7, 7, 7))
    assert is_constant(dotted) and is_constant(Image.new("L", (3, 3), 9))
    dotted.putpixel((13, 29), (7, 8, 7))
    assert not is_constant(dotted)


def test_what_is_no_file_is_damage_and_not_waited_for(tmp_path):
    root = place(tmp_path, "folder", "a/1.png", "b/1.png")
    os.mkfifo(root / "a" / "2.png")
    (root / "b" / "2.png").symlink_to("/dev/zero")
    images = open_place(str(root), ".", ".")
    for number in (1, 3):
        with pytest.raises(Damaged, match="it is no file"):
            images.raw[number]


def test_a_tar_of_endless_folders_is_no_tar(tmp_path):
    with tarfile.open(tmp_path / "deep.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("a/" * 3000 + "x.png"))
    with pytest.raises(ValueError, match=r"deep.tar' holds no images: it is no whole, uncompressed tar"):
        open_place(str(tmp_path / "deep.tar"), ".", ".")


def test_a_link_to_nothing_is_damage_and_a_file_that_went_away_is_not(tmp_path):
    root = place(tmp_path, "folder", "a/1.png", "b/1.png")
    (root / "a" / "2.png").symlink_to("nowhere.png")
    images = open_place(str(root), ".", ".")
    with pytest.raises(Damaged, match="a link that leads nowhere"):
        images.raw[1]
    Path(root / "b" / "1.png").unlink()
    with pytest.raises(ReadFailed, match=r"b/1.png cannot be read any more: No such file") as caught:
        images.raw[2]
    assert caught.value.errno is not None  # what no damaged file raises
