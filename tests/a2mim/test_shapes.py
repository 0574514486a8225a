"""Networks of shapes alone are those of memory in everything but their values."""

import pytest
import timm
import torch

from a2mim.shapes import shapes_alone


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "swin_tiny_patch4_window7_224"])
def test_shapes_alone_are_those_of_the_network(name):
    arguments = {"depths": (1, 1, 1, 1), "img_size": 64, "window_size": 2} if "swin" in name else {}
    with shapes_alone():
        empty = timm.create_model(name, **arguments).state_dict()
    whole = timm.create_model(name, **arguments).state_dict()
    assert {key: (x.shape, x.dtype) for key, x in empty.items()} == {
        key: (x.shape, x.dtype) for key, x in whole.items()
    }
    assert all(x.is_meta for x in empty.values())


def test_what_has_memory_is_filled_as_ever():
    with shapes_alone():
        ones = torch.zeros(3, device="cpu").add_(1)
        assert torch.zeros(3).add_(1).is_meta
    assert ones.tolist() == [1, 1, 1]
