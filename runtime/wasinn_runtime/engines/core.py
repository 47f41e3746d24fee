"""The process-wide core: built once, its signal handlers installed once. See ``lower.core``."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from functools import cache

from wasinn_runtime.engines.cache import CodeCache, default_cache_dir
from wasinn_runtime.engines.compile import compiled
from wasinn_runtime.engines.linked import load
from wasinn_runtime.errors import Internal, UsageError
from wasinn_runtime.lower.core import CORE_SYMBOLS, RUNTIME_SYMBOLS, core_unit
from wasinn_runtime.machine.func import DISPATCH_ADDRESS
from wasinn_runtime.machine.lazy import HEAT_ADDRESS, PREPARE_ADDRESS
from wasinn_runtime.machine.native import Core
from wasinn_runtime.machine.services import SERVICES_ADDRESS

__all__ = ["core", "runtime_imports", "watch_interrupts"]

# Offsets in the kernel's structures: si_addr in siginfo_t, the program counter in ucontext_t.
_LAYOUTS = {"x86_64": (16, 168), "aarch64": (16, 440)}

_SA_SIGINFO, _SA_NODEFER, _SA_RESTART, _SA_ONSTACK = 4, 0x40000000, 0x10000000, 0x08000000


class _SigAction(ctypes.Structure):
    """``struct sigaction`` of glibc on 64-bit Linux."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@cache
def core() -> Core:
    """Build or load the core, and install its handlers.

    Raises:
        UsageError: this is not a system it knows.
    """
    machine = os.uname().machine
    if sys.platform != "linux" or machine not in _LAYOUTS:
        raise UsageError(
            f"wasinn runs on 64-bit Linux on {' and '.join(_LAYOUTS)}; "
            f"this is {sys.platform} on {machine}"
        )
    if "CS_GNU_LIBC_VERSION" not in os.confstr_names or not os.confstr("CS_GNU_LIBC_VERSION"):
        # The stack limit lies in glibc's thread control block: see lower/core.py.
        raise UsageError("wasinn needs glibc; this Python uses another C library")
    cache = CodeCache(default_cache_dir() / "code")
    layout = _LAYOUTS[machine]
    image = compiled(cache, "core", [], lambda: core_unit(*layout, machine), 2, CORE_SYMBOLS)
    code = load(image, {})
    libc = _libc()
    pthread_key = ctypes.c_uint()
    if libc.pthread_key_create(ctypes.byref(pthread_key), None):
        raise Internal("no thread-specific key is left in this process")
    ctypes.c_uint32.from_address(code.addresses["wasinn_key"]).value = pthread_key.value
    stop_signal = int(signal.SIGRTMIN) + 5
    built = Core(code, code.addresses, stop_signal)
    dispatch = (ctypes.c_uint64 * 4).from_address(code.addresses["wasinn_dispatch"])
    dispatch[:] = [DISPATCH_ADDRESS, PREPARE_ADDRESS, SERVICES_ADDRESS, HEAT_ADDRESS]
    flags = _SA_SIGINFO | _SA_NODEFER
    _install(
        libc,
        signal.SIGSEGV,
        built.addresses["wasinn_on_fault"],
        flags | _SA_ONSTACK,
        built.addresses["wasinn_previous_fault"],
    )
    _install(libc, stop_signal, built.addresses["wasinn_on_stop"], flags | _SA_RESTART, None)
    _set_main_thread(built)
    os.register_at_fork(after_in_child=lambda: _set_main_thread(built))
    watch_interrupts(built)
    return built


def _set_main_thread(built: Core) -> None:
    """Let Ctrl-C end the main thread's guests; in a forked child that is the thread that forked."""
    place = built.addresses["wasinn_main_thread"]
    ctypes.c_uint64.from_address(place).value = threading.main_thread().ident or 0


def _install(
    libc: ctypes.CDLL, number: int, handler: int, flags: int, previous: int | None
) -> None:
    action = _SigAction(handler=handler, flags=flags)
    if libc.sigaction(int(number), ctypes.byref(action), ctypes.c_void_p(previous)):
        raise Internal(f"sigaction({number}): {os.strerror(ctypes.get_errno())}")


def watch_interrupts(built: Core) -> None:
    """Let Ctrl-C end a guest on the main thread, if Python's own handler is in charge of it."""
    if signal.getsignal(signal.SIGINT) in (signal.SIG_DFL, signal.SIG_IGN, None):
        return
    libc = _libc()
    now = _SigAction()
    libc.sigaction(int(signal.SIGINT), None, ctypes.byref(now))
    ours = built.addresses["wasinn_on_interrupt"]
    if now.handler == ours:
        return
    # Publish Python's handler before ours can run.
    place = built.addresses["wasinn_previous_interrupt"]
    ctypes.memmove(place, ctypes.byref(now), ctypes.sizeof(now))
    _install(libc, signal.SIGINT, ours, _SA_SIGINFO | _SA_NODEFER | (now.flags & _SA_RESTART), None)


def runtime_imports() -> dict[str, int]:
    """Addresses of what compiled modules call in the core."""
    addresses = core().addresses
    return {name: addresses[name] for name in RUNTIME_SYMBOLS}
