"""LLVM: from IR text to object files and assembly. The only file that imports llvmlite.

llvmlite takes a lock of its own around every LLVM call and releases the GIL meanwhile.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from wasinn_runtime.engines.compile import HANDLER_LEVEL
from wasinn_runtime.engines.targets import Architecture, cpu_features, host_architecture
from wasinn_runtime.errors import Internal
from wasinn_runtime.lower.simd_support import simd_support

__all__ = ["Stage", "Target", "host_target", "llvm_version", "target_for", "to_assembly"]
__all__ += ["to_object"]

#: Told when a stage of LLVM's work ends: its name and the seconds that it took.
Stage = Callable[[str, float], None]


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
    return Target(
        triple=llvm.get_process_triple(),
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        llvm_version=llvm_version(),
    )


def llvm_version() -> str:
    """The version of LLVM itself, such as ``22.1.0``."""
    return ".".join(map(str, llvm.llvm_version_info))


def target_for(architecture: Architecture, cpu: str) -> Target:
    """A CPU of any architecture; ``native`` is this machine's own.

    Raises:
        UsageError: no such CPU is known.
    """
    if cpu == "native" and architecture is host_architecture():
        host = host_target()
        return Target(architecture.triple, host.cpu, _fixed_width(host.features), llvm_version())
    features = cpu_features(architecture, cpu)
    words = ",".join(f"+{name}" for name in features)
    return Target(architecture.triple, cpu, _fixed_width(words), llvm_version())


def _fixed_width(features: str) -> str:
    """Without vectors whose size only the running CPU knows: no frame could be measured."""
    if "sve" not in features:
        return features
    words = [w for w in features.split(",") if not w[1:].startswith(("sve", "sme"))]
    return ",".join([*words, "-sve"])


@cache
def _initialise(machine: str) -> None:
    """Make LLVM ready for a CPU; for another than this machine's, it takes all of them."""
    if machine == os.uname().machine:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()  # the core has a few lines of assembly
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()


@cache
def _set_options() -> None:
    """LLVM's options that no call has; they hold for the process."""
    # On x86-64, LLVM turns a choice between a loaded value and another into a branch around the
    # load, even where the load is volatile, and with it goes the trap.
    llvm.set_option("wasinn", "-x86-cmov-converter-force-mem-operand=false")
    # Guests often are interpreters themselves, or parsers: one switch in a loop. Its way back is
    # short enough to be repeated in each case, so that each has a jump, and a prediction, less.
    llvm.set_option("wasinn", "-tail-dup-size=8")
    # Whether a small loop straddles two fetches would otherwise be an accident, worth up to half.
    llvm.set_option("wasinn", "-align-loops=32")
    # Level 0 keeps values in registers from block to block as well, as higher levels do anyway:
    # twice the time to generate code, which runs in two thirds of the time.
    llvm.set_option("wasinn", "-optimize-regalloc")


@cache
def _machine(target: Target, opt_level: int) -> Any:
    _initialise(target.triple.partition("-")[0])
    _set_options()
    # Small code, placed anywhere: LLVM's default for JITs calls even neighbours by 64-bit address.
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu,
        features=target.features,
        opt=opt_level,
        reloc="pic",
        codemodel="small",
    )


def _quiet(name: str, seconds: float) -> None:
    """Nobody wants to know how long a stage took."""


def _optimised(
    ir: str, target: Target, opt_level: int, verify: bool, stage: Stage
) -> tuple[Any, Any]:
    began = time.perf_counter()
    # The generator that level 0 takes makes no jumps of tail calls.
    machine = _machine(target, abs(opt_level) or int(".tail(" in ir))
    support = simd_support(ir, target.triple, target.features)
    try:
        module = llvm.parse_assembly(ir + support)
        if verify:
            module.verify()
    except RuntimeError as error:
        raise Internal(
            f"LLVM {target.llvm_version} rejects the IR generated for it: {error}\n"
            "This is a defect of wasinn; please report it with the module."
        ) from error
    module.triple = target.triple
    stage("parse", time.perf_counter() - began)
    began = time.perf_counter()
    if opt_level == HANDLER_LEVEL:
        passes = llvm.create_new_module_pass_manager()
        passes.add_instruction_combine_pass()
        passes.add_simplify_cfg_pass()
        passes.run(module, llvm.create_pass_builder(machine, llvm.PipelineTuningOptions(0)))
    elif opt_level:
        # The vectorisers are what makes guest loops as fast as native ones.
        options = llvm.PipelineTuningOptions(speed_level=opt_level)
        options.loop_vectorization = opt_level >= 2
        options.slp_vectorization = opt_level >= 2
        options.loop_interleaving = opt_level >= 2
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
    else:
        passes = llvm.create_new_module_pass_manager()
        if support:
            passes.add_always_inliner_pass()
        if " alloca " in ir:  # most functions have their locals as values from the start
            passes.add_sroa_pass()
        passes.add_simplify_cfg_pass()
        passes.run(module, llvm.create_pass_builder(machine, llvm.PipelineTuningOptions(0)))
    stage("optimise", time.perf_counter() - began)
    return machine, module


def to_object(
    ir: str, target: Target, opt_level: int, verify: bool = False, stage: Stage = _quiet
) -> bytes:
    """Compile LLVM IR text to an object file.

    Args:
        opt_level: 0 to 3, LLVM's optimisation level; or ``HANDLER_LEVEL``.
        verify: run LLVM's verifier first (for tests; our IR is correct by construction).
        stage: told of each stage: parse, optimise, generate.

    Raises:
        Internal: LLVM rejects the text.
    """
    machine, module = _optimised(ir, target, opt_level, verify, stage)
    began = time.perf_counter()
    with _settings(opt_level):
        image = bytes(machine.emit_object(module))
    stage("generate", time.perf_counter() - began)
    return image


# Code generator's options by level, with LLVM's own values: LLVM has them for the process only.
_SETTINGS = {
    # A jump to the next handler is predicted by where it is: shared, it would be wrong more often.
    HANDLER_LEVEL: (("enable-tail-merge", "0", "1"),),
    # A third of the time to generate code, which runs as fast: instructions stay in their order,
    # no register is split in search of the best region, and copies are left where they are.
    0: (
        ("enable-misched", "false", "true"),
        ("grow-region-complexity-budget", "0", "10000"),
        ("disable-copyprop", "true", "false"),
    ),
}
# LLVM generates code for one thread at a time anyway; none gets the settings of another's level.
_generating = threading.Lock()


@contextmanager
def _settings(opt_level: int) -> Iterator[None]:
    """Generate code as a level asks for."""
    with _generating:
        settings = _SETTINGS.get(opt_level, ())
        try:
            for option, value, _ in settings:
                llvm.set_option("wasinn", f"-{option}={value}")
            yield
        finally:
            for option, _, before in settings:
                llvm.set_option("wasinn", f"-{option}={before}")


def to_assembly(ir: str, target: Target, opt_level: int) -> str:
    """Compile LLVM IR text to assembly, for people."""
    machine, module = _optimised(ir, target, opt_level, True, _quiet)
    with _settings(opt_level):
        return str(machine.emit_assembly(module))
