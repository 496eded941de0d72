"""Structural re-parameterization (RepVGG, Ding et al. 2021, arXiv:2101.03697; MobileOne, arXiv:2206.04040).

A convolution is trained as a sum of several, which learns better, and folded into one before it ships: the sum of
linear maps is a linear map. Folding is exact, and the folded layer can be trained further.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle
from paddle import nn

from ppocr_slim.models.fake_quant import locate
from ppocr_slim.models.mobilenet_v3 import ConvNormAct
from ppocr_slim.models.state import name_parameters

FOLD = "fold_branches"  # name of the transform


class BranchedDepthwise(nn.Layer):
    """Depthwise convolution along a text line as a sum of branches, [N, C, 1, T] -> [N, C, 1, T].

    Each branch has a batch norm of its own, one of them is nothing else, and one follows their sum. The last one stays
    when the branches are folded, with its statistics, so that training goes on from there as from any other layer.

    Args:
        channels: of the feature map.
        kernels: time steps that the branches span, odd numbers, the largest first.
    """

    def __init__(self, channels: int, kernels: Sequence[int]):
        super().__init__()
        self.branches = nn.LayerList([ConvNormAct(channels, channels, (1, k), groups=channels) for k in kernels])
        self.identity = nn.BatchNorm2D(channels)
        self.norm = nn.BatchNorm2D(channels)

    def forward(self, x):
        total = self.identity(x)
        for branch in self.branches:
            total = total + branch(x)
        return self.norm(total)

    def folded(self) -> ConvNormAct:
        """Return one convolution and batch norm that compute the same in evaluation mode."""
        channels, _, _, kernel = self.branches[0][0].weight.shape
        weight, bias = np.zeros((channels, 1, 1, kernel)), np.zeros(channels)
        for convolution, norm in (*((branch[0], branch[1]) for branch in self.branches), (None, self.identity)):
            factor, shift = _affine(norm)
            taps = np.ones((channels, 1, 1, 1)) if convolution is None else convolution.weight.numpy()
            margin = (kernel - taps.shape[3]) // 2
            weight[..., margin : kernel - margin] += taps * factor[:, None, None, None]
            bias += shift
        single = ConvNormAct(channels, channels, (1, kernel), groups=channels)
        single[0].weight.set_value(weight.astype(np.float32))
        for name in ("weight", "bias", "_variance"):
            getattr(single[1], name).set_value(getattr(self.norm, name))
        single[1]._mean.set_value((self.norm._mean.numpy() - bias).astype(np.float32))
        single.train() if self.training else single.eval()
        return single


def _affine(norm: nn.BatchNorm2D) -> tuple[np.ndarray, np.ndarray]:
    """Return factor and shift [channels] of a batch norm in evaluation mode."""
    gamma, beta, mean, variance = (
        tensor.numpy().astype(np.float64) for tensor in (norm.weight, norm.bias, norm._mean, norm._variance)
    )
    factor = gamma / np.sqrt(variance + norm._epsilon)
    return factor, beta - mean * factor


def branched_layers(model: nn.Layer) -> list[str]:
    """Return the paths of the layers that can be folded."""
    return [path for path, layer in model.named_sublayers() if isinstance(layer, BranchedDepthwise)]


@paddle.no_grad()
def fold_branches(model: nn.Layer, layers: Sequence[str]) -> None:
    """Replace branched convolutions by single ones, in place; the transform "fold_branches".

    Args:
        layers: paths of the layers.

    Raises:
        AttributeError: there is no layer at a path.
        ValueError: it has no branches.
    """
    for path in layers:
        parent, name, layer = locate(model, path)
        if not isinstance(layer, BranchedDepthwise):
            raise ValueError(f"{path} has no branches to fold")
        setattr(parent, name, layer.folded())
    name_parameters(model)
