"""What is in the files of a release: what git knows of, and nothing that happens to lie in the folder."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("broker/", "worker_client/")


def committed() -> set[str]:
    """Also files that are not committed yet, unless they are ignored: these are built as well."""
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.split("\0") if name and (ROOT / name).is_file()}


def in_wheel(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as file:
        return {name for name in file.namelist() if ".dist-info/" not in name}


def in_sdist(path: Path) -> set[str]:
    with tarfile.open(path) as file:
        return {member.name.partition("/")[2] for member in file if member.isfile()}


def check(wheel: Path, sdist: Path) -> None:
    known = committed()
    _same(wheel, in_wheel(wheel), {name for name in known if name.startswith(PACKAGES)})
    # hatchling adds .gitignore, which tells whoever builds from the file what to leave out.
    wanted = {name for name in known if name not in (".editorconfig", ".gitattributes")}
    _same(sdist, in_sdist(sdist), wanted | {"PKG-INFO"})


def _same(path: Path, found: set[str], wanted: set[str]) -> None:
    if found != wanted:
        raise SystemExit(
            f"{path.name}: missing {sorted(wanted - found)[:9]}, not expected {sorted(found - wanted)[:9]}: "
            "see tool.hatch.build in pyproject.toml"
        )
