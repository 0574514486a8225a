"""torchvision's ResNet, an oracle of the reader, with few channels: with all of them a test takes seconds."""

from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet


def resnet(block=Bottleneck, depths=(1, 2, 1, 1), narrower=8, classes=None):
    """Every stage has 1/narrower of its channels, the stem all 64. Without classes its classifier is the identity."""

    class Narrow(ResNet):
        def _make_layer(self, block, planes, *more, **named):
            return super()._make_layer(block, planes // narrower, *more, **named)

    net = Narrow(block, list(depths))
    net.fc = nn.Linear(net.inplanes, classes) if classes else nn.Identity()
    return net


def widths(block=Bottleneck, narrower=8):
    """Channels of the four stages' maps."""
    return tuple(block.expansion * planes // narrower for planes in (64, 128, 256, 512))
