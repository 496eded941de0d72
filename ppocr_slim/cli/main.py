"""The command `ppocr-slim`: one door to everything that tools/*.py does, in any folder."""

from __future__ import annotations

import difflib
import importlib
import sys
from typing import NamedTuple

from ppocr_slim import __version__
from ppocr_slim.errors import SlimError, run_tool


class Command(NamedTuple):
    """A command: the module of `ppocr_slim.cli` whose `main` it runs, and what it does."""

    module: str
    help: str


COMMANDS = {
    "read": Command("predict_system", "read pages: find, turn and read the lines of images and PDFs"),
    "read-lines": Command("predict_rec", "read images of cropped text lines"),
    "detect": Command("predict_det", "find the text lines on pages"),
    "classify": Command("predict_cls", "tell which crops of text stand upside down"),
    "train": Command("train", "run a config's recipe: train, slim, export"),
    "eval": Command("eval", "score a bundle or a checkpoint on labelled data"),
    "export": Command("export", "export a checkpoint, or a bundle's INT8 file anew"),
    "quantize": Command("quantize_onnx", "quantize an FP32 ONNX file after training"),
    "doctor": Command("doctor", "check label files and images"),
    "synthesize": Command("synthesize", "generate labelled text lines"),
    "synthesize-pages": Command("synthesize_pages", "generate photographed pages with boxes"),
    "crop-pages": Command("crop_pages", "cut the lines out of labelled pages"),
    "fetch-fonts": Command("fetch_fonts", "fetch open fonts from the npm registry"),
    "prepare-kalapa": Command("prepare_kalapa", "make label files of the Kalapa challenge's data"),
    "language-model": Command("make_language_model", "count a language model of addresses"),
    "place-names": Command("make_place_names", "make the map of place names anew"),
    "ablate": Command("ablate", "turn one config into a table of experiments"),
    "slim-table": Command("slim_table", "take a recipe apart: what each technique gives and costs"),
    "decoding-table": Command("knowledge_table", "compare greedy decoding with knowledge of addresses"),
    "report": Command("report", "write a finished run's report"),
    "bench-training": Command("bench_training", "compare training speeds with stock Paddle and PyTorch"),
    "bench-pipeline": Command("bench_pipeline", "benchmark reading pages end to end, beside RapidOCR"),
    "demo": Command("demo", "the main job in minutes: generate, fine-tune, export, read"),
}


def usage() -> str:
    """Return the list of all commands."""
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items())
    return (
        "usage: ppocr-slim COMMAND [ARGUMENTS]\n\n"
        f"ppocr_slim {__version__}: OCR models made slim\n\ncommands:\n{listed}\n\n"
        "ppocr-slim COMMAND --help says what a command takes."
    )


def main() -> int:
    """Run the command that the command line names."""
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
        print(f"ppocr-slim: there is no command {name!r}: {hint}", file=sys.stderr)
        return 2
    try:
        module = importlib.import_module(f"ppocr_slim.cli.{COMMANDS[name].module}")
        return module.main(arguments, f"ppocr-slim {name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "ppocr_slim":
            raise
        package = (error.name or "").split(".")[0]
        extra = {"onnx": "quantize", "openvino": "openvino"}.get(package, "train")
        raise SlimError(f"{name} needs {package}, which is not installed: pip install 'ppocr-slim[{extra}]'") from error


def run() -> None:
    """Run `main` as a program: the entry point of the command."""
    sys.exit(run_tool(main))
