"""Plugins as they are installed: dist-info folders on sys.path, good ones and broken ones."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nn.recording_backend import RecordingBackend
from wasinn_host.nn import BackendRegistry, PluginReport, Target
from wasinn_host.nn.errors import ErrorKind, PluginError, WasiNnError
from wasinn_host.nn.plugin import Backend, ModelSource

GOOD = """
    from wasinn_host.nn.plugin import *
    class C(ExecutionContext):
        def set_input(self, index, tensor): pass
        def compute(self): pass
        def get_output(self, index): raise WasiNnError(ErrorKind.INVALID_ARGUMENT, "none")
    class G(Graph):
        inputs = ()
        outputs = ()
        def create_context(self): return C()
    class Good(Backend):
        api_version = 1
        encodings = frozenset({"good"})
        def devices(self): return [Device("npu", Target.TPU, "an accelerator", 1 << 20)]
        def load(self, source, device): return G()
"""


class Site:
    """A folder of installed distributions, on sys.path while a test runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules: list[str] = []

    def install(
        self, dist: str, module: str, source: str | None, entry: str, version: str = "1.0"
    ) -> None:
        """Installs a distribution with one module and entry points, one a line."""
        info = self.root / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[wasinn.backends]\n{entry}\n")
        if source is not None:
            (self.root / f"{module}.py").write_text(textwrap.dedent(source))
        self.modules.append(module)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.syspath_prepend(str(tmp_path))
    made = Site(tmp_path)
    importlib.invalidate_caches()
    yield made
    for module in made.modules:
        sys.modules.pop(module, None)


def _by_name(reports: tuple[PluginReport, ...], *dists: str) -> dict[str, PluginReport]:
    return {report.name: report for report in reports if report.distribution in dists}


def test_listing_imports_nothing(site: Site) -> None:
    site.install("acme-npu", "acme_npu", GOOD, "acme = acme_npu:Good", version="2.3")
    registry = BackendRegistry()
    report = _by_name(registry.installed(), "acme-npu")["acme"]
    assert (report.version, report.location, report.encodings, report.error) == (
        "2.3",
        "acme_npu:Good",
        (),
        "",
    )
    assert "acme_npu" not in sys.modules
    (full,) = _by_name(registry.report(), "acme-npu").values()
    assert full.encodings == ("good",)
    assert full.devices[0].id == "npu"
    assert full.devices[0].memory_bytes == 1 << 20
    assert full.error == ""


def test_an_installed_plugin_runs(site: Site) -> None:
    site.install("acme-npu", "acme_npu", GOOD, "acme = acme_npu:Good")
    registry = BackendRegistry()
    loaded = registry.load(ModelSource("good", (b"m",)), Target.TPU)
    assert loaded.device.id == "npu"
    assert loaded.who == "backend plugin acme of acme-npu 1.0 (acme_npu:Good)"


