"""How a network runs: every way computes the same, and a run goes on in the way that it began in."""

import json

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from interactions import speed
from interactions.folding import folded
from interactions.game import PatchGame
from interactions.grid import PatchGrid
from interactions.outputs import DoesNotCompile, DoesNotRun
from interactions.profile import profile_model
from interactions.runs import storage
from interactions.speed import EAGER, WAYS, Speed, settle
from tests.interactions.tiny import ASKED, Photos, network

NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


class Net(nn.Module):
    """Two convolutions, each with a batch normalisation that has seen data; `between` says what else happens."""

    def __init__(self, between="nothing"):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 8, 3, groups=2)
        self.norms, self.head, self.between = (
            nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2)),
            nn.Linear(8, 5),
            between,
        )
        for norm in self.norms:
            nn.init.uniform_(norm.weight, 0.5, 2), nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean), nn.init.uniform_(norm.running_var, 0.5, 2)

    def forward(self, x_BCHW):
        seen = self.first(x_BCHW)
        kept = seen if self.between == "used elsewhere" else 0
        seen = F.relu(seen, inplace=True) if self.between == "changed in place" else seen
        seen = self.second(F.relu(self.norms[0](seen) + kept))
        seen = self.second(seen) if self.between == "runs twice" else seen
        return self.head(self.norms[1](seen).mean((2, 3)))


def counted(model):
    return sum(isinstance(module, NORMS) for module in model.modules())


def forward(model, x_BCHW):
    return model(x_BCHW)


@pytest.mark.parametrize(
    ("between", "left"),
    [("nothing", 0), ("used elsewhere", None), ("changed in place", 1), ("runs twice", 1)],
)
def test_a_folded_copy_computes_the_same(between, left):
    """None: that a convolution's output is used elsewhere, too, shows in the values, and nothing is folded."""
    model, x_BCHW = Net(between).eval(), torch.randn(2, 3, 12, 12)
    copy = folded(model, x_BCHW, forward)
    assert (copy is None) == (left is None) and counted(model) == 2
    if copy is not None:
        other = torch.randn(5, 3, 12, 12)
        assert counted(copy) == left
        torch.testing.assert_close(copy(other), model(other), rtol=1e-5, atol=1e-5)


def test_the_batch_normalisations_of_timm_are_folded_with_their_activations():
    model = timm.create_model("test_efficientnet", num_classes=3).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2), nn.init.normal_(module.running_mean)
    copy = folded(model, torch.randn(2, 3, 64, 64), forward)
    x_BCHW = torch.randn(3, 3, 64, 64)
    assert counted(model) > 5 and counted(copy) == 0
    torch.testing.assert_close(copy(x_BCHW), model(x_BCHW), rtol=1e-4, atol=1e-4)


def test_nothing_is_folded_where_there_is_nothing():
    assert folded(network().eval(), Photos(1)[0][0][None].repeat(2, 1, 1, 1), forward) is None


@pytest.mark.parametrize("way", EAGER, ids=str)
def test_every_way_gives_the_same_values_and_leaves_the_model_alone(way):
    model = Net().eval()
    before = {name: (value.clone(), value.stride()) for name, value in model.state_dict().items()}
    image_CHW, rows_BN = torch.randn(3, 12, 12), torch.rand(9, 9) < 0.5
    plain = PatchGame(model, image_CHW, 1, PatchGrid(3), batch_size=4)
    game = PatchGame(model, image_CHW, 1, PatchGrid(3), batch_size=4, speed=way)
    assert counted(game.network) == (0 if way.folded else 2)
    torch.testing.assert_close(game(rows_BN), plain(rows_BN), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(value, before[name][0]) for name, value in model.state_dict().items())
    assert all(value.stride() == before[name][1] for name, value in model.state_dict().items())


def play(model=None):
    return PatchGame((model or Net()).eval(), torch.randn(3, 12, 12), 1, PatchGrid(3))


def test_the_fastest_way_is_taken(monkeypatch):
    monkeypatch.setattr(speed, "in_turns", lambda tasks, *_, **__: [1.0, 0.99, 0.6, 0.59])
    assert settle(play(), "auto", 4, 10_000)["speed"] == {"channels_last": False, "folded": True, "compiled": False}
    monkeypatch.setattr(speed, "in_turns", lambda tasks, *_, **__: [1.0, 0.9])  # nothing to fold: two ways
    game = play(network())
    assert settle(game, "auto", 4, 10_000) == {
        "speed": {"channels_last": True, "folded": False, "compiled": False}, "batch_size": 4,
        "passes_per_second": speed.TRIAL_BATCH["cpu"] / 0.9,
    }  # fmt: skip
    assert game.speed == Speed(channels_last=True) and game.batch_size == 4


