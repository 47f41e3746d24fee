"""``wasinn backends``: the plugins that run models. Finding them is ``wasinn_host.nn``'s work."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import click

from wasinn_host.cli.help import Command
from wasinn_host.cli.talk import colour, put, safe
from wasinn_host.nn import BackendRegistry, PluginReport

__all__ = ["backends"]


def _as_json(report: PluginReport) -> dict[str, object]:
    return {
        "name": report.name,
        "distribution": report.distribution,
        "version": report.version,
        "location": report.location,
        "encodings": list(report.encodings),
        "devices": [
            {
                "id": device.id,
                "target": device.target.value,
                "description": device.description,
                "memory_bytes": device.memory_bytes,
            }
            for device in report.devices
        ],
        "options": _options(report),
        "error": report.error or None,
    }


def _options(report: PluginReport) -> dict[str, str]:
    """Names and meanings of a working plugin's options, from its class."""
    if report.error:
        return {}
    module, _, name = report.location.partition(":")
    found: object = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return dict(getattr(found, "options", {}))


def _lines(report: PluginReport) -> Iterator[str]:
    origin = f"{report.distribution} {report.version}".strip() or "this program"
    mark = colour("broken", "red") if report.error else colour("ok", "green")
    yield f"{safe(report.name)}: {mark}, from {safe(origin)} ({safe(report.location)})"
    if report.error:
        yield f"  why        {safe(report.error)}"
        return
    yield f"  encodings  {safe(', '.join(report.encodings))}"
    for device in report.devices:
        memory = "" if device.memory_bytes is None else f", {device.memory_bytes >> 20} MiB"
        yield safe(
            f"  device     {device.target.value} ({device.id}): {device.description}{memory}"
        )
    for name, meaning in sorted(_options(report).items()):
        yield safe(f"  option     {report.name}.{name}: {meaning}")


@click.command(
    cls=Command,
    help="List the backend plugins: where each comes from, the encodings and devices it offers, "
    "its options for --nn-option, and for a broken one the reason.",
    examples=("wasinn backends", "wasinn backends --json"),
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead.")
def backends(as_json: bool) -> int:
    """Prints what is there."""
    registry = BackendRegistry()
    try:
        reports = registry.report()
        if as_json:
            import json

            document = {"schema": "wasinn-backends-1", "backends": [_as_json(r) for r in reports]}
            put(json.dumps(document, indent=2) + "\n")
        elif not reports:
            put("no backend plugins are installed\n")
        else:
            put("\n".join(line for report in reports for line in _lines(report)) + "\n")
    finally:
        registry.close()
    return 0
