"""The command `deltaserve`. A command's module is imported when the command is called, so help comes at once."""

import sys
from importlib import import_module
from typing import Annotated, Any, Final, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from deltaserve.client.console.finite import only_finite
from deltaserve.client.console.terminal import new_app, reported


class Entry(NamedTuple):
    """Where a command lives, and the first line of its help."""

    module: str
    summary: str


COMMANDS: Final = {
    "demo": Entry("demo", "Run the embedded black box and a server; show before and after."),
    "serve": Entry("serve", "Serve a black box's answers, corrected, in OpenAI's format."),
    "blackbox": Entry("blackbox", "Serve the embedded black box: a small model, vLLM's API."),
    "doctor": Entry("doctor", "Check settings, offset and black box; say what to do."),
    "train": Entry("train", "Train an offset on what was collected."),
    "forget": Entry("forget", "Collect, train, evaluate, pack and activate in one go."),
    "complete": Entry("complete", "Continue a text."),
    "chat": Entry("chat", "Talk to the served model."),
    "compare": Entry("compare", "Ask the black box itself and the server the same question."),
    "collect": Entry("collect", "Fetch a black box's top-k along the training text."),
    "evaluate": Entry("evaluate", "Measure what was forgotten and what was kept, through the server."),
    "leakage": Entry("leakage", "Attack a server: what of the forgotten still comes out?"),
    "report": Entry("report", "Make one page of what was measured, for people."),
    "keys": Entry("keys", "Named keys with limits: make one, check the file of them."),
    "offsets": Entry("offsets", "Offset checkpoints: make, look at, load, activate, roll back."),
}


def load(name: str) -> Any:
    """The command itself, its module imported now."""
    module = import_module(f"deltaserve.client.commands.{COMMANDS[name].module}")
    command = only_finite(typer.main.get_command(module.app))
    command.name = name
    return command


class LazyGroup(TyperGroup):
    """Lists commands by name and summary; the real one takes over when it is called."""

    def __init__(self, **attributes: Any) -> None:
        commands = {name: TyperCommand(name, help=entry.summary) for name, entry in COMMANDS.items()}
        super().__init__(**{**attributes, "commands": commands})

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else command, rest

    def invoke(self, ctx: Any) -> Any:
        with reported():
            return super().invoke(ctx)


app = new_app(cls=LazyGroup, no_args_is_help=True, add_completion=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("deltaserve"))
        raise typer.Exit


@app.callback()
def deltaserve(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Unlearning for a model you don't own: a black box's answers, corrected token by token."""


def main() -> None:
    """Entry point."""
    sys.exit(app())
