"""An AOT file as plain data for ``wasinn inspect``. No layout; the schema is in ``docs/aot.md``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from wasinn_host.cli.module_report import report_of
from wasinn_runtime.engines.aot import open_image, usable_here
from wasinn_runtime.errors import UnusableImage

__all__ = ["image_lines", "image_report"]

_HIDDEN = ("imports", "parts", "unwind", "entries")


def image_report(data: bytes, where: str) -> dict[str, Any]:
    """What the file says of itself, whether it runs here, and the module in it.

    Args:
        data: its bytes.
        where: its name in messages.

    Raises:
        UnusableImage: it is damaged, or of another format.
    """
    facts, module, sections = open_image(data, where)
    try:
        usable_here(facts, where)
        problem = None
    except UnusableImage as error:
        problem = error.reason
    known = {key: value for key, value in asdict(facts).items() if key not in _HIDDEN}
    inside = report_of(module, where, 0)
    return {
        "schema": "wasinn-inspect-aot-1",
        "file": where,
        "size_bytes": len(data),
        **known,
        "cpu_features": list(facts.cpu_features),
        "features": list(facts.features),
        "refused_because": problem,
        "sections": [
            {"name": name, "offset": at, "size_bytes": size}
            for name, (at, size) in sections.items()
        ],
        "module": {key: inside[key] for key in ("imports", "exports", "memories", "tables")},
    }


def image_lines(report: dict[str, Any]) -> Iterator[str]:
    """The report for people, but for the module."""
    yield f"{report['file']}: {report['size_bytes']} bytes, compiled ahead of time"
    yield f"from: {report['name']}, {report['source_bytes']} bytes"
    yield f"  SHA-256 {report['source_sha256']}"
    yield f"for: {report['triple']}, {report['cpu']}"
    yield f"  needs of the CPU: {', '.join(report['cpu_features']) or 'nothing'}"
    yield f"by: wasinn {report['wasinn']} (build {report['build'][:12]}, ABI {report['abi']}),"
    yield f"  LLVM {report['llvm']} (llvmlite {report['llvmlite']}), --opt {report['opt_level']}"
    yield f"migratable: {'yes' if report['migratable'] else 'no'}"
    problem = report["refused_because"]
    yield "runs here: yes" if problem is None else f"runs here: no: {problem}"
    yield "sections:"
    for row in report["sections"]:
        yield f"  {row['offset']:#010x}  {row['size_bytes']:>10} bytes  {row['name']}"
