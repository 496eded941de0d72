"""Set-up: what a fresh machine gets from `make`, and what it is told where that cannot work."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {  # the name that is imported: the name that is installed, where they differ
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "yaml": "pyyaml",
    "paddle": "paddlepaddle",
    "HersheyFonts": "hershey-fonts",
}
OWN = {"ppocr_slim", *(path.stem for path in (ROOT / "tests").glob("*.py"))}
STANDARD = set(sys.stdlib_module_names) | set(sys.builtin_module_names)


REQUIREMENTS = ("requirements.txt", "requirements-no-deps.txt")


def requirements() -> dict:
    """name -> lines of the requirement files without comments."""
    found: dict = {}
    for line in "\n".join((ROOT / name).read_text(encoding="utf-8") for name in REQUIREMENTS).splitlines():
        line = line.split("#")[0].strip()
        if line:
            found.setdefault(re.split("[=<>~!;]", line)[0].strip().lower(), []).append(line)
    return found


def imported_packages() -> set[str]:
    names = set()
    for folder in ("ppocr_slim", "tools", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    names.add(node.module.split(".")[0])
    return names - OWN


# A column of the training benchmark, where it happens to be installed; and what benchmarks/page_worker.py compares
# with, which has an environment of its own (requirements-rivals.txt; `tools` is a package of PaddleOCR's); and Ray,
# over which ablations run where somebody has it
OPTIONAL = {"torch", "rapidocr_onnxruntime", "rapidocr", "tools", "ray"}


def test_every_import_is_a_pinned_requirement():
    """A package that came along by chance is missing on the next machine."""
    missing = {
        name
        for name in imported_packages()
        if name not in STANDARD | OPTIONAL and PACKAGES.get(name, name).lower() not in requirements()
    }
    assert missing == set()


def test_every_requirement_is_pinned():
    """The same commit must install the same versions next year."""
    for lines in requirements().values():
        for line in lines:
            assert re.fullmatch(r'[\w-]+==[\w.]+(; python_version (<|>=|==) "3\.\d+")?', line), line


def test_what_is_installed_is_what_is_pinned():
    """Figures measured with other versions than the pinned ones cannot be repeated."""
    version = f"3.{sys.version_info[1]}"
    for name, lines in requirements().items():
        fitting = [line for line in lines if applies(line, version)]
        assert len(fitting) == 1, f"{name}: Python {version} has {fitting}"
        assert metadata.version(name) == fitting[0].split(";")[0].split("==")[1], name


def applies(line: str, version: str) -> bool:
    marker = re.search(r'python_version (<|>=|==) "3\.(\d+)"', line)
    if marker is None:
        return True
    minor, limit = int(version.split(".")[1]), int(marker.group(2))
    return {"<": minor < limit, ">=": minor >= limit, "==": minor == limit}[marker.group(1)]


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12"])
def test_every_python_has_one_version_of_each(version: str):
    """Two lines that fit one Python make pip stop; none makes an import fail."""
    for name, lines in requirements().items():
        assert sum(applies(line, version) for line in lines) == 1, name


def test_what_would_bring_another_opencv_is_installed_alone():
    """PaddleSlim asks for an OpenCV with a known hole, which would overwrite ours: pip must not follow its wishes."""
    asked = metadata.requires("paddleslim") or []
    assert any(line.startswith("opencv-python") for line in asked)  # else --no-deps could go
    assert "paddleslim" not in (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    installs = [line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if "pip install" in line]
    assert [name for name in REQUIREMENTS for line in installs if line.endswith(f"-r {name}")] == list(REQUIREMENTS)
    assert all("--no-deps" in line for line in installs if line.endswith("requirements-no-deps.txt"))


def test_exactly_one_opencv_is_installed():
    """Two wheels write one cv2 folder; which wins is chance, and old ones have known holes."""
    names = {(one.metadata["Name"] or "").lower() for one in metadata.distributions()}
    assert {name for name in names if name.startswith("opencv")} == {"opencv-python-headless"}


def check(python: str) -> subprocess.CompletedProcess:
    script = str(ROOT / "tools" / "check_python.sh")
    return subprocess.run(["sh", script, python], capture_output=True, encoding="utf-8")


def fake_python(folder: Path, version: str, fails: str = "nothing") -> str:
    """A program that answers as a Python of that version, whose code that mentions `fails` fails."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\ncase $2 in *{fails}*) exit 1 ;; *version_info*) echo {version} ;; esac\n")
    path.chmod(0o755)
    return str(path)


