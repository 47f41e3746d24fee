"""``wasinn compile``: a module to an AOT file. The work is in ``wasinn_runtime``."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import click

from wasinn_host.cli.ctrl_c import ends_at_once
from wasinn_host.cli.help import Command
from wasinn_host.cli.module_file import read_module
from wasinn_host.cli.talk import put, safe, say
from wasinn_runtime.engines.aot_compile import (
    STAGES,
    AotOptions,
    Compiled,
    Progress,
    compile_image,
)
from wasinn_runtime.errors import UsageError

__all__ = ["compile"]

_WORDS = {
    "decode": "decoding",
    "lower": "validating and lowering",
    "compile": "compiling",
    "optimise": "optimising",
    "generate": "generating code",
    "link": "linking",
    "write": "writing",
}
_LLVMS_OWN = ("optimise", "generate")


@click.command(
    cls=Command,
    help="Compile a module ahead of time. `wasinn run APP.aot` then starts at once and at full "
    "speed, without APP.wasm. The file holds native code, which is trusted like any program: run "
    "only what you compiled yourself or got from somebody you trust.",
    examples=(
        "wasinn compile examples/hello/hello.wasm -o hello.aot",
        "wasinn compile --opt 3 --timings benchmarks/kernels/fib.wasm -o fib.aot",
        "wasinn compile --target aarch64-linux-gnu benchmarks/kernels/fib.wasm -o fib-arm.aot",
    ),
)
@click.argument("file", metavar="APP.wasm", type=str)
@click.option(
    "-o",
    "--output",
    metavar="APP.aot",
    help="Where to write; by default the module's name with .aot instead of .wasm.",
)
@click.option(
    "--target",
    metavar="TRIPLE",
    help="The system to compile for: x86_64-linux-gnu or aarch64-linux-gnu; by default this one.",
)
@click.option(
    "--cpu",
    metavar="CPU",
    help="The CPU to compile for; by default `native` for this machine, and the least capable one "
    "for another. An unknown one lists those there are.",
)
@click.option(
    "--opt",
    "opt_level",
    type=click.IntRange(0, 3),
    default=2,
    show_default=True,
    help="How much LLVM optimises.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    default=1,
    show_default=True,
    help="How many processes compile; small modules use fewer.",
)
@click.option(
    "--migratable",
    is_flag=True,
    help="Make code that can stop where its state can be taken elsewhere: at function entries and "
    "in loops. It runs 6 % longer.",
)
@click.option("--timings", is_flag=True, help="Print how long each stage took.")
def compile(
    file: str,
    output: str | None,
    target: str | None,
    cpu: str | None,
    opt_level: int,
    jobs: int,
    migratable: bool,
    timings: bool,
) -> int:
    """Writes the file and tells what it holds."""
    path = _output(file, output)
    data = read_module(file)
    began = time.perf_counter()
    with _progress() as tell:
        options = AotOptions(target, cpu, opt_level, jobs, migratable=migratable)
        with ends_at_once():
            made = compile_image(data, file, options, tell)
        wrote = time.perf_counter()
        _write(path, made.image)
    ended = time.perf_counter()
    facts = made.facts
    say(
        f"{path}: {len(made.image)} bytes for {facts.triple} ({facts.cpu}), compiled from "
        f"{len(data)} bytes in {ended - began:.2f} s"
    )
    if timings:
        put(_table(made, ended - wrote, ended - began))
    return 0


def _output(file: str, output: str | None) -> Path:
    path = Path(output) if output is not None else Path(file).with_suffix(".aot")
    if path.suffix != ".aot" and not _is_special(path):
        raise UsageError(
            f"{path}: the name must end in .aot, since `wasinn run` takes native code from no "
            "other file"
        )
    if path.is_dir():
        raise UsageError(f"{path} is a directory; expected a file's name")
    with contextlib.suppress(OSError):
        if os.path.samefile(file, path):
            raise UsageError(f"{path} is the module itself; choose another name with -o")
    return path


def _is_special(path: Path) -> bool:
    """Whether it is there, and is no file: a pipe or device, to be written to as it is."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _write(path: Path, image: bytearray) -> None:
    """Put the file in place as a whole, or not at all."""
    if _is_special(path):
        with open(path, "wb") as file:
            file.write(image)
        return
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        with open(temporary, "xb") as file:
            file.write(image)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise


@contextlib.contextmanager
def _progress() -> Iterator[Progress | None]:
    """A bar on standard error where that is a terminal, and nothing elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True, refresh_per_second=5) as bar:
        task = bar.add_task("compiling", total=None)

        def tell(stage: str, done: int, total: int) -> None:
            # LLVM does not say how far it is: then the bar only moves.
            known = stage in ("lower", "compile") and done < total
            bar.update(
                task,
                description=_WORDS.get(stage, stage),
                completed=done if known else 0,
                total=total if known else None,
            )

        yield tell


def _table(made: Compiled, write_s: float, wall_s: float) -> str:
    """The stages' seconds, summed over the processes, and the share that is not LLVM's own work."""
    seconds = dict(made.seconds)
    seconds["write"] += write_s
    total = sum(seconds.values())
    own = total - sum(seconds[name] for name in _LLVMS_OWN)
    lines = [
        f"{name:<10} {seconds[name]:9.3f} s {_percent(seconds[name], total)}" for name in STAGES
    ]
    parts = "" if made.parts == 1 else f", {made.parts} parts"
    lines.append(f"{'all':<10} {total:9.3f} s, {wall_s:.3f} s by the clock{parts}")
    lines.append(f"{'ours':<10} {own:9.3f} s {_percent(own, total)}: all but optimise and generate")
    return safe("\n".join(lines) + "\n")


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole if whole else 0:5.1f} %"
