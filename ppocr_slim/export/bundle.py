"""A checkpoint as a bundle that runs without this project's training code."""

from __future__ import annotations

import copy
import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import paddle
import paddle2onnx
from paddle import nn
from paddle.static import InputSpec

from ppocr_slim.engines.cpu import SAFE_BITS
from ppocr_slim.engines.timing import compared, time_in_turns
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.evaluation.verification import PARITY_CHECKS, ParityCheck
from ppocr_slim.export.weights import read_bundle_weights
from ppocr_slim.folders import old_folder, publish_folder
from ppocr_slim.models.fake_quant import FAKE_QUANT, quant_params_of, strip
from ppocr_slim.models.reparam import branched_layers
from ppocr_slim.models.state import model_state, training_only
from ppocr_slim.models.transforms import fold
from ppocr_slim.quantization.calibration import calibrate
from ppocr_slim.quantization.qdq_writer import write_int8
from ppocr_slim.quantization.qparams import LayerQuantParams
from ppocr_slim.runtime.bundle import (
    CARD,
    INT8,
    ONNX,
    PADDLE_PROGRAM,
    PADDLE_WEIGHTS,
    Bundle,
    read_bundle,
    write_card,
)
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.sessions import Predict, open_bundle_session
from ppocr_slim.runtime.specs import ClsSpec, DetSpec, RecSpec, Spec
from ppocr_slim.tasks.checkpoint import load_model
from ppocr_slim.tasks.table import TASKS, task_for

# The largest difference of a probability between the checkpoint and any exported format. Engines round sums in other
# orders: a good export was seen 1.4e-4 apart where logits are large. A wrong one (a layer lost, say) is 1e-2 apart.
TOLERANCE = 1e-3
OPSET = 13
MEGABYTE = 1_000_000  # bytes
FORMATS = {"paddle": (PADDLE_PROGRAM, PADDLE_WEIGHTS), "onnx": (ONNX,), "onnx_int8": (INT8,)}
FP32_ENGINES = {"paddle": "paddle", "onnx": "onnxruntime"}
INT8_ENGINES = ("onnxruntime", "openvino")
MAX_INT8_LOSS = 0.02  # fraction of the FP32 network's error, against the network that the INT8 file was made from
EQUAL = 0.99  # of the predictions agree, or the log warns: rounding differs where sums are taken in other orders
READS_NOTHING = 0.5  # an error from which on a network has nothing to lose
TIMED_ROUNDS = 20
COARSER = "trained with weights of %d bits, the INT8 file has %d: train with weight_bits %d, or export with %d"


@dataclass(frozen=True)
class ExportReport:
    """The result of an export.

    Attributes:
        folder: the bundle.
        sizes: bytes by format; "paddle" is program and weights together.
        parity: what was compared: samples, largest difference of a probability, number of samples that are read
            differently (not where INT8 alone was made); under "int8" what `compare_int8` measures, for each engine.
        precision: "int8" or "fp32", the faster, by engine; empty without INT8.
    """

    folder: Path
    sizes: Mapping[str, int]
    parity: Mapping[str, Any]
    precision: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"wrote {self.folder}"]
        lines += [f"  {name:<8} {size / MEGABYTE:8.2f} MB" for name, size in self.sizes.items()]
        if "samples" in self.parity:
            count = self.parity["samples"]
            lines.append(f"  on {count} samples all formats read the same; probabilities differ at most by")
            lines += [f"  {value:8.1e} between {pair}" for pair, value in self.parity["largest_difference"].items()]
        for engine, figures in self.parity.get("int8", {}).items():
            time = figures.get("time")
            shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items() if name != "time")
            lines.append(
                f"  INT8 in {engine}: {shown}"
                + (f"; {time['ms']:.1f} ms a typical input, FP32 {time['base_ms']:.1f} ms" if time else "")
            )
        return "\n".join(lines)


