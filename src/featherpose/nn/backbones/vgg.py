"""VGG-19 (Simonyan & Zisserman 2014) cut to conv4_2, as OpenPose uses it: ten convolutions, three poolings."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

__all__ = ["CHANNELS", "vgg19"]

CHANNELS = 512
_WIDTHS = (("conv1", 2, 64), ("conv2", 2, 128), ("conv3", 4, 256), ("conv4", 2, CHANNELS))


def vgg19() -> nn.Sequential:
    """Build the layers conv1_1 to conv4_2 by their published names, output stride 8.

    Example:
        >>> import torch
        >>> tuple(vgg19()(torch.zeros(1, 3, 32, 48)).shape)
        (1, 512, 4, 6)
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for group, count, width in _WIDTHS:
        if channels != 3:
            layers[f"pool{group[-1]}"] = nn.MaxPool2d(2)
        for number in range(1, count + 1):
            convolution = nn.Conv2d(channels, width, 3, 1, 1)
            # Without batch norms the initialization must keep the scale (He et al. 2015).
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            layers[f"{group}_{number}"] = convolution
            layers[f"relu{group[-1]}_{number}"] = nn.ReLU(inplace=True)
            channels = width
    return nn.Sequential(layers)
