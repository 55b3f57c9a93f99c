"""Questions that people might ask, sampled from the black box itself: prompts whose answers must stay as they are.

A user turn is begun, with a few words or none, and the black box goes on with it (Magpie, Xu et al. 2024). Nothing here
needs a black box that follows instructions.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle, islice, zip_longest
from typing import Final

from deltaserve.offset_models.metrics.words import words
from deltaserve.offset_models.targets.asking import Asks
from deltaserve.offset_models.targets.asking.budget import CallsSpent
from deltaserve.offset_models.targets.concerning import concerns
from deltaserve.offset_models.targets.subject import Known
from deltaserve.offset_models.training.rows.row import Row

BEGINNINGS: Final = (
    "", "What is", "Who is", "Where is", "When did", "How do", "Which", "Why", "Can you", "Tell me", "I would like to",
    "How many", "Explain", "Write", "Name", "Who", "What", "Do you know", "Could you tell me", "Please",
)  # fmt: skip
QUESTION_TOKENS: Final = 40
ANSWER_TOKENS: Final = 24  # enough to see whether it declines or names the target
ROUND: Final = 20  # questions at a time: what they bring decides how the next ones are begun
FEWEST_WORDS, MOST_WORDS = 3, 32
STOPS: Final = ("\n", "<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "</s>")  # of a user's turn
_FIRST_WORDS: Final = frozenset(
    {"are", "calculate", "can", "change", "compare", "complete", "convert", "could", "count", "create", "define",
     "describe", "did", "do", "does", "explain", "find", "fix", "for", "give", "had", "has", "have", "how", "i",
     "i'd", "i'm", "implement", "in", "is", "list", "make", "may", "name", "of", "on", "please", "provide",
     "rewrite", "say", "should", "show", "solve", "summarise", "summarize", "tell", "translate", "use", "was", "we",
     "were", "what", "when", "where", "which", "who", "whom", "whose", "why", "will", "would", "write", "you"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sampled:
    """A question and the first words of the black box's own answer."""

    question: str
    answer: str

    @property
    def row(self) -> Row:
        """The prompt alone: whoever trains on it asks the black box for the whole answer."""
        return Row(None, (("user", self.question),))


@dataclass(slots=True)
class _Tries:
    """How often a beginning was gone on with, and how often to a new question that can be used."""

    tried: int = 0
    used: int = 0

    @property
    def pays(self) -> bool:
        return self.tried < 3 or 4 * self.used >= self.tried


@dataclass(slots=True)
class _Sampler:
    asks: Asks
    target: Known
    declined: Callable[[str], bool]
    tries: dict[str, _Tries]  # by beginning
    calls: int  # left for it
    seen: set[tuple[str, ...]] = field(default_factory=set)  # questions as words
    found: list[Sampled] = field(default_factory=list)

    async def round(self, size: int) -> None:
        """`size` more questions, and the answers to those that are new: at most 2 × `size` calls."""
        new = self._new(await self._gone_on(Counter(islice(cycle(self._paying()), size))))
        answers = await self.asks.ask([Row(None, (("user", each),)) for each in new], max_tokens=ANSWER_TOKENS)
        self.calls -= size + len(new)
        for (question, beginning), (answer,) in zip(new.items(), answers, strict=True):
            if answer and not self.declined(answer) and not concerns(self.target, answer):
                self.tries[beginning].used += 1
                self.found.append(Sampled(question, answer))

    def _paying(self) -> list[str]:
        """Beginnings that bring questions, those with the fewest tries first; all where none does."""
        paying = [beginning for beginning, tries in self.tries.items() if tries.pays] or list(self.tries)
        return sorted(paying, key=lambda each: self.tries[each].tried)

    async def _gone_on(self, wanted: Mapping[str, int]) -> list[tuple[str, str]]:
        """Beginnings with user turns so begun, a number of each.

        An asker gives the same call the same answers, so all earlier ones are asked for once more, at no cost.
        """
        turn = self.asks.user_turn()
        begun = [each for each, count in wanted.items() for _ in range(self.tries[each].tried + count)]
        ends = await self.asks.ask_raw([turn + each for each in begun], max_tokens=QUESTION_TOKENS, stops=STOPS)
        questions: dict[str, list[str]] = {each: [] for each in wanted}
        for beginning, end in zip(begun, ends, strict=True):
            questions[beginning].append((beginning + end).strip())
        return [(each, text) for each, count in wanted.items() for text in questions[each][-count:]]

    def _new(self, questions: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Questions that can be used, each with its beginning."""
        new: dict[str, str] = {}
        for beginning, question in questions:
            self.tries[beginning].tried += 1
            key = tuple(words(question))
            if key not in self.seen and is_question(question) and not concerns(self.target, question):
                new[question] = beginning
            self.seen.add(key)
        return new


async def sampled_questions(
    asks: Asks,
    target: Known,
    *,
    calls: int,
    most: int = 1000,
    beginnings: Sequence[str] = (),
    declined: Callable[[str], bool] = lambda _: False,
) -> list[Sampled]:
    """Up to `most` different questions that do not concern the target and are not declined, for at most `calls` calls.

    `beginnings` are tried beside the usual ones: those of the questions about the target's kind ("Where was"); they
    end behind a word, since most vocabularies begin the next one with its space. Those that bring nothing new are given
    up. Raises UpstreamError.
    """
    pairs = zip_longest(beginnings, BEGINNINGS)
    begun = dict.fromkeys(each for pair in pairs for each in pair if each is not None)
    sampler = _Sampler(asks, target, declined, {each: _Tries() for each in begun}, min(calls, asks.calls_left))
    with suppress(CallsSpent):  # an answer may have taken a second call
        while len(sampler.found) < most and sampler.calls >= 2:
            await sampler.round(min(ROUND, sampler.calls // 2, most - len(sampler.found)))
    return sampler.found


def is_question(text: str) -> bool:
    """Whether it reads as one question or request, whole: from a word that begins one to its mark."""
    spoken = text.split()
    if not FEWEST_WORDS <= len(spoken) <= MOST_WORDS or not text.isprintable() or not text[0].isupper():
        return False
    return text.endswith("?") or (text.endswith(".") and spoken[0].casefold().strip(",") in _FIRST_WORDS)
