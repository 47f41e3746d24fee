"""LLVM: from IR text to object files and assembly. The only file that imports llvmlite.

llvmlite takes a lock of its own around every LLVM call and releases the GIL meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from wasinn_runtime.errors import Internal

__all__ = ["Target", "host_target", "to_assembly", "to_object"]


@dataclass(frozen=True, slots=True)
class Target:
    """What code is generated for."""

    triple: str
    cpu: str
    features: str
    llvm_version: str


@cache
def host_target() -> Target:
    """This machine."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return Target(
        triple=llvm.get_process_triple(),
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        llvm_version=".".join(map(str, llvm.llvm_version_info)),
    )


def _machine(target: Target, opt_level: int) -> Any:
    # Small code, placed anywhere: LLVM's default for JITs calls even neighbours by 64-bit address.
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu,
        features=target.features,
        opt=opt_level,
        reloc="pic",
        codemodel="small",
    )


def _optimised(ir: str, target: Target, opt_level: int, verify: bool) -> tuple[Any, Any]:
    machine = _machine(target, opt_level)
    try:
        module = llvm.parse_assembly(ir)
        if verify:
            module.verify()
    except RuntimeError as error:
        raise Internal(
            f"LLVM {target.llvm_version} rejects the IR generated for it: {error}\n"
            "This is a defect of wasinn; please report it with the module."
        ) from error
    module.triple = target.triple
    if opt_level:
        # The vectorisers are what makes guest loops as fast as native ones.
        options = llvm.PipelineTuningOptions(speed_level=opt_level)
        options.loop_vectorization = opt_level >= 2
        options.slp_vectorization = opt_level >= 2
        options.loop_interleaving = opt_level >= 2
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
    return machine, module


def to_object(ir: str, target: Target, opt_level: int, verify: bool = False) -> bytes:
    """Compile LLVM IR text to an object file.

    Args:
        opt_level: 0 to 3, LLVM's optimisation level.
        verify: run LLVM's verifier first (for tests; our IR is correct by construction).

    Raises:
        Internal: LLVM rejects the text.
    """
    machine, module = _optimised(ir, target, opt_level, verify)
    return bytes(machine.emit_object(module))


def to_assembly(ir: str, target: Target, opt_level: int) -> str:
    """Compile LLVM IR text to assembly, for people."""
    machine, module = _optimised(ir, target, opt_level, verify=True)
    return str(machine.emit_assembly(module))
