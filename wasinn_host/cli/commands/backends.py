"""``wasinn backends``: the plugins that run models. ``wasinn_host.nn`` finds and checks them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from wasinn_host.cli import status
from wasinn_host.cli.help import Command, Group
from wasinn_host.cli.talk import colour, put, safe
from wasinn_host.nn import BackendRegistry, PluginReport
from wasinn_host.nn.discovery import REPORT_PATIENCE_S

if TYPE_CHECKING:
    from wasinn_host.nn.conformance import CheckResult, Model

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
        "options": dict(report.options),
        "error": report.error or None,
    }


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
    for name, meaning in report.options:
        yield safe(f"  option     {report.name}.{name}: {meaning}")


@click.group(
    cls=Group,
    help="List the backend plugins: where each comes from, the encodings and devices it offers, "
    "its options for --nn-option, and for a broken one the reason. Or check one.",
    examples=("wasinn backends", "wasinn backends --json", "wasinn backends check onnx"),
    invoke_without_command=True,
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead.")
@click.pass_context
def backends(context: click.Context, as_json: bool) -> int:
    """Prints what is there."""
    if context.invoked_subcommand is not None:
        return 0
    registry = BackendRegistry()
    try:
        reports = registry.report(patience_s=REPORT_PATIENCE_S)
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


@backends.command(
    "check",
    cls=Command,
    help="Check that a backend plugin keeps the contract: lifecycle, tensors, errors, threads, "
    "cancelling, leaks, damaged models. It runs in a process of its own, with the models that it "
    "brings and those that are named here. Ends with 1 if a check failed.",
    examples=("wasinn backends check onnx", "wasinn backends check null --json"),
)
@click.argument("name", metavar="NAME")
@click.option(
    "--model",
    "models",
    metavar="ENCODING:PATH[,PATH...]",
    multiple=True,
    help="A model to check with as well, in as many files as it has parts.",
)
@click.option("--option", "options", metavar="KEY=VALUE", multiple=True, help="For the backend.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0.1),
    default=120.0,
    show_default=True,
    help="How long one check may take.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead.")
def check(
    name: str, models: tuple[str, ...], options: tuple[str, ...], timeout: float, as_json: bool
) -> int:
    """Prints a line for each check, as they are done."""
    from wasinn_host.nn.conformance import Outcome, check_backend, checks_by_name
    from wasinn_host.nn.discovery import located

    location = located(name)
    given = dict(_option(text) for text in options)
    wide = max(map(len, checks_by_name()))
    results = []
    for result in check_backend(
        location, options=given, models=[_model(text) for text in models], timeout_s=timeout
    ):
        results.append(result)
        if not as_json:
            put(_check_line(result, wide))
    counts = Counter(result.outcome for result in results)
    if as_json:
        import json

        document = {"schema": "wasinn-conformance-1", "backend": name, "location": location}
        checks = [{**_fields(result), "seconds": round(result.seconds, 3)} for result in results]
        put(json.dumps({**document, "checks": checks}, indent=2) + "\n")
    else:
        told = ", ".join(f"{counts[o]} {o.value}" for o in Outcome if counts[o])
        put(f"{safe(name)}: {told}\n")
    return status.NOT_READY if counts[Outcome.FAILED] else 0


def _option(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise click.UsageError(f"--option {text}: expected KEY=VALUE, for example threads=2")
    return key, value


def _model(text: str) -> Model:
    from pathlib import Path

    from wasinn_host.nn.conformance import Model

    encoding, colon, paths = text.partition(":")
    if not encoding or not colon or not paths:
        raise click.UsageError(
            f"--model {text}: expected ENCODING:PATH, for example onnx:model.onnx"
        )
    return Model(encoding, tuple(map(Path, paths.split(","))))


def _fields(result: CheckResult) -> dict[str, object]:
    return {
        "name": result.name,
        "means": result.means,
        "outcome": result.outcome.value,
        "why": result.why or None,
    }


_COLOURS = {"passed": "green", "failed": "red", "skipped": "yellow"}


def _check_line(result: CheckResult, wide: int) -> str:
    word = result.outcome.value
    lines = [f"{result.name:<{wide}}  {colour(word, _COLOURS[word])}"]
    if word == "failed":
        lines.append(f"  must hold  {result.means}")
    if result.why:
        lines.append(f"  why        {safe(result.why)}")
    return "\n".join(lines) + "\n"
