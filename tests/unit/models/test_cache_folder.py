"""Where results are cached, whatever the environment says of a home."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from broker.models.cache_folder import cache_folder


def _nobody(_uid: int) -> pwd.struct_passwd:
    raise KeyError("uid not found")


def test_the_environment_says_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_folder("tuning") == tmp_path / "cache" / "onesession" / "tuning"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder("tuning") == tmp_path / ".cache" / "onesession" / "tuning"


def test_a_user_without_a_home_gets_no_folder_named_tilde(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As in a container whose user is not in /etc/passwd: a relative path would be made wherever the broker starts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", _nobody)
    assert os.path.expanduser("~") == "~"
    assert cache_folder("tuning").is_absolute()
    assert not cache_folder("tuning").is_relative_to(tmp_path)
