"""Graphs that are shared: reference counts, and the host's registry of named graphs.

Named graphs belong to the host. Guests reach them by exact name only, and a name is never a path:
it is compared with the registered ones, whatever characters it has.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from wasinn_host.nn.discovery import BackendRegistry, LoadedGraph
from wasinn_host.nn.errors import ErrorKind, WasiNnError, near
from wasinn_host.nn.plugin import ENCODINGS, Graph, ModelSource, Target
from wasinn_host.nn.routing import TARGET_WORDS
from wasinn_host.nn.sniff import sniff_encoding
from wasinn_runtime.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from wasinn_host.nn.batching import Batching
    from wasinn_host.nn.metrics import NnMetrics

__all__ = ["AUTODETECT", "GraphRegistry", "PreloadSpec", "SharedGraph", "load_model"]

AUTODETECT = "autodetect"


@dataclass(frozen=True, slots=True)
class PreloadSpec:
    """A named graph, as ``--nn-preload NAME:ENCODING:TARGET:PATH`` says it.

    Attributes:
        name: what guests call it.
        encoding: one of the encodings that backends read, or ``autodetect``.
        target: where it shall run.
        path: the model's file.
    """

    name: str
    encoding: str
    target: Target
    path: Path

    @classmethod
    def parse(cls, text: str) -> PreloadSpec:
        """Reads the command line's form. The path may contain colons, the rest may not.

        An encoding that is none of the standard ones is accepted, for plugins may have their own,
        unless it looks like a slip of the pen.

        Raises:
            UsageError: says which part is wrong, and what it could have been.
        """
        parts = text.split(":", 3)
        if len(parts) != 4 or not all(parts):
            raise UsageError(
                f"preload {text!r}: expected NAME:ENCODING:TARGET:PATH, "
                "for example minilm:onnx:cpu:model.onnx"
            )
        name, encoding, target_word, path = parts
        target = TARGET_WORDS.get(target_word)
        if target is None:
            raise UsageError(
                f"preload {text!r}: unknown target {target_word!r}; "
                f"{near(target_word, sorted(TARGET_WORDS))}"
            )
        known = (*ENCODINGS, AUTODETECT)
        if encoding not in known:
            from difflib import get_close_matches

            if encoding != encoding.lower() or get_close_matches(encoding, known, n=1, cutoff=0.7):
                raise UsageError(
                    f"preload {text!r}: unknown encoding {encoding!r}; "
                    f"{near(encoding.lower(), known)}"
                )
        from pathlib import Path

        return cls(name, encoding, target, Path(path))


class SharedGraph:
    """A loaded graph with a reference count; it is closed when the last reference goes.

    Args:
        loaded: the graph and where it went. The new object has one reference.
        on_close: called after the graph was closed, for the books of the guest who loaded it.
        close: closes the graph; None for the graph's own ``close``.
    """

    def __init__(
        self,
        loaded: LoadedGraph,
        on_close: Callable[[], None] | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        self.graph: Graph = loaded.graph
        self._loaded = loaded
        self._close = close or loaded.graph.close
        self.encoding = loaded.encoding
        self.device = loaded.device
        self.who = loaded.who
        self._on_close = on_close
        self._references = 1
        self._lock = threading.Lock()

    def retain(self) -> SharedGraph:
        """One reference more."""
        if not self.try_retain():
            raise WasiNnError(ErrorKind.NOT_FOUND, "the graph has been closed by the host")
        return self

    def try_retain(self) -> bool:
        """One reference more, unless there is none any more."""
        with self._lock:
            if self._references == 0:
                return False
            self._references += 1
            return True

    def counted(self, on_close: Callable[[], None]) -> SharedGraph:
        """The same graph with a count of its own, for the books of one of many guests.

        Args:
            on_close: called when that guest holds it no more.

        Returns:
            what takes over one reference, and gives it back with its own last one.
        """
        return SharedGraph(self._loaded, on_close, self.release)

    @property
    def is_open(self) -> bool:
        """Whether anybody holds it."""
        return self._references > 0

    def release(self) -> None:
        """One reference less."""
        with self._lock:
            self._references -= 1
            is_last = self._references == 0
        if is_last:
            try:
                self._close()
            finally:
                if self._on_close is not None:
                    self._on_close()


def load_model(
    backends: BackendRegistry,
    encoding: str,
    target: Target,
    builders: tuple[bytes, ...] = (),
    paths: tuple[Path, ...] = (),
    config: bytes = b"",
) -> LoadedGraph:
    """Loads a model after resolving ``autodetect``.

    Args:
        backends: who can load it.
        encoding: its encoding, or ``autodetect``.
        target: where to run it.
        builders: its bytes, from a guest; or
        paths: its files, from the host's user.
        config: what a guest wants of it, for a backend that takes that.

    Raises:
        WasiNnError: ``invalid_encoding`` when nothing is detected, ``model_not_found`` when a file
            is missing, else as `BackendRegistry.load`.
    """
    for path in paths:
        if not path.is_file():
            raise WasiNnError(ErrorKind.MODEL_NOT_FOUND, f"there is no model file {path}")
    if encoding == AUTODETECT:
        heads = builders or tuple(_head(path) for path in paths)
        found = sniff_encoding(heads)
        if found is None:
            raise WasiNnError(
                ErrorKind.INVALID_ENCODING,
                "autodetect: the model's first bytes match none of the encodings "
                f"{', '.join(ENCODINGS)}; name the encoding",
            )
        encoding = found
    return backends.load(ModelSource(encoding, builders, paths, config), target)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError as error:
        raise WasiNnError(
            ErrorKind.MODEL_NOT_FOUND, f"model file {path} can not be read: {error.strerror}"
        ) from error


@dataclass(slots=True)
class _Named:
    """A registered graph; loaded on first use, or before."""

    encoding: str
    target: Target
    builders: tuple[bytes, ...]
    paths: tuple[Path, ...]
    config: bytes = b""
    shared: SharedGraph | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class GraphRegistry:
    """Named graphs of a host: each loaded once, shared by all guests. Safe between threads.

    Args:
        backends: who loads them; also used for models that guests bring themselves.
        batching: how computations of many guests on one graph become one; None for not at all.
        metrics: what counts them, or None.
    """

    def __init__(
        self,
        backends: BackendRegistry,
        *,
        batching: Batching | None = None,
        metrics: NnMetrics | None = None,
    ) -> None:
        self.backends = backends
        self._batching = batching
        self._metrics = metrics
        self._named: dict[str, _Named] = {}
        self._configured: dict[tuple[str, bytes], _Named] = {}
        self._lock = threading.Lock()

    def preload(self, spec: PreloadSpec, *, eager: bool = False) -> None:
        """Registers a model file; see `register`."""
        self.register(spec.name, spec.encoding, spec.target, paths=(spec.path,), eager=eager)

    def register(
        self,
        name: str,
        encoding: str,
        target: Target,
        *,
        builders: Sequence[bytes] = (),
        paths: Sequence[Path] = (),
        eager: bool = False,
    ) -> None:
        """Makes a model known under a name.

        Args:
            name: what guests call it; any non-empty text.
            encoding: its encoding, or ``autodetect``.
            target: where it shall run.
            builders: the model's bytes, or
            paths: the model's files.
            eager: load now instead of when the first guest asks.

        Raises:
            UsageError: no name, the name is taken, or not exactly one of builders and paths.
            WasiNnError: when loading eagerly fails; the name is not registered then.
        """
        if not name:
            raise UsageError("a named graph needs a name")
        if bool(builders) == bool(paths):
            raise UsageError(f"named graph {name!r}: give either builders or paths")
        entry = _Named(encoding, target, tuple(builders), tuple(paths))
        if eager:
            self._load(entry, name)
        with self._lock:
            if name not in self._named:
                self._named[name] = entry
                return
        if entry.shared is not None:
            entry.shared.release()
        raise UsageError(f"named graph {name!r}: the name is taken")

    def names(self) -> tuple[str, ...]:
        """The registered names, sorted."""
        with self._lock:
            return tuple(sorted(self._named))

    def get(self, name: str, config: bytes = b"") -> SharedGraph:
        """The graph of that name, loaded now if it was not yet; one reference is the caller's.

        Many callers at a time cause one load. A failed load is tried again by the next caller.
        With a config of a guest it is another graph, shared by those who give the same one, and
        closed when the last of them lets go of it: guests must not fill the host's memory.

        Raises:
            WasiNnError: ``not_found`` for an unknown name, else what loading raises.
        """
        with self._lock:
            entry = self._named.get(name)
        if entry is None:
            raise WasiNnError(
                ErrorKind.NOT_FOUND,
                f"no graph is named {name[:80]!r}; {near(name[:80], self.names())}",
            )
        if config:
            return self._get_configured(entry, name, config)
        with entry.lock:
            return (entry.shared or self._load(entry, name)).retain()

    def close(self) -> None:
        """Forgets all names. Graphs that guests still hold stay until those let go of them."""
        with self._lock:
            entries, self._named = list(self._named.values()), {}
        for entry in entries:
            with entry.lock:
                if entry.shared is not None:
                    entry.shared.release()
                    entry.shared = None

    def load(
        self,
        encoding: str,
        target: Target,
        builders: tuple[bytes, ...] = (),
        paths: tuple[Path, ...] = (),
        name: str = "",
        config: bytes = b"",
    ) -> LoadedGraph:
        """Loads a model with what the host's user wants around it: batching, metrics.

        Args:
            encoding, target, builders, paths: as `load_model` takes them.
            name: what guests call it; empty for a guest's own.
            config: what a guest wants of it.

        Raises:
            WasiNnError: as `load_model`.
        """
        began = time.perf_counter()
        loaded = load_model(self.backends, encoding, target, builders, paths, config)
        if self._batching is not None:
            from wasinn_host.nn.batching import batched

            loaded = replace(loaded, graph=batched(loaded.graph, self._batching))
        if self._metrics is not None:
            seconds = time.perf_counter() - began
            loaded = replace(loaded, graph=self._metrics.measured(loaded, name, seconds))
        return loaded

    def _load(
        self, entry: _Named, name: str, on_close: Callable[[], None] | None = None
    ) -> SharedGraph:
        loaded = self.load(
            entry.encoding, entry.target, entry.builders, entry.paths, name, entry.config
        )
        entry.shared = SharedGraph(loaded, on_close)
        return entry.shared

    def _get_configured(self, base: _Named, name: str, config: bytes) -> SharedGraph:
        key = name, config

        def forget() -> None:
            with self._lock:
                # It may have been loaded anew while the one before was closed.
                if entry.shared is not None and not entry.shared.is_open:
                    del self._configured[key]

        while True:
            with self._lock:
                new = _Named(base.encoding, base.target, base.builders, base.paths, config)
                entry = self._configured.setdefault(key, new)
            with entry.lock:
                if entry.shared is not None and entry.shared.try_retain():
                    return entry.shared
                with self._lock:
                    if self._configured.get(key) is not entry:
                        continue  # the last holder let go of it meanwhile
                    entry.shared = None
                try:
                    return self._load(entry, name, forget)
                except BaseException:
                    with self._lock:
                        del self._configured[key]
                    raise
