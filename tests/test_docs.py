"""The site's pages: all of them are in it, their links lead somewhere, and the tables page tells what is written."""

import json
import re
import runpy
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pandas as pd
import pytest
import torch

from experiments import models
from experiments.models import create_model
from experiments.studies import demo
from interactions.settings import Kind
from tests.commands import done

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TABLES = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.xdist_group("commands")
MEASURING = ("occlusion", "spectrum", "map", "finetune", "pretrain", "linear", "knn")


def anchor(heading):
    """As GitHub makes them."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?:", target):
            continue
        name, _, part = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        # Of a folder the site has a page where there is a README.
        assert path.is_file() or (path / "README.md").is_file(), f"{page.name}: {target}"
        if part:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert part in map(anchor, headings), f"{page.name}: {target}"


def test_every_page_is_in_the_site():
    listed = set(re.findall(r": (\S+\.(?:md|ipynb))$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    pages = {str(path.relative_to(ROOT)) for path in [*PAGES, *(ROOT / "docs").glob("*.ipynb")]}
    assert pages <= listed
    assert all((ROOT / page).is_file() for page in listed)


def test_links_of_the_tour_lead_to_files_and_in_the_site_to_its_pages():
    book = (ROOT / "docs" / "tour.ipynb").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([\w./-]+\.md)", book)
    assert links and all((ROOT / "docs" / link).is_file() for link in links)
    hooks = runpy.run_path(str(ROOT / "docs" / "site_hooks.py"))
    assert all((ROOT / name).is_file() for name in hooks["BESIDE"])
    html = '<a href="measuring.md#occlusion">, <a href="images.md">, <a href="https://example.org/a.md">'
    made = '<a href="measuring.html#occlusion">, <a href="images.html">, <a href="https://example.org/a.md">'
    for name, expected in (("docs/tour.ipynb", made), ("docs/measuring.md", html)):
        page = SimpleNamespace(file=SimpleNamespace(src_uri=name))
        assert hooks["on_page_content"](html, page=page, config={}, files=[]) == expected


def test_the_tour_runs(tmp_path, monkeypatch, capsys):
    """With a few small photographs and passes, and a small network, in place of its two minutes' worth. (The weights
    that it loads are read by tests/experiments/test_demo.py.)"""
    pytest.importorskip("skimage")
    book = json.loads((ROOT / "docs" / "tour.ipynb").read_text(encoding="utf-8"))
    source = "\n".join("".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code")
    assert "PHOTOS, PASSES = 8, 200" in source and source.count("\nfigure, ax") == 2
    assert "create_model(MODEL, efficientnet_lite0_file())" in source
    torch.save(create_model("test_efficientnet", "random", seed=1)[0].state_dict(), tmp_path / "trained.pth")
    monkeypatch.setattr(demo, "MODEL", "test_efficientnet")
    monkeypatch.setattr(models, "efficientnet_lite0_file", lambda: tmp_path / "trained.pth")
    monkeypatch.setattr(demo, "read_crop", partial(demo.read_crop, size=32))
    names: dict = {}
    exec(source.replace("PHOTOS, PASSES = 8, 200", "PHOTOS, PASSES = 2, 100"), names)
    assert all(profile.images().image.nunique() == 2 for profile in names["curves"].values())
    assert capsys.readouterr().out.count("the strongest pair is") == 2
    names["plt"].close("all")


def test_the_tour_shows_its_pictures():
    book = json.loads((ROOT / "docs" / "tour.ipynb").read_text(encoding="utf-8"))
    kinds = [kind for cell in book["cells"] for out in cell.get("outputs", ()) for kind in out.get("data", ())]
    assert kinds.count("image/png") == 2 and (ROOT / "docs" / "tour.ipynb").stat().st_size < 500_000


def section(name):
    """What the tables page says of a command."""
    (part,) = re.findall(rf"^## [^\n]*\b{name}\b[^\n]*\n(.*?)(?=^## |\Z)", TABLES, re.DOTALL | re.MULTILINE)
    return part


def told(name):
    """The columns that a command's section names, in the first column of its tables and in brackets."""
    part = section(name)
    rows = re.findall(r"^\| ([^|]+) \|", part, re.MULTILINE)
    return {word for row in [*rows, *re.findall(r"\(([^)]*)\)", part)] for word in re.findall(r"[a-z_0-9]+", row, re.I)}


def columns(path):
    if path.suffix == ".jsonl":
        return {key for line in path.read_text().splitlines() for key in json.loads(line)}
    if path.suffix == ".json":
        return set(json.loads(path.read_text()))
    return set((pd.read_csv if path.suffix == ".csv" else pd.read_parquet)(path).columns)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The tables that each command writes, and the folder that they are in."""
    folder = done(tmp_path_factory.getbasetemp())[0]

    def of(name):
        place = folder / {"profile": "one", "course": "through", "pretrain": "pre", "finetune": "tuned"}.get(name, name)
        every = place.glob if name == "course" else place.rglob  # what lies below it are profiles
        paths = every("*") if place.is_dir() else folder.glob(f"{STEMS.get(name, name)}*")
        return place if place.is_dir() else folder, [path for path in paths if path.suffix in TABULAR[name]]

    return of


TABULAR = dict.fromkeys(("profile", "course", "compare", "transfer", *MEASURING), (".csv", ".parquet", ".jsonl"))
TABULAR |= dict.fromkeys(("linear", "knn"), (".json",))
STEMS = {"compare": "comparison"}


@pytest.mark.parametrize("name", TABULAR)
def test_the_tables_page_names_every_file_and_column(written, name):
    folder, found = written(name)
    assert found
    all_columns = set().union(*map(columns, found))
    assert all_columns <= told(name), name
    for path in found:
        plain = re.sub(r"unit-\d+", r"unit-\\*", str(path.relative_to(folder)))  # a bare * would end the bold
        plain = re.sub(r"^(comparison|map)", "NAME", plain)
        assert f"**{plain}**" in section(name), plain


def test_the_tables_page_names_no_column_that_is_not_written(written):
    for name in ("profile", "course", "compare", "map", "occlusion", "spectrum"):
        all_columns = set().union(*map(columns, written(name)[1]))
        rows = re.findall(r"^\| ([^|]+) \|", section(name), re.MULTILINE)
        named = {word for row in rows for word in re.findall(r"[a-z_0-9]+", row, re.I)} - {"column"}
        assert named <= all_columns, name


def test_the_tables_page_names_every_kind_of_cells():
    (meaning,) = re.findall(r"^\| kind \| (.+) \|$", section("occlusion"), re.MULTILINE)
    words = re.findall(r"[a-z_]+", re.sub(r"\(.*?\)", "", meaning))
    assert set(words) - {"or"} == set(get_args(Kind))
