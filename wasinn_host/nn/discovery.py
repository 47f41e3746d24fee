"""Finds backend plugins and picks the device a graph goes to. Loads no models' bytes itself.

Plugins are entry points of the group ``wasinn.backends``. Listing them reads metadata only. A
plugin is imported when an encoding needs it, or when a report is asked for; a broken one is kept
with its reason and never stops the others.

Order in which plugins are asked for an encoding (the first that offers encoding and target wins):

0. the one that the user's rules name for encoding and target, or else for the target, and then no
   other, on the device that the rule names;
1. the one that the user's routes name for the encoding, and then no other;
2. the plugin that has the encoding's name, or another word for it (`_NAMED`);
3. those of our own distribution, by name;
4. all others, by name, then distribution.

Within a plugin the first device of the target wins; target ``auto`` takes the first device at all.
If nobody offers the target, that is an error, unless the user wants the CPU then, and is told.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from wasinn_host.nn.checks import (
    check_backend_class,
    check_devices,
    check_graph,
    check_option_names,
    check_path,
)
from wasinn_host.nn.errors import ErrorKind, PluginError, WasiNnError, near
from wasinn_host.nn.foreign import one_line
from wasinn_host.nn.plugin import ANY_ENCODING, Backend, Device, Graph, ModelSource, Target
from wasinn_host.nn.routing import DeviceRule, rule_for
from wasinn_runtime.errors import UsageError

__all__ = [
    "ENTRY_POINT_GROUP",
    "REPORT_PATIENCE_S",
    "BackendRegistry",
    "LoadedGraph",
    "PluginReport",
    "located",
]

ENTRY_POINT_GROUP: Final = "wasinn.backends"
_OWN_DISTRIBUTION: Final = "wasinn-host"
_NAMED: Final = {"pytorch": "torch", "tensorflowlite": "tflite"}
"""Encodings whose plugin goes by another word for them."""
REPORT_PATIENCE_S: Final = 20.0
"""For a plugin that somebody else wrote, in a list of all. PyTorch takes 3 s on a slow machine."""


@dataclass(frozen=True, slots=True)
class PluginReport:
    """One plugin, for people and programs.

    Attributes:
        name: the entry point's name.
        distribution: the installed project it comes from; empty when added by a program.
        version: of that project.
        location: ``module:class``.
        encodings: sorted; empty while not imported or when broken.
        devices: as the plugin lists them; empty while not imported or when broken.
        options: name and meaning of each; empty while not imported or when broken.
        error: why it can not be used; empty when it can, or when nobody has tried.
    """

    name: str
    distribution: str
    version: str
    location: str
    encodings: tuple[str, ...] = ()
    devices: tuple[Device, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    error: str = ""

    @property
    def who(self) -> str:
        """Plugin, distribution and version, as messages name them."""
        origin = f"{self.distribution} {self.version}" if self.distribution else "this program"
        return f"backend plugin {self.name} of {origin} ({self.location})"


@dataclass(frozen=True, slots=True)
class LoadedGraph:
    """A graph together with where it went.

    Attributes:
        graph: from the backend.
        encoding: what it was loaded as; never ``autodetect``.
        device: where it runs.
        backend: the plugin's name.
        who: the plugin, as messages name it.
    """

    graph: Graph
    encoding: str
    device: Device
    backend: str
    who: str


_Opened = tuple[Backend, frozenset[str], tuple[Device, ...]]


class _Plugin:
    """A found plugin; its backend objects are made on first use and then kept."""

    def __init__(self, report: PluginReport, load: Callable[[], object]) -> None:
        self.report = report
        self.backend: Backend | None = None
        self._for_guests: Backend | None = None
        self._tried = False
        self._load = load
        self._lock = threading.Lock()

    def open(self, options: Mapping[str, str], is_isolated: bool) -> Backend | None:
        """The backend; None when it is broken, and then the report says why.

        The first call imports, checks and makes it. Others that need the same plugin wait for
        that; those that need another one do not.
        """
        with self._lock:
            if not self._tried and not self.report.error:
                self._make(options, is_isolated)
                self._tried = True
            return self.backend

    def for_model(self, source: ModelSource, options: Mapping[str, str]) -> Backend:
        """What loads a model: the backend, or for some backends' guests one in another process.

        Raises:
            PluginError: that process can not be had.
        """
        assert self.backend is not None
        if source.is_trusted or not self.backend.isolates_guests:
            return self.backend
        with self._lock:
            if self._for_guests is None:
                self._for_guests = self._elsewhere(options)[0]
            return self._for_guests

    def close(self) -> None:
        """Closes the backends that were made."""
        with self._lock, contextlib.ExitStack() as stack:
            for backend in (self.backend, self._for_guests):
                if backend is not None:
                    stack.callback(backend.close)  # each, whatever the other raises
            self.backend = self._for_guests = None

    def look(self, options: Mapping[str, str], patience_s: float) -> None:
        """Has a process of its own import it, and keeps what that says: nothing happens here."""
        from wasinn_host.nn.isolation import IsolatedBackend

        with self._lock:
            if self._tried or self.report.error:
                return
            where, who = self.report.location, self.report.who
            try:
                backend = IsolatedBackend(where, options, who, patience_s)
            except PluginError as error:
                self.report = replace(self.report, error=error.message)
            else:
                self._describe(backend, backend.encodings, tuple(backend.devices()))
                backend.close()

    def _make(self, options: Mapping[str, str], is_isolated: bool) -> None:
        who = self.report.who
        try:
            backend, encodings, devices = (
                self._elsewhere(options) if is_isolated else self._here(options)
            )
        except PluginError as error:
            self.report = replace(self.report, error=error.message)
        except WasiNnError as error:  # a value of the options that the backend refuses
            self.report = replace(self.report, error=f"{who}: {error.message}")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also SystemExit: nothing a plugin does stops the others
            self.report = replace(self.report, error=f"{who}: {one_line(error)}")
        else:
            self.backend = backend
            self._describe(backend, encodings, devices)

    def _describe(
        self, backend: Backend, encodings: frozenset[str], devices: tuple[Device, ...]
    ) -> None:
        self.report = replace(
            self.report,
            encodings=tuple(sorted(encodings)),
            devices=devices,
            options=tuple(sorted(backend.options.items())),
        )

    def _here(self, options: Mapping[str, str]) -> _Opened:
        who = self.report.who
        path_before = list(sys.path)
        # stdout belongs to the guest: what a plugin prints while it is imported goes to stderr.
        with contextlib.redirect_stdout(sys.stderr):
            loaded = self._load()
            check_path(path_before, who)
            cls = check_backend_class(loaded, who)
            check_option_names(cls, options, who)
            backend = cls(options)
            return backend, cls.encodings, check_devices(backend.devices(), who)

    def _elsewhere(self, options: Mapping[str, str]) -> _Opened:
        from wasinn_host.nn.isolation import IsolatedBackend

        backend = IsolatedBackend(self.report.location, options, self.report.who)
        return backend, backend.encodings, tuple(backend.devices())


class BackendRegistry:
    """All backends of a host. Safe to share between threads and guests.

    Args:
        options: for each plugin's name, the user's options for it.
        routes: for each encoding, the name of the only plugin to ask.
        discover: whether to look for installed plugins; `add` works either way.
        isolate: whether each backend runs in a process of its own, see `wasinn_host.nn.isolation`.
        rules: which backend and device to use for a target.
        fallback: is told when a model goes to the CPU since nobody offers its target; None makes
            that an error.
    """

    def __init__(
        self,
        *,
        options: Mapping[str, Mapping[str, str]] | None = None,
        routes: Mapping[str, str] | None = None,
        discover: bool = True,
        isolate: bool = False,
        rules: Sequence[DeviceRule] = (),
        fallback: Callable[[str], None] | None = None,
    ) -> None:
        self._options = dict(options or {})
        self._routes = dict(routes or {})
        self._discover = discover
        self._isolate = isolate
        self._rules = tuple(rules)
        self._fallback = fallback
        self._plugins: list[_Plugin] | None = None
        self._added: list[_Plugin] = []
        self._lock = threading.Lock()

    def add(self, name: str, cls: type[Backend]) -> None:
        """Adds a backend class of the running program; it goes before installed plugins.

        Raises:
            PluginError: the class breaks the plugin contract, or the name is taken.
        """
        report = PluginReport(name, "", "", f"{cls.__module__}:{cls.__qualname__}")
        check_backend_class(cls, report.who)
        with self._lock:
            for other in self._added:
                if other.report.name == name:
                    raise PluginError(f"{report.who}: the name is taken by {other.report.who}")
            self._added.append(_Plugin(report, lambda: cls))

    def installed(self) -> tuple[PluginReport, ...]:
        """What is there, without importing anything that was not imported before."""
        with self._lock:
            return tuple(plugin.report for plugin in self._all())

    def report(
        self, *, only: Collection[str] | None = None, patience_s: float | None = None
    ) -> tuple[PluginReport, ...]:
        """Imports plugins and says what each offers, or why it is broken.

        Args:
            only: the names of those to import; None for all. The others are listed as they are.
            patience_s: has those of other distributions imported in a process of their own, for
                so long at most: one that hangs or ends its process is broken, and that is all.
        """
        with self._lock:
            plugins = self._all()
        for plugin in plugins:
            if only is not None and plugin.report.name not in only:
                continue
            if patience_s is None or plugin.report.distribution in ("", _OWN_DISTRIBUTION):
                self._open(plugin)
            else:
                plugin.look(self._options.get(plugin.report.name, {}), patience_s)
        return tuple(plugin.report for plugin in plugins)

    def load(self, source: ModelSource, target: Target) -> LoadedGraph:
        """Loads a model on the device that encoding and target lead to.

        Args:
            source: the model; its encoding must be a real one.
            target: where to run it.

        Raises:
            WasiNnError: ``invalid_encoding`` when no plugin reads the encoding,
                ``unsupported_operation`` when none offers the target for it (there is no silent
                step down to the CPU), else what the backend raises.
        """
        plugin, backend, device = self._find(source.encoding, target)
        who = plugin.report.who
        if source.config and not backend.takes_config:
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"{who}: takes no configuration of a model; load it by name alone",
            )
        try:
            loader = plugin.for_model(source, self._options.get(plugin.report.name, {}))
            graph = check_graph(loader.load(source, device), who)
        except WasiNnError:
            raise
        except MemoryError as error:
            raise WasiNnError(
                ErrorKind.TOO_LARGE, f"{who}: not enough memory to load the model"
            ) from error
        except Exception as error:
            raise WasiNnError(
                ErrorKind.RUNTIME_ERROR, f"{who}: load() failed: {one_line(error)}"
            ) from error
        return LoadedGraph(graph, source.encoding, device, plugin.report.name, who)

    def close(self) -> None:
        """Closes the backends that were made. Graphs must be closed before."""
        with self._lock:
            plugins, self._plugins = self._plugins or [], []
            for plugin in [*self._added, *plugins]:
                plugin.close()
            self._added = []

    def _all(self) -> list[_Plugin]:
        if self._plugins is None:
            self._plugins = _installed_plugins() if self._discover else []
        added = {plugin.report.name for plugin in self._added}
        return [*self._added, *(p for p in self._plugins if p.report.name not in added)]

    def _open(self, plugin: _Plugin) -> Backend | None:
        return plugin.open(self._options.get(plugin.report.name, {}), self._isolate)

    def _find(self, encoding: str, target: Target) -> tuple[_Plugin, Backend, Device]:
        asked: list[_Plugin] = []
        serving: list[tuple[_Plugin, Backend]] = []
        rule = rule_for(self._rules, encoding, target)
        route = rule.backend if rule else self._routes.get(encoding)
        with self._lock:
            plugins = self._in_order(encoding, route)
        for plugin in plugins:
            asked.append(plugin)
            backend = self._open(plugin)
            if backend is None:
                continue
            encodings = plugin.report.encodings
            if encoding not in encodings and not (route and ANY_ENCODING in encodings):
                continue
            serving.append((plugin, backend))
            for device in plugin.report.devices:
                if rule and rule.device:
                    is_meant = device.id == rule.device
                else:
                    is_meant = target in (device.target, Target.AUTO)
                if is_meant:
                    return plugin, backend, device
        if self._fallback is not None and rule is None:
            for plugin, backend in serving:
                for device in plugin.report.devices:
                    if device.target is Target.CPU:
                        self._fallback(
                            f"no device for target {target.value} with encoding {encoding}: the "
                            f"model runs on {device.id} of {plugin.report.name} instead"
                        )
                        return plugin, backend, device
        raise self._nobody(encoding, target, route, asked, [plugin for plugin, _ in serving])

    def _in_order(self, encoding: str, route: str | None) -> list[_Plugin]:
        plugins = self._all()
        if route is not None:
            return [p for p in plugins if p.report.name == route]
        named = (encoding, _NAMED.get(encoding))
        return sorted(
            plugins,
            key=lambda p: (
                p.report.name not in named,
                p.report.distribution not in ("", _OWN_DISTRIBUTION),
                p.report.name,
                p.report.distribution,
            ),
        )

    def _nobody(
        self,
        encoding: str,
        target: Target,
        route: str | None,
        asked: Sequence[_Plugin],
        serving: Sequence[_Plugin],
    ) -> WasiNnError:
        if route is not None and not asked:
            names = [report.name for report in self.installed()]
            return WasiNnError(
                ErrorKind.INVALID_ENCODING,
                f"encoding {encoding} is routed to the backend {route}, which is not installed; "
                f"{near(route, names)}",
            )
        if serving:
            rule = rule_for(self._rules, encoding, target)
            what = f"no device {rule.device!r}" if rule and rule.device else "no device"
            offers = "; ".join(
                p.report.name
                + ": "
                + ", ".join(f"{d.target.value} ({d.id})" for d in p.report.devices)
                for p in serving
            )
            return WasiNnError(
                ErrorKind.UNSUPPORTED_OPERATION,
                f"{what} for target {target.value} with encoding {encoding}; there is: {offers}",
            )
        broken = [f"\n  {p.report.error}" for p in asked if p.report.error]
        known = sorted({e for p in asked for e in p.report.encodings})
        return WasiNnError(
            ErrorKind.INVALID_ENCODING,
            f"no backend for encoding {encoding}; {near(encoding, known)}"
            + (f"\nbroken plugins:{''.join(broken)}" if broken else ""),
        )


def located(name: str) -> str:
    """Where the class of an installed plugin is, as ``module:class``; it is not imported.

    Raises:
        UsageError: there is none of that name.
    """
    reports = [plugin.report for plugin in _installed_plugins()]
    for report in reports:
        if report.name == name:
            return report.location
    raise UsageError(
        f"no backend plugin is named {name}; {near(name, [report.name for report in reports])}"
    )


def _installed_plugins() -> list[_Plugin]:
    """Reads the installed distributions' metadata; of two equal names only one may stay.

    Our own plugins can not be replaced by installing something; among others, the distribution
    that sorts first keeps the name, so that the choice does not depend on the order of sys.path.
    """
    from importlib.metadata import entry_points

    plugins = []
    for point in entry_points(group=ENTRY_POINT_GROUP):
        dist = point.dist
        report = PluginReport(
            point.name, dist.name if dist else "", dist.version if dist else "", point.value
        )
        plugins.append(_Plugin(report, point.load))
    plugins.sort(
        key=lambda p: (
            p.report.name,
            p.report.distribution != _OWN_DISTRIBUTION,
            p.report.distribution,
            p.report.location,
        )
    )
    keepers: dict[str, PluginReport] = {}
    for plugin in plugins:
        keeper = keepers.setdefault(plugin.report.name, plugin.report)
        if keeper is not plugin.report:
            plugin.report = replace(
                plugin.report,
                error=f"{plugin.report.who}: the name is taken by {keeper.who}; "
                "uninstall one of them",
            )
    return plugins
