"""`a2mim reproduce cifar10 --joined`: networks of an earlier study beside those that are trained here."""

import io
import json
import lzma
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from experiments import cli
from experiments.studies.cifar10.drawing import shown
from experiments.studies.cifar10.earlier import other_images
from experiments.studies.cifar10.joining import (
    earlier_commands,
    earlier_study,
    join,
    keep_rows,
    refuse_foreign_results,
    refuse_unlike,
)
from experiments.studies.cifar10.plan import Settings, backbone_of, folder_of, steps
from experiments.studies.cifar10.tables import accuracies, differences
from tests.experiments.test_compare import change, measure

STUDY = {"train": "a.tar", "test": "b.tar", "families": ("vit",), "seeds": (0,), "sweep": False, "size": "cpu"}
ROWS = [
    {"network": "vit", "method": "supervised", "seed": 0, "top1": 67.0},
    {"network": "vit", "method": "untrained", "seed": 0},  # without neighbours, in no table of accuracies
]
SAID = {"commit": "abc", "settings": {"size": "cpu", "times": 1, "quick": False}}
"""Of itself by the earlier study."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Two networks of a study, of which a supervised and an untrained one are made of."""
    folder = tmp_path_factory.mktemp("measured")
    return [measure(folder / str(seed), seed=seed) for seed in (0, 1, 2)]


@pytest.fixture
def earlier(measured, tmp_path):
    """What an earlier study kept."""
    study = Settings(**STUDY, out=tmp_path / "earlier")
    for method, run in zip(("supervised", "untrained"), measured[:2], strict=True):
        shutil.copytree(run, folder_of(study, "vit", method, 0) / "profile-8")
    (study.out / "vit-supervised-0" / "half").mkdir()
    (study.out / "vit-supervised-0" / "half" / "run.json").write_text('{"status": "measuring"}')
    keep_rows(study)
    for table in ("spectrum", "variance"):
        (study.kept / "spectrum").mkdir(exist_ok=True)
        (study.kept / "spectrum" / f"vit-supervised-0-{table}.csv").write_text("layer\n1\n")
    pd.DataFrame(ROWS[:1]).to_csv(study.kept / "accuracy.csv", index=False)
    pd.DataFrame(ROWS).drop(columns="top1").to_csv(study.kept / "masses.csv", index=False)
    (study.kept / "commands.sh").write_text("a2mim finetune\n")
    (study.kept / "study.json").write_text(json.dumps(SAID))
    return study.kept


def test_what_was_measured_stands_beside_what_is_measured_here(measured, earlier, tmp_path):
    study = Settings(**STUDY, out=tmp_path / "study", methods=("mae",), joined=earlier)
    join(study)
    assert earlier_commands(study) == "a2mim finetune\n" and earlier_study(study) == SAID
    shutil.copytree(measured[2], folder_of(study, "vit", "mae", 0) / "profile-8")
    refuse_unlike(study)
    table = differences(study)
    assert set(table["method_a"] + " " + table["method_b"]) == {
        "MAE supervised",
        "MAE untrained",
        "supervised untrained",
    }
    assert accuracies(study).to_dict("records") == ROWS[:1]
    assert [each.name for each in shown(study, backbone_of, "spectrum")] == ["supervised"]
    kept = (earlier / "images.tar.xz").read_bytes()
    shutil.rmtree(study.out / "vit-mae-0")
    keep_rows(study)
    assert (study.kept / "images.tar.xz").read_bytes() == kept  # nothing was lost on the way
    with tarfile.open(earlier / "images.tar.xz") as archive:
        assert not any("half" in name or "pairs" in name for name in archive.getnames())


def test_networks_that_only_the_archive_has_are_left_there(measured, earlier, tmp_path):
    """Their runs were written over those that this study had measured itself."""
    for table in ("accuracy.csv", "masses.csv"):  # as somebody does who trains these networks anew
        rows = pd.read_csv(earlier / table)
        rows[rows["method"] != "supervised"].to_csv(earlier / table, index=False)
    study = Settings(**STUDY, out=tmp_path / "study", methods=("supervised",), joined=earlier)
    own = shutil.copytree(measured[2], folder_of(study, "vit", "supervised", 0) / "profile-8")
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    join(study)
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before
    assert (folder_of(study, "vit", "untrained", 0) / "profile-8" / "run.json").is_file()


