"""Results as data, and their views: JSON, rich tables on a terminal, Markdown anywhere else.

Every benchmark gives a ``Result``; nothing here knows what was measured.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.errors import BenchmarkError
from benchmarks.machine import describe_machine, describe_versions

__all__ = [
    "SCHEMA",
    "Bar",
    "Json",
    "Result",
    "Table",
    "show",
    "to_document",
    "update_readme",
    "write_json",
]

SCHEMA = "wasinn-benchmarks/1"

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure that has a limit: met when ``value`` is at most (or at least) ``limit``."""

    what: str
    value: float
    limit: float
    unit: str = "x"
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        verdict = "met" if self.met else "NOT MET"
        limit = f"at least {self.limit:.2f}" if self.at_least else f"{self.limit:.2f}"
        return f"{self.what}: {self.value:.2f} {self.unit}, bar {limit}: {verdict}"


@dataclass(frozen=True, slots=True)
class Table:
    """Headings and rows of text; all columns after the first ``left`` are numbers."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1


@dataclass(frozen=True, slots=True)
class Result:
    """What one benchmark found: the table, the bars, and everything as data."""

    name: str
    table: Table
    bars: tuple[Bar, ...]
    data: dict[str, Json]
    notes: tuple[str, ...] = field(default=())


def show(result: Result, console: Console) -> None:
    """Print a result: a rich table on a terminal, Markdown into a pipe or a file."""
    if console.is_terminal:
        _show_rich(result, console)
    else:
        console.print(to_markdown(result), markup=False, highlight=False, soft_wrap=True)


def _show_rich(result: Result, console: Console) -> None:
    table = RichTable(title=result.table.title, title_justify="left")
    for i, heading in enumerate(result.table.headings):
        table.add_column(heading, justify="left" if i < result.table.left else "right")
    for row in result.table.rows:
        table.add_row(*row)
    console.print(table)
    for bar in result.bars:
        console.print(str(bar), style="green" if bar.met else "red", highlight=False)
    for note in result.notes:
        console.print(note, style="dim", highlight=False)


def to_markdown(result: Result) -> str:
    """The table, its bars and notes."""
    table = result.table
    widths = [
        max(len(row[i]) for row in (table.headings, *table.rows))
        for i in range(len(table.headings))
    ]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i < table.left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * width if i < table.left else "-" * (width - 1) + ":" for i, width in enumerate(widths)
    ]
    parts = [f"{table.title}\n", line(table.headings), line(rule)]
    parts += [line(row) for row in table.rows]
    parts.append("")
    parts += [f"- {bar}" for bar in result.bars]
    parts += [f"- {note}" for note in result.notes]
    return "\n".join(parts) + "\n"


def to_document(results: Sequence[Result]) -> dict[str, Json]:
    """Everything as one JSON value: times in seconds, ratios as plain numbers."""
    tables: dict[str, Json] = {}
    for result in results:
        bars: list[Json] = [
            {
                "what": b.what,
                "value": b.value,
                "limit": b.limit,
                "at_least": b.at_least,
                "unit": b.unit,
                "met": b.met,
            }
            for b in result.bars
        ]
        tables[result.name] = {"data": result.data, "bars": bars, "notes": list(result.notes)}
    return {
        "schema": SCHEMA,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": dict(describe_machine()),
        "versions": dict(describe_versions()),
        "tables": tables,
    }


def write_json(results: Sequence[Result], path: Path) -> None:
    """Write the document; the file appears whole or not at all."""
    unfinished = path.with_name(path.name + ".unfinished")
    text = json.dumps(to_document(results), indent=1, ensure_ascii=False, allow_nan=False)
    unfinished.write_text(text + "\n", encoding="utf-8")
    unfinished.replace(path)


_BEGIN, _END = "<!-- tables: begin -->\n", "<!-- tables: end -->\n"


def update_readme(results: Sequence[Result], path: Path) -> None:
    """Replace the tables between the two marks of a Markdown file.

    Raises:
        BenchmarkError: the file does not have exactly these marks.
    """
    text = path.read_text(encoding="utf-8")
    if text.count(_BEGIN) != 1 or text.count(_END) != 1:
        raise BenchmarkError(f"{path.name} needs one {_BEGIN.strip()} and one {_END.strip()}")
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    machine = ", ".join(f"{value}" for value in describe_machine().values())
    versions = ", ".join(f"{name} {value}" for name, value in describe_versions().items() if value)
    tables = "\n".join(to_markdown(result) for result in results)
    text = (
        f"{before}{_BEGIN}\nMachine: {machine}  \nVersions: {versions}\n\n{tables}\n{_END}{after}"
    )
    path.write_text(text, encoding="utf-8")
