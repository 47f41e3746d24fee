"""``wasinn inspect``: what a module needs, offers and contains, as text or JSON. Runs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from wasinn_host.cli.help import Command
from wasinn_host.cli.module_file import read_module
from wasinn_host.cli.module_report import report_of
from wasinn_host.cli.talk import put, safe
from wasinn_runtime import Config, Engine, Module
from wasinn_runtime.engines.aot_format import is_aot

__all__ = ["inspect"]

Report = dict[str, Any]


def _lines(report: Report, all_functions: bool) -> Iterator[str]:
    module = f", module name {report['module_name']}" if report["module_name"] else ""
    yield f"{report['file']}: {report['size_bytes']} bytes{module}"
    yield f"features: {', '.join(report['features'])}"
    yield from _externs("imports", report["imports"])
    yield from _externs("exports", report["exports"])
    for kind in ("memories", "tables", "globals", "tags"):
        if report[kind]:
            yield f"{kind}:"
            for row in report[kind]:
                origin = " (imported)" if row["imported"] else ""
                yield f"  {row['index']}: {row['type']}{origin}"
    yield "sections:"
    for row in report["sections"]:
        name = f" {row['name']!r}" if row["id"] == 0 else ""
        yield f"  {row['offset']:#010x}  {row['size_bytes']:>10} bytes  {row['kind']}{name}"
    functions = report["functions"]
    yield (
        f"functions: {functions['defined']} defined, {functions['imported']} imported, "
        f"{functions['named']} named, {functions['code_bytes']} bytes of code"
    )
    if functions["start"] is not None:
        yield f"start: {functions['start']}"
    if functions["biggest"]:
        yield "functions by size:" if all_functions else "biggest functions:"
        for row in functions["biggest"]:
            yield f"  {row['size_bytes']:>10} bytes  {row['label']}  {row['type']}"


def _externs(title: str, rows: list[Report]) -> Iterator[str]:
    yield f"{title}:" if rows else f"{title}: none"
    for row in rows:
        module = f"{row['module']} " if "module" in row else ""
        yield f"  {row['kind']:<6} {module}{row['name']}: {row['type']}"


@click.command(
    cls=Command,
    help="Show what a module needs, offers and contains: imports, exports, features, sections and "
    "the biggest functions. The module is checked, not run. Of an AOT file: what it was made for "
    "and from, and whether it runs here.",
    examples=(
        "wasinn inspect examples/hello/hello.wasm",
        "wasinn inspect --json examples/rust-files/rust-files.wasm",
        "wasinn inspect --dump-asm benchmarks/kernels/fib.wasm",
    ),
)
@click.argument("file", metavar="APP.wasm|APP.aot", type=str)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead.")
@click.option("--all", "all_functions", is_flag=True, help="List all functions, by size.")
@click.option("--dump-ir", is_flag=True, help="Print the LLVM IR made of it, before optimisation.")
@click.option("--dump-asm", is_flag=True, help="Print the machine code made of it, as text.")
def inspect(file: str, as_json: bool, all_functions: bool, dump_ir: bool, dump_asm: bool) -> int:
    """Prints the report, or what is generated for the module."""
    if as_json + dump_ir + dump_asm > 1:
        raise click.UsageError("give only one of --json, --dump-ir and --dump-asm")
    data = read_module(file)
    if is_aot(data):
        if dump_ir or dump_asm or all_functions:
            raise click.UsageError(f"{file} is an AOT file: only --json can be given with it")
        return _inspect_image(data, file, as_json)
    if dump_ir or dump_asm:
        module = Module(Engine(Config("llvm-jit", cache=False)), data, file)
        put(module.llvm_ir() if dump_ir else module.assembly())
        return 0
    report = report_of(data, file, None if all_functions else 10)
    if as_json:
        import json

        put(json.dumps(report, indent=2) + "\n")
    else:
        put("\n".join(map(safe, _lines(report, all_functions))) + "\n")
    return 0


def _inspect_image(data: bytes, file: str, as_json: bool) -> int:
    from wasinn_host.cli.image_report import image_lines, image_report

    report = image_report(data, file)
    if as_json:
        import json

        put(json.dumps(report, indent=2) + "\n")
        return 0
    lines = [*image_lines(report)]
    for kind in ("imports", "exports"):
        lines.extend(_externs(kind, report["module"][kind]))
    put("\n".join(map(safe, lines)) + "\n")
    return 0
