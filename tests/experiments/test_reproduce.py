"""`a2mim reproduce cifar10`: every command of its plan can be typed, and fits the one before."""

import importlib
import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from experiments import cli
from experiments.help import parse
from experiments.recipes import cifar10, recipes_of
from experiments.recipes import imagenet as imagenet_recipes
from experiments.recipes.imagenet.a2mim import IMAGES_OF_A_SPECTRUM
from experiments.studies import imagenet, trainings
from experiments.studies.cifar10 import drawing, plan, tables
from experiments.studies.cifar10.command import run
from experiments.studies.cifar10.plan import FAMILIES, STATES, Settings, steps
from experiments.studies.methods import METHODS, UNTRAINED
from experiments.studies.steps import NOT_YET, essence, place, refuse_other_commands
from experiments.studies.token_position import PLACES
from experiments.training.asked import resolved
from interactions.game import PatchGame
from interactions.grid import PatchGrid, orders_of
from tests.a2mim.tiny import write_images
from tests.interactions import test_hierarchy


def typed(words):
    """A command's settings, and the weights that it begins with."""
    module = importlib.import_module(cli.COMMANDS[words[0]])
    settings = parse(module.Settings, args=words[1:])
    trains = words[0] in ("pretrain", "finetune")
    network = resolved(settings, words[0]).network if trains else getattr(settings, "network", settings)
    return settings, network.weights


def behind(words, option):
    """The word behind an option; None where it is not given."""
    return words[words.index(option) + 1] if option in words else None


@pytest.mark.parametrize(("size", "quick"), [("gpu", False), ("cpu", False), ("cpu", True)])
def test_every_command_is_one_that_can_be_typed(size, quick):
    """Those that differ in folders and seeds alone are read once: there are hundreds."""
    made, folders, known = steps(Settings("train.tar", "test.tar", size=size, quick=quick)), set(), {}
    kept: dict = {}
    for step in made:
        shape = tuple("·" if word.startswith("runs/") or word in ("0", "1", "2") else word for word in step.words)
        if shape not in known:
            settings, known[shape] = typed(step.words)
            assert Path(settings.out) == step.out
            followed = step.words[1] if "--checkpoints" in step.words else ""
            assert known[shape] == (behind(step.words, "--weights") or ("pretrained" if followed else "random"))
            assert not followed or behind(kept[Path(followed)], "--keep-states") == "8"
        assert behind(step.words, "--out") == str(step.out)
        kept[step.out] = step.words
        if "--checkpoints" in step.words:
            assert Path(step.words[1]) in folders
            folders.add(step.out)
            continue
        weights = Path(behind(step.words, "--weights") or known[shape])
        assert str(weights) == "random" or weights in folders or weights.parent in folders, step.words
        folders.add(step.out)
    assert len(folders) == len(made) and len(known) < 90
    seeds = 3
    networks = sum(len(method.families) for method in METHODS.values() if method.tuned)
    swept = sum("--mask-at" in step.words for step in made)
    assert swept == sum(len(PLACES[family + ("_cpu" if size == "cpu" else "")]) for family in FAMILIES) * seeds
    assert sum(step.words[0] == "finetune" for step in made) == networks * seeds + swept
    assert sum(step.words[0] == "spectrum" for step in made) == (networks + 2) * seeds


def test_a_longer_study_multiplies_the_epochs_of_each_recipe_and_of_nothing_else():
    words = {"train": "a.tar", "test": "b.tar", "size": "cpu", "methods": ("supervised", "simclr"), "sweep": True}
    usual, longer = (steps(Settings(**words, times=times)) for times in (1, 3))
    epochs = {}
    for one, other in zip(usual, longer, strict=True):
        if one.words != other.words:
            at = other.words.index("--epochs")
            assert other.words[:at] + other.words[at + 2 :] == one.words and other.guess == pytest.approx(3 * one.guess)
            epochs.setdefault(behind(one.words, "--recipe"), set()).add(other.words[at + 1])
    expected = {"cifar10:finetune_vit_cpu": {"9"}, "cifar10_baselines:simclr_vit_cpu": {"3"}}
    assert {name: found for name, found in epochs.items() if "vit" in name} == expected and len(epochs) == 4
    once, thrice = (steps(Settings(**words, times=times, quick=True)) for times in (1, 3))
    assert [step.words for step in once] == [step.words for step in thrice]