class Views(nn.Module):
    """The network of many a lesson: its view of a map is none of one in channels-last layout."""

    def __init__(self):
        super().__init__()
        self.convolution, self.head = nn.Conv2d(3, 4, 3), nn.Linear(400, 5)

    def forward(self, x_BCHW):
        seen = self.convolution(x_BCHW)
        return self.head(seen.view(seen.size(0), -1))


def test_a_way_in_which_the_model_does_not_run_is_none(tmp_path):
    game = play(Views())
    assert settle(game, "auto", 4, 10_000)["speed"] == {"channels_last": False, "folded": False, "compiled": False}
    asked = {**ASKED, "speed": "auto", "budget": 5_000}
    found = profile_model(Views(), Photos(7), out=tmp_path / "run", progress=False, **asked)
    assert found.record["status"] == "complete" and found.record["preparation_passes"]["trials"] > 0
    with pytest.raises(DoesNotRun, match="does not run on images of 9×9 px"):
        speed.fastest(PatchGame(Views().eval(), torch.randn(3, 9, 9), 1, PatchGrid(3)), 4)


def test_a_short_run_measures_nothing(monkeypatch):
    monkeypatch.setattr(speed, "in_turns", lambda *_, **__: pytest.fail("a stopwatch ran"))
    game = play()
    assert not speed.choose(game, "auto", None, speed.TRIALS * 4_000)
    assert game.speed == Speed() and game.batch_size == 16 and game.trials == 0


@pytest.mark.parametrize("passes", [100, 4_800, 20_000, 50_000])
@pytest.mark.parametrize(("way", "batch_size"), [("auto", None), ("plain", 16)])
def test_trials_are_counted_and_take_a_small_share_of_a_run(passes, way, batch_size):
    game, shown = play(), []
    game.eager.register_forward_pre_hook(lambda _, given: shown.append(len(given[0])))
    game.run_as = lambda chosen: None  # the hook stays; to lay out and to fold is no trial
    record = settle(game, way, batch_size, passes)
    assert game.trials == sum(shown) <= max(speed.TRIALS * passes, 2 * record["batch_size"])
    assert record["passes_per_second"] > 0 and game.passes == 0


def test_sizes_are_timed_in_turns(monkeypatch):
    """A leap of the pace during one turn spoils no size's best."""
    clock, turn = [0.0], []

    def trial(game, size):
        turn.append(size)
        clock[0] += (4 + size) * (10 if 8 < len(turn) <= 12 else 1) / 1e3  # the second turn that counts is slow

    monkeypatch.setattr(PatchGame, "trial", trial)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])
    assert play().tune() == (64, pytest.approx(64 / 68e-3))
    assert turn == [8, 16, 32, 64] * 6
    clock[0], turn[:] = 0.0, []
    monkeypatch.setattr(speed, "SLOW", 0.03)
    assert play().tune()[0] == 32 and set(turn) == {8, 16, 32}  # a slow batch gains nothing from a larger one


@pytest.mark.parametrize(("gain", "taken"), [(2.0, True), (1.0, False)])
def test_compilation_is_kept_where_it_pays(monkeypatch, gain, taken):
    compiled, rates = [], iter((10.0, 10.0 * gain))
    monkeypatch.setattr(torch, "compile", lambda model, **options: compiled.append(options) or model)
    monkeypatch.setattr(PatchGame, "rate", lambda game, size: next(rates))
    monkeypatch.setattr(speed, "fastest", lambda game, size: (Speed(folded=True), 10.0))
    game = play()
    found = settle(game, "auto", 4, 10 * speed.COMPILING_PAYS + 1)
    assert compiled == [{"dynamic": False, "options": {"freezing": True}}]
    assert game.speed == (Speed(compiled=True) if taken else Speed(folded=True))
    assert found["passes_per_second"] == (20.0 if taken else 10.0)
    assert settle(game, "auto", 4, 10 * speed.COMPILING_PAYS - 1)["speed"]["compiled"] is False and len(compiled) == 1


