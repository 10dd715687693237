"""Links from a page to a file of the repository that is no page: on the site they lead to a copy of it.

On GitHub `[gunicorn.conf.py](examples/gunicorn.conf.py)` shows the file. Here the file goes with the site, under
`_files/`, as plain text, so that a browser shows it, too.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).parents[2]
FOLDER = "_files"


class ToCopies(SphinxTransform):
    """Runs before Sphinx gathers downloads, which it would name by their digests."""

    default_priority = 870  # the files are gathered at 880

    def apply(self, **_: Any) -> None:
        for link in list(self.document.findall(addnodes.download_reference)):
            page = Path(self.env.doc2path(self.env.docname)).parent
            file = (page / link["reftarget"]).resolve()
            if link["reftarget"].startswith("/"):
                file = (Path(self.app.srcdir) / link["reftarget"].lstrip("/")).resolve()
            name = file.relative_to(ROOT).as_posix() + ".txt"
            target = Path(self.app.outdir, FOLDER, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
            here = os.path.dirname(self.app.builder.get_target_uri(self.env.docname))
            uri = os.path.relpath(f"{FOLDER}/{name}", here or ".")
            link.replace_self(nodes.reference("", "", *link.children, refuri=uri, internal=True))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(ToCopies)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
