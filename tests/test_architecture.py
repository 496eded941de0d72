"""The rooms and their doors: imports point one way, and the runtime needs neither Paddle nor the training code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ppocr_slim.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ppocr_slim"

# The rooms, the lowest first: each may import from those before it and from itself. Modules directly in the package
# stand below all rooms. Rooms in one tuple stand side by side.
ORDER = (
    ("config",),
    ("engines",),
    ("text",),
    ("reports",),
    ("runtime",),
    ("quantization",),
    ("data", "models"),
    ("synth",),
    ("evaluation",),
    ("visualize",),
    ("tasks",),
    ("export",),
    ("slim",),
    ("training",),
    ("experiments",),
    ("benchmarks",),
    ("cli",),
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "pretrained" not in path.parts)


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import hides where it leads"
            # `from ppocr_slim import data` leads to a room too
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_of(names: set[str]) -> set[str]:
    parts = (name.split(".") for name in names if name.startswith("ppocr_slim."))
    return {part[1] for part in parts if (PACKAGE / part[1]).is_dir()}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path):
    """Once two rooms import each other, neither can be understood, tested or used alone."""
    room = path.relative_to(PACKAGE).parts[0]
    used = rooms_of(set(imported(ast.parse(path.read_text(encoding="utf-8")))))
    if path.parent == PACKAGE:
        # Two front doors: __init__ needs the processor at once, for the environment that Paddle reads
        allowed = {"__init__.py": {"engines"}, "__main__.py": {"cli"}}.get(path.name, set())
        assert used <= allowed, f"{path.name} stands below all rooms"
    else:
        assert room in LEVEL, f"a new room: say in ORDER where {room} stands"
        against = {other for other in used if other != room and LEVEL[other] >= LEVEL[room]}
        assert against == set()


def test_there_are_modules_to_test():
    """Otherwise the test above would pass over an empty list."""
    assert len(MODULES) > 20


PROBE = """
import importlib, json, pkgutil, sys
import ppocr_slim, ppocr_slim.runtime as runtime
for module in pkgutil.walk_packages(runtime.__path__, "ppocr_slim.runtime."):
    importlib.import_module(module.name)