def test_methods_that_were_trained_otherwise_are_not_compared(tmp_path):
    """Tables are of every method in the folder, also of those that are not asked for."""
    words = {"train": "a.tar", "test": "b.tar", "size": "cpu", "sweep": False, "families": ("cnn",), "seeds": (0,)}
    study = Settings(**words, out=tmp_path / "runs", methods=("supervised",))
    first = steps(study)[0]
    for name, text in {"run.json": '{"finished": true}', "loss.png": "", "log.jsonl": "{}"}.items():
        (first.out / name).parent.mkdir(parents=True, exist_ok=True)
        (first.out / name).write_text(text)
    commands = {place(first, study.out): essence(first, study.out)}
    (study.out / "commands.json").write_text(json.dumps(commands))
    for planned in (False, True):
        with pytest.raises(ValueError, match="cnn-supervised-0 was made by another command"):
            run(replace(study, methods=("a2mim",), times=3, plan=planned))


def test_every_setup_of_a_network_has_one_list_of_orders_in_the_tables():
    """J is relative to the mean over the orders: M of 13 of them, and M of the 12 that drop has, are two numbers."""
    rows = pd.DataFrame({"ratio": [0.0, 0.05, 1.0]})
    assert list(tables.alike("vit", rows)["ratio"]) == [0.05, 1.0] and len(tables.alike("cnn", rows)) == 3


def test_the_published_measure_has_the_orders_of_its_own_protocol(monkeypatch):
    """Of a ViT, masses leave out the order that one of the baselines has not, and say so."""
    strengths = test_hierarchy.table(np.array([[8.0, 1.0, 1.0]] * 10))
    strengths = strengths.replace({"ratio": {test_hierarchy.RATIOS[0]: 0.0}})
    profile = SimpleNamespace(images=lambda: strengths)
    monkeypatch.setattr(tables, "profiles", lambda *_: {0: Path("run")})
    monkeypatch.setattr(tables, "load_profile", lambda _: profile)
    monkeypatch.setattr(tables, "by_identity", lambda run: run.images())
    monkeypatch.setattr(tables, "LABELS", {name: tables.LABELS[name] for name in tables.CONTEXT_CHECK})
    for name in ("middle_mass", "seeded_masses", "seeded_differences"):  # their intervals are not looked at
        monkeypatch.setattr(tables, name, partial(getattr(tables, name), resamples=2))
    settings = Settings("a", "b", families=("vit",))
    found = tables.published(settings)
    found = found[(found["measure"] == "J") & found["of"].isin(["A²MIM", "supervised"])]
    assert found["M"].tolist() == pytest.approx([3 / 10] * 4)  # a middle order against the mean of all three
    for family, mass, least in (("vit", 1, 0.5), ("cnn", 3 / 10, 0)):
        masses = tables.masses(replace(settings, families=(family,)))
        assert masses.loc[masses["measure"] == "J", "M"].unique() == pytest.approx(mass)
        assert set(masses["least_ratio"]) == {least}


def test_patches_are_dropped_where_some_are_left():
    """A ViT that pools its patches has no value without any, which ended the study at its first such profile."""
    made = steps(Settings("a.tar", "b.tar", size="cpu", families=("vit",), seeds=(0,), sweep=False))
    dropped = [step for step in made if behind(step.words, "--baseline") == "drop"]
    painted = [step for step in made if behind(step.words, "--baseline") == "blur"]
    assert dropped and all("--ratios" not in step.words for step in painted)
    image = torch.zeros(1, 3, 32, 32)
    game = PatchGame(cifar10.vit_cpu(), image, [0], PatchGrid(8), baseline="drop")
    with pytest.raises(ValueError, match="order 0"):
        game.refuse_empty()
    for step in dropped:
        settings, _ = typed(step.words)
        orders = orders_of(settings.measure.ratios, 64)
        assert min(orders) > 0 and max(orders) == 62 and len(orders) == 12


