"""``wasinn eval``: parsing and printing for what ``wasinn_host.evaluate`` does."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wasinn_host.cli.eval_progress import shown
from wasinn_host.cli.help import Command, Group
from wasinn_host.cli.run_options import add_nn_option
from wasinn_host.cli.talk import put, safe
from wasinn_runtime.errors import UsageError

if TYPE_CHECKING:
    from wasinn_host.evaluate.evaluation import Evaluation

__all__ = ["eval"]

_CLEAR = 0.05
"""A smaller p is shown in colour."""


@click.group(
    "eval",
    cls=Group,
    help="Evaluate a model on rows of data. A guest makes tensors of text and answers of tensors, "
    "in the sandbox; the model runs on the host.",
    examples=("wasinn eval run --help", "wasinn eval check --help"),
    no_args_is_help=True,
)
def eval() -> None:
    """The group; what it does is in its help."""


@eval.command(
    cls=Command,
    help="Evaluate: GUEST makes tensors and answers. Leaves report.html, results.json and "
    "rows.parquet in the output directory. What is finished is kept, whatever ends the run; "
    "--resume goes on from there.",
)
@click.argument("guest", metavar="GUEST")
@click.argument("args", metavar="[ARGS...]", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--graph",
    "graphs",
    required=True,
    multiple=True,
    metavar="[NAME=]MODEL",
    help="NAME[:VARIANT] of `wasinn models`, or ENCODING:TARGET:PATH. Given more than once, each "
    "is evaluated on the same rows, into a directory NAME in the output directory.",
)
@click.option(
    "--data",
    required=True,
    metavar="PATH",
    help="A file of JSON lines, CSV, TSV or Parquet; a name of `wasinn datasets`; or -.",
)
@click.option("--task", required=True, help="What is evaluated, such as classification.")
@click.option("-o", "--output", required=True, metavar="DIR", help="Where the results go.")
@click.option("--format", help="Of the data: jsonl, csv, tsv, parquet; by the name's ending else.")
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="OURS=THEIRS",
    help="What the data call a column, such as text=sentence.",
)
@click.option("--labels", default="", metavar="A,B,...", help="What the model's outputs mean.")
@click.option("--split", help="Only rows whose column 'split' says this.")
@click.option("--sample", type=int, metavar="ROWS", help="So many rows, chosen by the seed.")
@click.option("--seed", type=int, help="Of samples and of intervals; 0.")
@click.option("--limit", type=int, metavar="ROWS", help="No more than the first so many.")
@click.option("--shard", metavar="I/N", help="Only each N-th row, from the I-th on, from 1.")
@click.option("--assets", metavar="DIR", help="What the guest sees as /model; the model's folder.")
@click.option("--batch", "batch_rows", type=int, metavar="ROWS", help="Rows at once; 32.")
@click.option(
    "--window", "window_rows", type=int, metavar="ROWS", help="Sorted by length at once; 1024."
)
@click.option("--engine", help="local, or ray: actors of a Ray cluster.")
@click.option("--workers", type=int, metavar="N", help="Guests side by side; 1.")
@click.option(
    "--row-timeout", "row_timeout_s", type=float, metavar="SECONDS", help="For a row; 60."
)
@click.option("--max-failures", type=int, metavar="ROWS", help="Stop when more rows fail.")
@click.option("--resume", is_flag=True, help="Go on with what the output directory holds.")
@click.option("--nn-option", "nn_options", multiple=True, metavar="PLUGIN.KEY=VALUE")
@click.option("--json", "as_json", is_flag=True, help="Print results.json instead of a table.")
def run(**given: Any) -> int:
    """Evaluates."""
    from wasinn_host.evaluate.run import evaluate, evaluate_graphs

    as_json, named = given.pop("as_json"), _named(given.pop("graphs"))
    evaluation = _evaluation({**given, "graph": next(iter(named.values()))})
    output = Path(evaluation.output)
    document: Mapping[str, Any]
    if len(named) > 1:
        several = [
            dataclasses.replace(evaluation, graph=graph, output=str(output / name))
            for name, graph in named.items()
        ]
        with shown(evaluation, len(several)) as progress:
            document = dict(zip(named, evaluate_graphs(several, progress), strict=True))
        table = _graphs_table(document, output)
    else:
        with shown(evaluation) as progress:
            document = evaluate(evaluation, progress)
        table = _table(document, output)
    put(json.dumps(document, indent=2) + "\n" if as_json else safe(table))
    return 0


@eval.command(
    cls=Command,
    help="Say whether GUEST keeps the contract of guests for evaluation: it gets some rows, and "
    "what it answers is looked at. It needs a model as `wasinn eval run` does.",
)
@click.argument("guest", metavar="GUEST")
@click.argument("args", metavar="[ARGS...]", nargs=-1, type=click.UNPROCESSED)
@click.option("--graph", required=True, metavar="MODEL", help="As for `wasinn eval run`.")
@click.option("--texts", type=int, default=1, help="How many texts a row has; 1.")
@click.option("--assets", metavar="DIR", help="What the guest sees as /model; the model's folder.")
def check(guest: str, args: tuple[str, ...], graph: str, texts: int, assets: str | None) -> int:
    """Checks a guest."""
    from wasinn_host.cli import status
    from wasinn_host.cli.talk import colour
    from wasinn_host.evaluate.check import check_guest

    failed = 0
    for finding in check_guest(guest, graph, texts=texts, assets=assets, args=args):
        word, name = ("ok", "green") if finding.is_kept else ("broken", "red")
        failed += not finding.is_kept
        why = f": {safe(finding.why)}" if finding.why else ""
        put(f"{colour(word.ljust(6), name)}  {finding.rule}{why}\n")
    return status.NOT_READY if failed else 0


@eval.command(
    cls=Command,
    help="Write report.html of an evaluation that ended: figures, tables, the rows that are "
    "furthest off. `wasinn eval run` has written one already.",
    examples=("wasinn eval report results/float32",),
)
@click.argument("directory", metavar="DIR")
def report(directory: str) -> int:
    """Writes a report; says where."""
    from wasinn_host.evaluate.report import write_report

    put(f"{safe(str(write_report(directory)))}\n")
    return 0


@eval.command(
    cls=Command,
    help="Compare two evaluations of the same data: what metrics differ by, and how often chance "
    "alone gives as much (p).",
    examples=("wasinn eval compare results/float32 results/int8",),
)
@click.argument("first", metavar="DIR")
@click.argument("second", metavar="DIR")
@click.option("--seed", type=int, default=0, help="Of the resampling; 0.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of a table.")
def compare(first: str, second: str, seed: int, as_json: bool) -> int:
    """Compares."""
    from wasinn_host.evaluate.compare import compare_runs

    found = compare_runs(first, second, seed=seed)
    if as_json:
        put(json.dumps(found, indent=2) + "\n")
        return 0
    put(_differences(found))
    return 0


def _differences(found: Mapping[str, Any]) -> str:
    """A line for each metric."""
    from wasinn_host.cli.talk import colour

    rows = found["rows"]
    left_out = f", {rows['left_out']} failed in one of them" if rows["left_out"] else ""
    lines = [f"{rows['compared']} rows in both{left_out}"]
    width = max(map(len, found["differences"]), default=0)
    lines.append(f"  {'':{width}}  {'first':>8}  {'second':>8}  {'difference':>10}  {'p':>7}")
    for name, row in found["differences"].items():
        values = [_shown(row["first"], 8), _shown(row["second"], 8)]
        if row["difference"] is None:
            lines.append(f"  {name:{width}}  {'  '.join(values)}  {row.get('note', '')}")
            continue
        line = f"  {name:{width}}  {'  '.join(values)}  {row['difference']:>+10.4f}"
        line += f"  {_shown(row['p_value'], 7)}"
        if row["low"] is not None:
            line += f"  {row['low']:+.4f} to {row['high']:+.4f}"
        is_clear = row["p_value"] is not None and row["p_value"] < _CLEAR
        lines.append(colour(line, "yellow") if is_clear else line)
    speeds = [run["rows_per_s"] for run in found["runs"]]
    if all(speeds):
        lines.append(
            f"  {'rows/s':{width}}  {speeds[0]:>8.1f}  {speeds[1]:>8.1f}  "
            f"{speeds[1] - speeds[0]:>+10.1f}"
        )
    return "\n".join(lines) + "\n"


def _shown(value: float | None, width: int) -> str:
    return f"{'none' if value is None else f'{value:.4f}':>{width}}"


def _evaluation(given: Mapping[str, Any]) -> Evaluation:
    """The options, which have the names of the attributes; those that were not given, have its
    defaults."""
    from wasinn_host.evaluate.evaluation import Evaluation

    nn_options: dict[str, dict[str, str]] = {}
    for text in given["nn_options"]:
        add_nn_option(nn_options, text)
    columns = {}
    for text in given["columns"]:
        ours, equals, theirs = text.partition("=")
        if not (ours and equals and theirs):
            raise UsageError(f"--column {text!r}: expected OURS=THEIRS, for example text=sentence")
        columns[ours] = theirs
    read = {
        "columns": columns,
        "labels": tuple(filter(None, given["labels"].split(","))),
        "nn_options": nn_options,
        "shard": _shard(given["shard"]),
    }
    return Evaluation(**{k: v for k, v in {**given, **read}.items() if v is not None})


def _named(graphs: Sequence[str]) -> dict[str, str]:
    """Graphs by the names of their directories: ``NAME=MODEL``, or the model's own."""
    named: dict[str, str] = {}
    for graph in graphs:
        name, equals, model = graph.partition("=")
        if not equals or ":" in name or "/" in name:  # of a path
            name, model = graph.rpartition("/")[2].replace(":", "-"), graph
        if not name or name in (".", "..") or "/" in name or name in named:
            raise UsageError(f"--graph {graph!r}: expected a name of its own, NAME=MODEL")
        named[name] = model
    return named


