"""Quantization-aware training: PACT with a clip at both ends (arXiv:1805.06085), and LSQ+ (arXiv:2004.09576).

A network is calibrated before its first step: each tensor's grid is the one that rounds the values seen on some rows of
the training data with the least mean squared error. The quantized network must then read nearly as well as the float
one, or the run stops: a training that starts at nothing usually stays there.

The layers and what they compute are in `models.fake_quant`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import paddle
from paddle import nn

from ppocr_slim.config.metric_names import HIGHER_IS_BETTER
from ppocr_slim.config.schema import Lsq, Pact, Quantize
from ppocr_slim.data.lines import Batch
from ppocr_slim.engines.cpu import SAFE_BITS
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.folders import write_json
from ppocr_slim.layer_names import named
from ppocr_slim.models.fake_quant import (
    QUANTIZABLE,
    WRAPPERS,
    ActivationQuantizer,
    PactQuantizer,
    QuantizedAdd,
    QuantizedLSTM,
    WeightQuantizer,
    fake_quantize,
    input_quantizers,
    layer_at,
    quantized_layers,
)
from ppocr_slim.models.state import name_parameters, training_only
from ppocr_slim.quantization.qparams import MIN_RANGE, activation_limit, best_scale, best_scales, weight_limit
from ppocr_slim.slim._paddleslim import wrap_for_quantization
from ppocr_slim.slim.sensitivity import mean_loss
from ppocr_slim.slim.technique import Context, Technique, Transform
from ppocr_slim.tasks.task import Outputs, Task

REPORT, SENSITIVITY = "quantize.json", "quantize_sensitivity.json"  # in the stage's folder
NAMED = 5  # most sensitive layers that an error names
SENSITIVITY_LINES = 16  # so many, for each layer
SAMPLES = 1 << 15  # values of a tensor that its grid is chosen by


class QuantizationAwareTraining(Technique):
    """Fake quantization of convolutions, linear layers, additions and LSTM weights, trained through."""

    method: str
    learning_rate: float  # of what is learned of the grids, times the others'

    def __init__(self, settings: Quantize):
        self.settings = settings

    def prepare(self, model: nn.Layer, context: Context) -> list[Transform]:
        """Calibrate, compare with the float network, stop where too much is lost.

        Raises SlimError also for a network that is quantized already, or that has a layer left which nothing fits.
        """
        if quantized_layers(model):
            raise SlimError(
                "quantize: the network is quantized already; start from the stage before its quantization "
                "(Global.pretrained)"
            )
        paths = quantizable(model, self.settings.float_layers)
        batches = context.calibration(self.settings.calibration_samples)
        was_training = model.training
        model.eval()
        seen = collect_statistics(model, paths, batches, context.task)
        report = {"rows": sum(len(batch.sources) for batch in batches), "float": _figures(model, batches, context)}
        weighted = [path for path in seen if type(layer_at(model, path)) in WRAPPERS]
        transform = self.plan(seen, weighted)
        wrap_for_quantization(model, weighted)
        fake_quantize(model, transform["method"], transform["layers"])
        name_parameters(model)
        self.calibrate(model, seen, transform["layers"])
        report["quantized"] = _figures(model, batches, context)
        figure = context.task.metrics[0]
        before, after = report["float"][figure], report["quantized"][figure]
        drop = before - after if HIGHER_IS_BETTER[figure] else after - before
        logger.info("calibrated on %d samples: %s %.4f, in float %.4f", report["rows"], figure, after, before)
        limit = self.settings.max_drop
        too_much = limit is not None and not drop <= limit
        if too_much or self.settings.sensitivity:
            report["sensitivity"] = sensitivities(model, context)
        if context.is_first:
            write_json(context.folder / REPORT, report)
        if too_much:
            worst = ", ".join(list(report["sensitivity"])[:NAMED])
            raise SlimError(
                f"quantized, the network has a {figure} of {after:.4f} instead of {before:.4f}: more than max_drop "
                f"{limit} lost; leave the most sensitive layers in float (float_layers: {worst}), take more bits, or "
                "raise max_drop"
            )
        if was_training:
            model.train()
        return [transform]

    def plan(self, seen: Mapping[str, list[Tensor]], weighted: Sequence[str]) -> Transform:
        """The structure: bits and zero points of the layers, in the order in which they run."""
        layers: dict[str, Any] = {}
        ran = [path for path in seen if path in weighted]
        weight_bits, edge_bits = self.settings.weight_bits, self.settings.edge_bits
        edges = {ran[0], ran[-1]} if ran and edge_bits else set()
        # 8 only where all have 8: the INT8 file would round them once more
        edge_weight_bits = min(edge_bits or weight_bits, max(weight_bits, SAFE_BITS))
        places: dict[int, list[Any]] = {}
        for path, tensors in seen.items():
            edge = path in edges
            bits = edge_bits if edge else self.settings.activation_bits
            inputs: list[dict[str, Any]] = []
            for index, tensor in enumerate(tensors):
                if id(tensor) in places:
                    inputs.append({"same_as": places[id(tensor)]})
                else:
                    inputs.append(tensor.grid(bits))
                    places[id(tensor)] = [path, index]
            layers[path] = {"inputs": inputs}
            if path in weighted:
                layers[path]["weight_bits"] = edge_weight_bits if edge else weight_bits
        return {"name": "fake_quant", "method": self.method, "layers": layers}

    def calibrate(self, model: nn.Layer, seen: Mapping[str, list[Tensor]], layers: Mapping[str, Any]) -> None:
        """Set the grids of a network just wrapped."""
        for path, given in layers.items():
            layer = layer_at(model, path)
            for quantizer, tensor, grid in zip(input_quantizers(layer), seen[path], given["inputs"]):
                if "same_as" not in grid and not grid.get("fixed"):
                    self.set_input(quantizer, tensor)
            if "weight_bits" in given:
                self.set_weight(layer._fake_quant_weight, layer.weight)

    def set_input(self, quantizer: ActivationQuantizer, tensor: Tensor) -> None:
        zero_point = quantizer.zero_point()
        top = activation_limit(quantizer.bits, zero_point)
        quantizer.set_range(best_scale(tensor.values, tensor.largest / top, -zero_point, top), zero_point)

    def set_weight(self, quantizer: WeightQuantizer, weight: paddle.Tensor) -> None:
        rows = np.moveaxis(weight.numpy(), quantizer.axis, 0).reshape(weight.shape[quantizer.axis], -1)
        top = weight_limit(quantizer.bits)
        quantizer.set_scale(weight, best_scales(rows, np.abs(rows).max(axis=1) / top, -top, top))

    def attach(self, model: nn.Layer, context: Context) -> None:
        self.learned = _learned(model)
        for tensor in self.learned:
            tensor.stop_gradient = False
            tensor.optimize_attr["learning_rate"] = self.learning_rate


class PactQuantization(QuantizationAwareTraining):
    """PACT (Choi et al. 2018, arXiv:1805.06085): the clip of each activation is learned, and decays.

    The paper's rule for weights (DoReFa's, through a hyperbolic tangent) is replaced by calibrated scales, which an
    integer convolution can hold. `clip: false`: nothing is clipped on purpose, ranges follow the largest values.
    """

    settings: Pact

    def __init__(self, settings: Pact):
        super().__init__(settings)
        self.method = "pact" if settings.clip else "max"
        self.learning_rate = settings.clip_lr

    def set_input(self, quantizer, tensor):
        if self.settings.clip:
            super().set_input(quantizer, tensor)
        else:
            zero_point = quantizer.zero_point()
            quantizer.set_range(tensor.largest / activation_limit(quantizer.bits, zero_point), zero_point)

    def attach(self, model, context):
        super().attach(model, context)
        self.clips = [q.clip for q in _quantizers(model) if isinstance(q, PactQuantizer)]

    def terms(self, model: nn.Layer, outputs: Outputs, batch: Batch) -> dict[str, paddle.Tensor]:
        """{"clips": decay times the sum of the squared clips}: without it no clip would ever shrink much."""
        if not self.clips or not self.settings.clip_decay:
            return {}
        return {"clips": self.settings.clip_decay * paddle.concat(self.clips).square().sum()}


class LsqQuantization(QuantizationAwareTraining):
    """LSQ+ (Bhalgat et al. 2020, arXiv:2004.09576): scales of activations and weights, and offsets, are learned."""

    settings: Lsq
    method = "lsq"

    def __init__(self, settings: Lsq):
        super().__init__(settings)
        self.learning_rate = settings.scale_lr

    def set_input(self, quantizer, tensor):
        """Both ends of the grid, by the least squared error (section 3.2 of the paper)."""
        if not quantizer.zero_point():
            return super().set_input(quantizer, tensor)
        levels = 2**quantizer.bits - 1
        low, high = min(tensor.smallest, 0.0), max(tensor.greatest, 0.0)
        zero_point = int(np.rint(-low / max(high - low, MIN_RANGE) * levels))  # the same at all widths
        scale = best_scale(tensor.values, (high - low) / levels, -zero_point, levels - zero_point)
        quantizer.set_range(scale, zero_point)


def quantizable(model: nn.Layer, float_layers: Sequence[str]) -> list[str]:
    """Paths of the layers to be quantized, without those that training alone uses.

    SlimError for a pattern of `float_layers` that no path of one matches.
    """
    paths = [path for path, layer in model.named_sublayers() if type(layer) in QUANTIZABLE]
    paths = [path for path in paths if not path.startswith(training_only(model))]
    left = named(paths, float_layers, "float_layers")
    return [path for path in paths if path not in left]


@dataclass(eq=False)
class Tensor:
    """What was seen of a tensor that layers read.

    Attributes:
        image: whether it is the network's input.
        values: some of them, [count] float32.
    """

    image: bool
    smallest: float = np.inf
    greatest: float = -np.inf
    parts: list[np.ndarray] = field(default_factory=list)

    def add(self, values: np.ndarray, count: int) -> None:
        """Look at values of any shape, and keep at most `count` of them."""
        self.smallest, self.greatest = min(self.smallest, values.min()), max(self.greatest, values.max())
        # Drawn at random: every n-th value would be of one column, the sizes of a tensor being powers of two.
        drawn = np.random.default_rng(len(self.parts)).integers(0, values.size, min(count, values.size))
        self.parts.append(values.reshape(-1)[drawn])

    @property
    def values(self) -> np.ndarray:
        return np.concatenate(self.parts)

    @property
    def largest(self) -> float:
        return float(max(abs(self.smallest), abs(self.greatest)))

    def grid(self, bits: int) -> dict[str, Any]:
        """As `fake_quantize` takes it."""
        never_negative = self.smallest >= 0 and not self.image
        grid = {"bits": bits, "zero_point": 0 if never_negative else 2 ** (bits - 1)}
        return {**grid, "fixed": True} if self.image else grid


def collect_statistics(
    model: nn.Layer, paths: Sequence[str], batches: Sequence[Batch], task: Task
) -> dict[str, list[Tensor]]:
    """What each of the layers at `paths` reads, in the order in which they run; LSTMs: nothing.

    Layers that read the same tensor have the same `Tensor`. Layers that do not run are left out.
    """
    seen: dict[str, list[Tensor]] = {}
    alive: dict[int, tuple[paddle.Tensor, Tensor]] = {}  # of one batch: a tensor that is gone lends its id to others
    count = max(1, SAMPLES // len(batches))

    def hook(path: str) -> Callable:
        def watch(layer, inputs):
            given = () if isinstance(layer, nn.LSTM) else inputs
            first_time = path not in seen
            tensors = seen.setdefault(path, [])
            for index, x in enumerate(given):
                fresh = id(x) not in alive
                if fresh:
                    image = x.shape == list(batch.image.shape) and np.array_equal(x.numpy(), batch.image)
                    alive[id(x)] = (x, Tensor(image) if first_time else tensors[index])
                tensor = alive[id(x)][1]
                if first_time:
                    tensors.append(tensor)
                if fresh:
                    tensor.add(x.numpy(), count)

        return watch

    hooks = [layer_at(model, path).register_forward_pre_hook(hook(path)) for path in paths]
    try:
        with paddle.no_grad():
            for batch in batches:
                task.outputs(model, batch)
                alive.clear()
    finally:
        for handle in hooks:
            handle.remove()
    return seen


def _figures(model: nn.Layer, batches: Sequence[Batch], context: Context) -> dict[str, Any]:
    return {"loss": mean_loss(model, context.task, batches), **asdict(context.score(model))}


def sensitivities(model: nn.Layer, context: Context) -> dict[str, float]:
    """How much the loss on some training rows rises when one layer alone is quantized, the most sensitive first.

    `model` is quantized and calibrated. Written to `SENSITIVITY` in the stage's folder.
    """
    batches = context.calibration(SENSITIVITY_LINES)
    with _only(model, ""):
        base = mean_loss(model, context.task, batches)
    rises = {}
    for path in quantized_layers(model):
        with _only(model, path):
            rises[path] = mean_loss(model, context.task, batches) - base
    ranked = dict(sorted(rises.items(), key=lambda item: -item[1]))
    if context.is_first:
        write_json(context.folder / SENSITIVITY, {"rows": SENSITIVITY_LINES, "float_loss": base, "rise": ranked})
    return ranked


@contextmanager
def _only(model: nn.Layer, path: str) -> Iterator[None]:
    """All quantized layers but the one at `path` compute in float within."""
    undo: list[Callable[[], None]] = []

    def put(holder: nn.Layer, name: str) -> None:
        own = holder._sub_layers[name]
        undo.append(lambda: holder.add_sublayer(name, own))
        holder.add_sublayer(name, nn.Identity())

    for other, layer in quantized_layers(model).items():
        if other == path:
            continue
        if isinstance(layer, QuantizedLSTM):
            layer.__class__ = nn.LSTM
            undo.append(lambda layer=layer: setattr(layer, "__class__", QuantizedLSTM))
        elif isinstance(layer, QuantizedAdd):
            put(layer.inputs, "0")
            put(layer.inputs, "1")
        else:
            put(layer, "_fake_quant_input")
            put(layer, "_fake_quant_weight")
    try:
        yield
    finally:
        for restore in undo:
            restore()


def freeze_quant_params(model: nn.Layer) -> None:
    """Let a quantized network's grids stay as they are: without a quantize step they have no rate and no decay."""
    for tensor in _learned(model):
        tensor.stop_gradient = True


def _learned(model: nn.Layer) -> list[paddle.Tensor]:
    return [tensor for quantizer in _quantizers(model) for tensor in quantizer.learned()]


def _quantizers(model: nn.Layer) -> list[nn.Layer]:
    """Each once, those of inputs and of weights."""
    return [layer for layer in model.sublayers() if isinstance(layer, (ActivationQuantizer, WeightQuantizer))]
