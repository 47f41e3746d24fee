"""The command line: ``python -m benchmarks`` and its subcommands. Measures nothing itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from rich.console import Console

from benchmarks.catalogue import KERNELS, kernels_named
from benchmarks.report import Result, show, update_readme, write_json
from benchmarks.toolchain import build_wasm
from wasinn_runtime.errors import WasinnError

_EPILOG = """\b
Examples:
  python -m benchmarks kernels
  python -m benchmarks kernels --rounds 9 crc32 fib
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


def _say(text: str) -> None:
    """Progress, for a person who waits."""
    if sys.stderr.isatty():
        click.echo(f"measuring {text} ...", err=True)


def _finish(results: Sequence[Result], json_path: Path | None, strict: bool) -> None:
    if json_path is not None:
        write_json(results, json_path)
    if strict and not all(bar.met for result in results for bar in result.bars):
        raise SystemExit(1)


def _show_each(measurements: Sequence[Callable[[], Result]]) -> list[Result]:
    """Show each table as soon as it is there."""
    console = Console()
    results = []
    for measure in measurements:
        results.append(measure())
        show(results[-1], console)
    return results


def _run(measurement: Callable[[], Result], json_path: Path | None, strict: bool) -> None:
    _finish(_show_each([measurement]), json_path, strict)


def _kernels(names: tuple[str, ...], rounds: int) -> Result:
    from benchmarks.compute import measure_compute

    return measure_compute(kernels_named(names), rounds, _say)


def _startup(rounds: int) -> Result:
    from benchmarks.startup import measure_hello

    _say("startup")
    return measure_hello(rounds)


def _demo(rounds: int) -> Result:
    from benchmarks.startup import measure_demo

    _say("make demo")
    return measure_demo(rounds)


def _instances(rounds: int) -> Result:
    from benchmarks.instances import measure_instances

    _say("instances")
    return measure_instances(rounds)


def _nn(rounds: int, threads: int) -> Result:
    from benchmarks.nn import measure_nn

    _say("nn")
    return measure_nn(rounds, threads)


@click.group(epilog=_EPILOG)
def cli() -> None:
    """Measure wasinn against native code, wasmtime and bare ONNX Runtime."""


@cli.command()
@click.argument("names", nargs=-1, metavar="[KERNEL]...")
@_rounds
@_json
@_strict
def kernels(names: tuple[str, ...], rounds: int, json_path: Path | None, strict: bool) -> None:
    """Compute kernels: native, wasmtime, wasinn."""
    _run(lambda: _kernels(names, rounds), json_path, strict)


@cli.command()
@_rounds
@_json
@_strict
def startup(rounds: int, json_path: Path | None, strict: bool) -> None:
    """`wasinn run hello.wasm` as a whole process, against a wasmtime script."""
    _run(lambda: _startup(rounds), json_path, strict)


@cli.command()
@_rounds
@_json
@_strict
def demo(rounds: int, json_path: Path | None, strict: bool) -> None:
    """`make demo` when everything it needs is there."""
    _run(lambda: _demo(rounds), json_path, strict)


@cli.command()
@_rounds
@_json
@_strict
def instances(rounds: int, json_path: Path | None, strict: bool) -> None:
    """1,000 instances of a loaded module, made and called."""
    _run(lambda: _instances(rounds), json_path, strict)


@cli.command()
@_rounds
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Threads of ONNX Runtime, on both sides.",
)
@_json
@_strict
def nn(rounds: int, threads: int, json_path: Path | None, strict: bool) -> None:
    """MiniLM on 16 tokens through guest and WASI-NN, against a bare session."""
    _run(lambda: _nn(rounds, threads), json_path, strict)


@cli.command(name="all")
@_rounds
@_json
@_strict
@click.option("--readme", is_flag=True, help="Also put the tables into benchmarks/README.md.")
def everything(rounds: int, json_path: Path | None, strict: bool, readme: bool) -> None:
    """All tables."""
    measurements: list[Callable[[], Result]] = [
        lambda: _kernels((), rounds),
        lambda: _startup(max(rounds, 11)),
        lambda: _demo(min(rounds, 3)),
        lambda: _instances(rounds),
        lambda: _nn(max(rounds, 11), 1),
    ]
    results = _show_each(measurements)
    if readme:
        update_readme(results, Path(__file__).parent / "README.md")
    _finish(results, json_path, strict)


@cli.command()
@click.argument("names", nargs=-1, metavar="[KERNEL]...")
def build(names: tuple[str, ...]) -> None:
    """Rebuild the kernels' .wasm files (takes the ziglang package)."""
    for kernel in kernels_named(names) if names else KERNELS:
        build_wasm(kernel)
        click.echo(f"{kernel.wasm.name}: {kernel.wasm.stat().st_size} bytes")


def main() -> None:
    """Run the command line; an error that is not ours to explain keeps its traceback."""
    try:
        cli()
    except WasinnError as error:
        click.echo(f"benchmarks: {error}", err=True)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