def test_two_trainings_of_every_network_are_followed_behind_the_headline():
    made = steps(Settings("a.tar", "b.tar", seeds=(3, 0), sweep=False))
    kept = {step.out.name for step in made if behind(step.words, "--keep-states") == str(STATES)}
    courses = [step for step in made if "--checkpoints" in step.words]
    followed = ["cnn-supervised-0", "cnn-a2mim-0-pretrain", "vit-supervised-0", "vit-a2mim-0-pretrain"]
    assert kept == set(followed) == {step.out.parent.name for step in courses}
    assert [step.out.parent.name for step in courses] == followed
    assert all(step.out.name == "frozen-8-course" and behind(step.words, "--value") == "cosine" for step in courses)
    names = [step.out for step in made]
    headline = [made.index(step) for step in made if step.out.name.startswith(("frozen-8", "profile-8"))]
    simclr = max(k for k in headline if "simclr" in str(names[k]))
    others = min(k for k in headline if "simmim" in str(names[k]))
    assert all(simclr < made.index(step) < others for step in courses)
    only = steps(Settings("a.tar", "b.tar", seeds=(0,), methods=("simclr",), sweep=False))
    assert not any({"--checkpoints", "--keep-states"} & set(step.words) for step in only)


def test_seeds_and_methods_can_be_added_to_what_is_there(tmp_path):
    """Each command is the same whatever else is asked for."""
    words = {"train": "a.tar", "test": "b.tar", "out": tmp_path / "runs", "families": ("cnn",), "sweep": False}
    whole = {step.out: step.words for step in steps(Settings(**words))}
    for first in ({"seeds": (1,)}, {"seeds": (2, 0)}, {"methods": ("supervised", "byol")}):
        assert {step.out: step.words for step in steps(Settings(**words, **first))}.items() <= whole.items()
    for seed in range(3):
        looked = tmp_path / "runs" / f"cnn-supervised-{seed}" / "occlusion"
        looked.mkdir(parents=True)
        (looked / "run.json").write_text('{"status": "complete"}')
    alone = {step.out: step.words for step in steps(Settings(**words, methods=("byol",)))}
    assert alone.items() <= whole.items() and len(alone) > 10


def test_a_data_set_that_timm_names_is_found_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = {"sweep": False, "families": ("cnn",), "seeds": (0,), "data_root": "x"}
    for train, test, named in (
        ("tfds/cifar10", "b.tar", True),
        ("a.tar", "hfds/uoft-cs/cifar10", True),
        ("a.tar", "b.tar", False),
    ):
        assert {behind(step.words, "--data-root") for step in steps(Settings(train, test, **study))} == {
            "x" if named else None
        }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("cifar10 --families vit --methods spark", "SparK trains no ViT: leave spark out of --methods, or name"),
        ("cifar10 --families cnn --methods a2mim mae", "MAE trains no CNN: leave mae out of --methods"),
        ("cifar10 --seeds 0 0", "--seeds 0 0 names one of them twice"),
        ("cifar10 --families cnn cnn", "--families cnn cnn names one of them twice"),
        ("imagenet --networks vit_small --methods spark", "vit_small has recipes with "),
        ("imagenet --networks vit_base resnet50 --methods mae", "resnet50 has recipes with "),
        ("imagenet --networks resnet50 --methods a2mim mae", "mae has recipes with vit_"),
    ],
)
def test_what_no_recipe_trains_is_refused_and_nothing_planned_twice(words, said, capsys):
    assert cli.main(["reproduce", *words.split(), "--plan"]) == 2
    told = capsys.readouterr()
    assert said in told.err and not told.out


def test_the_plan_of_imagenet_into_a_folder_with_a_colon(tmp_path, monkeypatch, capsys):
    """Its folder was taken for a recipe."""
    monkeypatch.chdir(tmp_path)
    words = ["--networks", "resnet50", "--methods", "supervised", "--out", "a:b", "--data", "imagenet:x", "--plan"]
    assert cli.main(["reproduce", "imagenet", *words]) == 0
    assert "GB of checkpoints" in capsys.readouterr().out


