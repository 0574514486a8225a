"""The kept list of a run's images: what is read back, and what cannot be trusted."""

import gzip

import pytest

from a2mim import manifest

PARTS = {"train": ["cat/1.png\t120\t0", "caf\udce9/2.png\t99\t1"], "validation": ["line\r/3.png\t7\t0"]}


def test_a_list_comes_back_as_it_was(tmp_path):
    manifest.write_rows(tmp_path / "list.gz", PARTS)
    assert manifest.read_rows(tmp_path / "list.gz") == PARTS


CUT_SHORT = gzip.compress(b"train\ta\t1\t0\n" * 99)[:30]


# Names of their own: gzip writes the time into its bytes, and the workers must agree on what the tests are called.
@pytest.mark.parametrize("content", [b"", b"no archive", CUT_SHORT, None], ids=["empty", "text", "cut", "folder"])
def test_a_damaged_list_tells_nothing(tmp_path, content):
    path = tmp_path / "list.gz"
    path.mkdir() if content is None else path.write_bytes(content)
    assert manifest.read_rows(path) == {}


def test_a_list_without_end_is_not_read_to_it(tmp_path, monkeypatch):
    manifest.write_rows(tmp_path / "list.gz", PARTS)
    monkeypatch.setattr(manifest, "LONGEST", 30)
    assert manifest.read_rows(tmp_path / "list.gz") == {}
