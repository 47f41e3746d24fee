"""Installed plugins that do harm when they are imported: the command goes on and names them.

`tests/bad_input` has those that only raise, exit or print; these stop, end or change what is there.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.backends.onnx_models import doubling
from tests.cli.command_line import HELLO, ROOT, SOURCES
from tests.hostile.child import Canaries, Ended, limited
from tests.nn.pass_through import EPHEMERAL, module_of
from wasinn_host.nn.discovery import REPORT_PATIENCE_S as PATIENCE_S

# A backend that works, and leaves a trace of having been imported.
GOOD = """
import os
open(os.environ["TRACES"] + "/" + __name__, "w").close()
from wasinn_host.nn.plugin import *
class X(Backend):
    api_version = 1
    encodings = frozenset({"onnx", "acme"})
    def __init__(self, options): pass
    def devices(self): return [Device("npu", Target.TPU, "one"), Device("cpu", Target.CPU, "two")]
    def load(self, source, device): raise WasiNnError(ErrorKind.RUNTIME_ERROR, "not today")
"""
# What each does before it would work, and what is said of it.
PLUGINS = {
    "hangs": ("import time; time.sleep(1000)", f"not ready after {PATIENCE_S} s"),
    "exits": ("import os; os._exit(0)", "ended with status 0"),
    "aborts": ("import os; os.abort()", "ended by SIGABRT"),
    "crashes": ("import ctypes; ctypes.string_at(0)", "ended by SIGSEGV"),
    "is killed": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended by SIGKILL"),
    "changes the path": ("import sys; sys.path.insert(0, '/nowhere')", "changes sys.path"),
    "recurses": ("def f(): f()\nf()", "RecursionError"),
    "has no text": (
        "class E(Exception):\n    def __str__(self): raise KeyError\nraise E",
        "(acme_has_no_text:X): E",
    ),
    "has a long text": ("raise ValueError('x' * 1_000_000)", "ValueError: xxx"),
    "is old": (GOOD + "\nX.api_version = 0", "this host speaks plugin API version"),
    "is new": (GOOD + "\nX.api_version = 2", "the plugin says 2"),
    "prints": ("import os\nprint('noise')\nos.write(1, b'noise\\n')", ""),
    "is good": ("", ""),
}


def install(site: Path, name: str, source: str, point: str = "") -> None:
    """An installed distribution with one plugin; without a source, what is left of one."""
    module = f"acme_{name.replace(' ', '_')}"
    info = site / f"{module}-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(f"[wasinn.backends]\n{point or module} = {module}:X\n")
    if source:
        (site / f"{module}.py").write_text(source)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder for distributions; which of them were imported is told by ``traces`` beside it."""
    (tmp_path / "traces").mkdir()
    return tmp_path / "site"


def wasinn(site: Path, canaries: Canaries, *words: str) -> Ended:
    ended = limited(
        [sys.executable, "-m", "wasinn_host.cli", *words],
        canaries.folder,
        env={
            "PYTHONPATH": os.pathsep.join([*SOURCES, str(site)]),
            "TRACES": str(site.parent / "traces"),
        },
    )
    canaries.check(ended.out, ended.err)
    assert "Traceback" not in ended.err
    return ended


def imported(site: Path) -> Sequence[str]:
    return sorted(path.name for path in (site.parent / "traces").iterdir())


def reports(ended: Ended) -> dict[str, dict[str, object]]:
    assert ended.status == 0, ended.err
    return {row["name"]: row for row in json.loads(ended.out)["backends"]}


@pytest.mark.slow
def test_each_is_listed_with_the_reason(site: Path, canaries: Canaries) -> None:
    for name, (source, _) in PLUGINS.items():
        install(site, name, source if GOOD in source else f"{source}\n{GOOD}")
    install(site, "is gone", "")
    began = time.monotonic()
    ended = wasinn(site, canaries, "backends", "--json")
    assert time.monotonic() - began < PATIENCE_S + 40
    found = reports(ended)
    for name, (_, why) in PLUGINS.items():
        row = found[f"acme_{name.replace(' ', '_')}"]
        error = row["error"] or ""
        assert isinstance(error, str)
        assert why in error, name
        assert len(error) < 4000, name
        assert bool(error) == bool(why), name
        assert row["encodings"] == ([] if why else ["acme", "onnx"]), name
    assert "No module named 'acme_is_gone'" in str(found["acme_is_gone"]["error"])
    assert found["onnx"]["error"] is None
    assert found["null"]["error"] is None


def test_a_run_imports_none(site: Path, canaries: Canaries) -> None:
    install(site, "is good", GOOD)
    install(site, "hangs", PLUGINS["hangs"][0])
    ended = wasinn(site, canaries, "run", str(ROOT / HELLO))
    assert (ended.status, ended.err) == (0, "")
    # A model that ours reads asks no other either, whoever claims the encoding.
    model, guest = site.parent / "model.onnx", site.parent / "guest.wasm"
    model.write_bytes(doubling())
    guest.write_bytes(module_of(EPHEMERAL))
    preload = ("--nn-preload", f"m:onnx:cpu:{model}")
    ended = wasinn(site, canaries, "run", *preload, "--invoke", "unload", str(guest), "0")
    assert (ended.status, ended.out) == (0, "1\n"), ended.err
    assert imported(site) == []
    ended = wasinn(site, canaries, "run", *preload, "--nn-backend", "onnx=acme_is_good", str(guest))
    assert ended.status == 125
    assert "not today" in ended.err
    assert imported(site) == ["acme_is_good"]


def test_our_name_can_not_be_taken(site: Path, canaries: Canaries) -> None:
    install(site, "aaa", GOOD, point="onnx")
    install(site, "bbb", GOOD, point="npu")
    install(site, "ccc", GOOD, point="npu")
    listed = wasinn(site, canaries, "backends", "--json")
    assert listed.status == 0, listed.err
    rows = json.loads(listed.out)["backends"]
    ours, theirs = sorted((r for r in rows if r["name"] == "onnx"), key=lambda r: bool(r["error"]))
    assert ours["distribution"] == "wasinn-host"
    assert "the name is taken by backend plugin onnx of wasinn-host" in theirs["error"]
    first, second = (r for r in rows if r["name"] == "npu")
    assert (first["distribution"], first["error"]) == ("acme_bbb", None)
    assert "taken by backend plugin npu of acme_bbb 1.5" in second["error"]
    assert imported(site) == ["acme_bbb"]


@pytest.mark.parametrize("name", ["exits", "aborts", "crashes"])
def test_isolation_holds_one_that_a_run_asks_for(site: Path, canaries: Canaries, name: str) -> None:
    source, why = PLUGINS[name]
    install(site, name, source)
    model = site.parent / "model.onnx"
    model.write_bytes(doubling())
    words = (
        "--nn-isolate",
        "--nn-backend",
        f"onnx=acme_{name}",
        "--nn-preload",
        f"m:onnx:cpu:{model}",
    )
    ended = wasinn(site, canaries, "run", *words, str(ROOT / HELLO))
    assert (ended.status, ended.out) == (125, "")
    assert why in ended.err
    assert ended.err.startswith("wasinn: ")