def test_the_plan_of_imagenet_can_be_typed_and_its_weights_fit():
    made, folders = list(imagenet.steps(imagenet.Settings(networks=("resnet50", "vit_small")))), set()
    for step in made:
        module = importlib.import_module(cli.COMMANDS[step.words[0]])
        settings = parse(module.Settings, args=step.words[1:])
        assert Path(settings.out) == step.out
        if step.words[0] in ("pretrain", "finetune"):
            weights = Path(resolved(settings, step.words[0]).network.weights)
            assert str(weights) == "random" or weights in folders
        folders.add(step.out)
    assert len(folders) == len(made)
    tuned = {step.out.name for step in made if step.words[0] == "finetune"}
    assert {"a2mim_resnet50", "supervised_vit_small", "byol_resnet50"} <= tuned
    assert "mocov3_vit_small" not in tuned  # its network is another than that of finetune_vit_small
    assert [step.out.name for step in made if step.words[0] == "compare"] == ["resnet50.png", "vit_small.png"]


@pytest.mark.parametrize(
    ("gpus", "parts"),
    [(1, ("8", "16", "16", "8")), (8, (None, "2", "2", None)), (16, (None,) * 4), (3, (None,) * 4), (32, (None,) * 4)],
)
def test_spectra_are_averaged_over_as_many_images_as_in_the_releases(gpus, parts):
    """128 for ViT-B and ViT-L, 256 for ViT-S and ResNet-50; with 3 GPUs the batch cannot be, with 32 they are fewer."""
    made = list(imagenet.steps(imagenet.Settings(gpus=gpus)))
    given = {step.out.name: behind(step.words, "--accumulate") for step in made if "--recipe" in step.words}
    names = [f"a2mim_{network}" for network in ("vit_small", "vit_base", "vit_large", "resnet50")]
    assert tuple(given.pop(f"{name}-pretrain") for name in names) == parts and not any(given.values())
    for name, part in zip(names, parts, strict=True):
        images = recipes_of(imagenet_recipes)[name]().loop.batch / (gpus * int(part or 1))
        assert images == IMAGES_OF_A_SPECTRUM[name] or gpus in (3, 16, 32)
    assert {
        name for name, make in recipes_of(imagenet_recipes).items() if "fourier=released" in getattr(make(), "set", ())
    } == IMAGES_OF_A_SPECTRUM.keys()


def test_a_study_goes_on_in_the_parts_that_its_trainings_began_with(tmp_path):
    run = tmp_path / "a2mim_vit_base-pretrain"
    run.mkdir()
    settings = imagenet.Settings(networks=("vit_base",), methods=("a2mim",), out=tmp_path, gpus=8)
    for stored, words in ((1, None), (4, "4")):
        (run / "run.json").write_text(json.dumps({"settings": {"loop": {"accumulate": stored}}}))
        (first, *_) = imagenet.steps(settings)
        assert first.out == run and behind(first.words, "--accumulate") == words


AGENT = """
import signal, sys, time
from pathlib import Path
def end(*_):
    Path(sys.argv[1]).write_text("saved")
    sys.exit(3)
signal.signal(signal.SIGTERM, end)
Path(sys.argv[1]).write_text("at work")
time.sleep(60)
"""
"""Stands for torchrun: it ends its processes, and then itself, where it is asked to."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_study_that_is_stopped_lets_its_processes_end(number, tmp_path):
    """They went on with all GPUs and the folder's lock, and saved nothing."""
    said = tmp_path / "said"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore

    def stop():
        while not said.exists() or said.read_text() != "at work":
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        imagenet.in_processes([sys.executable, "-c", AGENT, str(said)])
    signal.signal(signal.SIGINT, before)
    assert said.read_text() == "saved"


