"""All that is taken from PaddleSlim 2.6.0, and what it needs to run with Paddle 3.2: nothing else imports it.

Its last commit is of March 2024. It needs numpy below 2, the old program format (`FLAGS_enable_pir_api=0`, which the
package sets) and the old name of one of Paddle's functions.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import paddle
from paddle import nn
from paddle.nn.quant.quant_layers import FakeQuantMAOutputScaleLayer, MAOutputScaleLayer

from ppocr_slim.errors import SlimError

INSTALL = "pip install --no-deps paddleslim==2.6.0"

Cut = dict[str, dict[int, np.ndarray]]
"""What goes: tensor's name -> axis -> [size of that axis] bool, True where it stays."""


def paddleslim(module: str) -> ModuleType:
    """A module of PaddleSlim, such as "dygraph.prune"; SlimError if it is not installed."""
    base = paddle.base.dygraph.base
    if not hasattr(base, "_to_static_mode_guard_"):
        base._to_static_mode_guard_ = base.to_static_mode_guard
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the old ways in which it imports
            found = importlib.import_module(f"paddleslim.{module}")
    except ImportError as error:
        raise SlimError(f"PaddleSlim cannot be imported ({error}): {INSTALL}") from error
    for name, log in logging.root.manager.loggerDict.items():  # every one of its modules talks to stderr by itself
        if name.split(".")[0] == "paddleslim" and isinstance(log, logging.Logger):
            log.setLevel(logging.ERROR)
    return found


class FilterPruner:
    """PaddleSlim's FPGM pruner (He et al. 2019, arXiv:1811.00250): which filters go, and what goes with them.

    Args:
        model: a network of convolutions, batch norms, activations, additions, transposed convolutions and
            squeeze-and-excitations, whose parameters have their structured names.
        shape: of an input [N, 3, H, W] to trace it with.

    Attributes:
        groups: name of a convolution's weight -> names of the weights whose filters go with it, itself included.

    Raises:
        SlimError: PaddleSlim cannot trace the network.
    """

    def __init__(self, model: nn.Layer, shape: Sequence[int]):
        pruning = paddleslim("dygraph.prune")
        try:
            self._pruner = pruning.FPGMFilterPruner(model, list(shape), skip_leaves=False)
        except Exception as error:  # of any kind: it traces a static program
            raise SlimError(f"fpgm: PaddleSlim cannot trace {type(model).__name__} ({error!r})") from error
        finally:
            paddle.disable_static()
        self._shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
        self.groups: dict[str, list[str]] = {}
        for collection in self._pruner.collections:
            details = [detail for detail in collection.all_pruning_details() if detail.name in self._shapes]
            filters = {detail.name for detail in details if detail.axis == 0 and len(self._shapes[detail.name]) == 4}
            self.groups[collection.master_name] = sorted(filters)

    def cut(self, name: str, number: int) -> Cut:
        """What goes when `number` filters of the group `name` go: those nearest the filters' geometric median."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of np.product, at every filter
            plan = self._pruner.prune_var(name, 0, number / self._shapes[name][0], apply=None)
        return {
            tensor: {int(mask.dims): np.asarray(mask.mask, bool) for mask in masks}
            for tensor, masks in plan.masks.items()
            if tensor in self._shapes
        }


def wrap_for_quantization(model: nn.Layer, layers: Sequence[str]) -> None:
    """Let PaddleSlim's QAT wrap the convolutions and linear layers at these paths, in place, with no quantizers yet.

    Its wrappers round what the layers inside them, `_fake_quant_input` and `_fake_quant_weight`, round. A second
    wrapper, which measures outputs and would rename every weight, is taken off again.
    """
    qat = paddleslim("dygraph.quant").QAT(
        {"quantizable_layer_type": ["Conv2D", "Linear"]}, act_quantize=nn.Identity, weight_quantize=nn.Identity
    )
    left = [layer for path, layer in model.named_sublayers() if path not in set(layers)]
    for layer in left:
        layer.skip_quant = True
    try:
        qat.quantize(model)
    finally:
        for layer in left:
            del layer.skip_quant
    for parent in model.sublayers(include_self=True):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, (FakeQuantMAOutputScaleLayer, MAOutputScaleLayer)):
                setattr(parent, name, layer._layer)
