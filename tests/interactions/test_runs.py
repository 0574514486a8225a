"""The folder of a measuring run: what commits a unit, what an interruption costs, and who may work in a folder."""

import itertools
import json
import os
import platform
import shutil
import time
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from interactions.game import PatchGame
from interactions.profile import load_profile, profile_model
from interactions.runs import files, lock, storage, unfinished
from interactions.runs.lock import NAME, held
from interactions.runs.ranks import Ranks
from interactions.runs.units import Interrupted, finish, measure_units
from interactions.selection import Chosen
from interactions.spectrum import measure_spectrum
from tests.interactions.tiny import ASKED, Photos, network

GONE = 2**22 + 1  # more than Linux gives as the number of a process
PARTS = {"images": pd.DataFrame({"a": [1, 2]}), "pairs": pd.DataFrame({"b": [0.5]})}

BATCH = 16


def profile(out, model=None, **settings):
    asked = ASKED | {"images": 3, "ratios": (0.0, 0.5), "budget": 200, "batch_size": BATCH} | settings
    return profile_model(model or network(), Photos(5), out=out, progress=False, **asked)


def contents(folder):
    """All files but run.json, whose times differ."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "run.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


# ------------------------------------------------------------------------------------------- the mark of a unit


@pytest.mark.parametrize("parts", [PARTS, dict(reversed(PARTS.items()))], ids=["images first", "images last"])
def test_the_mark_comes_last(tmp_path, monkeypatch, parts):
    """Whatever the parts are called, and wherever the writing of a unit ends, it counts only when all is there."""
    write = files.write_atomically
    for number in range(3):

        def dies(path, how, left=[number]):  # noqa: B006
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            write(path, how)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(storage, "write_atomically", dies)
            patch.setattr(files, "write_atomically", dies)
            storage.write_unit(tmp_path / str(number), 0, parts, {})
        assert storage.finished_units(tmp_path / str(number)) == set()
    storage.write_unit(tmp_path, 0, parts, {})
    assert storage.finished_units(tmp_path) == {0}
    pd.testing.assert_frame_equal(storage.read_part(tmp_path, "pairs"), PARTS["pairs"])


def test_every_flipped_bit_is_noticed(tmp_path):
    storage.write_unit(tmp_path, 0, PARTS, {})
    path = tmp_path / "pairs" / "unit-00000.parquet"
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, 8 * len(whole), 50):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        assert storage.finished_units(tmp_path) == set()
        with pytest.raises(ValueError, match=r"unit-00000.parquet is not what was written \(it changed since\)"):
            storage.read_part(tmp_path, "pairs")
    path.unlink()
    with pytest.raises(ValueError, match="it is gone"):
        storage.read_part(tmp_path, "pairs")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": {}, "about": {}}', '{"files": {"../x": 1}}'])
def test_a_mark_that_says_nothing_commits_nothing(tmp_path, text):
    storage.write_unit(tmp_path, 0, PARTS, {})
    (tmp_path / "units" / "unit-00000.json").write_text(text)
    assert storage.finished_units(tmp_path) == set()


@pytest.mark.parametrize("what", ["units/unit-00000.json", "pairs/unit-00000.parquet"])
def test_a_part_of_a_unit_that_is_no_file_counts_for_nothing(tmp_path, what):
    """A pipe: reading it waited for ever."""
    storage.write_unit(tmp_path, 0, PARTS, {})
    (tmp_path / what).unlink()
    os.mkfifo(tmp_path / what)
    assert storage.finished_units(tmp_path) == set()


def test_a_damaged_unit_of_a_finished_run_is_measured_again(tmp_path):
    profile(tmp_path / "run")
    before = contents(tmp_path / "run")
    path = tmp_path / "run" / "images" / "unit-00001.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert profile(tmp_path / "run").record["status"] == "complete"
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("what", ["units/unit-00000.json", "pairs/unit-00001.parquet", ""])
def test_what_is_taken_away_meanwhile_is_missed(tmp_path, monkeypatch, what):
    """Without it, a run whose folder was removed came to its end and was called complete."""
    out, write = tmp_path / "run", storage.write_unit

    def taken(folder, unit, parts, about):
        write(folder, unit, parts, about)
        if unit == 1:
            (out / what).unlink() if what else shutil.rmtree(out)

    monkeypatch.setattr(storage, "write_unit", taken)
    with pytest.raises(FileNotFoundError, match="were they removed, or changed"):
        profile(out)
    monkeypatch.undo()
    profile(out)
    profile(tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_no_run_ends_without_its_record(tmp_path):
    storage.write_unit(tmp_path, 0, PARTS, {})
    images = [{"position": 0, "image": 0, "name": "", "label": 0, "target": 0, "digest": ""}]
    with pytest.raises(FileNotFoundError, match=r"lacks its run.json"):
        finish(tmp_path, {"images": images}, 2, {})


def test_units_from_before_there_were_marks_are_read_and_kept(tmp_path):
    profile(tmp_path / "run")
    before, images = contents(tmp_path / "run"), load_profile(tmp_path / "run").images()
    shutil.rmtree(tmp_path / "run" / "units")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    del record["units"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    pd.testing.assert_frame_equal(load_profile(tmp_path / "run").images(), images)
    (tmp_path / "run" / "strength.csv").unlink()
    written = (tmp_path / "run" / "images" / "unit-00000.parquet").stat().st_mtime_ns
    profile(tmp_path / "run")
    assert (tmp_path / "run" / "images" / "unit-00000.parquet").stat().st_mtime_ns == written
    assert contents(tmp_path / "run") == before


def test_of_an_old_spectrum_only_units_with_both_tables_count(tmp_path):
    """Its images were written before its amplitudes."""
    asked = {"images": 4, "unit_images": 2, "progress": False}
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    measure_spectrum(model, Photos(5), out=tmp_path, **asked)
    before = contents(tmp_path)
    shutil.rmtree(tmp_path / "units")
    (tmp_path / "amplitudes" / "unit-00001.parquet").unlink()
    record = json.loads((tmp_path / "run.json").read_text())
    del record["units"]
    (tmp_path / "run.json").write_text(json.dumps(record | {"status": "running"}))
    measure_spectrum(model, Photos(5), out=tmp_path, **asked)
    assert contents(tmp_path) == before


# ------------------------------------------------------------------------------------------- interruptions


class Interrupting(nn.Module):
    """The network of the tests, stopped by Ctrl-C in its n-th pass."""

    def __init__(self, passes=None):
        super().__init__()
        self.model, self._left, self._seen = network(), passes, 0

    def forward(self, x_BCHW):
        self._seen += len(x_BCHW)
        if self._left is not None and self._seen > self._left:
            raise KeyboardInterrupt
        return self.model(x_BCHW)


@pytest.mark.parametrize("passes", [700, 1200, 1555])
def test_an_interruption_loses_some_batches_at_most(tmp_path, monkeypatch, passes):
    """Whoever goes on makes no pass twice but those that were played together when it stopped; and the same bits."""
    monkeypatch.setattr(unfinished, "EVERY", 1e9)  # what is known is kept when it is interrupted, not before
    monkeypatch.setattr(unfinished, "CHUNK", 4)
    asked = {"images": 4, "unit_images": 4, "ratios": (0.3, 0.5, 0.6)}
    whole, model = Interrupting(), Interrupting(passes)
    profile(tmp_path / "whole", whole, **asked)
    clock = SimpleNamespace(monotonic=time.monotonic, perf_counter=itertools.count(0, 1000).__next__)
    with monkeypatch.context() as patch:
        patch.setattr("interactions.runs.units.time", clock)
        with pytest.raises(Interrupted, match=r"stopped with 0 of 4 images measured.*the same command goes on"):
            profile(tmp_path / "run", model, **asked)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["seconds"] > 1000  # of the unit that is not done
    again = Interrupting()
    profile(tmp_path / "run", again, **asked)
    prepared = whole._seen - 4 * 3 * 200  # images are chosen, and floors measured
    together = 4 * BATCH
    assert passes - prepared > together  # some were kept
    assert model._seen + again._seen <= whole._seen + together + 2 * BATCH
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_damaged_kept_values_are_measured_again(tmp_path, monkeypatch):
    monkeypatch.setattr(unfinished, "EVERY", 0)
    asked = {"images": 4, "unit_images": 4, "ratios": (0.3, 0.5, 0.6)}
    profile(tmp_path / "whole", **asked)
    with pytest.raises(Interrupted):
        profile(tmp_path / "run", Interrupting(1555), **asked)
    kept = sorted((tmp_path / "run" / "unfinished").iterdir())
    assert kept
    for path in kept:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    profile(tmp_path / "run", Interrupting(), **asked)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_what_was_kept_of_a_unit_goes_with_it(tmp_path, monkeypatch):
    """Also where the process is killed between the unit and the removal of what was kept of it."""
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(unfinished, "EVERY", 0)
        patch.setattr(unfinished.Unfinished, "clear", lambda self: (_ for _ in ()).throw(MemoryError()))
        profile(tmp_path)
    assert list((tmp_path / "unfinished").iterdir()) and storage.finished_units(tmp_path) == {0}
    profile(tmp_path)
    assert not (tmp_path / "unfinished").exists()


def test_the_batch_size_of_the_stopwatch_is_kept_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(PatchGame, "tune", lambda game, **_: (16, 1.0))
    profile(tmp_path / "whole", batch_size=None)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("interactions.profiling.numerical_floors", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        profile(tmp_path / "run", batch_size=None)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["batch_size"] == 16
    monkeypatch.setattr(PatchGame, "tune", lambda game, **_: (8, 1.0))  # another day, another pace
    assert profile(tmp_path / "run", batch_size=None).record["batch_size"] == 16
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_a_pilot_that_refuses_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("interactions.profiling.numerical_floors", lambda *_: (_ for _ in ()).throw(ValueError("no")))
    with pytest.raises(ValueError, match="no"):
        profile(tmp_path / "a" / "run")
    assert not list(tmp_path.iterdir())


def test_a_pilot_that_backed_off_is_told(tmp_path):
    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = network()

        def forward(self, x_BCHW):
            if len(x_BCHW) > 8:
                raise torch.OutOfMemoryError("too much")
            return self.model(x_BCHW)

    record = profile(tmp_path, Small(), design="auto", batch_size=32).record
    assert record["backed_off"] is True and record["batch_size"] == 8


# ------------------------------------------------------------------------------------------- who works in a folder


def in_a_child(work):
    """Run it in a forked process that dies at once afterwards; its exit code."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(1)
    return child


