"""A run that was killed with SIGKILL, at any moment, ends with the bits of one that was not."""

import dataclasses
import json
import os
import random
import signal
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from a2mim.export import save
from a2mim.loading import WorkerDied
from a2mim.plain import differences, from_plain, overlay, to_plain
from a2mim.progress import Hooks
from a2mim.runs import (
    Log,
    best_state,
    newest_state,
    open_run,
    read_log,
    read_run,
    save_state,
    update_run,
    write_atomically,
    write_json,
)
from a2mim.settings import Data, Loop, Network, Optim
from a2mim.train import refuse_other_workers
from tests.a2mim.child import KILLED, train_slowly
from tests.a2mim.tiny import log_of, same, state_of, tiny_images, tiny_run, tiny_source
from tests.children import PATIENCE, child

pytestmark = pytest.mark.xdist_group("children")


def test_bits_after_kill_9(tmp_path):
    killed = tmp_path / "killed"
    with child(train_slowly, killed) as process:
        deadline = time.monotonic() + PATIENCE
        while not list(killed.glob("state/step-*.pt")) and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.4))
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
    begun = state_of(killed)
    assert 0 < begun["step"] < 12 and not read_run(killed)["finished"]

    resumed, result = tiny_run(killed, loop=KILLED)  # and without its loader processes
    whole, _ = tiny_run(tmp_path / "whole", loop=KILLED)
    assert result["finished"] and same(resumed.state_dict(), whole.state_dict())
    states = state_of(killed), state_of(tmp_path / "whole")
    assert same(states[0]["ema"], states[1]["ema"])
    for ours, theirs in zip(*(state["optimizer"]["state"].values() for state in states), strict=True):
        assert same(ours, theirs)
    assert log_of(killed) == log_of(tmp_path / "whole")


def test_an_epoch_that_was_logged_and_not_saved_is_logged_once(tmp_path, monkeypatch):
    def dies_at_the_end_of_an_epoch(folder, state, keep, best=False):
        if state["closed_epochs"]:
            raise MemoryError
        return save_state(folder, state, keep, best)

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr("a2mim.progress.save_state", dies_at_the_end_of_an_epoch)
        tiny_run(tmp_path / "killed", loop=KILLED)
    assert log_of(tmp_path / "killed")[-1]["kind"] == "epoch"
    tiny_run(tmp_path / "killed", loop=KILLED)
    tiny_run(tmp_path / "whole", loop=KILLED)
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")


@pytest.mark.parametrize("told_to_stop", [False, True])
def test_an_evaluation_that_could_not_be_made_is_made_by_the_next_start(tmp_path, told_to_stop):
    """That of the last epoch, whose loader processes die, with or without a signal to all processes of the run."""
    calls = []

    def evaluate(method):
        calls.append(method)
        if len(calls) == 3:
            if told_to_stop:
                os.kill(os.getpid(), signal.SIGTERM)
            raise WorkerDied("killed by signal 9")
        return {"top1": float(sum(p.detach().abs().sum() for p in method.parameters()))}

    hooks = Hooks(evaluate=evaluate)
    if told_to_stop:
        _, result = tiny_run(tmp_path / "run", hooks=hooks)
        assert (result["stopped_by"], result["finished"]) == ("SIGTERM", False)
    else:
        with pytest.raises(ValueError, match=r"decodes images died at step 12 .* \(step 12\) is saved in .*--resume"):
            tiny_run(tmp_path / "run", hooks=hooks)
    assert not read_run(tmp_path / "run")["finished"]
    _, result = tiny_run(tmp_path / "run", hooks=hooks)
    _, whole = tiny_run(tmp_path / "whole", hooks=hooks)
    assert result["finished"] and result["last"] == whole["last"] and result["best"] == whole["best"]
    assert log_of(tmp_path / "run") == log_of(tmp_path / "whole")


