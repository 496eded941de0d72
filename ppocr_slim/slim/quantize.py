"""Quantization-aware training: PACT with a clip at both ends (arXiv:1805.06085), and LSQ+ (arXiv:2004.09576).

A network is calibrated before it trains: the quantization parameters of each tensor are those that round the values
seen on some training samples with the least mean squared error. The quantized network must then read nearly as well as
the float one, or the run stops: a training that starts with a ruined network usually does not recover.

The fake-quantized layers are in `models.fake_quant`.
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
    FAKE_QUANT,
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
from ppocr_slim.runtime.preprocess import PAGE_NORMALIZED
from ppocr_slim.runtime.specs import DetSpec, Spec
from ppocr_slim.slim._paddleslim import wrap_for_quantization
from ppocr_slim.slim.sensitivity import mean_loss
from ppocr_slim.slim.technique import Context, Technique, Transform
from ppocr_slim.tasks.task import Outputs, Task

REPORT, SENSITIVITY = "quantize.json", "quantize_sensitivity.json"  # in the stage's folder
WORST_LAYERS = 5  # as many of the most sensitive layers are named in an error
SENSITIVITY_SAMPLES = 16  # samples that the loss is measured on, for each layer
SAMPLES = 1 << 15  # values of a tensor that its quantization parameters are chosen by


class QuantizationAwareTraining(Technique):
    """Base of the QAT methods: fake quantization of convolutions, linear layers, additions and LSTM weights."""

    folds = True
    method: str
    learning_rate: float  # of the learned quantization parameters, a factor of the others' rate

    def __init__(self, settings: Quantize):
        self.settings = settings

    def prepare(self, model: nn.Layer, context: Context) -> list[Transform]:
        """Calibrate and fake-quantize the network in place, and compare it with the float one.

        Args:
            model: a trained float network.
            context: the stage's.

        Returns:
            The transform "fake_quant".

        Raises:
            SlimError: the network is quantized already, a pattern of `float_layers` matches nothing, or quantization
                loses more than `max_drop`.
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
        statistics = collect_statistics(model, paths, batches, context.task)
        report = {"rows": sum(len(batch.sources) for batch in batches), "float": _evaluate(model, batches, context)}
        transform = self._quantize(model, statistics)
        report["quantized"] = _evaluate(model, batches, context)
        self._check_drop(model, report, context)
        if was_training:
            model.train()
        return [transform]

    def _quantize(self, model: nn.Layer, statistics: Mapping[str, list[TensorStatistics]]) -> Transform:
        weighted = [path for path in statistics if type(layer_at(model, path)) in WRAPPERS]
        transform = self.plan(statistics, weighted)
        wrap_for_quantization(model, weighted)
        fake_quantize(model, transform["method"], transform["layers"])
        name_parameters(model)
        self.calibrate(model, statistics, transform["layers"])
        return transform

    def _check_drop(self, model: nn.Layer, report: dict[str, Any], context: Context) -> None:
        """Write the report, with the sensitivities if asked for or needed, and stop where too much is lost."""
        metric = context.task.metrics[0]
        before, after = report["float"][metric], report["quantized"][metric]
        drop = before - after if HIGHER_IS_BETTER[metric] else after - before
        logger.info("calibrated on %d samples: %s %.4f, in float %.4f", report["rows"], metric, after, before)
        limit = self.settings.max_drop
        too_much = limit is not None and not drop <= limit
        if too_much or self.settings.sensitivity:
            report["sensitivity"] = sensitivities(model, context)
        if context.is_first:
            write_json(context.folder / REPORT, report)
        if too_much:
            worst = ", ".join(list(report["sensitivity"])[:WORST_LAYERS])
            raise SlimError(
                f"quantized, the network has a {metric} of {after:.4f} instead of {before:.4f}: more than max_drop "
                f"{limit} lost; leave the most sensitive layers in float (float_layers: {worst}), use more bits, or "
                "raise max_drop"
            )

    def plan(self, statistics: Mapping[str, list[TensorStatistics]], weighted: Sequence[str]) -> Transform:
        """Return the transform: bits and zero points of the layers, in the order in which they run.

        Args:
            statistics: layer's path -> statistics of its inputs.
            weighted: paths of the layers whose weights are quantized.
        """
        layers: dict[str, Any] = {}
        ran = [path for path in statistics if path in weighted]
        weight_bits, edge_bits = self.settings.weight_bits, self.settings.edge_bits
        edges = {ran[0], ran[-1]} if ran and edge_bits else set()
        # 8 only where all have 8: the INT8 file would round them once more
        edge_weight_bits = min(edge_bits or weight_bits, max(weight_bits, SAFE_BITS))
        places: dict[int, list[Any]] = {}
        for path, tensors in statistics.items():
            edge = path in edges
            bits = edge_bits if edge else self.settings.activation_bits
            inputs: list[dict[str, Any]] = []
            for index, tensor in enumerate(tensors):
                if id(tensor) in places:
                    inputs.append({"same_as": places[id(tensor)]})
                else:
                    inputs.append(tensor.quant_params(bits))
                    places[id(tensor)] = [path, index]
            layers[path] = {"inputs": inputs}
            if path in weighted:
                layers[path]["weight_bits"] = edge_weight_bits if edge else weight_bits
        return {"name": FAKE_QUANT, "method": self.method, "layers": layers}

    def calibrate(
        self, model: nn.Layer, statistics: Mapping[str, list[TensorStatistics]], layers: Mapping[str, Any]
    ) -> None:
        """Set the quantization parameters of a network that was just fake-quantized.

        Args:
            model: the network.
            statistics: layer's path -> statistics of its inputs.
            layers: "layers" of the transform.
        """
        for path, planned in layers.items():
            layer = layer_at(model, path)
            for quantizer, tensor, params in zip(input_quantizers(layer), statistics[path], planned["inputs"]):
                if params.get("fixed"):
                    quantizer.set_clip(tensor.image)
                elif "same_as" not in params:
                    self.set_input(quantizer, tensor)
            if "weight_bits" in planned:
                self.set_weight(layer._fake_quant_weight, layer.weight)

    def set_input(self, quantizer: ActivationQuantizer, tensor: TensorStatistics) -> None:
        """Set the range of an activation to the one with the least mean squared error.

        Args:
            quantizer: the activation's.
            tensor: its statistics.
        """
        zero_point = quantizer.zero_point()
        top = activation_limit(quantizer.bits, zero_point)
        quantizer.set_range(best_scale(tensor.values, tensor.largest / top, -zero_point, top), zero_point)

    def set_weight(self, quantizer: WeightQuantizer, weight: paddle.Tensor) -> None:
        """Set the scale of each output channel to the one with the least mean squared error.

        Args:
            quantizer: the weight's.
            weight: its values.
        """
        channels = np.moveaxis(weight.numpy(), quantizer.axis, 0).reshape(weight.shape[quantizer.axis], -1)
        top = weight_limit(quantizer.bits)
        quantizer.set_scale(weight, best_scales(channels, np.abs(channels).max(axis=1) / top, -top, top))

    def attach(self, model: nn.Layer, context: Context) -> None:
        """Let the quantization parameters be trained that the method learns."""
        self.learned = _learned(model)
        for tensor in self.learned:
            tensor.stop_gradient = False
            tensor.optimize_attr["learning_rate"] = self.learning_rate


