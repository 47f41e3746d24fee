"""The command line: ``python -m benchmarks`` and its subcommands. Measures nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from benchmarks.catalogue import KERNELS, kernels_named
from benchmarks.errors import BenchmarkError
from benchmarks.field import Fields
from benchmarks.report import Result, Table, show, update_readme, write_json
from benchmarks.tables import TABLES, Request, TableOf, say
from benchmarks.toolchain import build_wasm
from wasinn_runtime.errors import WasinnError

_EPILOG = """\b
Examples:
  python -m benchmarks kernels
  python -m benchmarks modes --rounds 9 crc32 fib
  python -m benchmarks all --json results.json > tables.md
"""

_rounds = click.option(
    "--rounds",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="How often each contestant runs.",
)
_json = click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the results to this file.",
)
_strict = click.option("--strict", is_flag=True, help="Exit with 1 if a bar is not met.")


def _show_each(tables: Sequence[TableOf], request: Request) -> list[Result]:
    """Show each table as soon as it is there."""
    console = Console()
    results = []
    for table in tables:
        results.append(table.measure(request))
        show(results[-1], console)
    return results


def _finish(results: Sequence[Result], json_path: Path | None, strict: bool) -> None:
    if json_path is not None:
        write_json(results, json_path)
    if strict and not all(bar.met for result in results for bar in result.bars):
        raise SystemExit(1)


@click.group(epilog=_EPILOG)
def cli() -> None:
    """Measure wasinn against native code, other runtimes and bare libraries."""


def _command(table: TableOf) -> click.Command:
    def measure(
        rounds: int, json_path: Path | None, strict: bool, names: tuple[str, ...] = ()
    ) -> None:
        request = Request(Fields(kernels_named(names), rounds, say), rounds)
        _finish(_show_each([table], request), json_path, strict)

    decorated: Callable[..., None] = _rounds(_json(_strict(measure)))
    if table.kernels:
        decorated = click.argument("names", nargs=-1, metavar="[KERNEL]...")(decorated)
    return click.command(table.name, help=table.what)(decorated)


for _table in TABLES:
    cli.add_command(_command(_table))


@cli.command(name="all")
@_rounds
@_json
@_strict
@click.option("--readme", is_flag=True, help="Also put the tables into benchmarks/README.md.")
def everything(rounds: int, json_path: Path | None, strict: bool, readme: bool) -> None:
    """All tables."""
    request = Request(Fields(KERNELS, rounds, say, everyone=True), rounds)
    failed: list[str] = []

    def guarded(table: TableOf) -> TableOf:
        """One that fails must not cost the minutes that the others took."""

        def measure(request: Request) -> Result:
            try:
                return table.measure(request)
            except WasinnError as error:
                failed.append(table.name)
                note = f"not measured: {error}"
                return Result(table.name, Table(table.what, ("-",), ()), (), {}, (note,))

        return replace(table, measure=measure)

    results = _show_each([guarded(table) for table in TABLES], request)
    if readme and not failed:
        update_readme(results, Path(__file__).parent / "README.md")
    _finish(results, json_path, strict)
    if failed:
        raise BenchmarkError(f"not measured, and the README left alone: {', '.join(failed)}")


@cli.command()
@click.argument("names", nargs=-1, metavar="[KERNEL]...")
def build(names: tuple[str, ...]) -> None:
    """Rebuild the committed .wasm files (takes the ziglang package)."""
    from benchmarks.hostcall import build_hostcall
    from benchmarks.nn_calls import build_nn_calls

    for kernel in kernels_named(names):
        build_wasm(kernel)
        click.echo(f"{kernel.wasm.name}: {kernel.wasm.stat().st_size} bytes")
    if not names:
        for callout in (build_hostcall(), build_nn_calls()):
            click.echo(f"{callout.name}: {callout.stat().st_size} bytes")


def main() -> None:
    """Run the command line; an error that is not ours to explain keeps its traceback."""
    try:
        cli()
    except WasinnError as error:
        click.echo(f"benchmarks: {error}", err=True)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