def test_the_exit_code_of_processes_is_that_of_a_shell():
    for code, told in (("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 137)):
        assert imagenet.in_processes([sys.executable, "-c", f"import os, sys; {code}"]) == told


def test_the_plan_of_imagenet_refuses_what_a_run_would(tmp_path, capsys):
    tuned = tmp_path / "supervised_resnet50"
    tuned.mkdir()
    for name, text in {"run.json": '{"finished": true}', "loss.png": "", "log.jsonl": "{}"}.items():
        (tuned / name).write_text(text)
    (tmp_path / "commands.json").write_text('{"supervised_resnet50": ["finetune", "--seed", "7"]}')
    words = ["--networks", "resnet50", "--methods", "supervised", "--out", str(tmp_path), "--plan"]
    assert cli.main(["reproduce", "imagenet", *words]) == 2
    assert "supervised_resnet50 was made by another command ('--seed', '7' there" in capsys.readouterr().err


def test_what_changes_no_operation_is_counted_once():
    counted = {imagenet.size_of(imagenet.recipes()[name]()) for name in ("a2mim_resnet50", "supervised_resnet50")}
    assert len(counted) == 1
    (operations, parameters) = counted.pop()
    assert operations == pytest.approx(4.09e9, rel=0.01) and parameters == pytest.approx(25.56e6, rel=0.001)


def test_gpu_hours_are_those_of_the_arithmetic(tmp_path, capsys):
    words = ["--networks", "resnet50", "--methods", "a2mim", "--out", str(tmp_path / "runs"), "--data", "nowhere"]
    assert cli.main(["reproduce", "imagenet", *words]) == 0
    told = capsys.readouterr().out
    # 4.1 GMACs × 6 × 1,281,167 images × 300 epochs at 100 TFLOP/s
    hours = 4.09e9 * 6 * 1281167 * 300 / 1e14 / 3600
    line = next(line for line in told.splitlines() if "a2mim pretrain" in line)
    assert float(line.split()[0]) == pytest.approx(hours, rel=0.01)
    assert "no images at nowhere" in told and not (tmp_path / "runs").exists()
    assert cli.main(["reproduce", "imagenet", "--networks", "resnet5"]) == 2
    assert "no recipe has the network resnet5" in capsys.readouterr().err


def test_finetuning_is_the_same_whatever_it_starts_from():
    plain = set()
    for step in steps(Settings("train.tar", "test.tar", seeds=(1,), families=("cnn",), sweep=False)):
        if step.words[0] == "finetune":
            own = ("--weights", str(step.out), f"{step.out}-pretrain", "--keep-states", str(STATES))
            plain.add(tuple(word for word in step.words if word not in own))
    assert len(plain) == 1


def test_chosen_methods_seeds_and_networks_only():
    made = steps(Settings("a.tar", "b.tar", seeds=(4,), families=("vit",), methods=("mae",), sweep=False))
    assert {step.out.parts[2].split("-")[1] for step in made} == {"mae", UNTRAINED}
    assert all(step.out.parts[2].startswith("vit-") and "-4" in step.out.parts[2] for step in made)


def test_bad_input_is_said_before_anything_is_written(tmp_path, capsys):
    out = tmp_path / "runs"
    assert cli.main(["reproduce", "cifar10", "--methods", "mea", "--out", str(out)]) == 2
    assert "no method 'mea'" in capsys.readouterr().err
    assert cli.main(["reproduce", "cifar10", "--train", "nowhere.tar", "--test", "no.tar", "--out", str(out)]) == 2
    assert "does not exist" in capsys.readouterr().err and not out.exists()


def test_the_plan_is_printed_and_nothing_written(tmp_path, capsys):
    words = ["--train", "a.tar", "--test", "b.tar", "--size", "cpu", "--plan", "--out", str(tmp_path / "runs")]
    assert cli.main(["reproduce", "cifar10", *words]) == 0
    told = capsys.readouterr().out
    assert "a2mim pretrain --recipe cifar10:a2mim_vit_cpu" in told and "commands are left, about" in told
    assert not (tmp_path / "runs").exists()


def test_tables_of_a_study_without_any_run_are_empty(tmp_path):
    settings = Settings("a.tar", "b.tar", out=tmp_path)
    for table in (tables.accuracies, tables.masses, tables.differences, tables.published):
        assert isinstance(table(settings), pd.DataFrame) and len(table(settings)) == 0


@pytest.mark.slow
def test_the_study_stops_goes_on_and_keeps_its_results(tmp_path, monkeypatch, capsys):
    for part, images in (("train", 6), ("test", 2)):
        write_images(tmp_path / part, per_class=images, classes=10, size=32)
    monkeypatch.setattr(trainings, "QUICK", ("--batch", "20", "--epochs", "1", "--warmup-epochs", "0.5"))
    quick = plan.size_of
    monkeypatch.setattr(plan, "size_of", lambda settings: replace(quick(settings), pictures=4, budget=96))
    monkeypatch.setattr(plan, "CORE", ())
    assert drawing.CORE  # of figure 5: what is left out are measurements
    monkeypatch.setattr(plan, "STATES", 2)
    monkeypatch.setattr(plan, "CONTEXT_CHECK", ())
    monkeypatch.setattr(tables, "CONTEXT_CHECK", ("supervised", "a2mim"))
    study = {"train": str(tmp_path / "train"), "test": str(tmp_path / "test"), "out": tmp_path / "runs", "size": "cpu"}
    monkeypatch.setitem(plan.BASELINES, "cnn", ("mean",))
    study |= {
        "seeds": (0,),
        "families": ("cnn",),
        "methods": ("supervised", "a2mim"),
        "quick": True,
        "device": "cpu",
        "sweep": False,
    }
    assert run(Settings(**study, budget=1e-9)) == NOT_YET  # a step or two are always taken
    assert "left" in capsys.readouterr().out
    assert run(Settings(**study)) == 0
    kept = tmp_path / "runs" / "results"
    assert json.loads((kept / "study.json").read_text())["left"] == []
    accuracy = pd.read_csv(kept / "accuracy.csv").set_index("method")
    assert list(accuracy.index) == [UNTRAINED, "supervised", "A²MIM"]
    told = json.loads((tmp_path / "runs" / "cnn-a2mim-0" / "run.json").read_text())
    assert accuracy["top1"]["A²MIM"] == told["last"]["top1"] and told["loaded"]["missing"] == []
    assert accuracy["knn"].notna().all() and pd.isna(accuracy["top1"][UNTRAINED])
    masses = pd.read_csv(kept / "masses.csv")
    assert masses.groupby(["setup", "method"]).size().tolist() == [3] * 6  # J, J_corrected and J_rms of each
    differences = pd.read_csv(kept / "differences.csv")
    m = masses.set_index(["setup", "measure", "method"])["M"]
    for row in differences.itertuples():
        expected = m[row.setup, row.measure, row.method_a] - m[row.setup, row.measure, row.method_b]
        assert row.difference == pytest.approx(expected)
    found = {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()}
    assert {f"figures/{name}.png" for name in ("fig1", "fig5", "figA1", "figA2", "figA3", "figA4", "mass")} <= found
    assert {"figures/course.png", "figures/course.json", "curves/cnn-a2mim-0-pretrain-frozen-8-course.csv"} <= found
    last = tmp_path / "runs" / "cnn-supervised-0" / "frozen-8-course"
    same = [max(last.glob("step-*")), last.parent / "frozen-8"]  # the same weights, shown the same images
    one, other = (pd.read_csv(folder / "strength.csv") for folder in same)
    pd.testing.assert_frame_equal(one, other)
    assert {"loss/cnn-a2mim-0-pretrain.png", "pictures/cnn-a2mim-0-pretrain.png", "report.html"} <= found
    assert "A²MIM" in (kept / "report.html").read_text() and "One seed a method" in (kept / "report.html").read_text()
    assert "not made by" not in (kept / "commands.sh").read_text()
    monkeypatch.setattr(cli, "main", lambda words: pytest.fail(str(words)) if words[0] != "figure" else 0)
    assert run(Settings(**study)) == 0
    (tmp_path / "runs" / "commands.json").unlink()
    refuse_other_commands(steps(Settings(**study)), tmp_path / "runs")  # nobody remembers, and the records agree