class PactQuantization(QuantizationAwareTraining):
    """PACT (Choi et al. 2018, arXiv:1805.06085): the clip of each activation is learned, and decays.

    The paper's rule for weights (DoReFa's, through a hyperbolic tangent) is replaced by calibrated scales, which an
    integer convolution can use. With `clip: false` nothing is clipped on purpose: ranges follow the largest values.
    """

    settings: Pact

    def __init__(self, settings: Pact):
        super().__init__(settings)
        self.method = "pact" if settings.clip else "max"
        self.learning_rate = settings.clip_lr

    def set_input(self, quantizer, tensor):
        """Set the clip of an activation; see the base class."""
        if self.settings.clip:
            super().set_input(quantizer, tensor)
        else:
            zero_point = quantizer.zero_point()
            quantizer.set_range(tensor.largest / activation_limit(quantizer.bits, zero_point), zero_point)

    def attach(self, model, context):
        """Let the clips be trained."""
        super().attach(model, context)
        self.clips = [q.clip for q in _quantizers(model) if isinstance(q, PactQuantizer)]

    def terms(self, model: nn.Layer, outputs: Outputs, batch: Batch) -> dict[str, paddle.Tensor]:
        """Return "clips", decay times the sum of the squared clips: without it no clip would ever shrink much."""
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
        """Set both ends of the range to those with the least squared error (section 3.2 of the paper)."""
        if not quantizer.zero_point():
            return super().set_input(quantizer, tensor)
        levels = 2**quantizer.bits - 1
        low, high = min(tensor.smallest, 0.0), max(tensor.greatest, 0.0)
        zero_point = int(np.rint(-low / max(high - low, MIN_RANGE) * levels))  # the same at all widths
        scale = best_scale(tensor.values, (high - low) / levels, -zero_point, levels - zero_point)
        quantizer.set_range(scale, zero_point)


def quantizable(model: nn.Layer, float_layers: Sequence[str]) -> list[str]:
    """Return the paths of the layers to quantize, without those that only training uses.

    Args:
        model: a float network.
        float_layers: patterns of layers to leave in float.

    Raises:
        SlimError: a pattern matches no layer.
    """
    paths = [path for path, layer in model.named_sublayers() if type(layer) in QUANTIZABLE]
    paths = [path for path in paths if not path.startswith(training_only(model))]
    left = named(paths, float_layers, "float_layers")
    return [path for path in paths if path not in left]


