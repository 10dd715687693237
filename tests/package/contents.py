"""What is in the files of a release: what git knows of, and nothing that happens to lie in the folder."""

from __future__ import annotations

import email
import re
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


def check_page(wheel: Path, url: str) -> None:
    """Each link of the page leads to a file of this version, or to another site."""
    with zipfile.ZipFile(wheel) as file:
        (name,) = [name for name in file.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = email.message_from_bytes(file.read(name))
    page = str(metadata.get_payload())
    links = [link for link in re.findall(r"\]\(([^)]*)\)", page) if not link.startswith("#")]
    here = [link for link in links if link.startswith(f"{url}/")]
    missing = [
        link
        for link in here
        if not (ROOT / link.removeprefix(f"{url}/").split("/", 2)[2].partition("#")[0]).is_file()
    ]
    relative = [link for link in links if not link.startswith(("https://", "http://"))]
    if relative or missing or not here or f"Homepage, {url}" not in (metadata.get_all("Project-URL") or ()):
        raise SystemExit(
            f"{wheel.name}: links of the page: relative {relative[:9]}, to no file {missing[:9]}"
        )


def _same(path: Path, found: set[str], wanted: set[str]) -> None:
    if found != wanted:
        raise SystemExit(
            f"{path.name}: missing {sorted(wanted - found)[:9]}, not expected {sorted(found - wanted)[:9]}: "
            "see tool.hatch.build in pyproject.toml"
        )
