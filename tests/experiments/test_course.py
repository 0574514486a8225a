"""`a2mim profile RUN --checkpoints all`: every state that a training kept, measured over the same images."""

import json
import shutil
from types import SimpleNamespace

import pandas as pd
import pytest
import timm

from experiments.cli import main
from experiments.measuring import course
from experiments.measuring.course import State, course_table
from interactions.profile import load_profile
from tests.experiments.test_longer import USUAL, refused

FEW = "--image-size 32 --grid 4 --radius 1 --ratios 0.0 0.3 0.5 --design pairwise --budget 200 --images 3"
FEW += " --unit-images 3 --batch-size 32 --speed plain --device cpu --keep images"
STATES = ["step-00000000", "step-00000001", "step-00000002", "step-00000003"]


def net(num_classes: int = 4):
    return timm.create_model("test_vit", num_classes=num_classes, img_size=32)


@pytest.fixture(scope="module")
def tuned(images, tmp_path_factory):
    """A network with its classifier, and four states."""
    run = tmp_path_factory.mktemp("runs") / "tuned"
    words = f"finetune --model test_vit --data {images} --epochs 1 --keep-states 3 {USUAL} --out {run}"
    assert main(words.split()) == 0
    return run


def profile(run, images, out, *more):
    return main(["profile", str(run), "--data", str(images), "--out", str(out), *FEW.split(), *map(str, more)])


@pytest.fixture(scope="module")
def measured(tuned, images, tmp_path_factory):
    out = tmp_path_factory.mktemp("measured") / "course"
    assert profile(tuned, images, out, "--checkpoints", "all") == 0
    return out


def record_of(folder):
    return json.loads((folder / "run.json").read_text())


def test_every_state_is_a_usual_profile_of_the_same_images(tuned, images, measured, tmp_path):
    assert sorted(path.name for path in measured.iterdir()) == sorted(
        [*STATES, "course.csv", "course.json", "course.pdf", "course.png", "run.json"]
    )
    seen = [record_of(measured / name)["images"] for name in STATES]
    assert all(images == seen[0] for images in seen) and len(seen[0]) == 3
    digests = {record_of(measured / name)["model"]["digest"] for name in STATES}
    assert len(digests) == len(STATES)
    assert profile("auto", images, tmp_path / "last", "--weights", tuned) == 0  # backbone.safetensors, by itself
    last, alone = (pd.read_csv(folder / "strength.csv") for folder in (measured / STATES[-1], tmp_path / "last"))
    pd.testing.assert_frame_equal(last, alone)
    record = record_of(measured)
    assert record["command"] == "course" and record["status"] == "complete" and record["run"] == str(tuned)
    assert [one["step"] for one in record["states"]] == [0, 1, 2, 3]
    first = record_of(measured / STATES[0])
    assert record["images"] == first["images"] and record["image_shape"] == first["image_shape"]
    assert [one["order"] for one in record["orders"]] == [one["order"] for one in first["orders"]]
    assert record["passes"] == sum(record_of(measured / name)["passes"] for name in STATES)


def test_the_table_holds_what_the_states_say(measured):
    table = pd.read_csv(measured / "course.csv")
    assert len(table) == 12 and list(table["step"].unique()) == [0, 1, 2, 3]
    assert list(table["epoch"].unique()) == pytest.approx([0, 0.3333, 0.6667, 1])
    for step, name in enumerate(STATES):
        rows, strength = table[table["step"] == step], pd.read_csv(measured / name / "strength.csv")
        for column in ("order", "rms", "J_rms", "J_rms_low", "near_floor", "passes"):
            assert rows[column].tolist() == pytest.approx(strength[column].tolist(), nan_ok=True)
        mass = pd.read_csv(measured / name / "middle_mass.csv").set_index("measure")
        assert rows["M"].tolist() == pytest.approx([mass.loc["J_rms", "M"]] * 3)


@pytest.mark.parametrize(("table", "column"), [("middle_mass.csv", "M_low"), ("strength.csv", "J_rms")])
def test_a_damaged_table_of_a_state_is_named(table, column, measured, tmp_path):
    state = SimpleNamespace(folder=shutil.copytree(measured / STATES[0], tmp_path / "state"))
    pd.read_csv(state.folder / table).drop(columns=column).to_csv(state.folder / table, index=False)
    with pytest.raises(ValueError, match=rf"{table}\) lacks the column {column}"):
        course_table({State(0, 0.0, None): state})