def export_bundle(
    checkpoint_folder: str | Path,
    out_folder: str | Path,
    formats: Sequence[str],
    budget_mb: float,
    check_samples: Sequence[Any],
    calibration_samples: Sequence[Any] = (),
    int8_weight_bits: int = SAFE_BITS,
    int8_activations: bool = True,
    replaceable: Sequence[str] = (),
) -> ExportReport:
    """Write a bundle, and prove on real samples that it reads as the checkpoint does.

    A fake-quantized checkpoint gives its trained quantization parameters to the INT8 file, and its float weights to the
    other formats. Of a float checkpoint the INT8 file is quantized after training. It must read well in ONNX Runtime;
    the bundle says for each engine whether FP32 or INT8 is faster here. Branches are folded.

    Everything is written beside `out_folder` and moved into its place when it has passed; before that,
    nothing there is touched.

    Args:
        formats: of `FORMATS`.
        budget_mb: the most that any one format may weigh, in megabytes of 10^6 bytes.
        check_samples: labelled samples of the network's task to compare on.
        calibration_samples: samples that ranges are taken from, best of the training; needed for INT8 of a float
            checkpoint.
        int8_weight_bits: 7, or 8 for processors with VNNI alone.
        int8_activations: False: the weights of the INT8 file alone are integers.
        replaceable: names of files in `out_folder` that may go besides those of a bundle.

    Raises:
        SlimError: an output differs by more than `TOLERANCE` or is read otherwise, INT8 reads worse, the bundle is over
            its budget, an image cannot be read, or `out_folder` holds something other than a bundle.
    """
    out = Path(out_folder)
    _require_replaceable(out, *replaceable)
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown:
        raise SlimError(f"cannot export {unknown[0]!r}: formats are {', '.join(FORMATS)}")
    if not formats or not check_samples:
        raise SlimError("an export needs at least one format and one labelled image to compare on")
    model, card = load_model(checkpoint_folder)
    task = task_for(card.spec)
    params = quant_params_of(model)
    check = PARITY_CHECKS[type(card.spec)].from_samples(card.spec, check_samples)
    trained = task.session(copy.deepcopy(model)) if branched_layers(model) else None
    folded = fold(model)  # not of a fake-quantized network, which was folded before
    quantized = None
    if params:  # the float weights are exported; the INT8 file is compared with the network that trained
        quantized = task.session(copy.deepcopy(model))
        strip(model)
    architecture = card.architecture
    architecture["transforms"] = [*(one for one in card.transforms if one["name"] != FAKE_QUANT), *folded]
    with _staging(out) as staging:
        save_inference_model(model, card.spec, staging, onnx_too="onnx" in formats or "onnx_int8" in formats)
        if "onnx_int8" in formats:
            _write_int8(staging, params, check, calibration_samples, int8_weight_bits, int8_activations)
        files = [name for key in FORMATS if key in formats for name in FORMATS[key]]
        sizes = _sizes(staging, files)
        _require_budget(sizes, budget_mb)
        weight_bits = int8_weight_bits if "onnx_int8" in formats else None
        int8 = {"int8_weight_bits": weight_bits, "int8_activations": int8_activations or weight_bits is None}
        describe = partial(write_card, staging, architecture, card.spec, **int8)
        describe({}, [path.name for path in staging.iterdir()], {})
        bundle = read_bundle(staging)
        checkpoint = trained or task.session(model)
        exported = {key: open_bundle_session(bundle, FP32_ENGINES[key]) for key in formats if key in FP32_ENGINES}
        parity = measure_parity(checkpoint, exported, check)
        precision: dict[str, str] = {}
        if "onnx_int8" in formats:
            parity["int8"] = compare_int8(bundle, quantized or checkpoint, check)
            precision = _faster_precisions(parity["int8"], int8_activations)
        for path in staging.iterdir():
            if path.name not in files:
                path.unlink()
        describe(parity, files, precision)
    return ExportReport(out, sizes, parity, precision)


