"""The command line: any number of random modules against wasmtime, from any seed.

python -m tests.differential --count 20000 --seed 1
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from tests.differential.cases import SOURCES, Case, Unusable, module_of
from tests.differential.check import Verdict, VerdictKind, check_module, common_features
from tests.differential.pool import code_cache, run_cases
from tests.differential.shrink import kind_of, shrunken, verdict_of_file
from tests.differential.variants import USUAL, VARIANTS
from wasinn_runtime.spec.features import parse_features

_EPILOG = """\b
Examples:
  python -m tests.differential --count 200
  python -m tests.differential --count 20000 --seed 1000 --jobs 2 --out found
  python -m tests.differential --source smith --mode llvm-jit --count 500
  python -m tests.differential replay found/smith-1042.wasm --seed 1042
"""

_mode = click.option(
    "--mode",
    "modes",
    multiple=True,
    type=click.Choice(tuple(VARIANTS)),
    help=f"Only these; {', '.join(USUAL)} by default.",
)
_cache = click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep compiled code here, so that the next run need not build interpreters.",
)


def _cases(
    sources: tuple[str, ...], first: int, count: int, features: frozenset[str]
) -> Iterator[Case]:
    """The sources take turns; the seed counts on."""
    for number in range(count):
        yield Case(sources[number % len(sources)], first + number, features)


@click.group(invoke_without_command=True, epilog=_EPILOG)
@click.option("--count", default=200, show_default=True, help="How many modules.")
@click.option("--seed", default=0, show_default=True, help="Of the first; the next has one more.")
@click.option("--source", "sources", multiple=True, type=click.Choice(SOURCES), help="Only these.")
@_mode
@click.option("--features", default="", help="Such as '2.0'; all by default.")
@click.option("--jobs", default=1, show_default=True, help="Processes at a time.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep each module that shows a difference here.",
)
@_cache
@click.option("--shrink", default=0, show_default=True, help="Tries to make each smaller.")
@click.pass_context
def main(
    context: click.Context,
    count: int,
    seed: int,
    sources: tuple[str, ...],
    modes: tuple[str, ...],
    features: str,
    jobs: int,
    out: Path | None,
    cache: Path | None,
    shrink: int,
) -> None:
    """Run random modules in every mode and in wasmtime; exit with 1 if anything differs."""
    if context.invoked_subcommand is not None:
        return
    chosen = modes or USUAL
    enabled = parse_features(features) if features else common_features(chosen)
    tally: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    steps = 0
    findings: list[tuple[Case, Verdict]] = []
    console = Console(stderr=True)
    with Progress(console=console, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("modules", total=count)

        def tell(case: Case, verdict: Verdict) -> None:
            nonlocal steps
            tally[verdict.kind.value] += 1
            steps += verdict.steps
            if verdict.kind is VerdictKind.UNUSABLE:
                reasons[verdict.why.partition(":")[0]] += 1
            bar.advance(task)
            if verdict.is_finding:
                findings.append((case, verdict))
                bar.print(f"{case.label}: {verdict.kind.value}: {verdict.why}", markup=False)

        cases = _cases(sources or SOURCES, seed, count, enabled)
        run_cases(cases, chosen, jobs, tell, cache)
    for case, verdict in findings if out is not None else ():
        assert out is not None
        _keep(out, case, verdict, chosen, shrink, cache or code_cache())
    kinds = ", ".join(f"{tally[kind.value]} {kind.value}" for kind in VerdictKind)
    click.echo(f"{count} modules, {steps} steps, {', '.join(chosen)}: {kinds}")
    for reason, times in reasons.most_common():
        click.echo(f"  {times} unusable: {reason}")
    raise SystemExit(1 if findings else 0)


def _keep(
    out: Path, case: Case, verdict: Verdict, modes: tuple[str, ...], shrink: int, cache: Path
) -> None:
    """The module and beside it what it shows."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        data = module_of(case)
    except Unusable as error:
        click.echo(f"{case.label}: {error}", err=True)
        return
    if shrink:
        data = shrunken(data, verdict, case.seed, modes, shrink, cache)
    (out / f"{case.label}.wasm").write_bytes(data)
    (out / f"{case.label}.txt").write_text(f"{verdict.why}\n", encoding="utf-8")


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--seed", default=0, show_default=True, help="The one that it was found with.")
@_mode
@_cache
def replay(file: Path, seed: int, modes: tuple[str, ...], cache: Path | None) -> None:
    """Run one module's file."""
    verdict = verdict_of_file(file, seed, modes or USUAL, cache)
    click.echo(f"{verdict.kind.value} {verdict.why}")
    raise SystemExit(verdict.is_finding)


@main.command(hidden=True)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--seed", default=0)
@click.option("--kind", required=True)
@_mode
@_cache
def still(file: Path, seed: int, kind: str, modes: tuple[str, ...], cache: Path | None) -> None:
    """Exit with 0 if the module shows that kind of finding (for ``wasm-tools shrink``)."""
    chosen = modes or USUAL
    if kind.startswith(VerdictKind.CRASHED.value):
        verdict = verdict_of_file(file, seed, chosen, cache)
    else:  # without another process, which would take most of the time
        verdict = check_module(file.read_bytes(), seed, chosen, cache)
    raise SystemExit(not verdict.is_finding or kind_of(verdict) != kind)


if __name__ == "__main__":
    main()
