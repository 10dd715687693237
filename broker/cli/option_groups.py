"""Options of long commands, listed under titles in `--help`. Click has no groups; this is all of them that we need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

Groups = Mapping[str, tuple[str, ...]]

OF_SETTINGS: Groups = {
    "Models": ("config", "model", "set_", "load_op_library"),
    "Address and access": ("name", "allow_uid", "allow_gid", "allow_sessions"),
    "Shared memory": ("slots", "max_slots", "region_bytes", "max_channel_bytes", "max_total_bytes"),
    "Start, stop and new versions": (
        *("start_seconds", "drain_seconds", "poll_seconds", "idle_seconds", "supervise"),
    ),
    "TensorFlow and tuning": ("tune", "tune_seconds", "onednn", "visible_devices"),
    "Monitoring and logs": ("metrics_port", "metrics_host", "metrics_socket", "log_level", "log_format"),
}
"""Of `onesession serve` and `onesession run`, by the names of their parameters."""

OF_BENCH: Groups = {
    "What is called": ("name", "signature", "set_", "tune", "input_", "shape"),
    "Load": ("workers", "rows", "concurrency", "rate", "arrivals", "timeout", "seed"),
    "Comparison": ("compare", "check", "tolerance"),
    "Measurement": ("window", "windows", "within", "percentile", "seconds"),
    "Output": ("output", "plots_", "as_json"),
}


class GroupedCommand(click.Command):
    """`groups`: titles with names of parameters. Options of no group come last."""

    def __init__(self, *args: Any, groups: Groups, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.groups = groups

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        left = {
            param.name: record for param in self.get_params(ctx) if (record := param.get_help_record(ctx))
        }
        for title, names in self.groups.items():
            self._write(formatter, title, [left.pop(name) for name in names if name in left])
        self._write(formatter, "Other options", list(left.values()))

    @staticmethod
    def _write(formatter: click.HelpFormatter, title: str, records: list[tuple[str, str]]) -> None:
        if records:
            with formatter.section(title):
                formatter.write_dl(records)
