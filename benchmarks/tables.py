"""The list of tables: each one's name, what it is, and how it is measured. Measures nothing itself.

Modules are imported when a table is asked for, so that one needs only what it measures.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import click

from benchmarks.field import Fields
from benchmarks.report import Result

__all__ = ["TABLES", "Request", "TableOf", "say"]


def say(text: str) -> None:
    """Progress, for a person who waits."""
    if sys.stderr.isatty():
        click.echo(f"measuring {text} ...", err=True)


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted.

    Attributes:
        fields: where the compute tables get their figures.
        rounds: how often each contestant runs, for the tables that do not say otherwise.
    """

    fields: Fields
    rounds: int


@dataclass(frozen=True, slots=True)
class TableOf:
    """One table.

    Attributes:
        name: the command's.
        what: its help.
        measure: makes it.
        kernels: whether it takes kernels' names.
    """

    name: str
    what: str
    measure: Callable[[Request], Result]
    kernels: bool = False


def _kernels(request: Request) -> Result:
    from benchmarks.compute import compute_table

    return compute_table(request.fields)


def _modes(request: Request) -> Result:
    from benchmarks.modes import modes_table

    return modes_table(request.fields)


def _fast_jit(request: Request) -> Result:
    from benchmarks.fast_jit import fast_jit_table

    return fast_jit_table(request.fields)


def _interp(request: Request) -> Result:
    from benchmarks.interp import interp_table

    return interp_table(request.fields)


def _start(request: Request) -> Result:
    from benchmarks.start import start_table

    say("a large guest's start")
    return start_table(request.rounds)


def _aot(request: Request) -> Result:
    from benchmarks.aot import aot_table

    say("wasinn compile")
    return aot_table(min(request.rounds, 3))


def _idle(request: Request) -> Result:
    from benchmarks.idle import idle_table

    say("idle instances")
    return idle_table()


def _instances(request: Request) -> Result:
    from benchmarks.instances import measure_instances

    say("instances")
    return measure_instances(request.rounds)


def _hostcall(request: Request) -> Result:
    from benchmarks.hostcall import hostcall_table

    say("host calls")
    return hostcall_table(request.rounds)


def _startup(request: Request) -> Result:
    from benchmarks.startup import measure_hello

    say("startup")
    return measure_hello(max(request.rounds, 11))


def _demo(request: Request) -> Result:
    from benchmarks.startup import measure_demo

    say("make demo")
    return measure_demo(min(request.rounds, 3))


def _nn(request: Request) -> Result:
    from benchmarks.nn import measure_nn

    say("nn")
    return measure_nn(max(request.rounds, 11), 1)


def _nn_calls(request: Request) -> Result:
    from benchmarks.nn_calls import nn_calls_table

    say("nn calls")
    return nn_calls_table(request.rounds)


def _nn_batching(request: Request) -> Result:
    from benchmarks.nn_batching import nn_batching_table

    say("nn batching")
    return nn_batching_table(request.rounds)


def _nn_rounds(_request: Request) -> Result:
    from benchmarks.nn_rounds import nn_rounds_table

    say("nn rounds")
    return nn_rounds_table()


def _evaluation(request: Request) -> Result:
    from benchmarks.evaluation import evaluation_table

    say("evaluation")
    return evaluation_table(request.rounds)


TABLES: tuple[TableOf, ...] = (
    TableOf("kernels", "llvm-jit and aot against native code, wasmtime, WAMR.", _kernels, True),
    TableOf("modes", "Every mode and every peer over native code.", _modes, True),
    TableOf("fast-jit", "fast-jit's speed and compile time against llvm-jit.", _fast_jit, True),
    TableOf("interp", "The interpreters against wasm3, WAMR and native code.", _interp, True),
    TableOf("start", "A 20 MB guest's first output, cold and warm.", _start),
    TableOf("aot", "`wasinn compile`: our own share, jobs, wamrc.", _aot),
    TableOf("idle", "Memory of 1,000 idle instances.", _idle),
    TableOf("instances", "1,000 instances of a loaded module, made and called.", _instances),
    TableOf("hostcall", "From guest to Python and back, over ctypes' own cost.", _hostcall),
    TableOf("startup", "`wasinn run hello.wasm` against a wasmtime script.", _startup),
    TableOf("demo", "`make demo` when everything it needs is there.", _demo),
    TableOf("nn", "MiniLM through guest and WASI-NN, against each bare library.", _nn),
    TableOf("nn-calls", "WASI-NN's own cost, without and with isolation.", _nn_calls),
    TableOf("nn-batching", "Many guests on one graph, without and with batching.", _nn_batching),
    TableOf("nn-rounds", "Memory after 10,000 rounds of load, compute, unload.", _nn_rounds),
    TableOf("evaluation", "`wasinn eval` against pipelines in plain Python.", _evaluation),
)
