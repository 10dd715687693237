"""Whether a model's files are the same as before, by what the file system says of them: nothing is read.

Name, size, times and inode of each file. A file that is written anew has another change time, whatever else about it
was put back; one that only looks changed costs a second broker, and no answer.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator


def fingerprint(path: str) -> bytes:
    """Of a file or a folder. What cannot be inspected counts as such: why is for the broker to say."""
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
    if not os.path.isdir(path) or place in above:  # a link to a folder that it stands in
        return
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        yield f"{path}/ {error.errno}"
        return
    for name in names:
        yield from _facts(os.path.join(path, name), above | {place})
