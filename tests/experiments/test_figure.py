"""`a2mim figure` end to end: folders of results go in; a figure, and where it came from, or one sentence comes out."""

import inspect
import json
import re
import shutil

import numpy as np
import pytest

from experiments import cli
from experiments.commands.figure import OF_A_TABLE, OPTIONS
from experiments.drawing import FIGURES, drawing_of
from tests.figures.made_up import (
    block_tables,
    course_table,
    masses_table,
    occlusion_table,
    pictures,
    record,
    strength_table,
    sweep_table,
    transfer_tables,
    write_run,
)


@pytest.fixture
def results(tmp_path):
    """Two runs for each figure."""
    spectrum, variance = block_tables()
    tables = {"strength.csv": strength_table(), "occlusion.csv": occlusion_table(), "spectrum.csv": spectrum}
    tables |= {"course.csv": course_table()}
    study = {"masses.csv": masses_table(), "token_position.csv": sweep_table()} | transfer_tables()
    write_run(tmp_path / "study", study, {"command": "reproduce cifar10"})
    for name in ("one", "two"):
        write_run(tmp_path / name, tables | {"variance.csv": variance}, record(name))
        np.savez(tmp_path / name / "pictures.npz", **pictures())
    return tmp_path


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_is_written_with_where_it_came_from(figure, results, capsys):
    folders = [results / "study"] if figure in OF_A_TABLE else [results / "one", results / "two"]
    folders = folders[:1] if figure == "strength" else folders
    out = results / "drawn" / figure
    assert cli.main(["figure", figure, *map(str, folders), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert all(f"{out}.{suffix}" in told for suffix in ("png", "pdf", "json"))
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert out.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    about = json.loads(out.with_suffix(".json").read_text())
    assert about["figure"] == figure and [run["folder"] for run in about["runs"]] == list(map(str, folders))
    assert all(run["files"] for run in about["runs"])
    if figure not in OF_A_TABLE:
        told = [(run["name"], run["command"], run["commit"]) for run in about["runs"]]
        assert told == [(folder.name, folder.name, "89abcdef") for folder in folders]


def test_names_panels_and_options_reach_the_figure(results, capsys):
    words = ["figure", "fig1", str(results / "one"), str(results / "two"), "--names", "A²MIM", "A²MIM"]
    words += ["--panels", "ViT", "CNN", "--measure", "J_rms", "--dropped", "salient", "--title", "Made up"]
    words += ["--grey", "A²MIM"]
    assert cli.main([*words, "--out", str(results / "f.pdf")]) == 0
    about = json.loads((results / "f.json").read_text())
    assert [(run["name"], run["panel"]) for run in about["runs"]] == [("A²MIM", "ViT"), ("A²MIM", "CNN")]
    options = {"measure": "J_rms", "dropped": "salient", "title": "Made up", "grey": ["A²MIM"]}
    assert about["options"] == options


@pytest.mark.parametrize("figure", ["fig1", "fig4"])
def test_a_figure_is_drawn_again_from_copies_of_its_tables(figure, results, tmp_path, capsys):
    """The same bytes, whether the runs are still there or only copies by other names, beside the folder of figures."""
    kept = tmp_path / "kept"
    words = ["figure", figure, str(results / "one"), str(results / "two"), "--names", "a", "b"]
    assert cli.main([*words, "--title", "T", "--out", str(kept / "figures" / figure)]) == 0
    files = [kept / "figures" / f"{figure}.{suffix}" for suffix in ("png", "pdf", "json")]
    before = [file.read_bytes() for file in files]
    for k, folder in enumerate(("one", "two")):
        for path in (results / folder).iterdir():
            shutil.copy(path, kept / f"copy-{k}-{path.name}")
    for there in (True, False):
        if not there:
            shutil.rmtree(results / "one")
            (results / "two" / "occlusion.csv").write_text("another table")
        for file in files[:2]:
            file.unlink()
        assert cli.main(["figure", "again", str(files[2])]) == 0
        assert [file.read_bytes() for file in files] == before
    shutil.rmtree(results / "two")
    for copy in kept.glob("copy-*"):
        copy.unlink()
    assert cli.main(["figure", "again", str(files[2])]) == 2
    assert "of a, from which the figure was drawn, lies neither in" in capsys.readouterr().err
    assert [file.read_bytes() for file in files] == before


def test_a_figure_drawn_again_has_its_note(results, capsys):
    """Of runs that are gone, too: what differed in their images and pixels is in the record of the figure."""
    for k, name in enumerate(("one", "two")):
        about = record(normalisation={"mean": [0.5], "std": [0.5 + k]})
        about["model"] |= {"class": "Net", "parameters": 7}
        about["images"] = about["images"][k : 40 + k]
        (results / name / "run.json").write_text(json.dumps(about))
    out = results / "kept" / "fig5"
    assert cli.main(["figure", "fig5", str(results / "one"), str(results / "two"), "--out", str(out)]) == 0
    before, note = out.with_suffix(".json").read_text(), json.loads(out.with_suffix(".json").read_text())["note"]
    assert "images (40 in one; 40 in two; 39 in all)" in note and "Networks of one kind (Net, 7" in note
    for name in ("one", "two"):
        shutil.copy(results / name / "strength.csv", out.parent / f"{name}.csv")
        shutil.rmtree(results / name)
    assert cli.main(["figure", "again", str(out.with_suffix(".json"))]) == 0
    assert out.with_suffix(".json").read_text() == before and note in capsys.readouterr().out


def test_no_figure_is_drawn_over_where_another_is_refused(results, tmp_path, capsys):
    words = [str(results / "one"), str(results / "two")]
    for figure in ("fig5", "fig4"):
        assert cli.main(["figure", figure, *words, "--out", str(tmp_path / figure)]) == 0
    (tmp_path / "fig5.png").unlink()
    both = [str(tmp_path / f"{figure}.json") for figure in ("fig5", "fig4")]
    assert cli.main(["figure", "again", *both, "--measure", "J"]) == 2
    assert "fig4 takes no --measure: leave it out" in capsys.readouterr().err
    assert not (tmp_path / "fig5.png").exists()


DRAWN = {"folder": "there", "name": "a", "panel": "", "files": {"strength.csv": "0123"}}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"runs": "there"}, "is not the record of a figure"),
        ({"runs": [DRAWN, "there"]}, "does not say which runs it was drawn from"),
        ({"runs": [{**DRAWN, "files": []}]}, "does not say which runs"),
        ({"runs": [{**DRAWN, "files": {"strength.csv": ["0123"]}}]}, "does not say which runs"),
        ({"runs": [{**DRAWN, "folder": 7}]}, "does not say which runs"),
        ({"runs": [{**DRAWN, "name": None}]}, "does not say which runs"),
        ({"runs": [{**DRAWN, "settings": "grid"}]}, "does not say which runs"),
        ({"options": ["measure"]}, "is damaged (its options)"),
        ({"options": {"measure": ["J"]}}, "is damaged (its options)"),
        ({"options": {"grey": [["a"]]}}, "is damaged (its options)"),
        ({"options": {"pictures": "3"}}, "is damaged (its options)"),
        ({}, "strength.csv of a, from which the figure was drawn, lies neither in there nor below"),
    ],
)
def test_a_record_of_other_kinds_is_one_sentence(changes, told, tmp_path, capsys):
    path = tmp_path / "fig5.json"
    path.write_text(json.dumps({"figure": "fig5", "runs": [DRAWN], "options": {}} | changes))
    assert cli.main(["figure", "again", str(path)]) == 2
    assert told in capsys.readouterr().err