def test_this_python_will_do():
    """The check must let pass what it is there to let pass."""
    assert check(sys.executable).returncode == 0


@pytest.mark.parametrize("version", ["2.7", "3.9", "3.13", "4.0", ""])
def test_a_wrong_python_is_one_clear_line(tmp_path: Path, version: str):
    """Otherwise pip fails minutes later over a package that has no wheel for it."""
    done = check(fake_python(tmp_path, version))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "3.10 to 3.12" in done.stderr and version in done.stderr


@pytest.mark.parametrize(
    ("fails", "way_out"), [("ensurepip", "apt-get install python3.11-venv"), ("libgomp", "apt-get install libgomp1")]
)
def test_a_missing_system_package_is_one_clear_line(tmp_path: Path, fails: str, way_out: str):
    """Bare Debian machines lack these two, and Python's own message does not say what to install."""
    done = check(fake_python(tmp_path, "3.11", fails))
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert way_out in done.stderr


def test_no_python_is_one_clear_line():
    """A bare machine may have none."""
    done = check("no-such-python")
    assert done.returncode == 1 and "there is no no-such-python" in done.stderr


def make(*arguments: str) -> subprocess.CompletedProcess:
    # `make test PYTHON=...` exports its variables to the tests, and these calls must not see them.
    outer = ("MAKE", "MFLAGS", "PYTHON", "VENV")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(outer)}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", cwd=str(ROOT), env=environment)


def test_make_lists_its_targets():
    """`make` alone is where a newcomer starts; every target it can run must be told."""
    told = make().stdout
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {line.split()[0] for line in told.splitlines()} == set(targets)
    assert {"demo", "test"} <= set(targets)


def test_make_stops_at_a_wrong_python(tmp_path: Path):
    """`make test PYTHON=...` must say it before it creates or installs anything."""
    done = make("venv", f"PYTHON={fake_python(tmp_path, '3.8')}", f"VENV={tmp_path / 'venv'}")
    assert done.returncode != 0 and "3.10 to 3.12 is needed" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_installing_again_does_nothing(tmp_path: Path):
    """A second `make test` must not spend minutes on what is there; changed requirements must be installed."""
    venv = tmp_path / "venv"
    venv.mkdir()
    arguments = ("-n", "venv", f"VENV={venv}", f"PYTHON={fake_python(tmp_path, '3.11')}")
    stamp = venv / "requirements.3.11"
    stamp.touch()
    assert "pip install" not in make(*arguments).stdout
    os.utime(stamp, (1, 1))
    assert "pip install" in make(*arguments).stdout


def test_another_python_makes_another_environment(tmp_path: Path):
    """`make test PYTHON=python3.12` must not run the tests with the version that was there before."""
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "requirements.3.11").touch()
    fake_python(tmp_path / "venv" / "bin", "3.11")
    made = tmp_path / "made"
    other = tmp_path / "other"
    other.mkdir()
    python = Path(fake_python(other, "3.12"))
    python.write_text(python.read_text().replace("case", f'[ "$2 $3" = "venv --clear" ] && touch {made}\ncase', 1))
    venv = f"VENV={tmp_path / 'venv'}"
    assert make("venv", venv).returncode == 0 and not made.exists()  # without PYTHON: what is there is used
    assert make("venv", venv, f"PYTHON={python}").returncode == 0 and made.exists()
    assert (tmp_path / "venv" / "requirements.3.12").exists()


def test_continuous_integration_runs_the_readmes_command():
    """Two commands for one thing drift apart, and the README's is the one that people run."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "\nmake test\n" in script.read_text(encoding="utf-8")
    assert "make test" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_command_of_the_readme_exists():
    """A newcomer types what stands there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tools = set(re.findall(r"python (tools/\w+\.py)", text))
    configs = set(re.findall(r"configs/[\w/]+\.yml", text))
    assert tools and configs
    assert all((ROOT / name).is_file() for name in tools | configs)