@dataclass(eq=False)
class TensorStatistics:
    """Statistics of a tensor that layers read, over the calibration samples.

    Attributes:
        image: the largest absolute value that a pixel of the network's input can have; None: it is not the input.
        smallest: the smallest value.
        greatest: the greatest value.
        parts: values drawn from each batch.
    """

    image: float | None
    smallest: float = np.inf
    greatest: float = -np.inf
    parts: list[np.ndarray] = field(default_factory=list)

    def add(self, values: np.ndarray, count: int) -> None:
        """Collect the statistics of a batch.

        Args:
            values: of any shape.
            count: how many of them to keep at most.
        """
        self.smallest, self.greatest = min(self.smallest, values.min()), max(self.greatest, values.max())
        # Drawn at random: the sizes of a tensor are powers of two, so every n-th value would be of one column.
        drawn = np.random.default_rng(len(self.parts)).integers(0, values.size, min(count, values.size))
        self.parts.append(values.reshape(-1)[drawn])

    @property
    def values(self) -> np.ndarray:
        """The values that were kept, [count] float32."""
        return np.concatenate(self.parts)

    @property
    def largest(self) -> float:
        """The largest absolute value."""
        return float(max(abs(self.smallest), abs(self.greatest)))

    def quant_params(self, bits: int) -> dict[str, Any]:
        """Return bits and zero point in the form that `fake_quantize` takes."""
        never_negative = self.smallest >= 0 and self.image is None
        params = {"bits": bits, "zero_point": 0 if never_negative else 2 ** (bits - 1)}
        return params if self.image is None else {**params, "fixed": True}


def largest_pixel(spec: Spec) -> float:
    """Return the largest absolute value that a pixel of a network's input can have."""
    return float(np.abs(PAGE_NORMALIZED).max()) if isinstance(spec, DetSpec) else 1.0


def collect_statistics(
    model: nn.Layer, paths: Sequence[str], batches: Sequence[Batch], task: Task
) -> dict[str, list[TensorStatistics]]:
    """Run the network on the calibration samples and collect the statistics of the layers' inputs.

    Args:
        model: a float network in evaluation mode.
        paths: paths of the layers.
        batches: the calibration samples.
        task: the network's.

    Returns:
        Layer's path -> statistics of its inputs, none for an LSTM, in the order in which the layers run; layers that do
        not run are left out. Layers that read the same tensor share its statistics.
    """
    statistics: dict[str, list[TensorStatistics]] = {}
    # Of one batch only: the id of a tensor that is gone can be another one's
    alive: dict[int, tuple[paddle.Tensor, TensorStatistics]] = {}
    count = max(1, SAMPLES // len(batches))

    def hook(path: str) -> Callable:
        def watch(layer, inputs):
            read = () if isinstance(layer, nn.LSTM) else inputs
            first_time = path not in statistics
            tensors = statistics.setdefault(path, [])
            for index, x in enumerate(read):
                fresh = id(x) not in alive
                if fresh:
                    is_image = x.shape == list(batch.image.shape) and np.array_equal(x.numpy(), batch.image)
                    limit = largest_pixel(task.spec) if is_image else None
                    alive[id(x)] = (x, TensorStatistics(limit) if first_time else tensors[index])
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
    return statistics


def _evaluate(model: nn.Layer, batches: Sequence[Batch], context: Context) -> dict[str, Any]:
    return {"loss": mean_loss(model, context.task, batches), **asdict(context.score(model))}


def sensitivities(model: nn.Layer, context: Context) -> dict[str, float]:
    """Measure by how much the loss on some training samples rises when a single layer is quantized.

    The result is also written to `SENSITIVITY` in the stage's folder.

    Args:
        model: a quantized and calibrated network, unchanged afterwards.
        context: the stage's.

    Returns:
        Layer's path -> rise of the loss, the most sensitive layer first.
    """
    batches = context.calibration(SENSITIVITY_SAMPLES)
    with _only_quantized(model, ""):
        base = mean_loss(model, context.task, batches)
    rises = {}
    for path in quantized_layers(model):
        with _only_quantized(model, path):
            rises[path] = mean_loss(model, context.task, batches) - base
    ranked = dict(sorted(rises.items(), key=lambda item: -item[1]))
    if context.is_first:
        write_json(context.folder / SENSITIVITY, {"rows": SENSITIVITY_SAMPLES, "float_loss": base, "rise": ranked})
    return ranked


@contextmanager
def _only_quantized(model: nn.Layer, path: str) -> Iterator[None]:
    """Let all quantized layers but the one at `path` compute in float within the context."""
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
    """Freeze a network's quantization parameters: only a QAT technique has a learning rate and a decay for them."""
    for tensor in _learned(model):
        tensor.stop_gradient = True


def _learned(model: nn.Layer) -> list[paddle.Tensor]:
    return [tensor for quantizer in _quantizers(model) for tensor in quantizer.learned()]


def _quantizers(model: nn.Layer) -> list[nn.Layer]:
    """Return the quantizers of inputs and of weights, each once."""
    return [layer for layer in model.sublayers() if isinstance(layer, (ActivationQuantizer, WeightQuantizer))]
