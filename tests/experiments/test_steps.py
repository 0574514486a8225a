"""Studies of `a2mim` commands: what is done is skipped, what failed ends them, what is left is told."""

import json
import os
import platform
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from a2mim.plain import to_plain
from experiments import cli
from experiments.folders import read_record
from experiments.help import parse
from experiments.studies.kept import write_commands
from experiments.studies.recorded import asked, refuse_other_recipe
from experiments.studies.steps import (
    NOT_YET,
    PICTURES,
    Step,
    finished,
    pursue,
    refuse_absent,
    refuse_other_commands,
    report_plan,
    run_steps,
    seconds_left,
)
from experiments.training.asked import find_recipe
from figures import files
from interactions.runs.files import write_json
from tests.interactions.tiny import CLASSES, SIZE


@pytest.fixture
def typed(monkeypatch):
    """Commands that write what real ones write, at once: a complete run, `half` of one, a file, or an exit code."""
    seen = []

    def main(words):
        seen.append(words)
        verb, out = words[0], words[words.index("--out") + 1]
        if verb == "fail":
            return 2
        if verb == "knn":
            Path(out).write_text("{}")
            return 0
        Path(out).mkdir(exist_ok=True)
        record = {"seconds": 30.0, "finished": verb != "half", "status": "complete" if verb == "profile" else None}
        (Path(out) / "run.json").write_text(json.dumps(record))
        for name in PICTURES.get(verb, ()):
            (Path(out) / name).touch()
        return 0

    monkeypatch.setattr(cli, "main", main)
    return seen


def step(tmp_path, verb, name, guess=60.0):
    return Step((verb, "--out", str(tmp_path / "runs" / name)), tmp_path / "runs" / name, guess)


def test_runs_in_order_and_skips_what_is_done(tmp_path, typed):
    steps = [step(tmp_path, "pretrain", "a"), step(tmp_path, "profile", "b"), step(tmp_path, "knn", "c.json")]
    assert not any(map(finished, steps))
    assert run_steps(steps) == 0 and all(map(finished, steps))
    assert [words[0] for words in typed] == ["pretrain", "profile", "knn"]
    assert run_steps(steps) == 0 and len(typed) == 3


@pytest.mark.parametrize("spoil", ["text", "list", "pipe", "large"])
def test_a_record_that_is_none_is_damaged(tmp_path, spoil, monkeypatch):
    """A pipe counted as nothing there, and a large file was read to its end."""
    path = tmp_path / "run.json"
    assert read_record(tmp_path) == {}
    os.mkfifo(path) if spoil == "pipe" else path.write_text({"list": "[1]"}.get(spoil, "{"))
    if spoil == "large":
        path.write_text("{}")
        assert read_record(tmp_path) == {}
        monkeypatch.setattr(files, "LONGEST_RECORD", 1)
    with pytest.raises(ValueError, match=r"run\.json is damaged: put back the file"):
        read_record(tmp_path)


def test_a_failure_ends_it_with_its_code(tmp_path, typed):
    assert run_steps([step(tmp_path, "fail", "a"), step(tmp_path, "profile", "b")]) == 2
    assert len(typed) == 1


def test_the_minutes_end_it_behind_the_first_command_and_reach_those_that_can_stop(tmp_path, typed):
    steps = [step(tmp_path, "pretrain", "a"), step(tmp_path, "profile", "b")]
    assert run_steps(steps, minutes=1e-9) == NOT_YET
    assert typed == [[*steps[0].words, "--minutes", "0.0001"]]
    assert run_steps(steps, minutes=1e-9) == 0  # one more is always taken
    assert "--minutes" not in typed[1]
    assert run_steps([step(tmp_path, "half", "c"), step(tmp_path, "profile", "d")], minutes=10) == NOT_YET


