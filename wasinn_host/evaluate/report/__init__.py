"""``report.html``: what came out, to look at. One file without scripts."""

from wasinn_host.evaluate.report.page import write_report

__all__ = ["write_report"]
