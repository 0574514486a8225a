"""The weights that a run keeps through training: how many, which, and the same bytes however often it was stopped."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from a2mim.course import kept_states, kept_steps
from a2mim.runs import save_state
from tests.a2mim.tiny import LOOP, OPTIM, same, tiny_method, tiny_run

KEPT = dataclasses.replace(LOOP, keep_states=4, save_every=2)
STEPS = 12
"""Of tiny_run."""


def contents(folder):
    return {step: path.read_bytes() for step, path in kept_states(folder).items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    tiny_run(folder, loop=KEPT)
    return folder


def test_parts_are_equal_and_both_ends_are_among_them():
    assert kept_steps(12, 4) == [0, 3, 6, 9, 12] and kept_steps(12, 0) == []
    assert kept_steps(10, 4) == [0, 2, 5, 8, 10] and kept_steps(3, 3) == [0, 1, 2, 3]
    assert len(set(kept_steps(1173, 8))) == 9
    with pytest.raises(ValueError, match="--keep-states 5 is more than the 4 steps of this run: keep 4 or fewer"):
        kept_steps(4, 5)


def test_the_first_are_the_initial_weights_and_the_last_the_exported_ones(whole):
    files = kept_states(whole)
    assert list(files) == [0, 3, 6, 9, 12] and {path.parent.name for path in files.values()} == {"course"}
    assert same(load_file(files[0]), tiny_method().backbone.state_dict())
    assert files[STEPS].read_bytes() == (whole / "backbone.safetensors").read_bytes()
    assert len(set(contents(whole).values())) == 5  # no two are alike


def test_a_state_is_kept_of_the_very_step(whole, tmp_path):
    tiny_run(tmp_path / "run", loop=dataclasses.replace(LOOP, save_every=1, keep=100))
    state = torch.load(tmp_path / "run" / "state" / "step-00000009.pt", weights_only=True)["method"]
    kept = load_file(kept_states(whole)[9])
    assert all(torch.equal(kept[name], state[f"backbone.{name}"]) for name in kept)
    assert not kept_states(tmp_path / "run")  # nobody asked for them


def test_of_a_moving_average_the_average_is_kept(tmp_path):
    tiny_run(tmp_path / "run", loop=dataclasses.replace(KEPT, ema=0.9))
    last = kept_states(tmp_path / "run")[STEPS].read_bytes()
    assert last == (tmp_path / "run" / "backbone.safetensors").read_bytes()
    assert last != (tmp_path / "run" / "backbone_without_ema.safetensors").read_bytes()


def test_a_run_that_is_stopped_over_and_over_keeps_the_same_bytes(whole, tmp_path):
    stops = 0
    while not tiny_run(tmp_path / "run", loop=dataclasses.replace(KEPT, minutes=1e-9))[1]["finished"]:
        stops += 1
    assert stops > 4 and contents(tmp_path / "run") == contents(whole)


def test_a_run_that_dies_before_a_state_is_saved_keeps_the_same_bytes(whole, tmp_path, monkeypatch):
    """Its kept weights are ahead of its newest state, and are written again on the way."""

    def dies(folder, state, keep, best=False):
        if state["step"] > 3:
            raise MemoryError
        return save_state(folder, state, keep, best)

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr("a2mim.progress.save_state", dies)
        tiny_run(tmp_path / "run", loop=KEPT)
    kept_states(tmp_path / "run")[3].write_bytes(b"of a step that was lost")
    tiny_run(tmp_path / "run", loop=KEPT)
    assert contents(tmp_path / "run") == contents(whole)


def test_more_parts_than_steps_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=f"more than the {STEPS} steps"):
        tiny_run(tmp_path / "run", optim=OPTIM, loop=dataclasses.replace(LOOP, keep_states=STEPS + 1))
    assert not kept_states(tmp_path / "run") and not (tmp_path / "run" / "log.jsonl").exists()