def test_the_second_process_is_refused_and_told_who_is_first(tmp_path):
    out = tmp_path / "run"
    ready, go = os.pipe(), os.pipe()

    def first():
        with held(out):
            os.write(ready[1], b"x")
            os.read(go[0], 1)
            os._exit(0)

    child = in_a_child(first)
    os.read(ready[0], 1)
    with pytest.raises(ValueError, match=f"process {child} on .* is at work in"):
        profile(out)
    assert [path.name for path in out.iterdir()] == [NAME]
    os.write(go[1], b"x")
    assert os.waitpid(child, 0)[1] == 0


def test_the_lock_of_a_process_that_is_gone_is_taken_over(tmp_path, capsys):
    out = tmp_path / "run"

    def killed():
        with held(out):
            os._exit(9)

    child = in_a_child(killed)
    os.waitpid(child, 0)
    assert (out / NAME).exists()
    with held(out):
        assert f"note: process {child} on" in capsys.readouterr().err
    assert not out.exists() or not list(out.iterdir())


def test_a_process_that_lost_its_folder_writes_nothing_more(tmp_path, monkeypatch):
    """It wrote what it held over the run of the process that had taken the folder over."""
    monkeypatch.setattr(lock, "LOST", {tmp_path.resolve()})

    def stopped(*_):
        raise KeyboardInterrupt

    record = {"images": [asdict(Chosen(0, 0, "a", 0, 0, ""))], "seconds": 0.0, "passes_per_image": 1, "units": 1}
    with pytest.raises(Interrupted, match="another process's now: nothing more is written"):
        measure_units(tmp_path, record, 1, Ranks(), stopped, progress=False)
    assert not (tmp_path / "run.json").exists()