def requantize_bundle(
    bundle_folder: str | Path,
    out_folder: str | Path,
    budget_mb: float,
    check_samples: Sequence[Any],
    calibration_samples: Sequence[Any],
    weight_bits: int = SAFE_BITS,
    activations: bool = True,
) -> ExportReport:
    """Copy a bundle and make its INT8 file anew from its FP32 file: for other processors, or where it has none.

    The quantization parameters are those of `calibration_samples`, also where the old file had trained ones. Arguments
    and errors are otherwise `export_bundle`'s; the FP32 file is what INT8 is compared with.
    """
    out = Path(out_folder)
    bundle = read_bundle(bundle_folder)
    if bundle.folder.resolve() in {folder.resolve() for folder in (out, _staging_folder(out), old_folder(out))}:
        raise SlimError(f"the bundle {bundle.folder} would be lost when {out} is written: name another folder")
    _require_replaceable(out, *bundle.sizes)
    if not check_samples or not calibration_samples:
        raise SlimError("INT8 of a bundle needs labelled images to compare on (--data) and some to calibrate on")
    check = PARITY_CHECKS[type(bundle.spec)].from_samples(bundle.spec, check_samples)
    with _staging(out) as staging:
        for name in bundle.sizes:
            shutil.copyfile(bundle.folder / name, staging / name)
        params = calibrate_on(bundle.file(ONNX), bundle.spec, calibration_samples)
        write_int8(bundle.file(ONNX), staging / INT8, params, weight_bits, activations)
        files = sorted({*bundle.sizes, INT8})
        sizes = _sizes(staging, files)
        _require_budget(sizes, budget_mb)
        int8 = {"int8_weight_bits": weight_bits, "int8_activations": activations}
        describe = partial(write_card, staging, bundle.architecture, bundle.spec, **int8)
        describe({}, files, {})
        figures = compare_int8(read_bundle(staging), open_bundle_session(bundle, precision="fp32"), check)
        precision = _faster_precisions(figures, activations)
        describe({**bundle.parity, "int8": figures}, files, precision)
    return ExportReport(out, sizes, {"int8": figures}, precision)


