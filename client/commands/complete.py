"""deltaserve complete"""

from dataclasses import asdict
from typing import Annotated

import typer

from deltaserve.client.calls import Generation
from deltaserve.client.client import Client
from deltaserve.client.console import shared
from deltaserve.client.console.terminal import Status, new_app, read_stdin, say, say_json
from deltaserve.client.console.terminal import Stop as StopCommand

app = new_app()


@app.command()
def complete(
    prompt: Annotated[str, typer.Argument(help="The text, or - to read it from stdin.")],
    url: shared.Url = None,
    api_key: shared.ApiKey = None,
    model: shared.Model = None,
    max_tokens: shared.MaxTokens = None,
    temperature: shared.Temperature = None,
    top_p: shared.TopP = None,
    seed: shared.Seed = None,
    stop: shared.Stop = None,
    as_json: shared.AsJson = False,
) -> None:
    """Continue a text.

    The continuation is printed as it comes; with --json it comes as one object.
    """
    text = read_stdin() if prompt == "-" else prompt
    if not text:
        raise StopCommand("There is nothing to continue: the prompt is empty.", Status.USAGE)
    how = Generation(model, max_tokens, temperature, top_p, seed, tuple(stop) if stop else None)
    with Client.at(shared.address(url, api_key)) as client:
        if as_json:
            say_json(asdict(client.complete(text, how)))
            return
        for piece in client.stream_complete(text, how):
            say(piece.text, end="")
        say("")
