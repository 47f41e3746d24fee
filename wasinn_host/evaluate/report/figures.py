"""Figures of a report, as SVG. Functions of numbers alone; the same numbers give the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from wasinn_host.evaluate.extra import need

__all__ = ["calibration", "confusion", "histogram", "scatter", "throughput"]

_INK, _FAINT, _BAR, _LINE = "#24292f", "#d0d7de", "#4c78a8", "#d95f02"
_WIDE: Final = (6.4, 2.6)
_SQUARE: Final = (4.4, 4.0)
MOST_LABELS: Final = 30
"""In a confusion matrix that can still be read."""


def histogram(
    bins: Sequence[Mapping[str, Any]], marks: Mapping[str, float], unit: str, scale: float = 1.0
) -> str:
    """How often values are in which range.

    Args:
        bins: ``from``, ``to`` and ``count`` of each.
        marks: values to point out, by what they are.
        unit: of the values, once multiplied by ``scale``.
        scale: what they are multiplied by.
    """
    figure, axes = _new(_WIDE)
    left = [bin_["from"] * scale for bin_ in bins]
    widths = [(bin_["to"] - bin_["from"]) * scale for bin_ in bins]
    axes.bar(left, [bin_["count"] for bin_ in bins], widths, align="edge", color=_BAR, lw=0)
    for name, value in marks.items():
        axes.axvline(value * scale, color=_LINE, lw=1)
        axes.text(
            *(value * scale, 1.01, f"{name} {_short(value * scale)}"),
            transform=axes.get_xaxis_transform(),
            color=_LINE,
            fontsize=8,
            rotation=30,
            va="bottom",
        )
    axes.set_xlabel(unit)
    axes.set_ylabel("rows")
    return _svg(figure)


def throughput(points: Sequence[Mapping[str, float]]) -> str:
    """Rows per second over the time of the run."""
    figure, axes = _new(_WIDE)
    ends = [point["at_s"] for point in points]
    spans = [end - begin for end, begin in zip(ends, [0.0, *ends], strict=False)]
    speeds = [p["rows"] / span if span else 0.0 for p, span in zip(points, spans, strict=True)]
    axes.stairs(speeds, [0.0, *ends], color=_BAR, lw=1.2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds since the run began")
    axes.set_ylabel("rows/s")
    return _svg(figure)


def calibration(bins: Sequence[Mapping[str, Any]]) -> str:
    """How often the model is right where it is how sure; on the line they are the same."""
    figure, axes = _new(_SQUARE)
    filled = [bin_ for bin_ in bins if bin_["count"]]
    most = max((bin_["count"] for bin_ in filled), default=1)
    axes.plot((0, 1), (0, 1), color=_FAINT, lw=1)
    for bin_ in filled:
        axes.bar(
            bin_["from"],
            0.18 * bin_["count"] / most,
            bin_["to"] - bin_["from"],
            align="edge",
            color=_FAINT,
            lw=0,
        )
    points = [(bin_["confidence"], bin_["accuracy"]) for bin_ in filled]
    axes.plot(*zip(*points, strict=True), color=_LINE, marker="o", ms=4, lw=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("probability of what was predicted; bars: rows")
    axes.set_ylabel("share that is right")
    return _svg(figure)


def confusion(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """What was predicted of rows of each label. Colours are shares of a line."""
    size = max(2.8, 1.6 + 0.42 * len(labels))
    figure, axes = _new((size + 0.6, size))
    totals = [sum(row) or 1 for row in counts]
    shares = [[n / total for n in row] for row, total in zip(counts, totals, strict=True)]
    edges = [at - 0.5 for at in range(len(labels) + 1)]
    axes.pcolormesh(edges, edges, shares, cmap="Blues", vmin=0, vmax=1, edgecolors="white", lw=1)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    font = 9 if len(labels) <= 12 else 5
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            colour = "white" if shares[i][j] > 0.55 else _INK
            axes.text(j, i, f"{count}", color=colour, ha="center", va="center", fontsize=font)
    short = [_plain(label, 18) for label in labels]
    axes.set_xticks(range(len(labels)), short, rotation=90 if len(labels) > 4 else 0)
    axes.set_yticks(range(len(labels)), short)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    for side in axes.spines.values():
        side.set_visible(False)
    return _svg(figure)


def scatter(targets: Sequence[float], scores: Sequence[float]) -> str:
    """What the model says against what the data say."""
    figure, axes = _new(_SQUARE)
    axes.scatter(targets, scores, s=6, color=_BAR, alpha=0.35, lw=0, rasterized=False)
    axes.set_xlabel("target")
    axes.set_ylabel("score")
    return _svg(figure)


def _new(size: tuple[float, float]) -> tuple[Any, Any]:
    figure = need("matplotlib.figure", "for the report").Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=_INK, length=3)
    axes.xaxis.label.set_size(9)
    axes.yaxis.label.set_size(9)
    return figure, axes


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _plain(text: str, most: int) -> str:
    """A label as it can stand in a figure, where ``$`` would begin a formula."""
    shown = "".join(c if c.isprintable() else "\ufffd" for c in text).replace("$", r"\$")
    return shown if len(text) <= most else shown[:most] + "…"


def _svg(figure: Any) -> str:
    """The figure's ``<svg>`` element, without an XML head; letters are shapes."""
    matplotlib = need("matplotlib", "for the report")
    written = io.StringIO()
    settings = {"svg.hashsalt": "wasinn", "svg.fonttype": "path"}
    with matplotlib.rc_context(settings):
        figure.savefig(
            written, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    svg = written.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    # Inside HTML these say nothing, and look like places to fetch from.
    return re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg)
