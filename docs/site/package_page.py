"""The package's page on an index: the README, whose links lead to the repository, and the project's addresses.

The repository has no address of its own to write down, so a release names it: `make package URL=https://host/project`.
Without one, links stay relative, which is right for whoever builds the package only to try it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

VARIABLE = "ONESESSION_URL"
_LINK = re.compile(r"(!?)(\[[^\]]*\])\((?!https?:|#)([^)\s]+)\)")


class PackagePage(MetadataHookInterface):
    """Called by hatchling for every build; the folder of `pyproject.toml` is `root`."""

    def update(self, metadata: dict[str, Any]) -> None:
        url = os.environ.get(VARIABLE, "").rstrip("/")
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute(text, url, metadata["version"]) if url else text,
        }
        if url:
            metadata["urls"] = addresses(url, metadata["version"])


def absolute(text: str, url: str, version: str) -> str:
    """Markdown whose relative links lead to the files of this version in the repository at `url`."""

    def made(link: re.Match[str]) -> str:
        image, name, target = link.groups()
        return f"{image}{name}({_at(url, version, target, 'raw' if image else 'blob')})"

    return _LINK.sub(made, text)


def addresses(url: str, version: str) -> dict[str, str]:
    """The links beside the page."""
    return {
        "Homepage": url,
        "Documentation": _at(url, version, "docs/README.md"),
        "Changelog": _at(url, version, "CHANGELOG.md"),
        "Security": _at(url, version, "SECURITY.md"),
        "Issues": f"{url}/issues",
    }


def _at(url: str, version: str, path: str, kind: str = "blob") -> str:
    """GitHub's form, which GitLab and Gitea redirect."""
    return f"{url}/{kind}/v{version}/{path}"