def _graphs_table(found: Mapping[str, Mapping[str, Any]], output: Path) -> str:
    """A line for each model: its first metrics, speed, memory and size."""
    metrics = list(next(iter(found.values()))["metrics"])[:3]
    heads = [*metrics, "failed", "rows/s", "memory MB", "size MB"]
    width = max(map(len, found))
    lines = [f"{'':{width}}  " + "  ".join(f"{head:>9}" for head in heads)]
    for name, results in found.items():
        values = [results["metrics"].get(metric, {}).get("value") for metric in metrics]
        cells = ["none" if value is None else f"{value:.4f}" for value in values]
        cells.append(str(results["rows"]["failed"]))
        cells.append(f"{results['rows_per_s'] or 0:.1f}")
        cells += [f"{results['graph'][key] / 1e6:.1f}" for key in ("memory_bytes", "bytes")]
        shown_cells = (
            f"{cell:>{max(9, len(head))}}" for cell, head in zip(cells, heads, strict=True)
        )
        lines.append(f"{name:{width}}  " + "  ".join(shown_cells))
    lines.append(f"results: {output}{os.sep}")
    return "\n".join(lines) + "\n"


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, _, count = text.partition("/")
    if not (first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise UsageError(f"--shard {text!r}: expected I/N with 1 <= I <= N, for example 1/4")
    return int(first) - 1, int(count)


def _table(results: Mapping[str, Any], output: Path) -> str:
    """The figures, a line each."""
    rows, speed = results["rows"], results["rows_per_s"]
    lines = [f"{rows['evaluated']} of {rows['requested']} rows, {rows['failed']} failed"]
    if rows["truncated"]:
        lines.append(f"{rows['truncated']} rows were longer than the model takes")
    width = max(map(len, results["metrics"]), default=0)
    for name, metric in results["metrics"].items():
        value = metric["value"]
        shown = "none" if value is None else f"{value:.4f}"
        low, high = metric.get("low"), metric.get("high")
        interval = "" if low is None or high is None else f"  {low:.4f} to {high:.4f}"
        lines.append(f"  {name.ljust(width)}  {shown}{interval}")
    if speed:
        lines.append(f"{speed:.1f} rows/s, {results['duration_s']:.1f} s")
    lines.append(f"results: {output}{os.sep}")
    return "\n".join(lines) + "\n"