def test_the_time_left_follows_what_others_of_the_kind_took(tmp_path, typed):
    steps = [step(tmp_path, "pretrain", "a", 60), step(tmp_path, "pretrain", "b", 100), step(tmp_path, "knn", "c.json")]
    assert seconds_left(steps) == 220
    run_steps(steps, minutes=1e-9)
    assert seconds_left(steps) == pytest.approx(0.5 * 160)  # took 30 s instead of 60 s
    plan = report_plan(steps)
    assert plan.startswith("done  a2mim pretrain") and "2 of 3 commands are left, about 80 s" in plan


def test_what_another_command_made_is_not_taken_for_this_ones(tmp_path, typed):
    """--quick and then the whole, another seed, other data: the old results were kept under the new settings."""
    folder, data = tmp_path / "runs", tmp_path / "a.tar"
    data.write_text("1")

    def steps(budget="400", images=data, device="cpu"):
        words = ("profile", "--data", str(images), "--budget", budget, "--device", device, "--out", str(folder / "b"))
        return [Step(words, folder / "b")]

    assert run_steps(steps(), folder=folder) == 0
    (tmp_path / "moved").mkdir()
    moved = data.rename(tmp_path / "moved" / "a.tar")
    refuse_other_commands(steps(images=moved, device="cuda"), folder)
    with pytest.raises(ValueError, match=r"made by another command \('400' there, '800' now\)"):
        refuse_other_commands(steps("800", moved), folder)
    moved.write_text("12")
    with pytest.raises(ValueError, match=r"'a.tar \(1 bytes\)' there, 'a.tar \(2 bytes\)' now"):
        refuse_other_commands(steps(images=moved), folder)
    refuse_other_commands([Step(("knn", "--out", str(folder / "new")), folder / "new")], folder)


def test_weights_of_another_run_are_others_whatever_their_name_and_size(tmp_path, typed):
    folder = tmp_path / "runs"
    for name, content in (("r1", "one"), ("r2", "two"), ("moved/r1", "one")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "backbone.safetensors").write_text(content)

    def steps(weights):
        words = ("segment", "--weights", str(weights), "--out", str(folder / "b"))
        return [Step(words, folder / "b")]

    of_run, of_file, of_copy = "{0}", "{0}/backbone.safetensors", "{0}/backbone.safetensors#ema"
    for kind in (of_run, of_file, of_copy):
        shutil.rmtree(folder, ignore_errors=True)
        r1, r2, moved = (kind.format(tmp_path / name) for name in ("r1", "r2", "moved/r1"))
        assert run_steps(steps(r1), folder=folder) == 0
        refuse_other_commands(steps(r1), folder)
        if kind != of_copy:
            refuse_other_commands(steps(moved), folder)
        with pytest.raises(ValueError, match="was made by another command"):
            refuse_other_commands(steps(r2), folder)
        # A study from before there were digests goes on.
        commands = json.loads((folder / "commands.json").read_text())
        before = {place: [word.partition(" sha256:")[0] for word in words] for place, words in commands.items()}
        assert before != commands
        (folder / "commands.json").write_text(json.dumps(before))
        refuse_other_commands(steps(r1), folder)


def test_weights_of_the_study_itself_are_known_by_their_place_and_contents(tmp_path, typed):
    """A study that was moved, whose weights are gone, or are the same again, goes on."""
    folder = tmp_path / "runs"
    (folder / "a").mkdir(parents=True)
    (weights := folder / "a" / "backbone.safetensors").write_text("one")

    def steps(folder=folder):
        return [Step(("finetune", "--weights", str(folder / "a"), "--out", str(folder / "b")), folder / "b")]

    assert run_steps(steps(), folder=folder) == 0
    weights.unlink()
    refuse_other_commands(steps(), folder)
    weights.write_text("one")
    refuse_other_commands(steps(), folder)
    folder = folder.rename(tmp_path / "moved")
    refuse_other_commands(steps(folder), folder)
    commands = json.loads((folder / "commands.json").read_text())
    (folder / "a" / "backbone.safetensors").write_text("two")
    with pytest.raises(ValueError, match="are not those that others were made from"):
        refuse_other_commands(steps(folder), folder)
    commands["b"] = [word.partition(" sha256:")[0] for word in commands["b"]]  # as it was remembered before
    (folder / "commands.json").write_text(json.dumps(commands))
    refuse_other_commands(steps(folder), folder)