def refuse(model, **options):
    def fail(x_BCHW):
        raise torch._inductor.exc.InductorError(RuntimeError("no C++ compiler"), None)

    return fail


def test_where_nothing_compiles_auto_says_so_once_and_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(torch, "compile", refuse)
    monkeypatch.setattr(speed, "COMPILING_PAYS", 0.0)
    game = play()
    found = settle(game, "auto", 4, 10_000)
    assert not found["speed"]["compiled"] and not game.speed.compiled
    said = capsys.readouterr().err
    assert said.count("does not work") == 2 and "no C++ compiler" in said and said.count("\n") == 1
    assert len(game(torch.rand(5, 9) < 0.5)) == 5
    game = PatchGame(Net().eval(), torch.randn(3, 12, 12), 1, PatchGrid(3), batch_size=4, speed="compiled")
    with pytest.raises(DoesNotCompile, match=r"no C\+\+ compiler.*choose another speed"):
        game(torch.rand(5, 9) < 0.5)


def test_a_compiled_network_that_computes_something_else_is_not_used(monkeypatch, capsys):
    monkeypatch.setattr(torch, "compile", lambda model, **options: lambda x_BCHW: 1.1 * model(x_BCHW))
    monkeypatch.setattr(speed, "COMPILING_PAYS", 0.0)
    assert not settle(play(), "auto", 4, 10_000)["speed"]["compiled"]
    assert "its values are others" in capsys.readouterr().err
    with pytest.raises(DoesNotCompile, match="makes other values of this network on this machine"):
        settle(play(), "compiled", 4, 10_000)


def test_a_network_is_compiled_for_batches_of_one_size(monkeypatch):
    shapes = set()

    def compiled(model, **options):
        return lambda x_BCHW: shapes.add(len(x_BCHW)) or model(x_BCHW)

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(speed, "COMPILING_PAYS", 0.0)
    for wanted in ("auto", "compiled"):
        settle(play(), wanted, 4, 10_000)
    assert shapes == {4}


def test_a_speed_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown speed 'fast': choose one of plain, channels-last"):
        PatchGame(network(), Photos(1)[0][0], 1, PatchGrid(3), speed="fast")
    with pytest.raises(ValueError, match="unknown speed 'fast': choose one of auto, plain"):
        profile_model(network(), Photos(3), out=tmp_path / "run", speed="fast")


def test_a_run_goes_on_in_the_way_that_it_began_in(tmp_path, monkeypatch):
    """The stopwatch decides once; another day it would decide otherwise."""
    asked = ASKED | {"speed": "auto", "grid": 3, "images": 4, "progress": False}

    def run(out):
        return profile_model(Net(), Photos(4), out=tmp_path / out, **asked)

    monkeypatch.setattr(speed, "TRIALS", 1.0)
    monkeypatch.setattr(speed, "fastest", lambda game, size: (WAYS["folded"], 1.0))
    monkeypatch.setattr(speed, "COMPILING_PAYS", 1e9)
    run("whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("interactions.profiling.numerical_floors", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        run("broken")
    monkeypatch.setattr(speed, "fastest", lambda game, size: (WAYS["plain"], 1.0))
    assert run("broken").record["speed"] == {"channels_last": True, "folded": True, "compiled": False}
    pairs = [storage.read_part(tmp_path / name, "pairs") for name in ("broken", "whole")]
    assert pairs[0].equals(pairs[1])


@pytest.mark.parametrize(("old", "now"), [({}, "auto"), ({"channels_last": True}, "channels-last")])
def test_a_run_from_before_there_was_a_speed_goes_on(tmp_path, old, now):
    asked = ASKED | {"speed": now, "images": 2, "progress": False}
    profile_model(network(), Photos(4), out=tmp_path, **asked)
    path = tmp_path / "run.json"
    record = json.loads(path.read_text())
    del record["settings"]["speed"], record["speed"], record["passes_per_second"]
    record["settings"] |= {"channels_last": False, "compile": False} | old
    path.write_text(json.dumps(record))
    again = profile_model(network(), Photos(4), out=tmp_path, **asked)
    assert again.record["status"] == "complete" and again.record["settings"]["speed"] == now
    with pytest.raises(ValueError, match=f"speed {now} there, plain now"):
        profile_model(network(), Photos(4), out=tmp_path, **asked | {"speed": "plain"})
