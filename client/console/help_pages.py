"""docs/cli.md: every command's own help. `python -m deltaserve.client.console.help_pages > docs/cli.md` writes it.

Options that an earlier command prints already are printed there only; the others name them and link to it.
"""

import copy
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import typer

from deltaserve.client.address import DEFAULT_URL, KEY_VARIABLE, URL_VARIABLE
from deltaserve.client.cli import COMMANDS, app, load
from deltaserve.client.console.terminal import Status

WIDTH: Final = 100
PROGRAM: Final = "deltaserve"
FEWEST_SHARED: Final = 2  # a single option in common with another command is explained again

Explained = dict[tuple[str, str], str]  # an option's names and help -> the command that explains it

HEAD: Final = f"""# The command line

<!-- Written by `python -m deltaserve.client.console.help_pages > docs/cli.md`; a test compares the two. -->

Answers go to stdout, everything else to stderr; `--json` gives answers for machines. An option that several commands
share is explained once on this page; the other commands link to it. `deltaserve COMMAND --help` prints them all.

`complete`, `chat` and `compare` talk to the server at `--url`, else `{URL_VARIABLE}`, else `{DEFAULT_URL}`.
A key given with `--api-key` goes to that server. `{KEY_VARIABLE}` goes only to the host of `{URL_VARIABLE}`
(`{DEFAULT_URL}` when that is not set), never to another one. No key is kept on disk.
"""


def page() -> str:
    """The whole page, ending in a newline."""
    statuses = "\n".join(f"| {status.value} | {status.meaning} |" for status in Status)
    parts = [HEAD, f"| exit status | meaning |\n| --- | --- |\n{statuses}\n"]
    explained: Explained = {}
    return "\n".join([*parts, *(_section(path, command, explained) for path, command in commands())])


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with the words that call it, in the order of the page."""
    yield PROGRAM, typer.main.get_command(app)
    for name in COMMANDS:
        yield from _tree(load(name), f"{PROGRAM} {name}")


def _tree(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, sub in getattr(command, "commands", {}).items():
        yield from _tree(sub, f"{path} {name}")


def _section(path: str, command: Any, explained: Explained) -> str:
    """One command's heading and help. Adds the options that are explained here to `explained`."""
    with command.make_context(path, [], resilient_parsing=True, terminal_width=WIDTH) as context:
        records = {param: param.get_help_record(context) for param in command.params}
        shared = _shared(records, explained)
        elsewhere = {param for params in shared.values() for param in params}
        here = copy.copy(command)
        here.params = [param for param in command.params if param not in elsewhere]
        text = "\n".join(line.rstrip() for line in here.get_help(context).splitlines())
    references = "".join(_reference(owner, params, explained) for owner, params in shared.items())
    for param in here.params:
        explained.setdefault(records[param], path)
    return f"## {path}\n\n```\n{text}\n```\n{references}"


def _shared(records: dict[Any, Any], explained: Explained) -> dict[str, list[Any]]:
    """Command -> the options among `records` that it explains in the same words."""
    by_owner: dict[str, list[Any]] = defaultdict(list)
    for param, record in records.items():
        if record in explained:
            by_owner[explained[record]].append(param)
    return {owner: params for owner, params in by_owner.items() if len(params) >= FEWEST_SHARED}


def _reference(owner: str, params: list[Any], explained: Explained) -> str:
    link = f"[`{owner}`](#{owner.replace(' ', '-')})"
    if len(params) == list(explained.values()).count(owner):
        return f"\nAlso all options of {link}.\n"
    names = ", ".join(f"`{param.opts[0]}`" for param in params)
    sentence = f"Also these options of {link}: {names}."
    return f"\n{textwrap.fill(sentence, 120, break_long_words=False, break_on_hyphens=False)}\n"


if __name__ == "__main__":
    sys.stdout.write(page())