def _staging_folder(out: Path) -> Path:
    return out.with_name(out.name + ".new")


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out`, which takes its place when all went well and is removed otherwise.

    Raises:
        SlimError: for an OSError within.
    """
    staging = _staging_folder(out)
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        yield staging
        publish_folder(staging, out)
    except OSError as error:
        raise SlimError(f"cannot write the bundle {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_int8(
    folder: Path,
    params: Mapping[str, LayerQuantParams],
    check: ParityCheck,
    samples: Sequence[Any],
    weight_bits: int,
    activations: bool,
) -> None:
    """Write the INT8 file beside the FP32 one, from trained quantization parameters and calibrated ones for the rest.

    Raises:
        SlimError: there are neither parameters nor samples to calibrate on.
    """
    if not params and not samples:
        raise SlimError("onnx_int8 of a float network needs images to calibrate on: name some (--calibration)")
    trained_bits = max((layer.weight.bits for layer in params.values() if layer.weight), default=0)
    if trained_bits > weight_bits:  # trained weights are rounded once more
        logger.warning(COARSER, trained_bits, weight_bits, weight_bits, trained_bits)
    if samples and (activations or not params):
        params = calibrate_on(folder / ONNX, check.spec, samples, params)
    write_int8(folder / ONNX, folder / INT8, params, weight_bits, activations)


def calibrate_on(
    fp32: Path,
    spec: Spec,
    samples: Sequence[Any],
    trained: Mapping[str, LayerQuantParams] = MappingProxyType({}),
) -> dict[str, LayerQuantParams]:
    """Return quantization parameters of an FP32 file, from training samples as the runtime feeds them.

    Args:
        fp32: the FP32 file.
        spec: the network's.
        samples: of the network's task.
        trained: see `calibrate`.
    """
    images = [load_image(sample.path) for sample in samples]
    return calibrate(fp32, list(PARITY_CHECKS[type(spec)].inputs(spec, images)), trained=trained)


def _sizes(folder: Path, files: Sequence[str]) -> dict[str, int]:
    """Return the bytes of each format whose files are all among `files`."""
    return {
        key: sum((folder / name).stat().st_size for name in names)
        for key, names in FORMATS.items()
        if set(names) <= set(files)
    }


def save_inference_model(model: nn.Layer, spec: Spec, folder: Path, onnx_too: bool) -> None:
    """Write Paddle's inference model of `model` (and ONNX) into `folder`, with its `input_shape`.

    Raises:
        SlimError: a weight in the files is not, under its layer's name and bit for bit, the network's; or as
            `write_network` does.
    """
    write_network(TASKS[spec.task].as_exported(model), spec, folder, onnx_too)
    saved = read_bundle_weights(folder)
    own = {name: tensor.numpy() for name, tensor in model_state(model).items()}
    own = {name: array for name, array in own.items() if not name.startswith(training_only(model))}
    for name in sorted(own.keys() | saved.keys()):
        if name not in own or name not in saved or not np.array_equal(own[name], saved[name]):
            raise SlimError(f"the exported weights of {name} are not the network's; nothing was written")


def input_shape(spec: Spec) -> list[int | None]:
    """Return [N, 3, H, W] of a network's input; None where it is dynamic."""
    if isinstance(spec, DetSpec):
        return [None, 3, None, None]
    return [None, 3, spec.height, spec.width if isinstance(spec, ClsSpec) else None]


def write_network(network: nn.Layer, spec: Spec, folder: Path, onnx_too: bool) -> None:
    """Write Paddle's files (and ONNX, with a recognizer's characters in it) of a layer that takes `input_shape`.

    It is put into evaluation mode.

    Raises:
        SlimError: paddle was imported before this package and so runs in its new program format.
    """
    if paddle.framework.use_pir_api():  # it would write inference.json, which nothing after this understands
        raise SlimError(
            "paddle runs with its new program format: import ppocr_slim before paddle, or set FLAGS_enable_pir_api=0"
        )
    network.eval()
    spec_x = InputSpec(input_shape(spec), "float32", "x")
    paddle.jit.save(network, str(folder / "inference"), input_spec=[spec_x])
    if onnx_too:
        files = (str(folder / name) for name in (PADDLE_PROGRAM, PADDLE_WEIGHTS, ONNX))
        paddle2onnx.export(*files, OPSET, verbose=False)
        if isinstance(spec, RecSpec):  # RapidOCR looks for the dictionary there, without blank and space
            graph = onnx.load(str(folder / ONNX))
            onnx.helper.set_model_props(graph, {"character": "\n".join(spec.characters)})
            onnx.save(graph, str(folder / ONNX))


def measure_parity(checkpoint: Predict, exported: Mapping[str, Predict], check: ParityCheck) -> dict[str, Any]:
    """Compare sessions with each other, by their numbers and by what they read.

    Returns:
        The figures that the bundle keeps.

    Raises:
        SlimError: a probability differs by more than `TOLERANCE`, or more is read differently than the check allows.
    """
    sessions = {"checkpoint": checkpoint, **exported}
    largest: dict[str, float] = {}
    for batch in check.batches():
        outputs = {name: session(batch) for name, session in sessions.items()}
        for (a, x), (b, y) in itertools.combinations(outputs.items(), 2):
            if x.shape != y.shape:
                raise SlimError(f"{a} gives {list(x.shape)} and {b} {list(y.shape)} for one input; nothing was written")
            pair = f"{a} and {b}"
            # A NaN must not pass for a small difference: the comparison below is written so that it fails.
            largest[pair] = float(np.maximum(largest.get(pair, 0.0), np.abs(x - y).max()))
    for pair, difference in largest.items():
        if not difference <= TOLERANCE:
            raise SlimError(
                f"probabilities of {pair} differ by {difference:.2g}, over {TOLERANCE:g}; nothing was written"
            )
    read = {name: check.predict(session) for name, session in sessions.items()}
    differing = 0
    for name, readings in read.items():
        other = [(a, b) for a, b in zip(read["checkpoint"], readings) if not check.agree(a, b)]
        differing = max(differing, len(other))
        if len(other) > check.max_differing * len(readings):
            expected, found = other[0]
            raise SlimError(f"the checkpoint reads {expected!r} where {name} reads {found!r}; nothing was written")
    return {
        "samples": len(read["checkpoint"]),
        "largest_difference": {pair: float(f"{difference:.3g}") for pair, difference in largest.items()},
        f"{check.subject}_that_differ": differing,
    }


def compare_int8(bundle: Bundle, before: Predict, check: ParityCheck) -> dict[str, dict[str, Any]]:
    """Compare the INT8 file of a bundle with the network that it was made from, in each engine that can load it.

    Returns:
        Engine -> {"cer", "cer_before": of `before`, "texts_equal": fraction that agrees, "time": see
        `engines.timing.compared`}, where the metric and the subject are the check's: these are a recognizer's.

    Raises:
        SlimError: it reads worse than `before` in ONNX Runtime; in another engine it is not timed then.
    """
    expected = check.predict(before)
    error_before = check.error(expected)
    x = check.typical_input()
    found: dict[str, dict[str, Any]] = {}
    calls: dict[tuple[str, str], Callable[[], Any]] = {}
    for engine in INT8_ENGINES:
        try:
            sessions = {name: open_bundle_session(bundle, engine, precision=name) for name in ("int8", "fp32")}
        except SlimError as error:
            logger.warning("INT8 is not for %s: %s", engine, error)
            continue
        readings = check.predict(sessions["int8"])
        error = check.error(readings)
        equal = float(np.mean([check.agree(one, other) for one, other in zip(expected, readings)]))
        if equal < EQUAL:
            message = "INT8 in %s: %.1f%% of the %s are those before, %s %.4f, before %.4f"
            logger.warning(message, engine, 100 * equal, check.subject, check.metric, error, error_before)
        found[engine] = {
            check.metric: round(error, 4),
            f"{check.metric}_before": round(error_before, 4),
            f"{check.subject}_equal": round(equal, 4),
        }
        if error_before < READS_NOTHING and not error <= error_before + MAX_INT8_LOSS:
            problem = f"INT8 reads with a {check.metric} of {error:.4f} in {engine}, {error_before:.4f} before"
            if engine == INT8_ENGINES[0]:
                vnni = " (weights of 8 bits need VNNI)" if bundle.int8_weight_bits > SAFE_BITS else ""
                raise SlimError(f"{problem}; nothing was written: train a quantize stage, or leave out onnx_int8{vnni}")
            logger.warning("%s: it stays with FP32 there", problem)
            continue
        calls.update({(engine, name): partial(session, x) for name, session in sessions.items()})
    times = time_in_turns(calls, TIMED_ROUNDS)
    for engine, name in calls:
        if name == "int8":
            found[engine]["time"] = compared(times[engine, "int8"], times[engine, "fp32"])
    return found


def _faster_precisions(figures: Mapping[str, Mapping[str, Any]], activations: bool) -> dict[str, str]:
    """Return for each engine the precision that was faster, by what `compare_int8` measured.

    Of files whose weights alone are integers it is INT8, which is smaller and computes the same as FP32.
    """
    if not activations:
        return {engine: "int8" if "time" in found else "fp32" for engine, found in figures.items()}
    precisions = {}
    for engine, found in figures.items():
        time = found.get("time")
        if time and time["ratio"] > 1:
            message = (
                "%s: INT8 takes %.2f times as long as FP32 here; the bundle runs in FP32 there (with int8_activations: "
                "false it takes as long as FP32)"
            )
            logger.warning(message, engine, time["ratio"])
        precisions[engine] = "int8" if time and time["ratio"] <= 1 else "fp32"
    return precisions


def _require_budget(sizes: Mapping[str, int], budget_mb: float) -> None:
    largest = max(sizes, key=lambda key: sizes[key])
    if sizes[largest] > budget_mb * MEGABYTE:
        raise SlimError(
            f"the {largest} model has {sizes[largest] / MEGABYTE:.2f} MB, over the budget of {budget_mb:g}; "
            "nothing was written: slim the model or raise budget_mb"
        )


def _require_replaceable(out: Path, *more: str) -> None:
    """Refuse a target that is no bundle: moving one into place removes what was there."""
    known: tuple[str, ...] = (CARD, *itertools.chain(*FORMATS.values()), *more)
    for folder in (out, old_folder(out)):
        if folder.exists() and not folder.is_dir():
            raise SlimError(f"{folder} is a file: name a folder for the bundle")
        foreign = sorted(path.name for path in folder.iterdir() if path.name not in known) if folder.exists() else []
        if foreign:
            raise SlimError(f"{folder} holds {foreign[0]!r}, which is no part of a bundle: name another folder")