def test_a_lock_that_is_lost_is_remembered_until_it_is_held_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lock, "LOST", set())
    monkeypatch.setattr(lock._thread, "interrupt_main", lambda: None)
    lock._lost(SimpleNamespace(lock_file=str(tmp_path / NAME), reason="expired"))
    assert lock.is_lost(tmp_path) and not lock.is_lost(tmp_path / "other")
    assert "was taken away, or taken over" in capsys.readouterr().err
    with held(tmp_path):
        assert not lock.is_lost(tmp_path)


def test_a_lock_goes_with_what_it_made(tmp_path):
    with held(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / NAME).exists()
    assert not (tmp_path / "a").exists()
    (tmp_path / "own").mkdir()
    with held(tmp_path / "own"):
        pass
    assert (tmp_path / "own").exists()


def test_only_the_unfinished_files_of_gone_processes_go(tmp_path):
    here = platform.node()
    ours = {f".run.json.{GONE}@{here}.tmp", f".unit-00000.parquet.{GONE}@{here}.tmp"}
    others = {
        "notes.tmp",
        ".notes.tmp",
        f"notes.{GONE}@{here}.tmp",
        f".run.json.{GONE}@elsewhere.tmp",
        f".run.json.{os.getppid()}@{here}.tmp",  # at work now
    }
    for name in ours | others:
        (tmp_path / name).write_text("")
    files.write_json(tmp_path / "run.json", {})  # the next writing of a file removes what the last one left
    assert {path.name for path in tmp_path.iterdir()} == (ours - {f".run.json.{GONE}@{here}.tmp"}) | others | {
        "run.json"
    }
    files.remove_orphans(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == others | {"run.json"}
