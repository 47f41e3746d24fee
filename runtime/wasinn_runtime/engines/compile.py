"""From IR text to linked code through the cache. LLVM is loaded only when something is compiled.

The cache's key must name LLVM and the CPU without asking LLVM, which takes longer to load than a
small guest takes to run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from wasinn_runtime.abi.layout import ABI_VERSION
from wasinn_runtime.engines.cache import CodeCache
from wasinn_runtime.errors import UsageError

if TYPE_CHECKING:
    from wasinn_runtime.binary.module import ParsedModule

__all__ = [
    "HANDLER_LEVEL",
    "compiled",
    "is_compiled",
    "llvmlite_version",
    "machine_identity",
    "module_key",
]

HANDLER_LEVEL = -1
"""The level for interpreters' handlers, in the place of LLVM's: level 1 takes eight times as long
to optimise them, to the same end, since they are a few instructions each and call little."""

_CPU_FIELDS = ("vendor_id", "cpu family", "model", "model name", "flags", "Features", "CPU part")


@cache
def machine_identity() -> str:
    """A digest of everything outside the project that decides what LLVM makes of an IR text."""
    digest = hashlib.sha256()
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if not line.strip():
                break  # the first processor; the others are alike
            if line.partition("\t")[0].strip(" :") in _CPU_FIELDS:
                digest.update(line.encode())
    package = _llvmlite()
    digest.update((package / "_version.py").read_bytes())
    for library in sorted((package / "binding").glob("libllvmlite*")):
        info = library.stat()
        digest.update(f"{library.name} {info.st_size} {info.st_mtime_ns}".encode())
    return digest.hexdigest()


def _llvmlite() -> Path:
    spec = importlib.util.find_spec("llvmlite")
    if spec is None or spec.origin is None:
        raise UsageError("llvmlite is not installed; install it with: pip install 'llvmlite>=0.50'")
    return Path(spec.origin).parent


@cache
def llvmlite_version() -> str:
    """The version of the package that brings LLVM, found without loading either."""
    text = (_llvmlite() / "_version.py").read_text(encoding="utf-8")
    found = re.search(r"^version_version = '([^']+)'", text, re.MULTILINE)
    return found.group(1) if found else "unknown"


def module_key(kind: str, parsed: ParsedModule, opt_level: int, *parts: str) -> str:
    """Under what code of a module is in the cache.

    Args:
        kind: what it is, for the cache's file names.
        parsed: the module.
        opt_level: LLVM's.
        parts: what decides the code beside these.
    """
    options = f"abi {ABI_VERSION} O{opt_level} {sorted(parsed.features)}"
    return CodeCache.key(kind, options, machine_identity(), parsed.digest, *parts)


def is_compiled(
    cache: CodeCache | None, kind: str, parts: Sequence[str | bytes], opt_level: int
) -> bool:
    """Whether ``compiled`` will most likely find it in the cache."""
    return cache is not None and _key(kind, parts, opt_level) in cache


def _key(kind: str, parts: Sequence[str | bytes], opt_level: int) -> str:
    return CodeCache.key(kind, f"abi {ABI_VERSION} O{opt_level}", machine_identity(), *parts)


def compiled(
    cache: CodeCache | None,
    kind: str,
    parts: Sequence[str | bytes],
    write_ir: Callable[[], str],
    opt_level: int,
    exports: Sequence[str],
    verify: bool = False,
) -> bytes:
    """Linked code from the cache, or compiled now; for ``linked.load``.

    Args:
        cache: where to look and to keep it; None for neither.
        kind: what it is, for the cache's file names.
        parts: all that decides the IR.
        write_ir: gives the IR; called only when there is no cached image.
        opt_level: LLVM's, or ``HANDLER_LEVEL``.
        exports: symbols whose addresses are wanted; the kind and the parts decide them.
        verify: run LLVM's verifier on the IR.
    """
    key = ""
    if cache is not None:
        key = _key(kind, parts, opt_level)
        image = cache.get(key)
        if image is not None:
            return image
    text = write_ir()
    from wasinn_runtime.engines.link import link
    from wasinn_runtime.engines.linked import pack
    from wasinn_runtime.engines.llvm import host_target, to_object

    image = pack(link([to_object(text, host_target(), opt_level, verify)], exports))
    if cache is not None:
        cache.put(key, image)
    return image
