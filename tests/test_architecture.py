"""The rooms and their doors: imports point one way, and the runtime needs neither Paddle nor the training code."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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
# Arrows against the direction that are still to be turned round
NOT_YET = {
    "reports/slim_table.py",
    "reports/training_run.py",
}
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
        # __init__ is the front door: what it needs at once is the processor, for the environment that Paddle reads
        allowed = {"engines"} if path.name == "__init__.py" else set()
        assert used <= allowed, f"{path.name} stands below all rooms"
    else:
        assert room in LEVEL, f"a new room: say in ORDER where {room} stands"
        against = {other for other in used if other != room and LEVEL[other] >= LEVEL[room]}
        assert bool(against) == (str(path.relative_to(PACKAGE)) in NOT_YET), against


def test_there_are_modules_to_test():
    """Otherwise the test above would pass over an empty list."""
    assert len(MODULES) > 20


PROBE = """
import importlib, json, pkgutil, sys
import ppocr_slim, ppocr_slim.runtime as runtime
for module in pkgutil.iter_modules(runtime.__path__):
    importlib.import_module("ppocr_slim.runtime." + module.name)
print(json.dumps(sorted(sys.modules)))
"""


def modules_after(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=str(ROOT))
    assert done.returncode == 0, done.stderr
    return set(done.stdout.replace('"', "").strip("[]\n").split(", "))


def test_the_runtime_loads_no_paddle_and_no_training_code():
    """Whoever only reads rows would otherwise wait seconds and carry a gigabyte for it."""
    loaded = modules_after(PROBE)
    heavy = {name for name in loaded if name.split(".")[0] in {"paddle", "albumentations", "matplotlib", "numba"}}
    assert heavy == set()
    assert rooms_of(loaded) == {"engines", "runtime", "text"}


def test_the_data_room_loads_no_paddle():
    """The doctor and the converters answer at once, and on machines that cannot run Paddle."""
    probe = PROBE.replace("ppocr_slim.runtime", "ppocr_slim.data")
    assert not any(name.split(".")[0] == "paddle" for name in modules_after(probe))


def test_tools_are_thin():
    """Logic in a command line cannot be imported, and soon has a twin elsewhere."""
    tools = sorted((ROOT / "tools").glob("*.py"))
    assert tools
    for path in tools:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        definitions = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
        assert [getattr(node, "name", "lambda") for node in ast.walk(tree) if isinstance(node, definitions)] == ["main"]
        assert "sys.exit(run_tool(main))" in path.read_text(encoding="utf-8"), path.name


@pytest.mark.parametrize("path", sorted((ROOT / "tools").glob("*.py")), ids=lambda path: path.name)
def test_every_tool_answers_help_from_anywhere(path: Path, tmp_path: Path):
    """A tool is first met by --help, uninstalled, from whatever folder one is in."""
    done = subprocess.run(
        [sys.executable, str(path), "--help"], capture_output=True, encoding="utf-8", cwd=str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
