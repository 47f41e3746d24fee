"""A WebAssembly runtime whose native code LLVM generates. Knows neither WASI nor WASI-NN.

>>> engine = Engine()
>>> module = Module(engine, wasm_bytes)
>>> instance = Instance(Store(engine), module)
>>> instance.exports.add(2, 3)
5
"""

from wasinn_runtime.engines.engine import Config, Engine
from wasinn_runtime.engines.module import Module
from wasinn_runtime.errors import (
    Exhaustion,
    GuestExit,
    Interrupted,
    Invalid,
    LimitExceeded,
    LinkError,
    Malformed,
    MemoryAccessError,
    Trap,
    UnusableImage,
    UsageError,
    WasinnError,
)
from wasinn_runtime.machine.capture import Captured, Frame
from wasinn_runtime.machine.exceptions import ExnRef, WasmException
from wasinn_runtime.machine.func import Func
from wasinn_runtime.machine.globals import Global
from wasinn_runtime.machine.hostfunc import HostFunc
from wasinn_runtime.machine.instance import Caller, Instance
from wasinn_runtime.machine.linker import Linker
from wasinn_runtime.machine.memory import Memory
from wasinn_runtime.machine.store import Store
from wasinn_runtime.machine.table import Table
from wasinn_runtime.machine.tag import Tag
from wasinn_runtime.spec.features import parse_features
from wasinn_runtime.spec.types import (
    FuncType,
    GlobalType,
    Limits,
    MemoryType,
    TableType,
    TagType,
    ValType,
)

__all__ = [
    "Caller",
    "Captured",
    "Config",
    "Engine",
    "Exhaustion",
    "ExnRef",
    "Frame",
    "Func",
    "FuncType",
    "Global",
    "GlobalType",
    "GuestExit",
    "HostFunc",
    "Instance",
    "Interrupted",
    "Invalid",
    "LimitExceeded",
    "Limits",
    "LinkError",
    "Linker",
    "Malformed",
    "Memory",
    "MemoryAccessError",
    "MemoryType",
    "Module",
    "Store",
    "Table",
    "TableType",
    "Tag",
    "TagType",
    "Trap",
    "UnusableImage",
    "UsageError",
    "ValType",
    "WasinnError",
    "WasmException",
    "parse_features",
]
