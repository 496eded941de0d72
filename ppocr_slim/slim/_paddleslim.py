"""The only module that imports PaddleSlim 2.6.0, with the patches that it needs to run under Paddle 3.2.

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
"""Slices of tensors to remove: tensor's name -> axis -> mask [size of that axis] bool, True where it is kept."""


def paddleslim(module: str) -> ModuleType:
    """Import a module of PaddleSlim and return it.

    Args:
        module: its name below the package, such as "dygraph.prune".

    Raises:
        SlimError: PaddleSlim is not installed or does not run.
    """
    base = paddle.base.dygraph.base
    if not hasattr(base, "_to_static_mode_guard_"):
        base._to_static_mode_guard_ = base.to_static_mode_guard
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about outdated imports
            found = importlib.import_module(f"paddleslim.{module}")
    except ImportError as error:
        raise SlimError(f"PaddleSlim cannot be imported ({error}): install it with `{INSTALL}`") from error
    for name, log in logging.root.manager.loggerDict.items():  # each of its modules logs to stderr
        if name.split(".")[0] == "paddleslim" and isinstance(log, logging.Logger):
            log.setLevel(logging.ERROR)
    return found


class FilterPruner:
    """PaddleSlim's FPGM pruner (He et al. 2019, arXiv:1811.00250): which filters to remove, and what depends on them.

    Args:
        model: a network of convolutions, batch norms, activations, additions, transposed convolutions and
            squeeze-and-excitations, whose parameters have their structured names.
        shape: shape of an input [N, 3, H, W] to trace it with.

    Attributes:
        groups: name of a convolution's weight -> names of the weights whose filters are removed with its own, itself
            included.

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
        """Return the cut that removes the `number` filters of a group nearest to their geometric median.

        Args:
            name: name of the group, see `groups`.
            number: how many filters to remove.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about np.product, for every filter
            plan = self._pruner.prune_var(name, 0, number / self._shapes[name][0], apply=None)
        return {
            tensor: {int(mask.dims): np.asarray(mask.mask, bool) for mask in masks}
            for tensor, masks in plan.masks.items()
            if tensor in self._shapes
        }


def wrap_for_quantization(model: nn.Layer, layers: Sequence[str]) -> None:
    """Wrap convolutions and linear layers for quantization-aware training, in place, with no quantizers yet.

    PaddleSlim's QAT does it. Its wrappers quantize by their sublayers `_fake_quant_input` and `_fake_quant_weight`. A
    second wrapper, which measures outputs and would rename every weight, is removed again.

    Args:
        model: the network.
        layers: paths of the layers to wrap.
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
