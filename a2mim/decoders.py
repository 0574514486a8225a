"""From the encoder's last map of features to a map at the resolution of the target."""

from __future__ import annotations

from torch import nn

__all__ = ["PixelShuffleDecoder"]


class PixelShuffleDecoder(nn.Sequential):
    """One linear layer per position, as in SimMIM and A²MIM: 1×1 convolution, then pixel shuffle.

    (B, in_channels, h, w) -> (B, out_channels, h·stride, w·stride). Weights trunc-normal with std 0.02, biases 0.
    """

    def __init__(self, in_channels: int, stride: int, out_channels: int = 3):
        convolution = nn.Conv2d(in_channels, out_channels * stride**2, 1)
        nn.init.trunc_normal_(convolution.weight, std=0.02)
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)
        super().__init__(convolution, nn.PixelShuffle(stride))
