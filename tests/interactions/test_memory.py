"""What a profile needs on top of the model's bare forward pass."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch

from interactions.profile import profile_model
from tests.interactions import peak

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"}


def peak_of(*arguments):
    """Peak memory of tests/interactions/peak.py in a process of its own."""
    command = [sys.executable, peak.__file__, *map(str, arguments)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
def test_profile_of_13_orders_needs_less_than_half_more_memory_than_the_bare_model(tmp_path):
    assert peak_of("profile", "resnet50", 64, tmp_path / "run") < 1.5 * peak_of("bare", "resnet50", 64)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_profile_on_a_gpu_needs_less_than_half_more_memory_than_the_bare_model(tmp_path):
    model, size, side = timm.create_model("resnet50").eval().cuda(), 128, 224
    x_BCHW = torch.randn(size, 3, side, side, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode():
        model(x_BCHW)
    bare = torch.cuda.max_memory_allocated()
    del x_BCHW
    torch.cuda.reset_peak_memory_stats()
    images = [(torch.randn(3, side, side), 7)]
    profile_model(
        model, images, out=tmp_path / "run", grid=14, budget=3000, batch_size=size, speed="plain", progress=False
    )
    assert torch.cuda.max_memory_allocated() < 1.5 * bare
