"""deltaserve chat"""

import sys
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from deltaserve.client.calls import Generation
from deltaserve.client.client import Client
from deltaserve.client.console import shared
from deltaserve.client.console.conversation import Conversation, Ended
from deltaserve.client.console.terminal import new_app, note, say, say_json_line, status_of, stdin_lines
from deltaserve.client.errors import ClientError
from deltaserve.client.results import Piece

app = new_app()


@app.command()
def chat(
    url: shared.Url = None,
    api_key: shared.ApiKey = None,
    system: Annotated[
        str | None, typer.Option("--system", "-s", help="A system message before the first turn.")
    ] = None,
    model: shared.Model = None,
    max_tokens: shared.MaxTokens = None,
    temperature: shared.Temperature = None,
    seed: shared.Seed = None,
    as_json: shared.AsJson = False,
) -> None:
    """Talk to the served model.

    Every line is a turn; /help lists the commands. Ctrl-C stops an answer, Ctrl-D or /exit leaves. Lines may be piped
    in too: then each answer goes to stdout, with --json as one object a line, and the first error ends the chat.
    """
    conversation = Conversation(Generation(model, max_tokens, temperature, None, seed), system)
    typed = sys.stdin.isatty() and sys.stdout.isatty()
    if typed:
        note("/help lists the commands.")
    with Client.at(shared.address(url, api_key)) as client:
        try:
            for line in _typed_lines() if typed else _piped_lines():
                _take(client, conversation, line, as_json, typed)
        except Ended:
            return


def _typed_lines() -> Iterator[str]:
    import readline  # noqa: F401  (importing it gives input() line editing and history)

    while True:
        try:
            yield input("> ").strip()
        except UnicodeDecodeError:
            note("That line is not UTF-8 text.")
        except (EOFError, KeyboardInterrupt):
            note("")
            return


def _piped_lines() -> Iterator[str]:
    return (line.strip() for line in stdin_lines())


def _take(client: Client, conversation: Conversation, line: str, as_json: bool, typed: bool) -> None:
    if line.startswith("/"):
        note(conversation.command(line))
    elif line:
        conversation.ask(line)
        try:
            conversation.answered(_answer(client, conversation, as_json))
        except (ClientError, KeyboardInterrupt) as error:
            conversation.unask()
            _survive(error, typed)


def _answer(client: Client, conversation: Conversation, as_json: bool) -> str:
    """What the model thinks goes to stderr, and what it says to stdout."""
    pieces: list[Piece] = []
    for piece in client.stream_chat(conversation.messages, conversation.how):
        thought = bool(pieces) and bool(pieces[-1].reasoning)
        pieces.append(piece)
        if as_json:
            continue
        if piece.reasoning:
            note(piece.reasoning, end="")
        elif thought:
            note("")
        say(piece.text, end="")
    text = "".join(piece.text for piece in pieces)
    if as_json:
        say_json_line(_summary(pieces))
    else:
        say("")
    return text


def _summary(pieces: Sequence[Piece]) -> dict[str, str | None]:
    thought = "".join(piece.reasoning for piece in pieces)
    reasons = [piece.finish_reason for piece in pieces if piece.finish_reason]
    text = "".join(piece.text for piece in pieces)
    summary: dict[str, str | None] = {"text": text, "finish_reason": reasons[-1] if reasons else None}
    return {**summary, "reasoning": thought} if thought else summary


def _survive(error: BaseException, typed: bool) -> None:
    """At a terminal a failed answer is a note; in a pipe it ends the command."""
    if not typed:
        if isinstance(error, ClientError):
            note(error.message)
            raise typer.Exit(status_of(error)) from error
        raise error
    note(f"\n{error.message}" if isinstance(error, ClientError) else "\n(stopped)")
