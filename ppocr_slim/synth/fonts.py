"""The handwriting families that can be fetched: which they are, how they come, where they lie.

A family is a folder `<fonts>/<family>/` with `latin.woff2`, `vietnamese.woff2` (absent where latin has every
character), `LICENSE` and `version.txt`. All are under the SIL Open Font License and none is part of this
project.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ppocr_slim.errors import SlimError

# How often a writer uses the family, beside 1.0 for one that looks like a pen on a form: a fair script is a
# rarer hand.
FAMILIES: dict[str, float] = {
    "patrick-hand": 1.0, "grape-nuts": 1.0, "square-peg": 1.0, "mynerve": 1.0, "mansalva": 1.0,
    "oooh-baby": 1.0, "sedgwick-ave": 1.0, "sriracha": 1.0, "itim": 1.0, "mali": 1.0, "fuzzy-bubbles": 1.0,
    "pangolin": 1.0, "shantell-sans": 1.0, "playpen-sans": 1.0,
    "moon-dance": 0.4, "vujahday-script": 0.4, "dancing-script": 0.4, "charm": 0.4, "charmonman": 0.4,
    "caramel": 0.4, "italianno": 0.4, "estonia": 0.4, "hurricane": 0.4, "licorice": 0.4, "borel": 0.4,
    "playwrite-vn": 0.4,
}  # fmt: skip


def is_fetched(folder: Path) -> bool:
    """Whether `folder` holds a whole family: folders are renamed into place when they are complete."""
    return (folder / "latin.woff2").is_file()


def fetched_families(fonts: Path) -> list[Path]:
    """The family folders under `fonts`, in a fixed order; SlimError if there is none."""
    if not fonts.is_dir():
        raise SlimError(f"{fonts}: no such font folder; make one with tools/fetch_fonts.py --out {fonts}")
    found = sorted(folder for folder in fonts.iterdir() if is_fetched(folder))
    if not found:
        raise SlimError(f"{fonts}: holds no font family (<family>/latin.woff2); fill it with tools/fetch_fonts.py")
    return found


def family_versions(fonts: Path) -> dict[str, str]:
    """Package and version of each family under `fonts`, by its name; "unknown" where its folder does not say."""
    files = {folder.name: folder / "version.txt" for folder in fetched_families(fonts)}
    return {name: file.read_text("utf-8").strip() if file.is_file() else "unknown" for name, file in files.items()}


@dataclass(frozen=True)
class Fetched:
    """What `fetch_families` did: names of families, and of the skipped ones why."""

    fetched: list[str]
    kept: list[str]
    skipped: dict[str, str]


def fetch_families(fonts: Path) -> Fetched:
    """Fetch all of `FAMILIES` that `fonts` lacks; what cannot be fetched is skipped, with the reason."""
    try:
        fonts.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SlimError(f"{fonts}: cannot be made ({error.strerror}); give another --out") from error
    kept = [name for name in FAMILIES if is_fetched(fonts / name)]
    missing = [name for name in FAMILIES if name not in kept]
    npm = shutil.which("npm")
    if npm is None:
        reason = "npm is not on the PATH; install Node.js and run again"
        return Fetched([], kept, dict.fromkeys(missing, reason))
    fetched, skipped = [], {}
    for name in missing:
        try:
            fetch_family(name, fonts, npm)
            fetched.append(name)
        except SlimError as error:
            skipped[name] = str(error)
    return Fetched(fetched, kept, skipped)


def fetch_family(name: str, fonts: Path, npm: str) -> Path:
    """Download `@fontsource/<name>` with npm and unpack what is needed of it into `fonts/<name>`.

    SlimError if it fails; nothing of the family is left behind then.
    """
    target = fonts / name
    with tempfile.TemporaryDirectory(dir=fonts.resolve(), prefix=".fetch-") as scratch:
        archive = _npm_pack(npm, f"@fontsource/{name}@5", Path(scratch))
        made = Path(scratch) / name
        made.mkdir()
        _unpack(archive, name, made)
        if target.exists():
            shutil.rmtree(target)
        os.replace(made, target)
    return target


def _npm_pack(npm: str, package: str, folder: Path) -> Path:
    command = [
        npm,
        "pack",
        package,
        "--loglevel=error",
        "--ignore-scripts",
        "--pack-destination",
        str(folder),
    ]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlimError(f"{package}: npm did not deliver it ({error}); run again when the network is there") from error
    archives = sorted(folder.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[0]
        raise SlimError(f"{package}: npm did not deliver it ({said}); run again when the network is there")
    return archives[0]


def _unpack(archive: Path, name: str, folder: Path) -> None:
    members = {
        f"package/files/{name}-latin-400-normal.woff2": "latin.woff2",
        f"package/files/{name}-vietnamese-400-normal.woff2": "vietnamese.woff2",
        "package/LICENSE": "LICENSE",
    }
    try:
        with tarfile.open(archive) as tar:
            present = set(tar.getnames())
            for member, file_name in members.items():
                if member in present:
                    (folder / file_name).write_bytes(tar.extractfile(member).read())
            version = json.loads(tar.extractfile("package/package.json").read())["version"]
    except (tarfile.TarError, KeyError, ValueError, OSError) as error:
        raise SlimError(f"@fontsource/{name}: its archive cannot be read ({error}); fetch it again") from error
    (folder / "version.txt").write_text(f"@fontsource/{name} {version}\n", encoding="utf-8")
    for needed in ("latin.woff2", "LICENSE"):
        if not (folder / needed).is_file():
            raise SlimError(f"@fontsource/{name} {version}: has no {needed}; leave the family out")
