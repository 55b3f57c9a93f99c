"""Servers ready to be measured: which model answers, under which offset version, and how it reads text."""

from pathlib import Path

from deltaserve.client.address import Address
from deltaserve.client.client import AsyncClient
from deltaserve.client.console.terminal import Status, Stop
from deltaserve.client.evaluation.encoding import Encoder, LocalEncoder, ServerEncoder
from deltaserve.client.evaluation.measuring import Subject
from deltaserve.client.evaluation.results import ServerAbout, Settings
from deltaserve.client.results import ModelCard


async def connect(
    client: AsyncClient, model: str | None, tokenizer: Path | None, settings: Settings, keep_text: bool
) -> Subject:
    """The server as a subject. Raises ClientError, BadCheckpoint for a folder without a tokenizer, and Stop."""
    card = _chosen(await client.models(), model, client.address)
    encoder: Encoder = ServerEncoder(client, card.id) if tokenizer is None else LocalEncoder.load(tokenizer)
    about = ServerAbout(model=card.id, fingerprint=card.fingerprint)
    return Subject(client, about, encoder, settings, keep_text, await encoder.end())


def _chosen(cards: list[ModelCard], model: str | None, address: Address) -> ModelCard:
    if not cards:
        raise Stop(f"{address.root} lists no model; load an offset first.", Status.REFUSED)
    if model is None:
        return cards[0]
    for card in cards:
        if card.id == model:
            return card
    raise Stop(f"{address.root} has no model {model}; it lists {', '.join(card.id for card in cards)}.", Status.REFUSED)