def test_what_is_measured_is_not_measured_again(tuned, images, measured, tmp_path, capsys):
    out = shutil.copytree(measured, tmp_path / "course")
    shutil.rmtree(out / STATES[1])
    (out / "course.csv").unlink()
    units = {path: path.stat().st_mtime_ns for path in out.rglob("unit-*")}
    assert len(units) == 6  # a mark and a table of each of three states
    capsys.readouterr()
    assert profile(tuned, images, out, "--checkpoints", "all", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "4 states" in told and "each of 1 state: about" in told and told.count("about 0 passes left") == 3
    assert not (out / STATES[1]).exists()
    assert profile(tuned, images, out, "--checkpoints", "all") == 0
    assert {path: path.stat().st_mtime_ns for path in units} == units
    pd.testing.assert_frame_equal(pd.read_csv(out / "course.csv"), pd.read_csv(measured / "course.csv"))


def test_a_run_may_be_named_from_inside_its_folder(tuned, images, measured, tmp_path, monkeypatch):
    monkeypatch.chdir(tuned)
    monkeypatch.setattr(course, "profiled", lambda settings: load_profile(measured / settings.out.name))
    assert profile(".", images, tmp_path / "course", "--checkpoints", "all") == 0
    assert (tmp_path / "course" / "course.png").is_file()


def test_a_dry_run_tells_of_all_states_and_writes_nothing(tuned, images, tmp_path, capsys):
    out = tmp_path / "course"
    assert profile(tuned, images, out, "--checkpoints", "3", "0", "--dry-run") == 0
    total, each = capsys.readouterr().out.strip().splitlines()[-2:]
    assert not out.exists() and "each of 2 states: about" in each
    passes = int(each.split("about ")[1].split(" passes")[0].replace(",", ""))
    assert total.startswith(f"2 states, {2 * passes:,} passes, ")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--checkpoints 0 7", "tuned kept no state of step 7: there are those of 0, 1, 2, 3"),
        ("--checkpoints last", "--checkpoints takes all, or numbers of steps: 'last' is neither"),
        ("--checkpoints all --weights random", "--checkpoints are the weights: leave --weights out"),
        ("--checkpoints all --other-weights random", "--checkpoints follows one training"),
        ("--checkpoints all --target predicted", "would explain other classes at every state"),
        ("--checkpoints all --only-correct", "would choose other images for every state"),
    ],
)
def test_what_does_not_go_with_states_is_refused(words, told, tuned, images, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["profile", tuned, "--data", images, "--out", out, *FEW.split(), *words.split()]
    assert told in refused(capsys, *words) and not out.exists()


def test_a_run_without_states_and_what_is_no_run_are_refused(tuned, images, tmp_path, capsys):
    def told(run, out="out"):
        return refused(capsys, "profile", run, "--checkpoints", "all", "--data", images, "--out", tmp_path / out)

    assert "'resnet50' is no folder of one: give the --out of a2mim pretrain or finetune" in told("resnet50")
    bare = shutil.copytree(tuned, tmp_path / "bare", ignore=shutil.ignore_patterns("course"))
    assert "bare kept no states: train with --keep-states 8, for instance" in told(bare)
    half = shutil.copytree(tuned, tmp_path / "half")
    (half / "run.json").write_text(json.dumps(record_of(half) | {"finished": False}))
    assert "half is not finished: go on with it first" in told(half)
    assert "bare holds a run of `a2mim finetune`: name another folder with --out" in told(tuned, "bare")
    damaged = shutil.copytree(tuned, tmp_path / "damaged")
    (damaged / "course" / "step-00000002.safetensors").write_bytes(b"nothing")
    assert "step-00000002.safetensors" in told(damaged)
    assert not (tmp_path / "out").exists()


def test_a_course_is_not_written_over_by_another_nor_cut(tuned, images, measured, tmp_path, capsys):
    before = {path: path.read_bytes() for path in measured.rglob("*") if path.is_file()}
    words = ["--data", images, "--out", measured, *FEW.split()]
    other = shutil.copytree(tuned, tmp_path / "other")
    said = refused(capsys, "profile", other, "--checkpoints", "all", *words)
    assert f"{measured} follows the training in {tuned}: name another folder with --out" in said
    said = refused(capsys, "profile", tuned, "--checkpoints", "0", "2", *words)
    assert "holds the state of step 1, too, which would be lost: ask for --checkpoints 0 1 2 3" in said
    assert {path: path.read_bytes() for path in measured.rglob("*") if path.is_file()} == before


def test_code_that_a_record_names_is_run_for_whoever_says_so(tuned, images, tmp_path, capsys):
    run, out = shutil.copytree(tuned, tmp_path / "run"), tmp_path / "out"
    architecture = {"architecture": "tests.experiments.test_course:net", "num_classes": 4}
    (run / "run.json").write_text(json.dumps(record_of(run) | {"architecture": architecture}))
    words = ("profile", run, "--checkpoints", "0", "--data", images, "--out", out, *FEW.split())
    told = refused(capsys, *words)
    assert "tests.experiments.test_course:net" in told and "--trust-factory" in told and not out.exists()
    assert main([*map(str, words), "--trust-factory"]) == 0
    assert "runs the code of 'tests.experiments.test_course:net'" in capsys.readouterr().err
    assert (out / STATES[0] / "strength.csv").is_file()


def test_a_pretraining_has_no_classifier(images, tmp_path, capsys):
    run, out = tmp_path / "pre", tmp_path / "out"
    words = f"pretrain --model test_vit --method simmim --mask-cell 16 --pictures-every 0 --data {images} --epochs 1"
    assert main([*words.split(), "--keep-states", "1", *USUAL.split(), "--out", str(run)]) == 0
    words = ("profile", run, "--checkpoints", "all", "--data", images, "--out", out, *FEW.split())
    assert "has no classifier, which --value log_odds needs" in refused(capsys, *words) and not out.exists()
    assert main([*map(str, words), "--value", "cosine"]) == 0
    assert len(pd.read_csv(out / "course.csv")) == 6


def test_courses_are_laid_below_each_other(measured, tmp_path):
    other = shutil.copytree(measured, tmp_path / "other")
    words = ["figure", "course", str(measured), str(other), "--names", "supervised", "A²MIM"]
    assert main([*words, "--out", str(tmp_path / "both")]) == 0
    about = json.loads((tmp_path / "both.json").read_text())
    assert [run["name"] for run in about["runs"]] == ["supervised", "A²MIM"] and about["note"] == ""
    assert all(list(run["files"]) == ["course.csv"] and run["images"] == 3 for run in about["runs"])
