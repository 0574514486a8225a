from pathlib import Path

import pandas as pd
import pytest

from figures.tables import read_table


def test_a_file_and_the_table_in_it_are_the_same(tmp_path: Path):
    table = pd.DataFrame({"x": [1.5, 2.0], "flag": [True, False], "note": ["a", "b"]})
    table.to_csv(tmp_path / "t.csv", index=False)
    for source in (table, tmp_path / "t.csv", str(tmp_path / "t.csv")):
        pd.testing.assert_frame_equal(read_table(source, ["x", "flag"], ["note"], "the table"), table)


def test_texts_are_read_as_they_stand_in_the_file(tmp_path: Path):
    words = ["2012", "01", "1e2", "None", "NA", "null", "", "a, b"]
    table = pd.DataFrame({"run": words, "note": words, "x": [1.0] * 7 + [float("nan")]})
    for notes in (["2012"] * 8, words):
        table.assign(note=notes).to_csv(tmp_path / "t.csv", index=False)
        read = read_table(tmp_path / "t.csv", ["x"], ["note"], "the table")
        assert list(read["run"]) == words and list(read["note"]) == notes
        assert read["x"].isna().tolist() == [False] * 7 + [True]


def test_missing_columns_are_named_in_one_sentence():
    table = pd.DataFrame({"x": [1]})
    with pytest.raises(ValueError, match=r"^the table lacks the column y: .*\?$"):
        read_table(table, ["x", "y"], [], "the table")
    with pytest.raises(ValueError, match="lacks the columns y, note:"):
        read_table(table, ["y"], ["note"], "the table")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "cannot be read as CSV"),
        (b"x,y\n1,2\n3,4,5,6\n", "cannot be read as CSV"),
        (b"\xff\xfe\x00x", "cannot be read as CSV"),
        (b"x\n", "has no rows"),
        (b"x\none\n", "other than numbers in the column x"),
    ],
)
def test_a_file_that_cannot_be_drawn_is_named(tmp_path: Path, content: bytes, sentence: str):
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(ValueError, match=sentence) as caught:
        read_table(tmp_path / "bad.csv", ["x"], [], "the table")
    assert "bad.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"the table \(.*none.csv\) does not exist"):
        read_table(tmp_path / "none.csv", ["x"], [], "the table")
