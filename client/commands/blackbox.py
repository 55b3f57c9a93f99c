"""deltaserve blackbox"""

from contextlib import suppress
from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

from deltaserve.client.console.generated import Flag, accepts, default_text_of, given, without_none
from deltaserve.client.console.terminal import Status, Stop, new_app
from deltaserve.offset_models.demo.blackbox import Options, run

app = new_app()


def option_flags() -> list[Flag]:
    """One for each field of Options."""
    hints = get_type_hints(Options)
    return [Flag(f.name, _kind(hints[f.name]), "", default_text_of(f.default)) for f in fields(Options)]


def _kind(annotation: Any) -> Any:
    """Options that may be given several times are tuples there and lists here."""
    plain = without_none(annotation)
    return list[get_args(plain)[0]] if get_origin(plain) is tuple else plain  # type: ignore[misc]


@app.command()
@accepts(option_flags())
def blackbox(**values: Any) -> None:
    """Serve the embedded black box: a small model, vLLM's API.

    Prints `ready URL` when it answers, and runs until SIGINT or SIGTERM. Its switches make it as strict, slow or faulty
    as other servers are.
    """
    try:
        options = Options(**given(values))
    except ValueError as error:
        raise Stop(str(error), Status.USAGE) from error
    with suppress(KeyboardInterrupt):
        run(options)