def test_joined_networks_are_not_trained_again_also_where_they_are_not_named_any_more(earlier, tmp_path):
    def planned(**settings):
        made = [step for step in steps(Settings(**STUDY, **settings)) if step.words[0] != "occlusion"]  # see below
        return {step.out.relative_to(tmp_path / "study"): step.words for step in made}

    new = {"out": tmp_path / "study", "methods": ("supervised", "mae")}
    whole, joined = planned(**new), planned(**new, joined=earlier)
    assert joined.items() <= whole.items()
    assert {path.parts[0] for path in whole.keys() - joined.keys()} == {"vit-supervised-0", "vit-untrained-0"}
    join(Settings(**STUDY, **new, joined=earlier))
    assert planned(**new) == joined
    (earlier / "accuracy.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no accuracy\.csv"):
        join(Settings(**STUDY, **new, joined=earlier))


def test_other_results_than_those_of_the_beginning_are_refused(earlier, tmp_path):
    study = Settings(**STUDY, out=tmp_path / "study", methods=("mae",), joined=earlier)
    join(study)
    join(study)
    other = shutil.copytree(earlier, tmp_path / "other")
    pd.DataFrame(ROWS[:1]).to_csv(other / "masses.csv", index=False)
    with pytest.raises(ValueError, match="was begun with other results"):
        join(replace(study, joined=other))


def test_what_was_trained_here_is_not_joined_as_well(earlier, tmp_path):
    study = Settings(**STUDY, out=tmp_path / "study", methods=("mae",), joined=earlier)
    run = study.out / "vit-supervised-0"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="vit-supervised-0 was trained here"):
        join(study)
    assert list(study.out.rglob("*.parquet")) == [] and not (study.out / "joined-accuracy.csv").exists()


def test_networks_that_were_measured_otherwise_are_not_compared(measured, earlier, tmp_path):
    study = Settings(**STUDY, out=tmp_path / "study", methods=("mae",), joined=earlier)
    join(study)
    own = shutil.copytree(measured[2], folder_of(study, "vit", "mae", 0) / "profile-8")
    change(own, lambda record: record["settings"].update(baseline="blur"))
    with pytest.raises(ValueError, match="measured otherwise than those of this one"):
        refuse_unlike(study)


@pytest.mark.parametrize("joined", [True, False])
def test_networks_that_were_shown_other_images_are_not_compared(joined, measured, earlier, tmp_path):
    """The same pictures by another mean and deviation: one of the two was not trained so."""
    study = Settings(**STUDY, out=tmp_path / "study", methods=("mae",), joined=earlier if joined else None)
    join(study)
    own = shutil.copytree(measured[2], folder_of(study, "vit", "mae", 0) / "profile-8")
    if not joined:
        shutil.copytree(measured[0], folder_of(study, "vit", "supervised", 0) / "profile-8")
    refuse_unlike(study)
    change(own, lambda record: record["settings"]["normalisation"].update(mean=[0.5, 0.5, 0.5]))
    with pytest.raises(ValueError, match=r"shown images of mean 0\.485 .*; of mean 0\.5 0\.5 0\.5 .*measured alike"):
        refuse_unlike(study)


@pytest.mark.parametrize(
    "name",
    [
        "../vit-mae-0/profile-8/run.json",
        "/vit-mae-0/run.json",
        "vit-mae-0/profile-8/../../x.csv",
        "vit-mae-0/a/pairs/x",
    ],
)
def test_an_archive_with_anything_else_is_refused(name, earlier, tmp_path):
    with tarfile.open(earlier / "images.tar.xz", "w:xz") as tar:
        about = tarfile.TarInfo(name)
        about.size = 1
        tar.addfile(about, io.BytesIO(b"x"))
    refused(earlier, tmp_path)


