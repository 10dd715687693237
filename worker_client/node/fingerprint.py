"""Whether a model's files are the same as before, judged by file system metadata: no file is read.

The fingerprint covers name, size, times and inode of each file. A file that is rewritten gets another change time, even
if all other metadata is restored. A file that only seems changed costs a second broker, but no wrong answer.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator


def fingerprint(path: str) -> bytes:
    """The fingerprint of a file or a folder. A path that cannot be read is included with its error; the broker reports
    why."""
    digest = hashlib.sha256()
    for line in _facts(path, set()):
        digest.update(os.fsencode(line) + b"\n")
    return digest.digest()


def _facts(path: str, above: set[tuple[int, int]]) -> Iterator[str]:
    try:
        found = os.stat(path)
    except OSError as error:
        yield f"{path} {error.errno}"
        return
    times = "" if os.path.isdir(path) else f" {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
    yield f"{path} {found.st_mode} {found.st_ino}{times}"
    place = found.st_dev, found.st_ino
    if not os.path.isdir(path) or place in above:  # a link to a folder that contains it
        return
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        yield f"{path}/ {error.errno}"
        return
    for name in names:
        yield from _facts(os.path.join(path, name), above | {place})