@pytest.mark.parametrize("done", ["done", "half"])
def test_what_was_made_from_a_network_that_is_trained_anew_is_not_taken(done, tmp_path, monkeypatch):
    """Its fine-tuning and its profiles stayed done, and stood in the tables beside the new network."""
    folder, contents = tmp_path / "runs", iter("12")

    def main(words):
        out = Path(words[words.index("--out") + 1])
        out.mkdir(parents=True)
        if words[0] == "pretrain":
            (out / "backbone.safetensors").write_text(next(contents))
        finished = words[0] == "pretrain" or done == "done"
        (out / "run.json").write_text(json.dumps({"finished": finished, "seconds": 1.0}))
        (out / "loss.png").touch()
        return 0

    monkeypatch.setattr(cli, "main", main)
    before, after = folder / "a", folder / "b"
    steps = [Step(("pretrain", "--out", str(before)), before)]
    steps += [Step(("finetune", "--weights", str(before), "--out", str(after)), after)]
    assert run_steps(steps, folder=folder) == (0 if done == "done" else NOT_YET)
    refuse_other_commands(steps, folder)
    shutil.rmtree(before)
    said = rf"those that others were made from \({after} from a\): move what was made away"
    refuse_other_commands(steps, folder)  # nobody knows yet what the new ones will be
    with pytest.raises(ValueError, match=said):
        run_steps(steps, folder=folder)
    with pytest.raises(ValueError, match=said):
        refuse_other_commands(steps, folder)
    shutil.rmtree(after)
    refuse_other_commands(steps, folder)


def test_what_has_gone_is_known_by_its_name(tmp_path, typed):
    folder, data = tmp_path / "runs", tmp_path / "a.tar"
    data.write_text("1")
    (tmp_path / "r1").mkdir()
    (tmp_path / "r1" / "backbone.safetensors").write_text("one")

    def steps(images=data, budget="400"):
        words = ("profile", "--data", str(images), "--weights", str(tmp_path / "r1"), "--budget", budget)
        return [Step((*words, "--out", str(folder / "b")), folder / "b")]

    assert run_steps(steps(), folder=folder) == 0
    data.unlink()
    shutil.rmtree(tmp_path / "r1")
    refuse_other_commands(steps(), folder)
    with pytest.raises(ValueError, match=r"\('400' there, '800' now\)"):
        refuse_other_commands(steps(budget="800"), folder)
    with pytest.raises(ValueError, match=r"\('a.tar \(1 bytes\)' there, '.*b.tar' now\)"):
        refuse_other_commands(steps(tmp_path / "b.tar"), folder)


def test_a_plan_says_what_a_run_would_refuse(tmp_path, typed, capsys):
    folder = tmp_path / "runs"
    study = SimpleNamespace(plan=True, out=folder, budget=0.0)

    def steps(budget):
        return [Step(("profile", "--budget", budget, "--out", str(folder / "b")), folder / "b")]

    assert run_steps(steps("400"), folder=folder) == 0
    assert pursue(study, steps("400"), list) == 0 and "done  a2mim profile" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"made by another command \('400' there, '800' now\)"):
        pursue(study, steps("800"), list)


def test_what_is_not_there_is_said_of_commands_that_are_left_alone(tmp_path, typed):
    one, other = (tmp_path / name for name in ("images", "others"))
    one.mkdir()
    outs = {tmp_path / f"of-{data.name}": data for data in (one, other)}
    steps = [Step(("profile", "--data", str(data), "--out", str(out)), out) for out, data in outs.items()]
    with pytest.raises(FileNotFoundError, match="others': it does not exist"):
        refuse_absent(steps, (str(one), str(other)))
    refuse_absent(steps, ("torch/cifar10", str(tmp_path / "nobody's")))
    assert run_steps(steps) == 0
    refuse_absent(steps, (str(one), str(other)))


