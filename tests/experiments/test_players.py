"""Label maps and lists of pairs on the command line."""

import numpy as np
from PIL import Image

from experiments import cli
from interactions import load_profile

STRIPES = np.arange(12)[:, None] // 3 * np.ones((1, 12), int)


def test_players_and_pairs_in_files(tmp_path, capsys):
    """A label map as picture and as array, and a list of pairs."""
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos" / "a.png")
    Image.fromarray(pixels).save(tmp_path / "colours.png")
    Image.fromarray(STRIPES.astype(np.uint8)).save(tmp_path / "map.png")
    np.save(tmp_path / "map.npy", STRIPES + 5)
    np.save(tmp_path / "maps.npy", np.stack([STRIPES, STRIPES]))
    whole = (tmp_path / "map.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-1])
    (tmp_path / "large.npy").write_bytes(whole.replace(b"(12, 12), }   ", b"(1200, 1200), }"[:14]))
    (tmp_path / "zip.npy").write_bytes(b"PK\x03\x04 cut")
    (tmp_path / "pairs.csv").write_text("i,j\n3,0\n1,2\n")
    (tmp_path / "other.csv").write_text("first,second\n3,0\n")
    words = f"profile tests.interactions.tiny:network --weights random --data {tmp_path / 'photos'} --target 1"
    words += " --image-size 12 --ratios 0 0.5 1 --images 1 --budget 100 --design exact --device cpu"

    def call(*given, out="run"):
        return cli.main([*words.split(), "--out", str(tmp_path / out), *(str(word) for word in given)])

    assert not call("--grid", tmp_path / "map.png", "--pairs", tmp_path / "pairs.csv")
    assert not call("--grid", tmp_path / "map.npy", "--pairs", tmp_path / "pairs.csv")  # the same regions
    assert not cli.main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "page.html")])
    assert "4 regions of 12×12 px@" in (tmp_path / "page.html").read_text(encoding="utf-8")
    settings = load_profile(tmp_path / "run").settings
    assert settings["grid"].startswith("4 regions of 12×12 px@") and settings["pairs"].startswith("2 listed@")
    capsys.readouterr()
    for given, said in (
        (("--grid", tmp_path / "colours.png"), "colours.png is no label map: it is a picture in RGB"),
        (("--grid", tmp_path / "pairs.csv"), "pairs.csv is no label map"),
        (("--grid", "1.5"), "there is no label map '1.5': --grid takes the cells along one side, or a file"),
        (("--grid", tmp_path / "photos"), "or a file, the same regions for all images"),
        (
            ("--grid", tmp_path / "maps.npy"),
            "maps.npy is no label map: a label map is H×W whole numbers, one map",
        ),
        (("--grid", tmp_path / "cut.npy"), "cut.npy is no label map: "),
        (("--grid", tmp_path / "large.npy"), "large.npy is no label map: "),
        (("--grid", tmp_path / "zip.npy"), "zip.npy is no label map: "),
        (("--grid", 3, "--pairs", tmp_path / "other.csv"), "other.csv is no list of pairs: give a CSV file"),
        (("--grid", 3, "--pairs", "far"), "there is no list of pairs 'far': --pairs takes near, all, or a CSV file"),
    ):
        assert call(*given, out="refused") == 2
        assert said in " ".join(capsys.readouterr().err.split()) and not (tmp_path / "refused").exists()