def test_a_link_in_an_archive_is_refused(earlier, tmp_path):
    with tarfile.open(earlier / "images.tar.xz", "w:xz") as tar:
        about = tarfile.TarInfo("vit-mae-0/profile-8/run.json")
        about.type, about.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(about)
    refused(earlier, tmp_path)


@pytest.mark.parametrize("content", [b"", b"no archive", lzma.compress(b"no archive")])
def test_a_damaged_archive_is_refused(content, earlier, tmp_path):
    (earlier / "images.tar.xz").write_bytes(content)
    refused(earlier, tmp_path)


def test_an_archive_that_was_cut_short_is_refused(earlier, tmp_path):
    whole = (earlier / "images.tar.xz").read_bytes()
    (earlier / "images.tar.xz").write_bytes(whole[: len(whole) // 2])
    refused(earlier, tmp_path)


def refused(earlier: Path, tmp_path: Path) -> None:
    """Nothing of the archive counts."""
    study = Settings(**STUDY, out=tmp_path / "study", methods=("mae",), joined=earlier)
    with pytest.raises(ValueError, match=r"images\.tar\.xz is damaged or not what a CIFAR-10 study kept"):
        join(study)
    assert list(tmp_path.rglob("passwd")) == [] and list(study.out.rglob("run.json")) == []


def test_a_plan_says_that_there_are_no_results(tmp_path, capsys):
    words = f"reproduce cifar10 --plan --joined {tmp_path / 'nowhere'} --out {tmp_path / 'study'}"
    assert cli.main(words.split()) == 2
    assert "nowhere holds no accuracy.csv: give the folder of results" in capsys.readouterr().err


def test_a_table_of_unknown_methods_is_said_with_exit_code_2(earlier, tmp_path, capsys):
    pd.DataFrame([ROWS[0] | {"method": "magic"}]).to_csv(earlier / "accuracy.csv", index=False)
    words = f"reproduce cifar10 --plan --size cpu --joined {earlier} --out {tmp_path / 'study'}"
    assert cli.main(words.split()) == 2
    assert "names methods that there are not (magic)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "row, words",
    [
        ({"network": "../evil/cnn"}, r"accuracy\.csv names networks that there are not \(\.\./evil/cnn\)"),
        ({"seed": -1}, r"accuracy\.csv has a seed that is none \(-1\)"),
        ({"seed": 0.5}, r"accuracy\.csv has a seed that is none \(0\.5\)"),
        ({"seed": None}, r"accuracy\.csv has a seed that is none \(nan\)"),
    ],
)
def test_networks_that_there_are_not_are_refused(row, words, earlier, tmp_path):
    pd.DataFrame([ROWS[0], ROWS[0] | row]).to_csv(earlier / "accuracy.csv", index=False)
    with pytest.raises(ValueError, match=words):
        steps(Settings(**STUDY, out=tmp_path / "study", joined=earlier))


@pytest.mark.parametrize(
    "own, words",
    [
        ({"size": "gpu"}, r"study\.json cannot stand beside those of this study \(size cpu there, gpu here\)"),
        ({"times": 3}, r"\(times 1 there, 3 here\): give this one the same, or join other results"),
        ({"quick": True}, r"\(quick False there, True here\)"),
        ({"seeds": (1,)}, r"has networks of --seeds 0, and asked for are 1: name all of them"),
        ({"families": ("cnn",)}, r"has networks of --families vit, and asked for are cnn: name all of them"),
    ],
)
def test_a_study_of_another_kind_is_refused_before_anything_is_trained(own, words, earlier, tmp_path):
    study = Settings(**STUDY | own, out=tmp_path / "study", joined=earlier)
    with pytest.raises(ValueError, match=words):
        steps(study)
    join(Settings(**STUDY, out=tmp_path / "study", joined=earlier))
    with pytest.raises(ValueError, match=words):
        steps(replace(study, joined=None))  # gone on with, but otherwise


@pytest.mark.parametrize("told", [{"commit": "abc"}, {"settings": "cpu"}])
def test_a_study_that_does_not_say_its_size_is_refused(told, earlier, tmp_path):
    (earlier / "study.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match="size unknown there, cpu here; times unknown there, 1 here"):
        steps(Settings(**STUDY, out=tmp_path / "study", joined=earlier))


def test_a_network_that_was_only_pretrained_is_trained_here(earlier, tmp_path):
    begun = {"network": "vit", "method": "MAE", "seed": 0, "pretrain_epochs": 3}
    pd.DataFrame([*ROWS[:1], begun]).to_csv(earlier / "accuracy.csv", index=False)
    study = Settings(**STUDY, out=tmp_path / "study", methods=("mae",), joined=earlier)
    assert {"vit-mae-0-pretrain", "vit-mae-0"} <= {step.out.name for step in steps(study)}
    join(study)
    assert list(accuracies(study)["method"]) == ["supervised"]  # MAE's is that of here, once it is there


@pytest.mark.parametrize("kept", [True, False])
def test_patches_are_those_salient_to_the_joined_supervised_network_at_every_start(kept, measured, earlier, tmp_path):
    """Of an archive without its saliency the first start took each network's own, and every later one was refused."""
    if kept:
        study = Settings(**STUDY, out=tmp_path / "earlier")
        occlusion = folder_of(study, "vit", "supervised", 0) / "occlusion"
        (occlusion / "saliency").mkdir(parents=True)
        (occlusion / "saliency/unit-00000.parquet").write_bytes(b"rows")
        (occlusion / "run.json").write_text('{"status": "complete", "command": "occlusion"}')
        keep_rows(study)
    study = Settings(**STUDY, out=tmp_path / "study", methods=("mae",), joined=earlier)

    def asked():
        return {
            step.out.parent.name: "--saliency" in step.words for step in steps(study) if step.words[0] == "occlusion"
        }

    before = asked()
    assert before == {"vit-mae-0": kept}
    join(study)
    assert asked() == before
    (folder_of(study, "vit", "mae", 0) / "occlusion").mkdir(parents=True)
    assert asked() == before
    if kept:
        found = folder_of(study, "vit", "supervised", 0) / "occlusion/saliency/unit-00000.parquet"
        assert found.read_bytes() == b"rows"


def test_results_of_another_study_are_not_written_over(earlier, tmp_path):
    study = Settings(**STUDY, out=tmp_path / "study", methods=("mae",), results=earlier)
    with pytest.raises(
        ValueError, match=r"holds the results of another study \(vit-supervised-0, which is not in .*study"
    ):
        refuse_foreign_results(study)
    assert not refuse_foreign_results(replace(study, joined=earlier))  # they stand beside its own
    assert not refuse_foreign_results(replace(study, out=tmp_path / "earlier"))  # these are its own
    assert not refuse_foreign_results(replace(study, results=None))


def test_networks_of_other_images_are_told(earlier, tmp_path):
    study = Settings(**STUDY, out=tmp_path / "study", methods=("mae",), joined=earlier)
    said = {**SAID["settings"], "train": "elsewhere/a.tar", "test": "other.tar"}
    (earlier / "study.json").write_text(json.dumps({**SAID, "settings": said}))
    assert other_images(study) == ""  # nothing is joined yet
    join(study)
    assert "of other names (--test other.tar there, b.tar here): are they the same?" in other_images(study)


def test_networks_measured_on_other_photographs_of_the_same_names_are_not_compared(joined_study, tmp_path):
    study = joined_study
    refuse_unlike(study)
    record = folder_of(study, "vit", "mae", 0) / "profile-8/run.json"
    about = json.loads(record.read_text())
    about["images"][0]["digest"] = "0" * 16
    record.write_text(json.dumps(about))
    with pytest.raises(ValueError, match="1 have other pixels: are they the same photographs"):
        refuse_unlike(study)


@pytest.fixture
def joined_study(measured, earlier, tmp_path):
    study = Settings(**STUDY, out=tmp_path / "study", methods=("mae",), joined=earlier)
    join(study)
    shutil.copytree(measured[2], folder_of(study, "vit", "mae", 0) / "profile-8")
    return study