BROKEN = {
    "raises": ("raise OSError('libacme.so: no such file')\nclass X: pass", "OSError: libacme.so"),
    "exits": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "no_class": ("x = 1", "AttributeError"),
    "not_a_class": ("X = 5", "expected a class derived from wasinn_host.nn.plugin.Backend"),
    "wrong_base": ("class X(dict): pass", "must derive from wasinn_host.nn.plugin.Backend"),
    "old_version": (
        GOOD + "\n    class X(Good):\n        api_version = 0\n",
        "this host speaks plugin API version 1, the plugin says 0",
    ),
    "no_version": (
        """
        from wasinn_host.nn.plugin import *
        class X(Backend):
            encodings = frozenset({"x"})
            def devices(self): return ()
            def load(self, source, device): pass
        """,
        "the plugin says none",
    ),
    "no_encodings": (
        GOOD + "\n    class X(Good):\n        encodings = ['Good']\n",
        "expected a non-empty frozenset of lower-case names, got ['Good']",
    ),
    "abstract": (
        """
        from wasinn_host.nn.plugin import *
        class X(Backend):
            api_version = 1
            encodings = frozenset({"x"})
            def devices(self): return ()
        """,
        "does not define load",
    ),
    "wrong_signature": (
        GOOD + "\n    class X(Good):\n        def load(self, model): pass\n",
        "expected load(self, source: 'ModelSource', device: 'Device') -> 'Graph'\n"
        "  got      load(self, model)",
    ),
    "async_load": (
        GOOD + "\n    class X(Good):\n        async def load(self, source, device): pass\n",
        "load must not be async",
    ),
    "init_raises": (
        GOOD + "\n    class X(Good):\n        def __init__(self, options): 1 / 0\n",
        "ZeroDivisionError: division by zero",
    ),
    "bad_devices": (
        GOOD + "\n    class X(Good):\n        def devices(self): return ['gpu']\n",
        "devices() must return Device, got an object of type str",
    ),
    "twice_a_device": (
        GOOD + "\n    class X(Good):\n        def devices(self): return super().devices() * 2\n",
        "devices() lists the id 'npu' twice",
    ),
    "auto_device": (
        GOOD
        + "\n    class X(Good):\n        def devices(self):\n"
        + "            return [Device('a', Target.AUTO, '')]\n",
        "its target must be a real one, not AUTO",
    ),
    "changes_path": (
        "import sys\nsys.path.insert(0, '/nowhere')" + textwrap.dedent(GOOD) + "X = Good",
        "changes sys.path when it is imported",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_listed_with_its_reason_and_stops_nobody(site: Site, case: str) -> None:
    source, reason = BROKEN[case]
    site.install("broken-dist", f"broken_{case}", source, f"a_broken = broken_{case}:X", "0.9")
    site.install("acme-npu", "acme_npu", GOOD, "acme = acme_npu:Good")
    path = list(sys.path)
    registry = BackendRegistry()
    reports = _by_name(registry.report(), "broken-dist", "acme-npu")
    assert reason in reports["a_broken"].error
    assert reports["a_broken"].error.startswith(
        f"backend plugin a_broken of broken-dist 0.9 (broken_{case}:X): "
    )
    assert reports["a_broken"].devices == ()
    assert reports["acme"].error == ""
    assert registry.load(ModelSource("good", (b"",)), Target.AUTO).device.id == "npu"
    assert sys.path == path


def test_entry_point_of_an_uninstalled_distribution(site: Site) -> None:
    site.install("ghost", "ghost_module", None, "ghost = ghost_module:X")
    (report,) = _by_name(BackendRegistry().report(), "ghost").values()
    assert "ModuleNotFoundError: No module named 'ghost_module'" in report.error


def test_what_a_plugin_prints_does_not_reach_stdout(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.install("loud", "loud", "print('hello from loud')" + GOOD, "loud = loud:Good")
    (site.root / "loud.py").write_text("print('hello from loud')\n" + textwrap.dedent(GOOD))
    (report,) = _by_name(BackendRegistry().report(), "loud").values()
    assert report.error == ""
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hello from loud" in captured.err


class TestDuplicates:
    def test_the_second_of_two_is_broken_and_says_so(self, site: Site) -> None:
        site.install("zeta", "zeta", GOOD, "acme = zeta:Good")
        site.install("beta", "beta", GOOD, "acme = beta:Good", "7")
        registry = BackendRegistry()
        reports = [r for r in registry.report() if r.name == "acme"]
        assert [(r.distribution, bool(r.error)) for r in reports] == [
            ("beta", False),
            ("zeta", True),
        ]
        assert reports[1].error == (
            "backend plugin acme of zeta 1.0 (zeta:Good): the name is taken by "
            "backend plugin acme of beta 7 (beta:Good); uninstall one of them"
        )
        assert "zeta" not in sys.modules

    def test_our_own_plugins_can_not_be_replaced(self, site: Site) -> None:
        site.install("aaa-thief", "thief", GOOD, "null = thief:Good")
        site.install("wasinn-host", "unused", None, "null = wasinn_backends.null:NullBackend", "99")
        reports = [r for r in BackendRegistry().report() if r.name == "null"]
        assert [(r.distribution, bool(r.error)) for r in reports] == [
            ("wasinn-host", False),
            ("aaa-thief", True),
        ]

    def test_added_twice(self) -> None:
        registry = BackendRegistry(discover=False)
        registry.add("r", RecordingBackend)
        with pytest.raises(PluginError, match="the name is taken by backend plugin r of this prog"):
            registry.add("r", RecordingBackend)


class TestRouting:
    def test_only_what_is_needed_is_imported(self, site: Site) -> None:
        site.install("other", "other_plugin", GOOD, "zzz = other_plugin:Good")
        site.install("acme", "acme_plugin", GOOD, "good = acme_plugin:Good")
        registry = BackendRegistry()
        loaded = registry.load(ModelSource("good", (b"",)), Target.TPU)
        assert "acme_plugin" in loaded.who
        assert "other_plugin" not in sys.modules

    def test_a_route_leads_to_one_plugin_and_no_other(self, site: Site) -> None:
        site.install("acme", "acme_plugin", GOOD, "good = acme_plugin:Good")
        site.install("other", "other_plugin", GOOD, "zzz = other_plugin:Good")
        registry = BackendRegistry(routes={"good": "zzz"})
        assert "other_plugin" in registry.load(ModelSource("good", (b"",)), Target.TPU).who
        with pytest.raises(WasiNnError, match="no device for target cpu"):
            registry.load(ModelSource("good", (b"",)), Target.CPU)

    def test_a_route_to_nowhere(self) -> None:
        registry = BackendRegistry(routes={"onnx": "recordin"}, discover=False)
        registry.add("recording", RecordingBackend)
        with pytest.raises(WasiNnError, match="did you mean recording") as caught:
            registry.load(ModelSource("onnx", (b"",)), Target.CPU)
        assert caught.value.kind is ErrorKind.INVALID_ENCODING

    def test_broken_plugins_are_named_when_nobody_serves(self, site: Site) -> None:
        site.install("broken", "broken_x", "raise OSError('no driver')", "x = broken_x:X")
        with pytest.raises(WasiNnError, match="no backend for encoding tensorflo") as caught:
            BackendRegistry().load(ModelSource("tensorflo", (b"",)), Target.CPU)
        assert "OSError: no driver" in str(caught.value)

    def test_a_second_plugin_may_offer_the_missing_target(self, site: Site) -> None:
        site.install("acme", "acme_plugin", GOOD, "good = acme_plugin:Good")
        gpu = GOOD.replace("Target.TPU", "Target.GPU").replace('"npu"', '"gpu"')
        site.install("graphics", "graphics_plugin", gpu, "graphics = graphics_plugin:Good")
        loaded = BackendRegistry().load(ModelSource("good", (b"",)), Target.GPU)
        assert loaded.device.id == "gpu"


class TestOptions:
    def test_they_reach_the_backend(self) -> None:
        RecordingBackend.made.clear()
        registry = BackendRegistry(options={"recording": {"greeting": "hi"}}, discover=False)
        registry.add("recording", RecordingBackend)
        registry.load(ModelSource("onnx", (b"",)), Target.CPU)
        assert RecordingBackend.made[-1].given == {"greeting": "hi"}

    def test_unknown_names_are_refused_with_near_matches(self) -> None:
        registry = BackendRegistry(options={"recording": {"greting": "hi"}}, discover=False)
        registry.add("recording", RecordingBackend)
        (report,) = registry.report()
        assert "unknown option greting; did you mean greeting?" in report.error


class TestContractOfGraphsAndContexts:
    def _load(self, returned: object) -> WasiNnError:
        class Odd(RecordingBackend):
            def load(self, source: ModelSource, device: object) -> object:  # type: ignore[override]
                return returned

        registry = BackendRegistry(discover=False)
        registry.add("odd", Odd)
        with pytest.raises(WasiNnError) as caught:
            registry.load(ModelSource("onnx", (b"",)), Target.CPU)
        return caught.value

    def test_load_must_return_a_graph(self) -> None:
        error = self._load(None)
        assert isinstance(error, PluginError)
        assert "load() must return a Graph, got None" in str(error)
        assert "got an object of type int" in str(self._load(5))

    def test_a_class_with_two_wrong_methods_is_refused_at_the_door(self) -> None:
        class Odd(RecordingBackend):
            def devices(self, which: int) -> tuple[()]:  # type: ignore[override]
                return ()

        with pytest.raises(PluginError, match=r"expected devices\(self\)(.|\n)*got      devices\("):
            BackendRegistry(discover=False).add("odd", Odd)

    def test_more_parameters_with_defaults_are_fine(self) -> None:
        class Extended(RecordingBackend):
            def close(self, wait: bool = True) -> None:
                super().close()

        BackendRegistry(discover=False).add("extended", Extended)


def test_importing_the_package_imports_neither_numpy_nor_plugins() -> None:
    code = """
        import sys
        import wasinn_host.nn
        from wasinn_host.nn import BackendRegistry, GraphRegistry, NnContext, WasiEphemeralNn
        list(WasiEphemeralNn(NnContext(GraphRegistry(BackendRegistry()))).functions())
        heavy = {"numpy", "onnxruntime", "wasinn_backends"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=_environment())


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_all_names_are_there() -> None:
    import wasinn_host.nn as package

    assert package.__all__ == sorted(package.__all__)
    assert all(getattr(package, name).__name__ for name in package.__all__)
    assert set(package._HOME) == set(package.__all__)
    assert isinstance(Backend.__doc__, str)
