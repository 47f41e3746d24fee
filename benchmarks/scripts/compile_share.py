"""Runs `wasinn compile` in this process and says how long LLVM's optimiser and code generator took.

Usage: python compile_share.py ARGUMENTS...; prints {"total_s": .., "llvm_s": ..} as the last line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

start = time.perf_counter()

import llvmlite.binding as llvm  # noqa: E402 - loading it is part of what is timed

from wasinn_host.cli.main import execute  # noqa: E402

_llvm_s = 0.0


def _timed(call: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        global _llvm_s
        began = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            _llvm_s += time.perf_counter() - began

    return wrapper


def main(arguments: list[str]) -> int:
    """Compile with both of LLVM's entries under a clock."""
    llvm.ModulePassManager.run = _timed(llvm.ModulePassManager.run)
    llvm.TargetMachine.emit_object = _timed(llvm.TargetMachine.emit_object)
    code = execute(["compile", *arguments])
    print(json.dumps({"total_s": time.perf_counter() - start, "llvm_s": _llvm_s}))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