def test_a_run_is_done_when_its_picture_is_drawn_or_there_is_none_to_draw(tmp_path):
    """One that was killed behind its record was taken for done, and never drawn."""
    for verb, figures in PICTURES.items():
        one = step(tmp_path, verb, verb)
        one.out.mkdir(parents=True)
        (one.out / "run.json").write_text('{"status": "complete", "finished": true}')
        for picture, table in figures.items():
            (one.out / table).write_text("header\n1\n2\n")
            assert not finished(one)
            (one.out / picture).touch()
        assert finished(one), verb
    (one.out / "variance.png").unlink()
    assert not finished(one)
    (one.out / "variance.csv").write_text("header\n")  # no block of the network has any
    assert finished(one)


def test_a_comparison_is_done_when_its_tables_are_written(tmp_path):
    one = Step(("compare", "a", "b", "--out", str(tmp_path / "c.png")), tmp_path / "c.png")
    for name in ("c.png", "c.csv", "c-differences.csv"):
        assert not finished(one)
        (tmp_path / name).touch()
    assert finished(one)


def test_a_comparison_of_more_runs_is_another(tmp_path):
    def of(*names):
        return Step(("compare", *names, "--names", *names, "--out", str(tmp_path / "c.png")), tmp_path / "c.png")

    for name in ("c.png", "c-differences.csv"):
        (tmp_path / name).touch()
    (tmp_path / "c.csv").write_text("run,measure,M\na,J,1\na,J_rms,1\nb,J,1\nb,J_rms,1\n")
    assert finished(of("a", "b")) and not finished(of("a", "b", "c"))
    refuse_other_commands([of("a", "b", "c")], tmp_path)


def test_a_run_that_was_killed_while_it_drew_is_drawn_and_swept(tmp_path):
    (photos := tmp_path / "photos").mkdir()
    for number in range(2):
        Image.fromarray(np.full((16, 16, 3), 100 * number, np.uint8)).save(photos / f"{number}.png")
    words = f"profile tests.interactions.tiny:network --weights random --data {photos} --grid 4 --radius 1 --images 2"
    words += " --ratios 0.5 --budget 200 --target 1 --image-size 12 --batch-size 16 --device cpu --out"
    run = tmp_path / "runs" / "a"
    steps = [Step((*words.split(), str(run)), run)]
    assert run_steps(steps) == 0
    whole = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    half = run / f".strength.png.{2**22 + 1}@{platform.node()}.tmp"
    (run / "strength.png").rename(half)
    assert not finished(steps[0]) and run_steps(steps) == 0
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == whole


def test_a_profile_of_more_images_than_there_are_is_gone_on_with(photos, tmp_path):
    """Also in a study: its commands were refused as others, and begun anew somewhere else."""
    out = tmp_path / "study/profile"

    def asked(images):
        words = ("profile", "tests.interactions.tiny:network", "--weights", "random", "--image-size", str(SIZE))
        words += ("--data", str(photos), "--grid", "4", "--radius", "1", "--ratios", "0.5", "--budget", "100")
        return Step((*words, "--images", str(images), "--device", "cpu", "--out", str(out)), out)

    def measured(images):
        refuse_other_commands([asked(images)], tmp_path / "study")
        assert run_steps([asked(images)], folder=tmp_path / "study") == 0
        return [one["name"] for one in read_record(out)["images"]]

    assert not finished(asked(2))
    few = measured(2)
    assert len(few) == 2 and finished(asked(2)) and not finished(asked(5))
    more = measured(5)
    assert len(more) == 5 and more[:2] == few and measured(3) == more
    assert len(measured(1000)) == 2 * CLASSES and finished(asked(1000))  # all that there are
    other = asked(5)
    with pytest.raises(ValueError, match="was made by another command"):
        refuse_other_commands([replace(other, words=(*other.words, "--baseline", "blur"))], tmp_path / "study")


