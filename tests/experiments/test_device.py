"""A training step of every method meets no tensor of another device, and waits for the device nowhere.

The accelerator is played by the meta device (tests/device.py): reading a value of it raises.
"""

from contextlib import nullcontext

import pytest
import torch

from a2mim.methods import METHODS
from experiments.benchmarks.methods import Settings, make_step
from tests.device import DEVICE, one_device

SETTINGS = Settings(batch_size=2, image_size=64)


@pytest.mark.parametrize("model", ["test_vit", "test_resnet"])
@pytest.mark.parametrize("method", METHODS)
def test_a_step_stays_on_its_device_and_waits_for_nothing(monkeypatch, method, model):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    try:
        step, _ = make_step(model, method, SETTINGS, DEVICE)
    except ValueError as error:
        pytest.skip(f"{method} does not train {model}: {error}")
    with one_device():
        step()
        step()  # the first one makes the optimizer's state
