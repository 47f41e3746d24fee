"""The documentation's plugin works as it is printed, and its numbers are the code's."""

from __future__ import annotations

import re
import struct
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nn.fake_guest import Guest
from wasinn_backends import onnx_preflight
from wasinn_backends.onnx import OnnxBackend
from wasinn_host.nn import (
    BackendRegistry,
    GraphRegistry,
    NnContext,
    NnLimits,
    PreloadSpec,
    TensorType,
)
from wasinn_host.nn.errors import ErrorKind
from wasinn_host.nn.numbering import ABIS, ERRNOS, WITX_ERRNO

EXAMPLE = Path(__file__).parents[2] / "examples" / "npu-plugin"
DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "adding-a-backend.md").read_text(encoding="utf-8")
PAGE = (DOCS / "wasi-nn.md").read_text(encoding="utf-8")


def _block(language: str) -> str:
    (block,) = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return str(block)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The guide's project, laid out as an installer lays it out."""
    project = tomllib.loads(_block("toml"))["project"]
    (tmp_path / "npu_backend.py").write_text(_block("python"))
    info = tmp_path / "npu_backend-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    ((group, points),) = project["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("npu_backend", None)


def test_the_guides_plugin_runs(installed: Path) -> None:
    model = installed / "scorer.npu"
    model.write_bytes(struct.pack("<4sHHB", b"NPU8", 2, 3, 1) + bytes([1, 2, 3, 4, 5, 6]))
    graphs = GraphRegistry(BackendRegistry(options={"npu": {"unit": "1"}}))
    graphs.preload(PreloadSpec.parse(f"scorer:npu8:npu:{model}"))
    (report,) = [r for r in graphs.backends.report() if r.name == "npu"]
    assert report.error == ""
    assert [d.id for d in report.devices] == ["npu:1", "npu:0"]
    guest = Guest(NnContext(graphs))
    assert guest.load_by_name(b"scorer") == 0, guest.error()
    assert guest.init(guest.result) == 0
    context = guest.result
    assert guest.compute(context) == 1
    assert guest.set_input(context, 0, TensorType.U8, (1, 2), bytes([10, 100])) == 0
    assert guest.compute(context) == 0
    assert guest.get_output(context, 0, 3) == (0, bytes([205, 255, 255]))
    assert guest.set_input(context, 0, TensorType.U8, (1, 3), b"abc") == 1
    assert guest.set_input(context, 1, TensorType.U8, (1, 2), b"ab") == 1
    assert guest.get_output(context, 1, 3)[0] == 1


def test_the_guides_plugin_refuses_wrong_models(installed: Path) -> None:
    graphs = GraphRegistry(BackendRegistry(routes={"onnx": "npu"}))
    guest = Guest(NnContext(graphs))
    assert guest.load(b"junk", target=2) == 2  # it reads npu8 only, whatever is routed to it
    (installed / "short.npu").write_bytes(struct.pack("<4sHHB", b"NPU8", 2, 3, 1))
    graphs.preload(PreloadSpec.parse(f"short:npu8:npu:{installed / 'short.npu'}"))
    assert guest.load_by_name(b"short") == 2
    assert "2 x 3 weights" in guest.error()


def test_the_guides_plugin_is_the_example() -> None:
    assert _block("python") == (EXAMPLE / "npu_backend.py").read_text(encoding="utf-8")
    assert _block("toml") == (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")


def test_the_guides_plugin_is_short() -> None:
    assert len(_block("python").splitlines()) < 100


def test_error_numbers_of_the_page() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| (\w+) \|", PAGE, re.MULTILINE))
    assert rows.pop("0") == "success"
    assert rows == {str(number): kind.value for kind, number in WITX_ERRNO.items()}


def test_limits_of_the_page() -> None:
    section = PAGE.split("## Limits for one guest")[1].split("From Python")[0]
    values = re.findall(r"^\| [^|]+ \| ([\d,]+)( [MG]iB)? \|", section, re.MULTILINE)
    shifts = {"": 0, " MiB": 20, " GiB": 30}
    numbers = [int(n.replace(",", "")) << shifts[unit] for n, unit in values]
    limits = NnLimits()
    assert numbers == [
        limits.graphs,
        limits.contexts,
        limits.model_bytes,
        limits.tensor_bytes,
        limits.builders,
        limits.rank,
        limits.name_bytes,
        limits.config_bytes,
        limits.configured_graphs,
    ]
    assert section.count("| any |") == 2
    assert limits.computes is limits.compute_seconds is None


def test_other_numbers_of_the_page() -> None:
    section = PAGE.split("## Other numbers")[1].split("## Descriptions")[0]
    rows = {cells[0].strip("` "): cells[1:] for cells in _cells(section)}
    for abi in ("witx", "old", "wit"):
        assert [word for word in rows[abi][:7] if word] == [t.value for t in ABIS[abi]]
    assert rows["error"] == [f"`{name}`" for name in ERRNOS]
    for kind in list(ErrorKind)[:8]:
        numbers = [ERRNOS[name][kind] for name in ERRNOS]
        assert [int(number) for number in rows[kind.value]] == numbers


def _cells(section: str) -> list[list[str]]:
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_onnx_numbers_of_the_page() -> None:
    section = " ".join(PAGE.split("## The ONNX backend")[1].split())
    assert f"over {onnx_preflight.MAX_FUNCTION_DEPTH} functions deep" in section
    assert f"{onnx_preflight.MAX_NODES:,} nodes after expansion" in section
    assert f"nested over {onnx_preflight.MAX_DEPTH} deep" in section
    assert all(f"`{name}`" in section for name in OnnxBackend.options)
