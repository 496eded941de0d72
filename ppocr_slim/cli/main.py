"""Command `ppocr-slim`: the entry point of all commands."""

from __future__ import annotations

import difflib
import importlib
import sys
from typing import NamedTuple

from ppocr_slim import __version__
from ppocr_slim.errors import SlimError, run_tool


class Command(NamedTuple):
    """A command: the module of `ppocr_slim.cli` whose `main` it runs, and its help text."""

    module: str
    help: str


COMMANDS = {
    "read": Command("predict_system", "read pages: detect, turn and recognize the text lines of images and PDFs"),
    "read-lines": Command("predict_rec", "recognize cropped text lines"),
    "detect": Command("predict_det", "detect the text lines of pages"),
    "classify": Command("predict_cls", "classify cropped text lines as upright or upside down"),
    "train": Command("train", "run a config's recipe: train, slim, export"),
    "eval": Command("eval", "score a bundle or a checkpoint on labelled data"),
    "export": Command("export", "export a checkpoint, or quantize a bundle's network again"),
    "quantize": Command("quantize_onnx", "quantize an FP32 ONNX file to INT8 after training"),
    "doctor": Command("doctor", "check label files and images"),
    "synthesize": Command("synthesize", "generate labelled text lines"),
    "synthesize-pages": Command("synthesize_pages", "generate photographed pages with boxes"),
    "crop-pages": Command("crop_pages", "crop the text lines of labelled pages"),
    "fetch-fonts": Command("fetch_fonts", "fetch open fonts from the npm registry"),
    "prepare-kalapa": Command("prepare_kalapa", "convert the Kalapa challenge's data to label files"),
    "language-model": Command("make_language_model", "train a language model of addresses"),
    "place-names": Command("make_place_names", "write the place names that address decoding uses"),
    "ablate": Command("ablate", "train all variants of a config and compare them"),
    "slim-table": Command("slim_table", "compare a recipe with and without each slimming technique"),
    "decoding-table": Command("knowledge_table", "compare greedy decoding with knowledge of addresses"),
    "report": Command("report", "write the report of a finished training run"),
    "bench-training": Command("bench_training", "compare the training speed with stock Paddle and PyTorch"),
    "bench-pipeline": Command("bench_pipeline", "benchmark the pipeline end to end, beside RapidOCR"),
    "demo": Command("demo", "generate data, fine-tune, export and read in a few minutes"),
}


def usage() -> str:
    """Return the list of all commands."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items())
    return (
        "usage: ppocr-slim COMMAND [ARGUMENTS]\n\n"
        f"ppocr_slim {__version__}: OCR models made slim\n\ncommands:\n{listed}\n\n"
        "ppocr-slim COMMAND --help lists the arguments of a command."
    )


def main() -> int:
    """Run the command that the command line names and return its exit status."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"ppocr-slim {__version__}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else "ppocr-slim --help lists them"
        print(f"ppocr-slim: unknown command {name!r}: {hint}", file=sys.stderr)
        return 2
    try:
        module = importlib.import_module(f"ppocr_slim.cli.{COMMANDS[name].module}")
        return module.main(arguments, f"ppocr-slim {name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "ppocr_slim":
            raise
        package = (error.name or "").split(".")[0]
        extra = {"onnx": "quantize", "openvino": "openvino"}.get(package, "train")
        raise SlimError(
            f"{name} needs {package}, which is not installed: in a checkout, pip install '.[{extra}]'"
        ) from error


def run() -> None:
    """Run `main` as a program and exit with its status."""
    sys.exit(run_tool(main))
