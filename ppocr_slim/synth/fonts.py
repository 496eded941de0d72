"""Font families that can be fetched, handwritten and printed: their names, their download, their folders.

A handwriting family is a folder `<fonts>/<family>/` with `latin.woff2`, `vietnamese.woff2` (absent where latin has
every character), `LICENSE` and `version.txt`. A printed one is `<fonts>/print/<family>/` with the same and, for each of
`PRINT_STYLES`, `latin-<style>.woff2` and `vietnamese-<style>.woff2`; it lies a folder deeper so that no writer takes it
for a hand. All are under the SIL Open Font License and none is part of this project.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ppocr_slim.errors import SlimError

# Weight of a family among writers, against 1.0 for one that looks like a pen on a form: a fair script is a rarer hand.
FAMILIES: dict[str, float] = {
    "patrick-hand": 1.0, "grape-nuts": 1.0, "square-peg": 1.0, "mynerve": 1.0, "mansalva": 1.0,
    "oooh-baby": 1.0, "sedgwick-ave": 1.0, "sriracha": 1.0, "itim": 1.0, "mali": 1.0, "fuzzy-bubbles": 1.0,
    "pangolin": 1.0, "shantell-sans": 1.0, "playpen-sans": 1.0,
    "moon-dance": 0.4, "vujahday-script": 0.4, "dancing-script": 0.4, "charm": 0.4, "charmonman": 0.4,
    "caramel": 0.4, "italianno": 0.4, "estonia": 0.4, "hurricane": 0.4, "licorice": 0.4, "borel": 0.4,
    "playwrite-vn": 0.4,
}  # fmt: skip


# Tinos, Arimo and Cousine have the widths of Times New Roman, Arial and Courier New, in which most forms are set.
PRINT_FAMILIES = ("tinos", "arimo", "cousine", "be-vietnam-pro", "roboto", "noto-serif", "lora")
MONOSPACED = frozenset(("cousine",))
PRINT_STYLES = {"bold": "700-normal", "italic": "400-italic"}  # besides the regular one: names in the packages


def print_folder(fonts: Path) -> Path:
    """Return the folder of the printed families."""
    return fonts / "print"


def printed_families(fonts: Path) -> list[Path]:
    """Return the folders of fetched printed families, in a fixed order; none where none was fetched."""
    folder = print_folder(fonts)
    return sorted(family for family in folder.iterdir() if is_fetched(family)) if folder.is_dir() else []


def is_fetched(folder: Path) -> bool:
    """Return whether `folder` holds a whole family: folders are renamed into place when they are complete."""
    return (folder / "latin.woff2").is_file()


def fetched_families(fonts: Path) -> list[Path]:
    """Return the family folders under `fonts`, in a fixed order.

    Raises:
        SlimError: there is none.
    """
    if not fonts.is_dir():
        raise SlimError(f"{fonts}: no such font folder; make one with `ppocr-slim fetch-fonts --out {fonts}`")
    found = sorted(folder for folder in fonts.iterdir() if is_fetched(folder))
    if not found:
        raise SlimError(f"{fonts}: holds no font family (<family>/latin.woff2); fill it with `ppocr-slim fetch-fonts`")
    return found


def family_versions(fonts: Path) -> dict[str, str]:
    """Return package and version of each handwriting family by its name; "unknown" where its folder does not say."""
    return _versions(fetched_families(fonts))


def printed_versions(fonts: Path) -> dict[str, str]:
    """Return package and version of each printed family, as `family_versions` does."""
    return _versions(printed_families(fonts))


def _versions(folders: Sequence[Path]) -> dict[str, str]:
    files = {folder.name: folder / "version.txt" for folder in folders}
    return {name: file.read_text("utf-8").strip() if file.is_file() else "unknown" for name, file in files.items()}


@dataclass(frozen=True)
class Fetched:
    """Names of the families that `fetch_families` fetched, kept and skipped."""

    fetched: list[str]
    kept: list[str]  # were there already
    skipped: dict[str, str]  # with the reason


def fetch_families(fonts: Path) -> Fetched:
    """Fetch all of `FAMILIES` and `PRINT_FAMILIES` that `fonts` lacks; skip those that cannot be fetched.

    Returns:
        What became of each family.

    Raises:
        SlimError: the folder cannot be made.
    """
    folders = {**dict.fromkeys(FAMILIES, fonts), **dict.fromkeys(PRINT_FAMILIES, print_folder(fonts))}
    try:
        print_folder(fonts).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SlimError(f"{fonts}: cannot be made ({error.strerror}); give another --out") from error
    kept = [name for name, folder in folders.items() if is_fetched(folder / name)]
    missing = [name for name in folders if name not in kept]
    npm = shutil.which("npm")
    if npm is None:
        reason = "npm is not on the PATH; install Node.js and run again"
        return Fetched([], kept, dict.fromkeys(missing, reason))
    fetched, skipped = [], {}
    for name in missing:
        try:
            fetch_family(name, folders[name], npm, () if name in FAMILIES else tuple(PRINT_STYLES))
            fetched.append(name)
        except SlimError as error:
            skipped[name] = str(error)
    return Fetched(fetched, kept, skipped)


def fetch_family(name: str, fonts: Path, npm: str, styles: Sequence[str] = ()) -> Path:
    """Download `@fontsource/<name>` with npm and unpack the fonts that are needed.

    Args:
        name: of the family.
        fonts: folder in which the family's folder is made.
        npm: path of the program.
        styles: of PRINT_STYLES, which are needed besides the regular one.

    Returns:
        The family's folder.

    Raises:
        SlimError: it fails; nothing of the family is left behind then.
    """
    target = fonts / name
    with tempfile.TemporaryDirectory(dir=fonts.resolve(), prefix=".fetch-") as scratch:
        archive = _npm_pack(npm, f"@fontsource/{name}@5", Path(scratch))
        folder = Path(scratch) / name
        folder.mkdir()
        _unpack(archive, name, folder, styles)
        if target.exists():
            shutil.rmtree(target)
        os.replace(folder, target)
    return target


def _npm_pack(npm: str, package: str, folder: Path) -> Path:
    """Download a package's archive into a folder; return its path."""
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


def _unpack(archive: Path, name: str, folder: Path, styles: Sequence[str]) -> None:
    """Unpack a family's fonts and licence into its folder, and note its version."""
    members = {
        f"package/files/{name}-{script}-{style}.woff2": f"{script}{ending}.woff2"
        for script in ("latin", "vietnamese")
        for ending, style in (("", "400-normal"), *((f"-{style}", PRINT_STYLES[style]) for style in styles))
    }
    members["package/LICENSE"] = "LICENSE"
    # a hand without a Vietnamese font of its own may have those characters in the Latin one
    needed = {"latin.woff2", "LICENSE"} if not styles else set(members.values())
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
    for file_name in sorted(needed):
        if not (folder / file_name).is_file():
            raise SlimError(f"@fontsource/{name} {version}: has no {file_name}; leave the family out")
