"""The page of a report: what it shows of ``results.json`` and ``rows.parquet``."""

from __future__ import annotations

import importlib.resources
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.report import figures
from wasinn_host.evaluate.saved import read_results, read_rows
from wasinn_host.evaluate.store import write_whole

__all__ = ["write_report"]

_MOST_TEXT: Final = 300
_MOST_POINTS: Final = 5000
_HEADLINES: Final = {
    "classification": ("accuracy", "f1_macro", "mcc"),
    "regression": ("pearson", "spearman", "mae"),
    "tokens": ("f1", "precision", "recall"),
    "qa": ("f1", "exact"),
    "retrieval": ("ndcg@10", "recall@10", "mrr@10"),
}


def write_report(directory: str | Path) -> Path:
    """Writes ``report.html`` of an evaluation that ended.

    Nothing of the data becomes markup, and the page forbids scripts and whatever is elsewhere.

    Args:
        directory: of the results; only ``results.json`` and ``rows.parquet`` are read.

    Returns:
        the page.

    Raises:
        UsageError: there are no results, or a library is missing.
        OSError: it can not be written.
    """
    path = Path(directory) / "report.html"
    write_whole(path, _page(read_results(directory), Path(directory)).encode())
    return path


def _page(results: Mapping[str, Any], directory: Path) -> str:
    jinja = need("jinja2", "for the report")
    environment = jinja.Environment(
        autoescape=True, undefined=jinja.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(shown=_shown, number=_number)
    template = importlib.resources.files(__package__) / "page.html.j2"
    made: str = environment.from_string(template.read_text(encoding="utf-8")).render(
        results=results,
        headlines=[
            (name, results["metrics"][name])
            for name in _HEADLINES.get(results["task"], ())
            if name in results["metrics"]
        ],
        figures=[
            {**figure, "svg": need("markupsafe", "for the report").Markup(figure["svg"])}
            for figure in _figures(results, directory)
        ],
        scale=_scale(results["metrics"]),
        failures=Counter(_shown(row["error"]) for row in results["failures"]).most_common(),
        worst_columns=list(results["worst"][0]) if results.get("worst") else [],
    )
    return made


def _figures(results: Mapping[str, Any], directory: Path) -> list[dict[str, Any]]:
    """Each with ``title``, ``svg``, and the numbers in it: ``columns`` and ``rows``."""
    found: list[dict[str, Any]] = []

    def add(title: str, svg: str, columns: list[str], rows: list[list[Any]]) -> None:
        found.append({"title": title, "svg": svg, "columns": columns, "rows": rows})

    labels, counts = results.get("labels", []), results.get("confusion")
    if counts and len(labels) <= figures.MOST_LABELS:
        rows = [[name, *row] for name, row in zip(labels, counts, strict=True)]
        title = "What was predicted of rows of each label"
        add(title, figures.confusion(counts, labels), ["label", *labels], rows)
    if results.get("calibration"):
        keys = ["from", "to", "count", "confidence", "accuracy"]
        add(
            "How often the model is right where it is how sure",
            figures.calibration(results["calibration"]),
            keys,
            [[bin_[key] for key in keys] for bin_ in results["calibration"]],
        )
    if results["task"] == "regression" and results["rows"]["evaluated"]:
        table = read_rows(directory, ["target", "score", "status"])
        table = table.filter(
            need("pyarrow.compute", "for the report").not_equal(table["status"], "failed")
        )
        step = -(-len(table) // _MOST_POINTS)
        points = table.take(list(range(0, len(table), step)))
        title = "What the model says against what the data say"
        title += f" (one row in {step})" if step > 1 else ""
        pairs = points["target"].to_pylist(), points["score"].to_pylist()
        add(title, figures.scatter(*pairs), [], [])
    for name, title, unit, scale in (
        ("latency_s", "How long a row takes, its batch's whole time", "milliseconds", 1000.0),
        ("tokens", "How many tokens rows have", "tokens", 1.0),
    ):
        values = results[name]
        if values["count"] and values["max"]:
            marks = {mark: values[mark] for mark in ("p50", "p90", "p99")}
            rows = [
                [bin_["from"] * scale, bin_["to"] * scale, bin_["count"]]
                for bin_ in values["histogram"]
            ]
            svg = figures.histogram(values["histogram"], marks, unit, scale)
            add(title, svg, [f"from, {unit}", "to", "rows"], rows)
    if results["throughput"]:
        rows = [[point["at_s"], point["rows"]] for point in results["throughput"]]
        svg = figures.throughput(results["throughput"])
        add("Rows per second over the run", svg, ["until, seconds", "rows"], rows)
    return found


def _scale(metrics: Mapping[str, Mapping[str, Any]]) -> tuple[float, float]:
    """The ends of the axis on which intervals are drawn: 0 to 1, or wider where values are."""
    values = [m[k] for m in metrics.values() for k in ("value", "low", "high") if m.get(k)]
    return min([0.0, *values]), max([1.0, *values])


def _shown(value: object) -> str:
    """Anything of the data as text that stays in its place: no control characters, not too long."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    cut = text[:_MOST_TEXT]
    clean = "".join("\ufffd" if _is_control(c) else c for c in cut)
    return clean + (f"… ({len(text):,} characters)" if len(text) > _MOST_TEXT else "")


def _is_control(character: str) -> bool:
    # Cf: what reverses the text's direction is among them.
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else _shown(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