def test_a_note_is_told(results, capsys):
    (results / "two" / "occlusion.csv").unlink()
    words = ["figure", "fig1", str(results / "one"), str(results / "two"), "--out", str(results / "f")]
    assert cli.main(words) == 0
    told = capsys.readouterr().out
    assert "Not given, and so not drawn: occlusion of two." in told
    assert json.loads((results / "f.json").read_text())["note"] in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("fig5 {0}/one {0}/nowhere", "nowhere is no folder of a run"),
        ("fig5 {0}/one {0}/study", "study lacks strength.csv (of `a2mim profile`), from which the figure is drawn"),
        ("fig1 {0}/study", "study lacks occlusion.csv (of `a2mim occlusion`) or strength.csv (of `a2mim profile`)"),
        ("fig4 {0}/study", "study lacks pictures"),
        ("fig6 {0}/one", "one lacks token_position.csv"),
        ("figA3 {0}/one {0}/study", "study lacks spectrum.csv (of `a2mim spectrum`)"),
        ("mass {0}/one", "one lacks masses.csv (of `a2mim reproduce`)"),
        ("prediction {0}/one", "one lacks transfer.csv (of `a2mim transfer`)"),
        ("mass {0}/study --names x", "mass takes no --names and no --panels"),
        ("fig4 {0}/one --measure J", "fig4 takes no --measure: leave it out"),
        ("fig5 {0}/one --pictures 3", "fig5 takes no --pictures: leave it out"),
        ("fig5 {0}/one --names a b", "2 names for 1 runs"),
        ("fig5", "there is no run to draw: give at least one folder"),
        ("fig5 {0}/one --grey x", "no run is called x: the names are one"),
        ("fig6 {0}/study --grey x", "fig6 takes no --grey: leave it out"),
        ("strength {0}/one {0}/two", "strength shows one run in full, got 2: draw fig5 of several"),
        ("again", "there is no figure to draw again"),
        ("again {0}/one/run.json", "run.json is not the record of a figure"),
        ("again {0}/nothing.json", "nothing.json does not exist: give the .json that a2mim figure wrote"),
        ("again {0}/a.json {0}/b.json", "2 figures cannot all be"),
        ("again {0}/one/run.json --names x", "again takes no --names and no --panels"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(words, told, results, capsys):
    out = results / "new" / "figure"
    assert cli.main(["figure", *words.format(results).split(), "--out", str(out)]) == 2
    error = capsys.readouterr().err.strip()
    assert told in error and error.startswith("a2mim figure: ") and "\n" not in error
    assert not out.parent.exists()
    assert cli.main(["figure", "fig5", str(results / "one")]) == 2
    assert "give the figure a name with --out" in capsys.readouterr().err


@pytest.mark.parametrize("option", [name for name in OPTIONS if name != "title"])
def test_the_help_names_the_figures_that_take_an_option(option, capsys):
    with pytest.raises(SystemExit):
        cli.main(["figure", "--help"])
    told = " ".join(capsys.readouterr().out.replace("│", " ").split()).split(f"--{option} ")[-1].split(":")[0]
    of = {name for name in FIGURES if option in inspect.signature(drawing_of(name, {})).parameters}
    assert named_in(told) == of


def named_in(words):
    """fig1, fig5, figA1 to figA4, course."""
    groups = [re.findall(r"[a-z]+[A-Z]?\d*", group) for group in words.split("} ")[-1].split(", ")]
    order = list(FIGURES)
    return {name for group in groups for name in order[order.index(group[0]) : order.index(group[-1]) + 1]}


def test_letters_that_the_font_lacks_are_one_sentence(results):
    words = ["figure", "fig5", str(results / "one"), str(results / "two"), "--names", "数据", "数", "--title", "数"]
    with pytest.warns(UserWarning) as told:
        assert cli.main([*words, "--out", str(results / "f")]) == 0
    assert [str(each.message) for each in told] == [
        "DejaVu Sans, the font of figures, has no 据数: boxes stand in their places"
    ]
