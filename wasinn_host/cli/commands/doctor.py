"""``wasinn doctor``: shows the checks of ``machine_checks``. Tests nothing itself."""

from __future__ import annotations

from collections.abc import Sequence

import click

from wasinn_host.cli import status
from wasinn_host.cli.help import Command
from wasinn_host.cli.machine_checks import CHECKS, Finding, all_checks
from wasinn_host.cli.talk import colour, put, safe

__all__ = ["doctor"]

_COLOURS = {"ok": "green", "note": "yellow", "fail": "red"}


def _line(finding: Finding) -> str:
    mark = colour(f"{finding.status:<5}", _COLOURS[finding.status])
    text = f"{mark}{finding.name:<18} {safe(finding.found)}"
    return f"{text}\n{'':5}{'':18} to do: {safe(finding.remedy)}" if finding.remedy else text


def _verdict(findings: Sequence[Finding]) -> str:
    failed = [finding.name for finding in findings if finding.status == "fail"]
    if failed:
        return f"not ready: {', '.join(failed)}"
    return "ready: guests run, and can ask neural networks"


@click.command(
    cls=Command,
    help="Say what this machine can do and what is missing, with the remedy. Exit status 0 when "
    "guests can run and ask neural networks, 1 otherwise.",
    sections=(
        ("Checks", "\n".join(f"  {name:<18} {meaning}" for name, meaning in CHECKS.items())),
    ),
    examples=("wasinn doctor", "wasinn doctor --json"),
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead.")
def doctor(as_json: bool) -> int:
    """Prints a line for each check."""
    findings = all_checks()
    ready = all(finding.status != "fail" for finding in findings)
    if as_json:
        import json

        document = {
            "schema": "wasinn-doctor-1",
            "ready": ready,
            "checks": [
                {
                    "name": finding.name,
                    "status": finding.status,
                    "found": finding.found,
                    "remedy": finding.remedy or None,
                    "data": finding.data,
                }
                for finding in findings
            ],
        }
        put(json.dumps(document, indent=2) + "\n")
    else:
        put("\n".join(map(_line, findings)) + f"\n{_verdict(findings)}\n")
    return 0 if ready else status.NOT_READY