def measured(folder, **settings):
    """A finished profile, as another command than a study's may have left it."""
    usual = {"grid": 8, "value": "log_odds", "baseline": "mean", "images": 64, "budget": 100, "precision": None}
    record = {"command": "profile", "status": "complete", "images": [{"image": k} for k in range(100)]}
    record |= {"ended": settings.pop("ended", "images"), "settings": usual | settings, "data": {"images": 1000}}
    write_json(folder / "run.json", record)
    (folder / "strength.png").touch()
    (folder / "course.png").touch()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"budget": 200}, "budget 200 there, 100 now"),
        ({"grid": 14, "value": "cosine"}, "grid 14 there, 8 now; value cosine there, log_odds now"),
        ({"baseline": "blur"}, "baseline blur there, mean now"),
        ({"budget": None, "precision": 0.1}, "budget None there, 100 now; precision 0.1 there, None now"),
    ],
)
def test_a_run_that_nobody_remembers_is_compared_by_its_record(settings, said, tmp_path):
    """It was taken for the command's own, whatever it had measured."""
    out = tmp_path / "runs" / "a"
    step = Step(("profile", "net", "--grid", "8", "--images", "64", "--budget", "100", "--out", str(out)), out)
    measured(out)
    refuse_other_commands([step], tmp_path / "runs")
    measured(out, **settings)
    with pytest.raises(ValueError, match=rf"runs/a was made by another command \({said}\): give the study's own"):
        refuse_other_commands([step], tmp_path / "runs")


def test_a_precision_that_nobody_remembers_is_compared_too(tmp_path):
    out = tmp_path / "runs" / "a"
    step = Step(("profile", "net", "--grid", "8", "--precision", "0.1", "--relative", "--out", str(out)), out)
    measured(out, budget=None, images=None, precision=0.1, relative=True)
    refuse_other_commands([step], tmp_path / "runs")
    measured(out, budget=None, images=300, precision=0.5, relative=True)
    with pytest.raises(ValueError, match=r"images 300 there, None now; precision 0\.5 there, 0\.1 now"):
        refuse_other_commands([step], tmp_path / "runs")


@pytest.mark.parametrize(
    "words",
    [
        "profile net --grid 8 --images 64 --budget 100 --value cosine --baseline drop --ratios 0.05 0.5 1",
        "profile net --grid 7 --precision 0.1 --relative --only-correct",
        "profile net --budget 200 --design published --published-pairs 5 --seed 0 --mean None",
        "occlusion net --grid 8 --images 200 --seeds 3 --kinds random salient",
    ],
)
def test_what_is_compared_is_what_the_command_would_measure(words, tmp_path):
    verb, *rest = [*words.split(), "--data", "photos", "--out", str(tmp_path)]
    command = import_module(cli.COMMANDS[verb])
    read = parse(command.Settings, args=rest)
    if usual := getattr(command, "usual", lambda _: None)(read):
        read = parse(command.Settings, args=rest, default=usual)
    measure = read.measure.resolved() if verb == "profile" else read.measure
    assert json.loads(json.dumps(asked((verb, *rest)))) == to_plain(measure)


def test_commands_say_how_many_images_were_measured_and_what_is_not_theirs(tmp_path):
    """An earlier start asked for more images, and the clock ended the other run."""
    one, two, three = (tmp_path / "runs" / name for name in "abc")
    how = ("profile", "net", "--grid", "8", "--images", "64", "--budget", "100", "--out")
    measured(one)
    measured(two, budget=None, images=None, precision=0.1, ended="minutes")
    steps = [Step((*how, str(out)), out) for out in (one, three)]
    steps += [Step(("profile", "net", "--grid", "8", "--precision", "0.1", "--out", str(two)), two)]
    write_commands(tmp_path, steps)
    _, first, missing, remark, last = (tmp_path / "commands.sh").read_text().splitlines()
    assert "--images 100 --budget 100" in first and "--images 64 --budget 100" in missing
    assert remark == "# not made by this command: ended by its minutes" and last.endswith(str(two))