print(json.dumps(sorted(sys.modules)))
"""


def modules_after(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=str(ROOT))
    assert done.returncode == 0, done.stderr
    return set(done.stdout.replace('"', "").strip("[]\n").split(", "))


def test_importing_the_package_loads_next_to_nothing():
    """Every command would start seconds later, --help among them; its names are loaded when they are used."""
    light = modules_after("import json, sys, ppocr_slim; print(json.dumps(sorted(sys.modules)))")
    assert not {name.split(".")[0] for name in light} & {"numpy", "cv2", "onnxruntime", "paddle", "yaml", "pydantic"}
    import ppocr_slim

    assert all(getattr(ppocr_slim, name) for name in ppocr_slim.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Pipelin'"):
        ppocr_slim.Pipelin  # noqa: B018


# Of each of these, and of all that they import: what must not be loaded with them
FREE_OF = {
    "config": {"paddle", "matplotlib", "numba", "cv2"},
    "engines": {"paddle", "onnxruntime", "openvino", "matplotlib", "cv2"},
    "text": {"paddle", "onnxruntime", "matplotlib", "cv2"},
    "reports": {"paddle", "onnxruntime", "cv2"},
    "runtime": {"paddle", "onnxruntime", "openvino", "matplotlib", "albumentations", "pydantic", "onnx"},
    "quantization": {"paddle", "openvino", "matplotlib", "albumentations"},
    "data": {"paddle", "matplotlib", "numba"},
    "synth": {"paddle", "matplotlib", "numba"},
    "evaluation": {"paddle", "matplotlib", "numba", "albumentations"},
    "visualize": {"paddle", "matplotlib", "numba", "albumentations"},
}


@pytest.mark.parametrize("room", FREE_OF)
def test_a_room_loads_nothing_heavy(room: str):
    """Who only reads, quantizes a file or makes data would wait seconds for Paddle, and could not without it."""
    loaded = {name.split(".")[0] for name in modules_after(PROBE.replace("runtime", room))}
    assert loaded & (FREE_OF[room] | {"torch", "tensorflow"}) == set()


def test_the_runtime_loads_no_paddle_and_no_training_code():
    """Whoever only reads lines would otherwise wait seconds and carry a gigabyte for it."""
    loaded = modules_after(PROBE)
    heavy = {name for name in loaded if name.split(".")[0] in {"paddle", "albumentations", "matplotlib", "numba"}}
    assert heavy == set()
    assert rooms_of(loaded) == {"engines", "runtime", "text"}


def test_tools_are_thin():
    """Logic in a command line cannot be imported, and soon has a twin elsewhere."""
    tools = {path.stem: path for path in (ROOT / "tools").glob("*.py")}
    assert set(tools) == {command.module for command in COMMANDS.values()}
    definitions = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    for name, path in tools.items():
        text = path.read_text(encoding="utf-8")
        assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, definitions)], name
        assert f"from ppocr_slim.cli.{name} import main" in text and "sys.exit(run_tool(main))" in text, name
        module = ast.parse((PACKAGE / "cli" / f"{name}.py").read_text(encoding="utf-8"))
        assert [node.name for node in ast.walk(module) if isinstance(node, definitions)] == ["main"], name


def test_the_command_lists_and_runs_all_of_it(tmp_path: Path):
    """Installed, the project has no tools/: what the one command lacks cannot be run at all."""
    run = [sys.executable, str(PACKAGE / "__main__.py")]
    listed = subprocess.run(run, capture_output=True, encoding="utf-8", cwd=str(tmp_path))
    assert listed.returncode == 0 and all(f"  {name} " in listed.stdout for name in COMMANDS)
    helped = subprocess.run([*run, "read", "--help"], capture_output=True, encoding="utf-8", cwd=str(tmp_path))
    assert helped.stdout.startswith("usage: ppocr-slim read ")
    wrong = subprocess.run([*run, "reed"], capture_output=True, encoding="utf-8", cwd=str(tmp_path))
    assert wrong.returncode == 2 and "did you mean read?" in wrong.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "tools").glob("*.py")), ids=lambda path: path.name)
def test_every_tool_answers_help_from_anywhere(path: Path, tmp_path: Path):
    """A tool is first met by --help, uninstalled, from whatever folder one is in."""
    done = subprocess.run(
        [sys.executable, str(path), "--help"], capture_output=True, encoding="utf-8", cwd=str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")


ALONE = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from ppocr_slim.cli.main import run
sys.argv = ["ppocr-slim", *sys.argv[1:]]
run()
"""


def without(blocked: set[str], *arguments: str) -> subprocess.CompletedProcess:
    """Run the command where packages cannot be imported."""
    code = ALONE.replace("{blocked}", repr(blocked))
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", cwd=str(ROOT))


def test_what_pip_install_brings_reads_lines_and_pages(tmp_path: Path):
    """The runtime alone, a fifth of the size of all, would end in an ImportError on a machine that has nothing else."""
    blocked = packages_of("train") - packages_of("dependencies") | {"openvino"}
    assert {"paddle", "paddle2onnx", "matplotlib", "pydantic", "onnx", "numba"} <= blocked
    picture = str(ROOT / "docs" / "pictures" / "page_read.jpg")
    page = without(blocked, "read", "--draw", str(tmp_path), picture)
    assert page.returncode == 0 and "Đà Nẵng" in page.stdout, page.stderr
    assert list(tmp_path.iterdir())
    line = without(blocked, "read-lines", "--decode", "address", picture)
    assert line.returncode == 0, line.stderr
    for command, package, extra in (("train", "pydantic", "train"), ("quantize", "onnx", "quantize")):
        done = without(blocked, command, "--help")
        assert done.returncode == 2 and f"{command} needs {package}" in done.stderr and f"[{extra}]" in done.stderr


def packages_of(key: str) -> set[str]:
    """Return what a list of pyproject.toml asks for, by the names that are imported."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")  # Python 3.10 has no tomllib
    listed = ast.literal_eval(re.search(rf"^{key} = (\[.*?^\])", text, re.M | re.S).group(1))
    imported = {"paddlepaddle": "paddle", "Hershey-Fonts": "HersheyFonts"}
    names = [re.split("[=<>~!;]", line)[0].strip() for line in listed]
    return {imported.get(name, name) for name in names}
