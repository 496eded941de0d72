"""A recognizer's checkpoint as a bundle that runs without this project's training code."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple, TypeVar, Union

import numpy as np
import onnx
import paddle
import paddle2onnx
from paddle import nn
from paddle.static import InputSpec

from ppocr_slim.data.labels import Sample
from ppocr_slim.errors import SlimError, logger
from ppocr_slim.export.calibration import calibrate
from ppocr_slim.export.int8 import write_int8
from ppocr_slim.export.weights import read_bundle_weights
from ppocr_slim.folders import old_folder, publish_folder
from ppocr_slim.models.fake_quant import strip
from ppocr_slim.models.grids import grids_of
from ppocr_slim.models.state import model_state
from ppocr_slim.runtime.backends import Session, open_session
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
from ppocr_slim.runtime.preprocess import padded_width, resize_to_height, to_batch
from ppocr_slim.runtime.recognizer import Recognizer
from ppocr_slim.runtime.specs import RecSpec
from ppocr_slim.runtime.timing import compared, time_in_turns
from ppocr_slim.tasks.checkpoint import load_model
from ppocr_slim.tasks.metrics import score_lines
from ppocr_slim.tasks.recognition import RecognitionTask

# The largest difference of a probability between the checkpoint and any exported format. Engines round sums in other
# orders: a good export was seen 1.4e-4 apart where logits are large. A wrong one (a layer lost, say) is 1e-2 apart.
TOLERANCE = 1e-3
EXTRA_WIDTHS = (100, 1604)  # pixels; neither a multiple of the padding nor a usual width of a row
BATCH_ROWS = 8  # compared in one batch too, as wide as the widest of them
OPSET = 13
MEGABYTE = 1_000_000  # bytes
FORMATS = {"paddle": (PADDLE_PROGRAM, PADDLE_WEIGHTS), "onnx": (ONNX,), "onnx_int8": (INT8,)}
FP32_BACKENDS = {"paddle": "paddle", "onnx": "onnxruntime"}
INT8_BACKENDS = ("onnxruntime", "openvino")
MAX_INT8_LOSS = 0.02  # of CER on the rows compared, against the network that the INT8 file was made from
EQUAL_TEXTS = 0.99  # share of the texts; of less the log warns: rounding differs where sums are taken in other orders
READS_NOTHING = 0.5  # a CER from which on a network has nothing to lose
TIMED_ROUNDS = 20
FAKE_QUANT = "fake_quant"  # the transform that a bundle's float weights do not have

_Row = TypeVar("_Row")


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        folder: the bundle.
        sizes: bytes by format; "paddle" is program and weights together.
        parity: rows compared, largest difference of a probability, number of texts that differ (0); under "int8" what
            `compare_int8` measures, for each backend.
        precision: "int8" or "fp32", the faster, by backend; empty without INT8.
    """

    folder: Path
    sizes: Mapping[str, int]
    parity: Mapping[str, Any]
    precision: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"wrote {self.folder}"]
        lines += [f"  {name:<8} {size / MEGABYTE:8.2f} MB" for name, size in self.sizes.items()]
        lines.append(f"  on {self.parity['rows']} rows all texts are equal; probabilities differ at most by")
        lines += [f"  {value:8.1e} between {pair}" for pair, value in self.parity["largest_difference"].items()]
        for backend, figures in self.parity.get("int8", {}).items():
            time = figures.get("time")
            lines.append(
                f"  INT8 in {backend}: CER {figures['cer']:.4f} (before: {figures['cer_before']:.4f}), "
                f"{figures['texts_equal']:.1%} of the texts equal"
                + (f"; {time['ms']:.1f} ms a row, FP32 {time['base_ms']:.1f} ms" if time else "")
            )
        return "\n".join(lines)


class WithSoftmax(nn.Layer):
    """The network with probabilities as its output: image [N, 3, H, W] -> [N, T, K]."""

    def __init__(self, network: nn.Layer):
        super().__init__()
        self.network = network

    def forward(self, x):
        return nn.functional.softmax(self.network(x), axis=-1)


