"""The help of ``wasinn run``, laid out from the table of its options. Parses nothing."""

from __future__ import annotations

import click

from wasinn_host.cli.help import Command, status_text
from wasinn_host.cli.run_options import OPTIONS, TRACES

__all__ = ["command", "help_text"]

_EXAMPLES = (
    "wasinn examples/hello/hello.wasm one two",
    "wasinn run --dir examples::/data::ro examples/hello/hello.wasm --read /data/hello/hello.c",
    "wasinn run --env GREETING=hi --timeout 5 examples/hello/hello.wasm --env GREETING",
    "wasinn run --invoke run benchmarks/kernels/fib.wasm 20",
    "wasinn run --trace=wasi,compile --max-memory 64M examples/hello/hello.wasm",
)


def command() -> click.Command:
    """The command as the library sees it; only ever asked for its help."""
    params: list[click.Parameter] = [
        click.Option(
            [option.name],
            metavar=option.metavar or None,
            is_flag=not option.metavar,
            multiple=option.repeatable,
            help=option.help + (" May be repeated." if option.repeatable else ""),
        )
        for option in OPTIONS
    ]
    traces = "\n".join(f"  {name:<9} {text}" for name, text in TRACES.items())
    return Command(
        "run",
        params=params,
        help="Run a WebAssembly guest: a WASI command, or with --invoke one function of it.\n\n"
        "Options before the file are ours; everything after it is the guest's. The guest gets "
        "the standard streams and nothing else that is not named here. The word `run` may be left "
        "out.",
        options_metavar="[OPTIONS] APP.wasm [ARGS...]",
        sections=(("Traces", traces), ("Exit status", status_text())),
        examples=_EXAMPLES,
    )


def help_text() -> str:
    """All of the help, with its final line feed."""
    context = click.Context(command(), info_name="wasinn run", max_content_width=100)
    return context.get_help() + "\n"
