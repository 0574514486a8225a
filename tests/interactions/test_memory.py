"""What a profile needs on top of the model's bare forward pass."""

import pytest
import timm
import torch

from interactions.profile import profile_model
from tests.children import exit_code
from tests.interactions import peak

pytestmark = pytest.mark.xdist_group("children")


def peak_of(said, *arguments):
    """Peak memory of a process of its own, whose imports are among it."""
    assert exit_code(peak.of_a_process, said, *arguments) == 0
    return int(said.read_text())


@pytest.mark.slow
def test_profile_of_13_orders_needs_less_than_half_more_memory_than_the_bare_model(tmp_path):
    bare = peak_of(tmp_path / "bare", "resnet50", 64)
    assert peak_of(tmp_path / "profile", "resnet50", 64, tmp_path / "run") < 1.5 * bare


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
