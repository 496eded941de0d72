"""A recognizer's checkpoint as a bundle that runs without this project's training code."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple, TypeVar, Union

import numpy as np
import onnx
import paddle
import paddle2onnx
from paddle import nn
from paddle.static import InputSpec

from ppocr_slim.data.labels import Sample
from ppocr_slim.errors import SlimError
from ppocr_slim.export.weights import read_bundle_weights
from ppocr_slim.folders import old_folder, publish_folder
from ppocr_slim.models.state import model_state
from ppocr_slim.runtime.backends import Session, open_session
from ppocr_slim.runtime.bundle import CARD, ONNX, PADDLE_PROGRAM, PADDLE_WEIGHTS, read_bundle, write_card
from ppocr_slim.runtime.images import load_image
from ppocr_slim.runtime.preprocess import padded_width, resize_to_height, to_batch
from ppocr_slim.runtime.recognizer import Recognizer, RecSpec
from ppocr_slim.tasks.checkpoint import load_model
from ppocr_slim.tasks.recognition import RecognitionTask

TOLERANCE = 1e-4  # largest difference of a probability between the checkpoint and any exported format
EXTRA_WIDTHS = (100, 1604)  # pixels; neither a multiple of the padding nor a usual width of a row
BATCH_ROWS = 8  # compared in one batch too, as wide as the widest of them
OPSET = 13
MEGABYTE = 1_000_000  # bytes
FORMATS = {"paddle": (PADDLE_PROGRAM, PADDLE_WEIGHTS), "onnx": (ONNX,)}
BACKEND = {"paddle": "paddle", "onnx": "onnxruntime"}

_Row = TypeVar("_Row")


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        folder: the bundle.
        sizes: bytes by format; "paddle" is program and weights together.
        parity: rows compared, largest difference of a probability, number of texts that differ (0).
    """

    folder: Path
    sizes: Mapping[str, int]
    parity: Mapping[str, Any]

    def __str__(self) -> str:
        lines = [f"wrote {self.folder}"]
        lines += [f"  {name:<8} {size / MEGABYTE:8.2f} MB" for name, size in self.sizes.items()]
        lines.append(f"  on {self.parity['rows']} rows all texts are equal; probabilities differ at most by")
        lines += [f"  {value:8.1e} between {pair}" for pair, value in self.parity["largest_difference"].items()]
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
) -> ExportReport:
    """Write a bundle, and prove on real rows that it reads as the checkpoint does.

    Everything is written beside `out_folder` and moved into its place when it has passed; before that,
    nothing there is touched.

    Args:
        formats: of `FORMATS`.
        budget_mb: the most that any one format may weigh, in megabytes of 10^6 bytes.
        check_samples: rows to compare on.

    Raises:
        SlimError: an output differs by more than 1e-4 or a text at all, the bundle is over its budget, a row
            cannot be read, or `out_folder` holds something other than a bundle.
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
    images = [load_image(sample.path) for sample in check_samples]
    staging = out.with_name(out.name + ".new")
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        save_inference_model(model, card.spec, staging, onnx_too="onnx" in formats)
        files = [name for key in FORMATS if key in formats for name in FORMATS[key]]
        for path in staging.iterdir():
            if path.name not in files:
                path.unlink()
        sizes = {key: sum((staging / name).stat().st_size for name in FORMATS[key]) for key in formats}
        _require_budget(sizes, budget_mb)

        def describe(parity: Mapping[str, Any]) -> None:
            spec = card.spec
            characters = tuple(spec.classes[1:-1])
            write_card(staging, card.architecture, spec.height, spec.max_width, characters, parity, files)

        describe({})
        bundle = read_bundle(staging)
        exported = {key: open_session(bundle, BACKEND[key]) for key in formats}
        checkpoint = RecognitionTask(card.charset, card.height).recognizer(model).session
        parity = measure_parity(checkpoint, exported, card.spec, images)
        describe(parity)
        publish_folder(staging, out)
    except OSError as error:
        raise SlimError(f"cannot write the bundle {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return ExportReport(out, sizes, parity)


def parity_rows(samples: Sequence[_Row], count: int) -> List[_Row]:
    """`count` of the rows an export is compared on (all, if there are fewer), spread evenly from first to last."""
    chosen = np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(int)
    return [samples[index] for index in chosen]


def save_inference_model(model: nn.Layer, spec: RecSpec, folder: Path, onnx_too: bool) -> None:
    """Write Paddle's inference model of `model` (and ONNX) into `folder`; batch and width stay dynamic.

    Raises:
        SlimError: a weight in the files is not, under its layer's name and bit for bit, the network's; or
            paddle was imported before this package and so runs in its new program format.
    """
    if paddle.framework.use_pir_api():  # it would write inference.json, which nothing after this understands
        raise SlimError(
            "paddle runs with its new program format: import ppocr_slim before paddle, or set FLAGS_enable_pir_api=0"
        )
    wrapped = WithSoftmax(model)
    wrapped.eval()
    spec_x = InputSpec([None, 3, spec.height, None], "float32", "x")
    paddle.jit.save(wrapped, str(folder / "inference"), input_spec=[spec_x])
    saved = read_bundle_weights(folder)
    own = {name: tensor.numpy() for name, tensor in model_state(model).items()}
    for name in sorted(own.keys() | saved.keys()):
        if name not in own or name not in saved or not np.array_equal(own[name], saved[name]):
            raise SlimError(f"the exported weights of {name} are not the network's; nothing was written")
    if onnx_too:
        paddle2onnx.export(
            str(folder / PADDLE_PROGRAM),
            str(folder / PADDLE_WEIGHTS),
            str(folder / ONNX),
            OPSET,
            verbose=False,
        )
        graph = onnx.load(str(folder / ONNX))
        # RapidOCR looks for the dictionary here, without blank and space.
        onnx.helper.set_model_props(graph, {"character": "\n".join(spec.classes[1:-1])})
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
