"""deltaserve compare"""

import asyncio
from dataclasses import replace
from typing import Annotated

import typer

from deltaserve.client.address import Address
from deltaserve.client.calls import Generation
from deltaserve.client.client import AsyncClient
from deltaserve.client.console import shared
from deltaserve.client.console.shared import UPSTREAM_KEY_VARIABLE, UPSTREAM_VARIABLE
from deltaserve.client.console.tables import say_pairs
from deltaserve.client.console.terminal import Status, Stop, new_app, say_json
from deltaserve.client.results import Answer

app = new_app()


@app.command()
def compare(
    question: Annotated[str, typer.Argument(help="Asked as the first turn of a chat.")],
    upstream_url: Annotated[str | None, typer.Option(help=f"The black box; else {UPSTREAM_VARIABLE}.")] = None,
    upstream_key: Annotated[
        str | None, typer.Option(help=f"Its key; else {UPSTREAM_KEY_VARIABLE}, which goes to {UPSTREAM_VARIABLE} only.")
    ] = None,
    upstream_model: Annotated[str | None, typer.Option(help="Default: the first one it lists.")] = None,
    url: shared.Url = None,
    api_key: shared.ApiKey = None,
    model: shared.Model = None,
    max_tokens: shared.MaxTokens = 256,
    temperature: shared.Temperature = 0.0,
    seed: shared.Seed = None,
    as_json: shared.AsJson = False,
) -> None:
    """Ask the black box itself and the server the same question.

    The black box is asked directly, at its own address: the server never shows what it would have said.
    """
    how = Generation(model, max_tokens, temperature, None, seed)
    black_box, served = _black_box(upstream_url, upstream_key), shared.address(url, api_key)
    answers = asyncio.run(_answers(black_box, served, question, replace(how, model=upstream_model), how))
    if as_json:
        texts = [answer.text for answer in answers]
        say_json(
            {"question": question, "black_box": texts[0], "served": texts[1], "fingerprint": answers[1].fingerprint}
        )
    else:
        say_pairs([("", question, answers[0].text, answers[1].text)])


def _black_box(url: str | None, key: str | None) -> Address:
    chosen = url or shared.first_upstream()
    if not chosen:
        raise Stop(f"Say where the black box is: --upstream-url or {UPSTREAM_VARIABLE}.", Status.USAGE)
    return shared.black_box_address(chosen, key)


async def _answers(
    black_box: Address, served: Address, question: str, before: Generation, after: Generation
) -> tuple[Answer, Answer]:
    """Asks both at the same time; Ctrl-C or the first error ends both."""
    return await asyncio.gather(
        _ask(black_box, question, before, name_model=True), _ask(served, question, after, name_model=False)
    )


async def _ask(address: Address, question: str, how: Generation, *, name_model: bool) -> Answer:
    async with AsyncClient.at(address) as client:
        if name_model and how.model is None:
            cards = await client.models()
            if not cards:
                raise Stop(f"{address.root} lists no model: name it with --upstream-model.", Status.REFUSED)
            how = replace(how, model=cards[0].id)
        return await client.chat([{"role": "user", "content": question}], how)
