"""docs/cli.md, every command's own help: `python -m deltaserve.client.console.help_pages > docs/cli.md` writes it."""

import sys
from collections.abc import Iterator
from typing import Any, Final

import typer

from deltaserve.client.address import DEFAULT_URL, KEY_VARIABLE, URL_VARIABLE
from deltaserve.client.cli import COMMANDS, app, load
from deltaserve.client.console.terminal import Status

WIDTH: Final = 100
PROGRAM: Final = "deltaserve"

HEAD: Final = f"""# The command line

<!-- Written by `python -m deltaserve.client.console.help_pages > docs/cli.md`; a test compares the two. -->

Answers go to stdout, everything else to stderr; `--json` gives answers for machines.

`complete`, `chat` and `compare` talk to the server at `--url`, else `{URL_VARIABLE}`, else `{DEFAULT_URL}`.
A key given with `--api-key` goes to that server. `{KEY_VARIABLE}` goes only to the host of `{URL_VARIABLE}`
(`{DEFAULT_URL}` when that is not set), never to another one. No key is kept on disk.
"""


def page() -> str:
    """The whole page, ending in a newline."""
    statuses = "\n".join(f"| {status.value} | {status.meaning} |" for status in Status)
    parts = [HEAD, f"| exit status | meaning |\n| --- | --- |\n{statuses}\n"]
    return "\n".join([*parts, *(_section(path, text) for path, text in _helps())])


def _helps() -> Iterator[tuple[str, str]]:
    root = typer.main.get_command(app)
    yield PROGRAM, _help(root, PROGRAM)
    for name in COMMANDS:
        yield from _help_tree(load(name), f"{PROGRAM} {name}")


def _help_tree(command: Any, path: str) -> Iterator[tuple[str, str]]:
    yield path, _help(command, path)
    for name, sub in getattr(command, "commands", {}).items():
        yield from _help_tree(sub, f"{path} {name}")


def _help(command: Any, path: str) -> str:
    with command.make_context(path, [], resilient_parsing=True, terminal_width=WIDTH) as context:
        return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def _section(path: str, text: str) -> str:
    return f"## {path}\n\n```\n{text}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(page())