def export_recognizer(
    checkpoint_folder: Union[str, Path],
    out_folder: Union[str, Path],
    formats: Sequence[str],
    budget_mb: float,
    check_samples: Sequence[Sample],
    calibration_samples: Sequence[Sample] = (),
    int8_weight_bits: int = 8,
) -> ExportReport:
    """Write a bundle, and prove on real rows that it reads as the checkpoint does.

    A fake-quantized checkpoint gives its trained grids to the INT8 file, and its float weights to the other formats.
    Of a float checkpoint the INT8 file is quantized after training. It must read well in ONNX Runtime; the bundle says
    for each backend whether FP32 or INT8 is faster here.

    Everything is written beside `out_folder` and moved into its place when it has passed; before that,
    nothing there is touched.

    Args:
        formats: of `FORMATS`.
        budget_mb: the most that any one format may weigh, in megabytes of 10^6 bytes.
        check_samples: rows to compare on.
        calibration_samples: rows that ranges are taken from, best of the training; needed for INT8 of a float
            checkpoint.
        int8_weight_bits: 8, or 7 for processors without VNNI.

    Raises:
        SlimError: an output differs by more than `TOLERANCE` or a text at all, INT8 reads worse, the bundle is over its
            budget, a row cannot be read, or `out_folder` holds something other than a bundle.
    """
    out = Path(out_folder)
    _require_replaceable(out)
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not formats or not check_samples:
        raise SlimError(
            f"cannot export {unknown[0]!r}: formats are {', '.join(FORMATS)}"
            if unknown
            else "an export needs at least one format and one labelled row to compare on"
        )
    model, card = load_model(checkpoint_folder)
    task = RecognitionTask(card.charset, card.height)
    grids = grids_of(model)
    quantized = task.recognizer(model).session if grids else None
    if quantized:
        model = strip(load_model(checkpoint_folder)[0])
    architecture = card.architecture
    architecture["transforms"] = [step for step in card.transforms if step["name"] != FAKE_QUANT]
    images = [load_image(sample.path) for sample in check_samples]
    staging = out.with_name(out.name + ".new")
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        save_inference_model(model, card.spec, staging, onnx_too="onnx" in formats or "onnx_int8" in formats)
        if "onnx_int8" in formats:
            fp32 = staging / ONNX
            grids = grids or calibrate(fp32, _inputs(calibration_samples, card.spec))
            write_int8(fp32, staging / INT8, grids, int8_weight_bits)
        files = [name for key in FORMATS if key in formats for name in FORMATS[key]]
        sizes = {key: sum((staging / name).stat().st_size for name in FORMATS[key]) for key in formats}
        _require_budget(sizes, budget_mb)

        def describe(parity: Mapping[str, Any], precision: Mapping[str, str], names: List[str]) -> None:
            spec = card.spec
            characters = tuple(spec.classes[1:-1])
            write_card(staging, architecture, spec.height, spec.max_width, characters, parity, names, precision)

        describe({}, {}, [path.name for path in staging.iterdir()])
        bundle = read_bundle(staging)
        checkpoint = task.recognizer(model).session
        exported = {key: open_session(bundle, FP32_BACKENDS[key]) for key in formats if key in FP32_BACKENDS}
        parity = measure_parity(checkpoint, exported, card.spec, images)
        precision: Dict[str, str] = {}
        if "onnx_int8" in formats:
            references = [sample.text for sample in check_samples]
            parity["int8"] = compare_int8(bundle, quantized or checkpoint, card.spec, images, references)
            precision = {backend: _faster(backend, figures) for backend, figures in parity["int8"].items()}
        for path in staging.iterdir():
            if path.name not in files:
                path.unlink()
        describe(parity, precision, files)
        publish_folder(staging, out)
    except OSError as error:
        raise SlimError(f"cannot write the bundle {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return ExportReport(out, sizes, parity, precision)


def parity_rows(samples: Sequence[_Row], count: int) -> List[_Row]:
    """`count` of the rows an export is compared on (all, if there are fewer), spread evenly from first to last."""
    chosen = np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(int)
    return [samples[index] for index in chosen]


def save_inference_model(model: nn.Layer, spec: RecSpec, folder: Path, onnx_too: bool) -> None:
    """Write Paddle's inference model of `model` (and ONNX) into `folder`; batch and width stay dynamic.

    Raises:
        SlimError: a weight in the files is not, under its layer's name and bit for bit, the network's; or as
            `write_network` does.
    """
    # RapidOCR looks for the dictionary in the ONNX file, without blank and space.
    write_network(WithSoftmax(model), spec.height, spec.classes[1:-1], folder, onnx_too)
    saved = read_bundle_weights(folder)
    own = {name: tensor.numpy() for name, tensor in model_state(model).items()}
    for name in sorted(own.keys() | saved.keys()):
        if name not in own or name not in saved or not np.array_equal(own[name], saved[name]):
            raise SlimError(f"the exported weights of {name} are not the network's; nothing was written")


def write_network(network: nn.Layer, height: int, characters: Sequence[str], folder: Path, onnx_too: bool) -> None:
    """Write Paddle's files (and ONNX, with the characters in it) of a layer that takes images [N, 3, height, W].

    It is put into evaluation mode; N and W stay dynamic.

    Raises:
        SlimError: paddle was imported before this package and so runs in its new program format.
    """
    if paddle.framework.use_pir_api():  # it would write inference.json, which nothing after this understands
        raise SlimError(
            "paddle runs with its new program format: import ppocr_slim before paddle, or set FLAGS_enable_pir_api=0"
        )
    network.eval()
    spec_x = InputSpec([None, 3, height, None], "float32", "x")
    paddle.jit.save(network, str(folder / "inference"), input_spec=[spec_x])
    if onnx_too:
        files = (str(folder / name) for name in (PADDLE_PROGRAM, PADDLE_WEIGHTS, ONNX))
        paddle2onnx.export(*files, OPSET, verbose=False)
        graph = onnx.load(str(folder / ONNX))
        onnx.helper.set_model_props(graph, {"character": "\n".join(characters)})
        onnx.save(graph, str(folder / ONNX))


def measure_parity(
    checkpoint: Session, exported: Mapping[str, Session], spec: RecSpec, images: Sequence[np.ndarray]
) -> Dict[str, Any]:
    """Compare sessions with each other: on `images` as the runtime reads them, on unusual widths, and in a batch.

    Returns the figures that the bundle keeps.

    Raises:
        SlimError: a probability differs by more than `TOLERANCE`, or any text differs.
    """
    sessions = {"checkpoint": checkpoint, **exported}
    rows = [resize_to_height(image, spec.height, spec.max_width) for image in images]
    batches = [to_batch([row], padded_width(row.shape[1])) for row in rows]
    for width in EXTRA_WIDTHS:
        squeezed = [resize_to_height(row, spec.height, width) for row in rows[:2]]
        batches.append(to_batch(squeezed, width))
    together = parity_rows(rows, BATCH_ROWS)
    batches.append(to_batch(together, padded_width(max(row.shape[1] for row in together))))
    largest: Dict[str, float] = {}
    for batch in batches:
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
    texts = {name: _texts(session, spec, images) for name, session in sessions.items()}
    for name, read in texts.items():
        for expected, text in zip(texts["checkpoint"], read):
            if expected != text:
                raise SlimError(f"the checkpoint reads {expected!r} where {name} reads {text!r}; nothing was written")
    return {
        "rows": len(images),
        "extra_widths": list(EXTRA_WIDTHS),
        "largest_difference": {pair: float(f"{difference:.3g}") for pair, difference in largest.items()},
        "texts_that_differ": 0,
    }


def compare_int8(
    bundle: Bundle, before: Session, spec: RecSpec, images: Sequence[np.ndarray], references: Sequence[str]
) -> Dict[str, Dict[str, Any]]:
    """How the INT8 file of a bundle reads, and how fast, by backend: a backend that cannot load it is left out.

    {"cer", "cer_before": of the network `before` that it was made from, "texts_equal": share, "time": ms a typical row,
    "base_ms" of FP32, "ratio"}

    Raises:
        SlimError: it reads worse than `before` in ONNX Runtime; in another backend it is not timed then.
    """
    expected = _texts(before, spec, images)
    cer_before = score_lines(references, expected).cer
    rows = sorted(
        (resize_to_height(image, spec.height, spec.max_width) for image in images), key=lambda row: row.shape[1]
    )
    typical = rows[len(rows) // 2]
    x = to_batch([typical], padded_width(typical.shape[1]))
    found: Dict[str, Dict[str, Any]] = {}
    calls: Dict[Tuple[str, str], Callable[[], Any]] = {}
    for backend in INT8_BACKENDS:
        try:
            sessions = {name: open_session(bundle, backend, precision=name) for name in ("int8", "fp32")}
        except SlimError as error:
            logger.warning("INT8 is not for %s: %s", backend, error)
            continue
        texts = _texts(sessions["int8"], spec, images)
        cer = score_lines(references, texts).cer
        equal = float(np.mean([one == other for one, other in zip(texts, expected)]))
        if equal < EQUAL_TEXTS:
            message = "INT8 in %s: %.1f%% of the texts are those before, CER %.4f, before %.4f"
            logger.warning(message, backend, 100 * equal, cer, cer_before)
        found[backend] = {"cer": round(cer, 4), "cer_before": round(cer_before, 4), "texts_equal": round(equal, 4)}
        if cer_before < READS_NOTHING and not cer <= cer_before + MAX_INT8_LOSS:
            problem = f"INT8 reads with a CER of {cer:.4f} in {backend}, {cer_before:.4f} before"
            if backend == INT8_BACKENDS[0]:
                raise SlimError(f"{problem}; nothing was written: train a quantize stage, or leave out onnx_int8")
            logger.warning("%s: it stays with FP32 there", problem)
            continue
        calls.update({(backend, name): partial(session, x) for name, session in sessions.items()})
    times = time_in_turns(calls, TIMED_ROUNDS)
    for backend, name in calls:
        if name == "int8":
            found[backend]["time"] = compared(times[backend, "int8"], times[backend, "fp32"])
    return found


def _faster(backend: str, figures: Mapping[str, Any]) -> str:
    time = figures.get("time")
    if time and time["ratio"] <= 1:
        return "int8"
    if time:
        logger.warning(
            "%s: INT8 takes %.2f times as long as FP32 here; the bundle runs in FP32 there", backend, time["ratio"]
        )
    return "fp32"


def _inputs(samples: Sequence[Sample], spec: RecSpec) -> List[np.ndarray]:
    """Rows as the runtime reads them, one a batch."""
    rows = [resize_to_height(load_image(sample.path), spec.height, spec.max_width) for sample in samples]
    return [to_batch([row], padded_width(row.shape[1])) for row in rows]


def _texts(session: Session, spec: RecSpec, images: Sequence[np.ndarray]) -> List[str]:
    return [line.text for line in Recognizer(session, spec).read(images)]


def _require_budget(sizes: Mapping[str, int], budget_mb: float) -> None:
    largest = max(sizes, key=lambda key: sizes[key])
    if sizes[largest] > budget_mb * MEGABYTE:
        raise SlimError(
            f"the {largest} model has {sizes[largest] / MEGABYTE:.2f} MB, over the budget of {budget_mb:g}; "
            "nothing was written: slim the model or raise budget_mb"
        )


def _require_replaceable(out: Path) -> None:
    """Moving a bundle into place removes what was there, so that must be a bundle and nothing else."""
    known: Tuple[str, ...] = (CARD, *itertools.chain(*FORMATS.values()))
    for folder in (out, old_folder(out)):
        if folder.exists() and not folder.is_dir():
            raise SlimError(f"{folder} is a file: name a folder for the bundle")
        foreign = sorted(path.name for path in folder.iterdir() if path.name not in known) if folder.exists() else []
        if foreign:
            raise SlimError(f"{folder} holds {foreign[0]!r}, which is no part of a bundle: name another folder")