def test_every_step_is_a_place_to_go_on_from(tmp_path):
    """From each of a run's states, also those within an epoch, the same end is reached."""
    whole, _ = tiny_run(tmp_path / "whole", loop=Loop(batch=8, save_every=1, keep=100, accumulate=2))
    for step in (1, 3, 4, 7, 11):
        state = torch.load(tmp_path / "whole" / "state" / f"step-{step:08d}.pt", weights_only=True)
        save_state(tmp_path / str(step), state, keep=1)
        record = json.loads((tmp_path / "whole" / "run.json").read_text()) | {"finished": False}
        (tmp_path / str(step) / "run.json").write_text(json.dumps(record))
        resumed, _ = tiny_run(tmp_path / str(step), loop=Loop(batch=8, accumulate=2))
        assert same(resumed.state_dict(), whole.state_dict()), step


# ------------------------------------------------------------------------------------------- the folder


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, lambda beside: beside.write_text("first"))

    def fail(beside):
        beside.write_text("half")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_atomically(path, fail)
    assert path.read_text() == "first" and [each.name for each in tmp_path.iterdir()] == ["file"]


def test_no_number_without_a_word_goes_into_a_json(tmp_path):
    with pytest.raises(ValueError, match=r"run\.json is not written: there is a number in it that is not finite"):
        write_json(tmp_path / "run.json", {"a": [float("nan")]})
    assert not list(tmp_path.iterdir())
    log = Log(tmp_path, 0)
    log.write("epoch", 1, val_loss=float("inf"), loss=1.0)
    log.close()
    assert read_log(tmp_path) == [{"kind": "epoch", "step": 1, "val_loss": None, "loss": 1.0}]


def test_other_settings_are_refused_and_named(tmp_path):
    run = {"optim": to_plain(Optim()), "loop": to_plain(Loop())}
    open_run(tmp_path / "run", "pretrain", run)
    other = {"optim": to_plain(Optim(lr=5e-4)), "loop": to_plain(Loop(minutes=9, batch=64))}
    with pytest.raises(
        ValueError, match=r"other settings \(optim.lr was 0.001, is 0.0005; loop.batch was 2048, is 64\)"
    ):
        open_run(tmp_path / "run", "pretrain", other, free=("loop.minutes",))
    assert open_run(tmp_path / "run", "pretrain", run)["settings"] == run
    with pytest.raises(ValueError, match="holds a run of `a2mim pretrain`"):
        open_run(tmp_path / "run", "finetune", run)


def test_a_setting_that_an_older_run_does_not_know_counts_as_its_default(tmp_path):
    open_run(tmp_path, "pretrain", Loop(batch=64))
    old = read_run(tmp_path)
    del old["settings"]["ema"]
    update_run(tmp_path, **old)
    open_run(tmp_path, "pretrain", Loop(batch=64))
    with pytest.raises(ValueError, match=r"other settings \(ema was 0.0, is 0.9\)"):
        open_run(tmp_path, "pretrain", Loop(batch=64, ema=0.9))
    update_run(tmp_path, settings={**old["settings"], "colour": 1})
    with pytest.raises(ValueError, match="Loop has no setting called colour: it was written by another version"):
        open_run(tmp_path, "pretrain", Loop(batch=64))


