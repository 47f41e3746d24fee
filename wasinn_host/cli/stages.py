"""``--trace=decode,validate,compile``: a timed line for each stage. Not used without a trace.

Decoding and validation are run once more for their times, since a module from the cache is not
validated again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path

from wasinn_runtime import Engine, Module
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.engines.cache import CodeCache
from wasinn_runtime.engines.lazy import Lazy
from wasinn_runtime.valid.validate import validate

__all__ = ["load_traced"]


class _WatchedCache(CodeCache):
    """Notes what is taken and kept; the first of each is the module's own code.

    Args:
        inner: the real cache, or None when nothing is kept.
    """

    def __init__(self, inner: CodeCache | None) -> None:
        super().__init__(inner.directory if inner else Path())
        self._inner = inner
        self.hit: bool | None = None
        self.image_bytes = 0

    def get(self, key: str) -> bytes | None:
        image = self._inner.get(key) if self._inner else None
        if self.hit is None:
            self.hit = image is not None
            self.image_bytes = len(image or b"")
        return image

    def put(self, key: str, content: bytes) -> None:
        self.image_bytes = self.image_bytes or len(content)
        if self._inner:
            self._inner.put(key, content)


def load_traced(
    engine: Engine,
    data: bytes,
    name: str,
    traces: Collection[str],
    tell: Callable[[str, str], None],
) -> Module:
    """Compiles a module, telling how long its stages took.

    Args:
        engine: what compiles it.
        data: the module's bytes.
        name: its name in messages.
        traces: which stages to tell of.
        tell: takes the stage's name and the line.

    Raises:
        Malformed, Invalid: as ``Module``.
    """
    began = time.perf_counter()
    parsed = decode(data, name, engine.features)
    if "decode" in traces:
        tell(
            "decode",
            f"{name}: {len(data)} bytes, {len(parsed.code)} functions in {_since(began)}",
        )
    if "validate" in traces:
        began = time.perf_counter()
        validate(parsed)
        tell("validate", f"{name}: {len(parsed.code)} functions in {_since(began)}")
    if "compile" not in traces:
        return Module(engine, data, name)
    kept = engine.cache
    engine.cache = watched = _WatchedCache(kept)
    try:
        began = time.perf_counter()
        module = Module(engine, data, name)
        took = _since(began)
    finally:
        engine.cache = kept
    if isinstance(module.code, Lazy):
        tell("compile", f"{name}: loaded in {took}; functions become ready when first called")
        return module
    how = "from the cache" if watched.hit else "compiled" + ("" if kept else ", not kept")
    tell("compile", f"{name}: {how}, an object file of {watched.image_bytes} bytes in {took}")
    return module


def _since(began: float) -> str:
    return f"{(time.perf_counter() - began) * 1000:.1f} ms"
