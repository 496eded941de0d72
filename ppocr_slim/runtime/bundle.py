"""The exported bundle: a folder with a network in one or more formats, and `inference.yml`, its card.

`inference.yml` has the sections that PaddleOCR's own exports have (Global, PreProcess, PostProcess), and a
section `Bundle` with what they lack: format version, sizes, checksums, the architecture, the results
of the parity check at export, and which precision is faster.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ppocr_slim.errors import SlimError
from ppocr_slim.folders import PRETRAINED, readable_folder, replacing
from ppocr_slim.runtime.preprocess import PAGE_MEAN, PAGE_STD
from ppocr_slim.runtime.specs import SPECS, ClsSpec, DetSpec, RecSpec, Spec
from ppocr_slim.text.language_model import LanguageModel

FORMAT = 1
CARD = "inference.yml"
PADDLE_PROGRAM, PADDLE_WEIGHTS = "inference.pdmodel", "inference.pdiparams"
ONNX, INT8 = "model.onnx", "model.int8.onnx"
LANGUAGE = "language.bin"
# The unclip ratio for other runtimes, which cannot undo the shrinking exactly: of 0.8 to 2.2 the one with which
# RapidOCR's boxes were like ours, with the detector that ships (docs/guide/runtimes.md)
UNCLIP_RATIO = 0.9


@dataclass(frozen=True)
class Bundle:
    """A bundle's card.

    Attributes:
        folder: of the files.
        spec: the network's inputs and outputs.
        architecture: name (of `models.MODELS`), args and transforms, which rebuild the network for training.
        parity: results of the parity check at export.
        sizes: bytes by file name.
        precision: "int8" or "fp32" by engine: the faster one on the machine that exported the bundle.
        int8_weight_bits: of the INT8 file: `SAFE_BITS` suit all processors, 8 only those that add products in 32 bits.
        int8_activations: the INT8 file computes in integers; False: its weights alone are.
    """

    folder: Path
    spec: Spec
    architecture: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    precision: Mapping[str, str] = field(default_factory=dict)
    int8_weight_bits: int = 8
    int8_activations: bool = True

    def file(self, name: str) -> Path:
        """Return the path of one of the bundle's files.

        Raises:
            SlimError: the bundle was exported without that format.
        """
        if name not in self.sizes:
            raise SlimError(f"{self.folder}: this bundle has no {name}; export it again with that format")
        return self.folder / name


def is_bundle(folder: str | Path) -> bool:
    """Return whether a folder is an exported bundle."""
    return (Path(folder) / CARD).is_file()


def shipped(task: str) -> Path:
    """Return the folder of the bundle that ships with the package for "det", "cls" or "rec".

    Raises:
        SlimError: none ships for that task.
    """
    folder = PRETRAINED / task
    if not is_bundle(folder):
        raise SlimError(f"no {task} bundle ships with this version (no {folder}): name one of your own")
    return folder


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_card(
    folder: Path,
    architecture: Mapping[str, Any],
    spec: Spec,
    parity: Mapping[str, Any],
    files: list[str],
    precision: Mapping[str, str],
    int8_weight_bits: int | None = None,
    int8_activations: bool = True,
) -> None:
    """Write the card of a bundle, `inference.yml`, with the sizes and checksums of its files.

    Args:
        folder: of the bundle.
        architecture, spec, parity, precision: see `Bundle`.
        files: names of the files in `folder`.
        int8_weight_bits: of the INT8 file; None where there is none.
        int8_activations: see `Bundle`.
    """
    card = {
        "Global": {"model_name": architecture["name"]},
        **paddleocr_sections(spec),
        "Bundle": {
            "format": FORMAT,
            "task": spec.task,
            "input": {"name": "x", **own_section(spec)},
            "architecture": dict(architecture),
            "parity": dict(parity),
            "precision": dict(precision),
            **({"int8_weight_bits": int8_weight_bits} if int8_weight_bits else {}),
            **({} if int8_activations else {"int8_activations": False}),
            "files": {name: _file_entry(folder / name) for name in sorted(files)},
        },
    }
    _dump_card(card, folder / CARD)


def _file_entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def _dump_card(card: Mapping[str, Any], path: Path) -> None:
    path.write_text(yaml.safe_dump(card, allow_unicode=True, sort_keys=False), encoding="utf-8")


def put_language(folder: Path, model: LanguageModel) -> None:
    """Put a language model into a recognizer's bundle, or replace the one that it has.

    If this is killed after the model and before the card is written, the bundle is damaged until it is called again.

    Args:
        folder: of the bundle.
        model: the language model.

    Raises:
        SlimError: `folder` holds no recognizer's bundle, or cannot be written.
    """
    bundle = read_bundle(folder, unverified=(LANGUAGE,))
    if not isinstance(bundle.spec, RecSpec):
        raise SlimError(f"{folder} holds a {bundle.spec.task} bundle: a language model belongs to a rec one")
    with replacing(bundle.folder / LANGUAGE) as new:
        model.save(new)
    card = yaml.safe_load((bundle.folder / CARD).read_text(encoding="utf-8"))
    card["Bundle"]["files"][LANGUAGE] = _file_entry(bundle.folder / LANGUAGE)
    with replacing(bundle.folder / CARD) as new:
        _dump_card(card, new)


def paddleocr_sections(spec: Spec) -> dict[str, Any]:
    """Return the sections PreProcess and PostProcess as PaddleOCR's own exports have them."""
    decode = {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}}
    if isinstance(spec, DetSpec):
        operations = [
            decode,
            {"DetResizeForTest": {"limit_side_len": spec.longer_side, "limit_type": "max"}},
            {
                "NormalizeImage": {
                    "scale": "1./255.",
                    "mean": list(PAGE_MEAN),
                    "std": list(PAGE_STD),
                    "order": "hwc",
                }
            },
            {"ToCHWImage": None},
        ]
        boxes = spec.boxes
        after = {
            "name": "DBPostProcess",
            "thresh": boxes.threshold,
            "box_thresh": boxes.box_threshold,
            "max_candidates": boxes.max_candidates,
            "unclip_ratio": UNCLIP_RATIO if boxes.unclip_ratio is None else boxes.unclip_ratio,
        }
    elif isinstance(spec, ClsSpec):
        operations = [decode, {"ClsResizeImg": {"image_shape": [3, spec.height, spec.width]}}]
        after = {"name": "ClsPostProcess", "label_list": ["0", "180"], "thresh": spec.threshold}
    else:
        # Keep the aspect ratio, (x / 255 - 0.5) / 0.5, zeros at the right. PaddleOCR's runtimes pad lines to at least
        # the width named here.
        operations = [decode, {"RecResizeImg": {"image_shape": [3, spec.height, 320]}}]
        after = {"name": "CTCLabelDecode", "character_dict": list(spec.characters)}
    return {"PreProcess": {"transform_ops": operations}, "PostProcess": after}