def test_an_older_run_goes_on_with_what_was_done_before_there_was_a_choice(tmp_path):
    """Its cosine began at the first step, where one that begins now has the warm-up before it."""
    open_run(tmp_path, "pretrain", Optim(cosine_from="start"))
    old = read_run(tmp_path)
    del old["settings"]["cosine_from"], old["settings"]["warmup_to"]
    update_run(tmp_path, **old)
    assert Optim().cosine_from == "warmup"
    assert from_plain(Optim, old["settings"]) == Optim(cosine_from="start", warmup_to="peak")
    open_run(tmp_path, "pretrain", Optim(cosine_from="start"))
    with pytest.raises(ValueError, match=r"other settings \(cosine_from was 'start', is 'warmup'\)"):
        open_run(tmp_path, "pretrain", Optim())


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="holds files but no run"):
        open_run(tmp_path, "pretrain", {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(FileNotFoundError, match=r"holds no run: there is no run.json"):
        read_run(tmp_path)


def test_what_is_no_file_or_larger_inside_in_a_runs_folder_is_refused_at_once(tmp_path):
    """A pipe would be waited for, a device read without end, and a compressed state unpacked a thousandfold."""
    (tmp_path / "state").mkdir()
    record, log, state = tmp_path / "run.json", tmp_path / "log.jsonl", tmp_path / "state" / "step-00000001.pt"

    def pipe(path):
        os.mkfifo(path)

    def device(path):
        path.symlink_to("/dev/zero")

    for make in (pipe, device):
        for path, read in ((record, read_run), (log, read_log), (state, newest_state)):
            make(path)
            with pytest.raises(ValueError, match=f"{path.name} (is no file|cannot be read: remove it)"):
                read(tmp_path)
            path.unlink()
    with zipfile.ZipFile(state, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(30_000_000))
    with pytest.raises(ValueError, match="cannot be read: remove it") as refused:
        newest_state(tmp_path)
    assert "would unpack to 30,000,000" in str(refused.value.__cause__)
    for text, said in (("[" * 100_000, "is not valid JSON"), (b"\xff", "is not valid JSON")):
        record.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ValueError, match=said):
            read_run(tmp_path)
    os.truncate(record, 200_000_000)  # a hole: no byte of it is on the disk
    with pytest.raises(ValueError, match="has 200,000,000 bytes, and is read up to 100,000,000"):
        read_run(tmp_path)


def test_a_run_that_was_killed_before_its_first_record_begins_anew(tmp_path):
    for name in (".lock", ".run.json.99@host.tmp"):
        (tmp_path / name).write_text("half")
    open_run(tmp_path, "pretrain", {})
    update_run(tmp_path, finished=True)
    assert read_run(tmp_path)["finished"]


def test_a_kill_between_a_state_and_what_follows_it_costs_nothing(tmp_path, monkeypatch):
    """Its link best.pt, the removal of older states, and the end of the run: all come with the next start."""
    tiny_run(tmp_path / "whole", loop=KILLED)
    for what, calls in (("a2mim.runs.make_best", 0), ("a2mim.runs.remove_old", 3)):
        killed = tmp_path / what
        with monkeypatch.context() as patch, pytest.raises(MemoryError):
            patch.setattr(what, _dies_later(what, calls))
            tiny_run(killed, loop=KILLED)
        _, result = tiny_run(killed, loop=KILLED)
        assert result["last"] == read_run(tmp_path / "whole")["last"]
        names = [sorted(path.name for path in (each / "state").iterdir()) for each in (killed, tmp_path / "whole")]
        assert names[0] == names[1]
        assert same(*(best_state(each)["method"] for each in (killed, tmp_path / "whole")))


def _dies_later(what, calls):
    """The function of that name, until it was called so often."""
    module, name = what.rsplit(".", 1)
    real, left = getattr(sys.modules[module], name), [calls]

    def call(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise MemoryError
        return real(*arguments)

    return call


def test_killed_between_its_last_state_and_its_record_it_ends_with_its_last_epoch(tmp_path, monkeypatch):
    tiny_run(tmp_path / "whole", loop=KILLED)
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr("a2mim.progress.Progress.finish", lambda *_: (_ for _ in ()).throw(MemoryError()))
        tiny_run(tmp_path / "killed", loop=KILLED)
    _, result = tiny_run(tmp_path / "killed", loop=KILLED)
    assert result["last"] == read_run(tmp_path / "whole")["last"] != {}


def test_another_number_of_processes_is_refused_unless_that_is_wanted(tmp_path):
    tiny_run(tmp_path, loop=dataclasses.replace(KILLED, minutes=1e-9))
    state = state_of(tmp_path)
    save_state(tmp_path, {**state, "processes": 4}, keep=1)
    with pytest.raises(ValueError, match=r"was saved by 4 processes and 1 would go on.*or go on --anyway"):
        tiny_run(tmp_path, loop=KILLED)
    assert tiny_run(tmp_path, loop=dataclasses.replace(KILLED, anyway=True))[1]["finished"]


def test_a_stream_is_gone_on_with_by_as_many_image_processes():
    source = dataclasses.replace(tiny_source(workers=2), images=dataclasses.replace(tiny_images(), streamed=True))
    refuse_other_workers(Path("run"), {"workers": 2}, source, Loop())
    refuse_other_workers(Path("run"), {}, source, Loop())  # of a state from before that was kept
    refuse_other_workers(Path("run"), {"workers": 4}, source, Loop(anyway=True))
    with pytest.raises(ValueError, match=r"read its stream by 4 image processes and 2 would go on.*give --workers 4"):
        refuse_other_workers(Path("run"), {"workers": 4}, source, Loop())


def test_the_log_forgets_steps_that_were_lost(tmp_path):
    log = Log(tmp_path, 0)
    for step in (1, 2, 3):
        log.write("train", step, loss=float(step))
    log.close()
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')  # cut short by a kill
    log = Log(tmp_path, 2)
    log.write("train", 3, loss=9.0)
    log.close()
    assert [line["loss"] for line in read_log(tmp_path)] == [1.0, 2.0, 9.0]


def test_a_state_that_cannot_be_read_is_named(tmp_path):
    save_state(tmp_path, {"step": 1}, keep=1)
    (tmp_path / "state" / "step-00000001.pt").write_bytes(b"not a state")
    with pytest.raises(ValueError, match=r"step-00000001.pt cannot be read: remove it"):
        state_of(tmp_path)


def test_files_of_weights_have_the_same_bytes_for_the_same_content(tmp_path):
    """safetensors orders metadata by chance: one time in 2**7 this would pass without our order."""
    state = {"b": torch.arange(3.0), "a": torch.ones(2, 2)}
    metadata = {"format": "pt", "architecture": '{"µ": "ü\\n"}', "classes": "{}"}
    for number in range(8):
        save(state, tmp_path / f"{number}.safetensors", metadata)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    with safe_open(tmp_path / "0.safetensors", "pt") as file:
        assert file.metadata() == metadata and same({key: file.get_tensor(key) for key in state}, state)


# ------------------------------------------------------------------------------------------- settings as JSON


def test_settings_survive_json():
    optim = Optim(betas=(0.9, 0.95), milestones=(700.0,), weight_decay_end=None)
    assert from_plain(Optim, to_plain(optim)) == optim
    assert from_plain(Data, {"data": "x"}) == Data(data="x")
    with pytest.raises(ValueError, match="Data has no setting called colour"):
        from_plain(Data, {"colour": 1})


def test_differences_and_overlay():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == ["a.c was 2, is 3"]
    recipe, typed = Optim(lr=5e-3, epochs=300), Optim(epochs=10)
    assert overlay(recipe, typed, Optim()) == Optim(lr=5e-3, epochs=10)


def test_what_is_typed_beside_a_recipe_replaces_what_has_its_name():
    recipe = Network("vit", ("img_size=32", "no_embed_class=True", "depth=4"))
    typed = Network(model_args=("depth=6", "no-embed-class=False", "num_heads=2"))
    found = overlay(recipe, typed, Network())
    assert found == Network("vit", ("img_size=32", "no-embed-class=False", "depth=6", "num_heads=2"))
    assert overlay(found, typed, Network()) == found  # typed once more to go on, it is the same run
    # Words without a value are no settings by name: what is typed takes the place of all.
    names = Optim(decay_also=("cls_token", "mask_token"))
    assert overlay(names, Optim(decay_also=("mask_token",)), Optim()).decay_also == ("mask_token",)
    assert overlay(names, Optim(), names).decay_also == ()
    assert overlay(Optim(betas=(0.9, 0.95)), Optim(betas=(0.8, 0.9)), Optim()).betas == (0.8, 0.9)
