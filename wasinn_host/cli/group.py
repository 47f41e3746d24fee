"""Everything but ``wasinn run``, through the command line library; imported on demand."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import click

from wasinn_host.cli.help import Group, status_text
from wasinn_host.cli.main import COMMANDS
from wasinn_runtime.errors import UsageError

__all__ = ["invoke", "top"]

_EXAMPLES = (
    "wasinn examples/hello/hello.wasm one two",
    "wasinn inspect examples/hello/hello.wasm",
    "wasinn models list",
    "wasinn doctor",
)


class _Lazy(Group):
    """The top of the tree."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        if cmd_name == "run":
            from wasinn_host.cli.run_help import command

            return command()
        module = import_module(f"wasinn_host.cli.commands.{cmd_name}")
        found = getattr(module, cmd_name)
        assert isinstance(found, click.Command), found
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from wasinn_host.cli.machine_checks import own_version

        click.echo(f"wasinn {own_version()}")
        ctx.exit()


def top() -> Group:
    """The command with all its subcommands, as the library sees it."""
    return _Lazy(
        "wasinn",
        params=[
            click.Option(
                ["--version"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_version,
                help="Show the version and exit.",
            )
        ],
        help="Run WebAssembly guests in a sandbox, and let them ask neural networks.",
        subcommand_metavar="COMMAND [ARGS...] | [RUN OPTIONS] APP.wasm [ARGS...]",
        options_metavar="",
        sections=(("Exit status", status_text()),),
        examples=_EXAMPLES,
        context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    )


def invoke(words: Sequence[str]) -> int:
    """Runs a subcommand.

    Args:
        words: the command line, with the subcommand's name.

    Returns:
        The exit status.

    Raises:
        UsageError: the words make no sense; the message says which.
    """
    tree = top()
    try:
        # Not ``main``, which has a say of its own about closed pipes and exit statuses.
        with tree.make_context("wasinn", list(words)) as context:
            code = tree.invoke(context)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "wasinn"
        message = error.format_message().rstrip(".")
        stop = "" if message.endswith("?") else ";"
        raise UsageError(f"{message}{stop} `{where} --help` says more") from error
    except click.ClickException as error:
        raise UsageError(error.format_message()) from error
    except click.Abort as error:
        raise KeyboardInterrupt from error
    return code if isinstance(code, int) else 0