def own_section(spec: Spec) -> dict[str, Any]:
    """Return the parts of a spec that `paddleocr_sections` does not hold."""
    if isinstance(spec, RecSpec):
        return {"height": spec.height, "max_width": spec.max_width, "mean": [0.5] * 3, "std": [0.5] * 3}
    return spec.to_dict()


def _spec(card: Mapping[str, Any]) -> Spec:
    """Return the spec of a card.

    Raises:
        KeyError, TypeError, ValueError: the card is damaged.
    """
    own = {key: value for key, value in card["Bundle"]["input"].items() if key not in ("name", "mean", "std")}
    kind = SPECS[card["Bundle"]["task"]]
    if kind is RecSpec:
        own["characters"] = card["PostProcess"]["character_dict"]
    try:
        return kind.from_dict(own)
    except SlimError as error:
        raise ValueError(str(error)) from error


def read_bundle(folder: str | Path, unverified: Sequence[str] = ()) -> Bundle:
    """Read a bundle's card and verify the checksums of its files.

    Args:
        folder: of the bundle.
        unverified: names of files that are not verified, because they are about to be replaced.

    Raises:
        SlimError: no bundle there, a card of another format or task, a file that is missing or was changed.
    """
    folder = readable_folder(Path(folder))
    bundle, checksums = _read_card(folder)
    for name, checksum in checksums.items():
        if name in unverified:
            continue
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise SlimError(f"{folder} is incomplete: {name} is missing; export the bundle again")
        if sha256(file) != checksum:
            raise SlimError(f"{file} is damaged: its checksum is not {CARD}'s; export the bundle again")
    return bundle


def _read_card(folder: Path) -> tuple[Bundle, dict[str, str]]:
    """Return the bundle that a card describes, and the checksums by file name."""
    path = folder / CARD
    try:
        card = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SlimError(f"{folder} is not a bundle: cannot read {CARD} ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SlimError(f"{path} is damaged: it is not YAML in UTF-8; export the bundle again") from error
    try:
        own = card["Bundle"]
        if own["format"] != FORMAT or own["task"] not in SPECS:
            raise SlimError(
                f"{path}: format {own['format']!r}, task {own['task']!r} is not known to this version; known are "
                f"format {FORMAT} and the tasks {', '.join(SPECS)}"
            )
        bundle = Bundle(
            folder=folder,
            spec=_spec(card),
            architecture=dict(own["architecture"]),
            parity=dict(own["parity"]),
            sizes={name: int(entry["bytes"]) for name, entry in own["files"].items()},
            precision=dict(own.get("precision", {})),  # bundles older than INT8 have none
            int8_weight_bits=int(own.get("int8_weight_bits", 8)),  # before this key it was 7 or 8
            int8_activations=bool(own.get("int8_activations", True)),
        )
        return bundle, {name: entry["sha256"] for name, entry in own["files"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SlimError(f"{path} is damaged ({error!r}): export the bundle again") from error
