"""One self-contained page about a run of the demonstration."""

from diff3r_plugin.report.page import write_report

__all__ = ["write_report"]
