"""What a resumed run notices of a network that its weights do not tell, and what it passes over."""

import copy

import pytest
import timm
import torch
from torch import nn
from torchvision.transforms import Normalize

from interactions.fingerprint import model_digest, structure_digest
from interactions.runs.files import write_json
from interactions.runs.storage import read_run
from tests.interactions.test_runs import profile
from tests.interactions.tiny import network

SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 1, "num_classes": 0, "num_heads": 3}


def vit(**form):
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", **{**SIZES, **form})


class Own(nn.Module):
    """Somebody's own network, with settings and with what is none of them."""

    def __init__(self, power=1, squash=torch.tanh, path="a/weights.pth", drop=0.1):
        super().__init__()
        self.inner, self.power, self.squash, self.path, self.drop_rate = network(), power, squash, path, drop
        self._asked, self.kept, self.shapes = 0, None, []

    def forward(self, x):
        self._asked, self.kept = self._asked + 1, x
        self.shapes.append(len(x))
        return self.squash(self.inner(x)) ** self.power


@pytest.mark.parametrize(
    "changed",
    [
        {"num_heads": 6},
        {"global_pool": "avg", "fc_norm": False},
        {"act_layer": "relu"},
        {"norm_layer": lambda width, **more: nn.LayerNorm(width, eps=0.1, **more)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_networks_of_the_same_weights_that_compute_otherwise_differ(changed):
    usual, other = vit(), vit(**changed)
    assert model_digest(usual) == model_digest(other)
    assert structure_digest(usual) != structure_digest(other)


class Prepares(nn.Module):
    """Somebody's own, whose constants are a buffer that is not saved."""

    def __init__(self, mean):
        super().__init__()
        self.inner = network()
        self.register_buffer("mean", torch.tensor(mean), persistent=False)

    def forward(self, x):
        return self.inner(x - self.mean)


def test_constants_that_are_not_saved_count():
    usual, other = Prepares(0.5), Prepares(0.4)
    assert model_digest(usual) == model_digest(other)
    assert structure_digest(usual) == structure_digest(Prepares(0.5)) != structure_digest(other)
    torch.manual_seed(0)
    first, same, second = (nn.Sequential(Normalize([x] * 3, [0.5] * 3), nn.Flatten()) for x in (0.5, 0.5, 0.4))
    assert structure_digest(first) == structure_digest(same) != structure_digest(second)


@pytest.mark.parametrize("changed", [{"power": 2}, {"squash": torch.sigmoid}])
def test_settings_of_ones_own_modules_count(changed):
    assert structure_digest(Own()) != structure_digest(Own(**changed))


def test_what_changes_no_value_does_not_count():
    usual = structure_digest(vit().eval())
    assert usual == structure_digest(vit(drop_path_rate=0.2, proj_drop_rate=0.1, weight_init="jax").train())
    own = Own()
    before = structure_digest(own)
    own(torch.zeros(1, 3, 12, 12))
    assert before == structure_digest(own) == structure_digest(copy.deepcopy(own))
    assert before == structure_digest(Own(path="b/renamed.pth", drop=0.5))


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_does_not_go_on_with_another_network_of_the_same_weights(finished, tmp_path):
    out = tmp_path / "run"
    profile(out, Own())
    if not finished:
        write_json(out / "run.json", {**read_run(out, "profile"), "status": "running"})
    with pytest.raises(ValueError, match=r"other settings \(model structure \w+ there, \w+ now\): give another"):
        profile(out, Own(power=3))
    assert profile(out, Own(path="elsewhere/x.pth")).record["status"] == "complete"


def test_a_run_from_before_goes_on_by_its_weights(tmp_path):
    out = tmp_path / "run"
    profile(out, Own())
    record = read_run(out, "profile")
    del record["model"]["structure"]
    write_json(out / "run.json", record)
    assert profile(out, Own(power=3)).record["status"] == "complete"
    with pytest.raises(ValueError, match="model digest"):
        profile(out, doubled())


def doubled():
    own = Own()
    with torch.no_grad():
        next(own.parameters()).mul_(2)
    return own
