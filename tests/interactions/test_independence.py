"""Models that mix the images of a batch, or that draw at random: refused by name; ordinary ones are not."""

import pytest
import timm
import torch
from torch import nn

from interactions.game import PatchGame
from interactions.grid import PatchGrid
from interactions.occlusion import measure_occlusion
from interactions.spectrum import measure_spectrum
from tests.interactions.tiny import CLASSES, SIZE, Photos

GRID = PatchGrid(3)


class Net(nn.Module):
    """Additive over pixels but for `mix`, which sees B×8×H×W."""

    def __init__(self, mix=None, by_hand=None):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.mix, self.by_hand = nn.Conv2d(3, 8, 2, stride=2), mix or nn.Identity(), by_hand
        self.act, self.head = nn.Identity(), nn.Linear(8, CLASSES)

    def forward(self, x_BCHW):
        x_BCHW = self.mix(self.stem(x_BCHW))
        if self.by_hand is not None:
            x_BCHW = self.by_hand(x_BCHW)
        return self.head(self.act(x_BCHW).mean((2, 3)))


class Along(nn.Module):
    """A recurrent layer that takes the batch for the sequence, as one with batch_first=False does."""

    def __init__(self):
        super().__init__()
        self.layer = nn.GRU(8, 8)

    def forward(self, x_BCHW):
        pooled_BC = x_BCHW.mean((2, 3))
        return self.layer(pooled_BC[:, None])[0].squeeze(1)[:, :, None, None] + x_BCHW


MIXING = {
    "batch statistics": (Net(nn.BatchNorm2d(8, track_running_stats=False)), "in 'mix', BatchNorm2d"),
    "centring by hand": (Net(by_hand=lambda x_BCHW: x_BCHW - x_BCHW.mean(0)), "in the forward of Net"),
    "recurrent": (Net(Along()), "in 'mix.layer', GRU"),
    "backward": (Net(by_hand=lambda x_BCHW: x_BCHW.flip(0).cumsum(0).flip(0)), "in the forward of Net"),
}


@pytest.mark.parametrize(("model", "where"), MIXING.values(), ids=MIXING)
def test_a_model_that_mixes_the_images_of_a_batch_is_refused(model, where):
    with pytest.raises(ValueError, match=rf"depends on the other images of its batch \({where}"):
        PatchGame(model, Photos(1)[0][0], 1, GRID, "logit", batch_size=4)


def test_a_model_that_counts_its_batch_is_refused():
    with pytest.raises(ValueError, match="depends on how many others are in its batch"):
        PatchGame(Net(by_hand=lambda x_BCHW: x_BCHW / len(x_BCHW)), Photos(1)[0][0], 1, GRID, batch_size=4)


@pytest.mark.parametrize(
    ("draw", "where"),
    [
        (lambda x_BCHW: nn.functional.dropout(x_BCHW, 0.1), "in the forward of Net"),
        (lambda x_BCHW: x_BCHW + 0.01 * torch.randn(()), "in the forward of Net"),
    ],
)
def test_a_stochastic_model_is_refused(draw, where):
    with pytest.raises(ValueError, match=rf"two passes over the same images give two outputs \({where}"):
        PatchGame(Net(by_hand=draw), Photos(1)[0][0], 1, GRID, batch_size=4)


class Masked(nn.Module):
    """A model that knows some of its classes alone, as is usual for parts of ImageNet."""

    def __init__(self, model, fill):
        super().__init__()
        self.model = model
        self.register_buffer("mask_K", torch.where(torch.arange(CLASSES) < 2, 0.0, fill))

    def forward(self, x_BCHW):
        return self.model(x_BCHW) + self.mask_K


@pytest.mark.parametrize("fill", [-1e9, -torch.inf])
def test_classes_that_are_masked_hide_nothing(fill):
    """A tolerance of a hundred thousandth of 10⁹ let everything pass, and so did a difference that is NaN."""
    drawing = Net(by_hand=lambda x_BCHW: nn.functional.dropout(x_BCHW, 0.1))
    with pytest.raises(ValueError, match="two passes over the same images give two outputs"):
        PatchGame(Masked(drawing, fill), Photos(1)[0][0], 1, GRID, batch_size=4)
    PatchGame(Masked(Net(), fill), Photos(1)[0][0], 1, GRID, batch_size=4)


def test_features_are_looked_at_too():
    with pytest.raises(ValueError, match=r"depends on the other images of its batch \(in 'mix', BatchNorm2d"):
        PatchGame(MIXING["batch statistics"][0], Photos(1)[0][0], None, GRID, "cosine", batch_size=4)


@pytest.mark.parametrize("measure", [measure_occlusion, measure_spectrum])
def test_the_other_measurements_refuse_it_and_leave_nothing(measure, tmp_path):
    options = {"grid": 3} if measure is measure_occlusion else {}
    model = Net(nn.Sequential(nn.BatchNorm2d(8, track_running_stats=False), nn.Conv2d(8, 8, 3), nn.ReLU()))
    with pytest.raises(ValueError, match=r"depends on the other images of its batch \(in 'mix\.0', BatchNorm2d"):
        measure(model, Photos(5), out=tmp_path / "run", progress=False, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("value", "target", "name"), [("log_odds", 1, "1"), ("cosine", None, "model.1")])
def test_batch_statistics_that_one_image_does_not_have_are_told(value, target, name):
    model = nn.Sequential(nn.Conv2d(3, 8, SIZE), nn.BatchNorm2d(8, track_running_stats=False), nn.Flatten())
    told = rf"takes statistics over its batch \({name}\), which one image does not have"
    with pytest.raises(ValueError, match=told):
        PatchGame(model, Photos(1)[0][0], target, GRID, value, batch_size=4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "amp"])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext2"])
def test_rounding_is_no_dependence(name, precision):
    torch.manual_seed(0)
    options = {"img_size": 64} if "vit" in name else {}
    model, image = timm.create_model(name, **options), torch.randn(3, 64, 64)
    if precision == "bfloat16":
        model, image = model.bfloat16(), image.bfloat16()
    PatchGame(model, image, 1, GRID, batch_size=4, amp="bfloat16" if precision == "amp" else None)