def test_a_training_by_an_older_recipe_is_not_taken_for_one_of_today(tmp_path):
    """The words are the same, and the recipe behind them has changed."""
    words = ("finetune", "--recipe", "cifar10:finetune_vit_cpu", "--epochs", "9", "--out", str(tmp_path / "run"))
    step = Step(words, tmp_path / "run")
    optim = to_plain(find_recipe("cifar10:finetune_vit_cpu")().optim) | {"epochs": 9}
    write_json(tmp_path / "run" / "run.json", {"finished": True, "settings": {"optim": optim}})
    refuse_other_recipe(step)
    older = optim | {"optimizer": "adamw"}
    write_json(tmp_path / "run" / "run.json", {"finished": True, "settings": {"optim": older}})
    with pytest.raises(ValueError, match=r"trained by an older recipe \(optimizer 'adamw' there, 'muon' now\): begin"):
        refuse_other_recipe(step)
    refuse_other_recipe(replace(step, words=(*words, "--optimizer", "adamw")))  # as it is typed


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [("augment", "flip", 0.1), ("mixing", "mixup", 0.8), ("network", "model_args", ["depth=2"]), ("loop", "batch", 64)],
)
def test_whatever_of_a_recipe_makes_another_network_is_looked_at(group, name, value, tmp_path):
    """It was the optimizer alone."""
    words = ("finetune", "--recipe", "cifar10:finetune_vit_cpu", "--out", str(tmp_path / "run"))
    settings = to_plain(find_recipe("cifar10:finetune_vit_cpu")())
    write_json(tmp_path / "run" / "run.json", {"finished": True, "settings": settings})
    refuse_other_recipe(Step(words, tmp_path / "run"))
    settings[group] |= {name: value}
    write_json(tmp_path / "run" / "run.json", {"finished": True, "settings": settings})
    with pytest.raises(ValueError, match=rf"was trained by an older recipe \({name} "):
        refuse_other_recipe(Step(words, tmp_path / "run"))


def test_a_training_that_was_extended_is_another_network(tmp_path):
    """Its accuracy stood beside the interactions of what it was before."""
    words = ("finetune", "--recipe", "cifar10:finetune_vit_cpu", "--epochs", "2", "--out", str(tmp_path / "run"))
    settings = to_plain(find_recipe("cifar10:finetune_vit_cpu")())
    settings["optim"]["epochs"] = 4
    write_json(tmp_path / "run" / "run.json", {"finished": True, "settings": settings})
    with pytest.raises(ValueError, match="was trained for 4 epochs, and the study's networks are for 2"):
        refuse_other_recipe(Step(words, tmp_path / "run"))


def test_a_folder_of_other_images_is_not_the_one_that_was_measured(tmp_path, typed):
    """Folders were known by their names alone: a study went on with other images called train."""
    for place in ("here", "there"):
        (tmp_path / place / "train/cat").mkdir(parents=True)
        (tmp_path / place / "train/cat/0.png").write_bytes(place.encode() * 3)
    out = tmp_path / "study"

    def of(place):
        return Step(("profile", "net", "--data", str(tmp_path / place / "train"), "--out", str(out / "a")), out / "a")

    out.mkdir()
    assert run_steps([of("here")], folder=out) == 0
    refuse_other_commands([of("here")], out)
    with pytest.raises(ValueError, match=r"was made by another command \('train \(files .*there, 'train \(files"):
        refuse_other_commands([of("there")], out)
    known = json.loads((out / "commands.json").read_text())
    known["a"] = [word.partition(" (files ")[0] for word in known["a"]]  # as it was written before
    (out / "commands.json").write_text(json.dumps(known))
    refuse_other_commands([of("here")], out)


def test_a_figure_older_than_its_table_is_drawn_again(tmp_path):
    step = Step(("profile", "net", "--out", str(tmp_path)), tmp_path)
    (tmp_path / "run.json").write_text('{"status": "complete"}')
    (tmp_path / "strength.csv").write_text("order\n1\n")
    for name in ("strength.png", "course.png"):
        (tmp_path / name).touch()
    assert finished(step)
    os.utime(tmp_path / "strength.png", (1e9, 1e9))
    assert not finished(step)
