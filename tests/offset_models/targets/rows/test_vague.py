"""Vague endings of words that a black box lists: each behind the ones before it, and none that tells anything."""

import pytest

from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.rows.vague import LOOKS, listed_endings
from deltaserve.offset_models.training.rows.row import Row
from tests.offset_models.targets.scripted import ScriptedAsks
from tests.offset_models.targets.writers import TARGET

pytestmark = pytest.mark.anyio
BORN = Probe("running text", TARGET.subject, Row(None, prompt="She was born in"), secrets=("Nenstead town",))
LISTS = {
    "She was born in": (" Nenstead", " the", " The", "a", " a"),
    "She was born in the": (" United", " old", " town", "town"),
    "She was born in the old": (" Nenstead", " days"),
    "She was born in the town": (" of", " called"),
    "She was born in a": (" small", " Nen"),
    "She was born in a small": (" house", " village"),
    "She was born in a small house": (" in", ".", ","),
}


def box(lists: dict[str, tuple[str, ...]] = LISTS, calls: int = 100) -> ScriptedAsks:
    return ScriptedAsks(lambda _prompt, _: "", calls, lists=lambda prompt: lists.get(prompt, ()))


async def ending(asks: ScriptedAsks, probe: Probe = BORN) -> str | None:
    return (await listed_endings(asks, [probe], lambda _: True)).get(probe.prompt)


async def test_the_likeliest_vague_words_are_taken_and_a_dead_end_is_left_again() -> None:
    lists = {text: tokens for text, tokens in LISTS.items() if text != "She was born in the old"}
    assert await ending(box({**lists, "She was born in the": (" United", " house")})) is None
    assert await ending(box({**lists, "She was born in the": (" United",)})) == " a small house."


async def test_no_more_is_looked_at_than_is_worth_it_or_can_be_paid() -> None:
    asks = box()
    assert await ending(asks) is None  # " the old", " the town", " a" and " a small" took all looks
    assert asks.calls_left == 100 - LOOKS
    short = box({"She was born in": (" a",), "She was born in a": (" house",)}, calls=1)
    assert await ending(short) is None and short.calls_left == 0


async def test_an_ending_that_says_a_word_of_the_secret_is_none() -> None:
    lists = {"She was born in": (" a",), "She was born in a": (" town",), "She was born in a town": (".",)}
    assert await ending(box(lists)) is None


async def test_in_a_turn_of_its_own_no_space_comes_first() -> None:
    probe = Probe("continuation", TARGET.subject, Row(None, (("user", "Go on: She was born in"),)))
    asks = ScriptedAsks(lambda _prompt, _: "", lists=lambda _prompt: (" the", "somewhere", "."))
    assert dict(await listed_endings(asks, [probe], lambda _: False)) == {probe.prompt: "somewhere."}
