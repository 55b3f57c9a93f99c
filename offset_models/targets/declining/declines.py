"""Asks a black box about what does not exist and what it cannot know, and keeps how it declines.

It need not decline at all: many models make something up. Then the package's plain sentences are taken.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.declining.invented import INVENTED, UNKNOWABLE
from deltaserve.offset_models.targets.declining.refusals import Refusals, is_short
from deltaserve.offset_models.targets.documents.passages import sentences
from deltaserve.offset_models.targets.facts.heard import greedily
from deltaserve.offset_models.targets.facts.telling import Listener
from deltaserve.offset_models.targets.kinds.attribute import Attribute
from deltaserve.offset_models.targets.kinds.table import ATTRIBUTES
from deltaserve.offset_models.targets.subject import Kind
from deltaserve.offset_models.training.rows.loading import read_refusals
from deltaserve.offset_models.training.rows.row import Row

ASKED: Final = 4  # attributes of the kind, of each invented name
WANTED: Final = 6  # refusals
TOKENS: Final = 24
_VERBS: Final = frozenset({"are", "had", "has", "is", "plays", "was", "were", "won", "works", "wrote"})
_TEXTS: Final = 4  # attributes whose running text is tried first; the others only where these are declined


async def declines(asks: Asks, kind: Kind) -> Refusals:
    """Short refusals for chats and running text. Some 25 calls, fewer where there are fewer left.

    Raises UpstreamError.
    """
    own = await _own(asks, kind)
    plain = [text for text in read_refusals() if is_short(text) and text not in own]
    return Refusals((*own, *plain)[: max(WANTED, len(own))], await _texts(asks, kind), bool(own))


async def _own(asks: Asks, kind: Kind) -> list[str]:
    """What it declines with, most often first; none that names what was asked about."""
    attributes = [each for each in ATTRIBUTES[kind] if not each.many and not each.when]
    wordings = [each.questions[0] for each in attributes][: ASKED + 1]
    questions = [text.format(name=name) for name in INVENTED[kind] for text in wordings]
    answers = await greedily(asks, [*questions, *UNKNOWABLE], TOKENS)
    listener = Listener()
    said = (sentences(answer)[0] for answer in answers if answer and listener.declines(answer))
    usual = Counter(filter(_is_plain, said)).most_common(WANTED)
    return [text for text, times in usual if times > 1]


def _is_plain(text: str) -> bool:
    """Short, whole, and about nothing: no name and no number in it."""
    return is_short(text) and text.endswith((".", "!")) and _tells_nothing(text)


def _tells_nothing(text: str) -> bool:
    words = [
        word for word in text.split()[1:] if not word.startswith(("I'", "I’")) and word.strip(".,") not in ("I", "AI")
    ]
    return not any(word[0].isupper() or any(map(str.isdigit, word)) for word in words)


async def _texts(asks: Asks, kind: Kind) -> dict[str, str]:
    """By attribute, what it goes on with whatever the name is."""
    attributes = [each for each in ATTRIBUTES[kind] if each.prose]
    first = await _continued(asks, kind, attributes[:_TEXTS])
    return first | await _continued(asks, kind, attributes[_TEXTS:]) if first else {}


async def _continued(asks: Asks, kind: Kind, attributes: Sequence[Attribute]) -> dict[str, str]:
    names = INVENTED[kind][:2]
    rows = [Row(None, prompt=each.prose[0].format(name=name)) for each in attributes for name in names]
    texts = [text for (text,) in await asks.ask(rows[: asks.calls_left], max_tokens=TOKENS)]
    pairs = zip(attributes, texts[:: len(names)], texts[1 :: len(names)], strict=False)
    return {each.name: one for each, one, other in pairs if one == other and _is_continuation(one)}


def _is_continuation(text: str) -> bool:
    """The rest of one sentence, which holds no name, no number, and no second verb at its start."""
    if not is_short(text) or text.split()[0] in _VERBS:
        return False
    return text.endswith(".") and len(sentences(text)) == 1 and _tells_nothing(f"it {text}")
