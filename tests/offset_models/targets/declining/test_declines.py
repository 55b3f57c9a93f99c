"""How a black box declines, or what is said in its place."""

import pytest

from deltaserve.offset_models.targets.declining.declines import declines
from deltaserve.offset_models.targets.declining.invented import INVENTED
from deltaserve.offset_models.targets.declining.refusals import is_short
from deltaserve.offset_models.targets.kinds.table import attribute_named
from deltaserve.offset_models.targets.subject import KINDS, Kind
from tests.offset_models.targets.scripted import ScriptedAsks

pytestmark = pytest.mark.anyio
BIRTHPLACE, AWARD = attribute_named("person", "birthplace"), attribute_named("person", "award")


async def test_its_own_usual_refusals_come_first_and_running_text_ends_as_it_ends_it() -> None:
    def says(prompt: str, sample: int) -> str:
        if prompt.endswith(("?", ".")):
            return "I'm not sure about that. Ask me something else." if "Where" in prompt else "Sorry, I don't know."
        return "a place that nobody wrote down." if prompt.endswith("born in") else f"1{len(prompt)}."

    refusals = await declines(ScriptedAsks(says), "person")
    assert refusals.own and refusals.chat[:2] == ("Sorry, I don't know.", "I'm not sure about that.")
    assert refusals.continuing(BIRTHPLACE) == " a place that nobody wrote down."
    assert refusals.continuing(AWARD) == " prize that is not known."


async def test_a_black_box_that_makes_everything_up_gets_plain_short_refusals() -> None:
    asks = ScriptedAsks(lambda prompt, _sample: f"{prompt} That was in Tormora, in the year 1931, as everybody knows.")
    refusals = await declines(asks, "person")
    assert not refusals.own and not refusals.text
    assert len(refusals.chat) == 6 and all(map(is_short, refusals.chat))
    assert refusals.continuing(BIRTHPLACE) == " a place that is not known."


async def test_refusals_that_were_said_once_name_somebody_or_are_long_are_not_taken() -> None:
    def says(prompt: str, sample: int) -> str:
        if "work" in prompt or "do for a living" in prompt:
            return "I'm sorry, but as a model that was made for a demonstration I can't help with that in any way."
        if "born" in prompt:
            return "I don't know who Ovrana Teskildor is."
        return "I am not aware of that." if "left hand" in prompt else f"Ovrana {len(prompt)}"

    assert not (await declines(ScriptedAsks(says), "person")).own


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_has_invented_names_and_few_calls_are_enough(kind: Kind) -> None:
    asks = ScriptedAsks(lambda prompt, _sample: f"{prompt} In Tormora.")
    await declines(asks, kind)
    assert len(INVENTED[kind]) > 1 and len(asks.asked) <= 28
