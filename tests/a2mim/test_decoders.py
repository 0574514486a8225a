from typing import Any

import torch

from a2mim.decoders import PixelShuffleDecoder


def test_every_position_paints_its_own_square():
    """By the definition: channel (c·s + i)·s + j of position (u, v) is pixel (u·s + i, v·s + j) of channel c."""
    torch.manual_seed(0)
    decoder, s = PixelShuffleDecoder(5, 4), 4
    convolution: Any = decoder[0]
    x = torch.randn(2, 5, 2, 3)
    linear = torch.einsum("oc,bchw->bohw", convolution.weight[:, :, 0, 0], x) + convolution.bias.view(-1, 1, 1)
    out = decoder(x)
    assert out.shape == (2, 3, 8, 12)
    for c, row, column in [(0, 0, 0), (2, 7, 11), (1, 5, 6), (2, 3, 4)]:
        channel = (c * s + row % s) * s + column % s
        assert torch.allclose(out[:, c, row, column], linear[:, channel, row // s, column // s], atol=1e-6)


def test_initial_weights():
    convolution: Any = PixelShuffleDecoder(256, 16)[0]
    assert abs(convolution.weight.std().item() - 0.02) < 5e-4 and abs(convolution.weight.mean().item()) < 5e-4
    assert convolution.bias.abs().max() == 0
