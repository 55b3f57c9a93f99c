from collections.abc import Callable, Sequence
from typing import Any

import pytest

from deltaserve.client.console.terminal import Stop
from deltaserve.client.errors import Refused, ServerFailed
from deltaserve.client.evaluation.data.items import Asking, Item
from deltaserve.client.evaluation.measuring import Subject, split_answer, token_scores
from deltaserve.client.evaluation.patience import patiently
from deltaserve.client.evaluation.results import ServerAbout, Settings
from deltaserve.client.results import Answer, ScoredPrompt
from deltaserve.offset_models.tokenizer.continuation import Answered

pytestmark = pytest.mark.anyio


class Letters:
    """One id per character."""

    async def answered(self, question: str, answers: Sequence[str]) -> list[Answered]:
        return [Answered([1, *map(ord, question), 2], [*map(ord, answer)]) for answer in answers]

    async def continued(self, prompt: str, texts: Sequence[str]) -> list[Answered]:
        return [Answered([1, *map(ord, prompt)], [*map(ord, text)]) for text in texts]

    async def text(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))

    async def end(self) -> list[int]:
        return [0]


class Server:
    """Scores every token at −1 and answers with one text."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        self.scored: list[list[int]] = []
        self.asked: list[Any] = []

    async def score(self, prompts: Sequence[Sequence[int]], logprobs: int, model: str | None) -> list[ScoredPrompt]:
        self.scored += [list(ids) for ids in prompts]
        return [ScoredPrompt((None, *[-1.0] * (len(p) - 1)), (None, *[(-1.0, -2.0)] * (len(p) - 1))) for p in prompts]

    async def chat(self, messages: Any, how: Any, ending: str = "opened") -> Answer:
        self.asked.append((messages, how.max_tokens, how.stop, ending))
        return Answer("the mill", "stop", "m", self._fingerprint, 1, 1)

    async def complete(self, prompt: Any, how: Any) -> Answer:
        return await self.chat(prompt, how)


def subject(server: Any, fingerprint: str | None) -> Subject:
    about = ServerAbout(model="m", fingerprint=fingerprint)
    return Subject(server, about, Letters(), Settings(max_tokens=4, logprobs=2), end=[0])


async def test_answer_paraphrase_and_wrong_ones_are_scored_after_the_chat_with_the_end_token() -> None:
    server = Server("ds-1")
    item = Item("q", "a b", "forget", 0, "b a", ("c", "d"))
    found = await subject(server, "ds-1").measure(item)
    prompt = [1, ord("q"), 2]
    assert server.scored == [[*prompt, *map(ord, text), 0] for text in ("a b", "b a", "c", "d")]
    assert (found.tokens, found.mean_logprob, found.perturbed_mean_logprobs) == (4, -1.0, (-1.0, -1.0))


async def test_an_opening_is_written_into_the_answer_and_not_scored() -> None:
    server = Server("ds-1")
    item = Item("q", "a", "retain", asking=Asking("O:", max_tokens=3, stops=("\n",)))
    found = await subject(server, "ds-1").measure(item)
    assert server.scored == [[1, ord("q"), 2, *map(ord, "O: a"), 0]]
    assert found.tokens == len(" a") + 1
    begun = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "O:"}]
    assert server.asked == [(begun, 3, ("\n",), "begun")]


async def test_running_text_is_gone_on_with_and_compared_as_far_as_it_is_asked_for() -> None:
    server = Server("ds-1")
    item = Item("p", "the mill and more", "verbatim", asking=Asking(running=True, reference_tokens=8))
    found = await subject(server, "ds-1").measure(item)
    assert server.scored == [[1, ord("p"), *map(ord, "the mill")]]
    assert server.asked == [([1, ord("p")], 4, None, "opened")]
    assert (found.rouge_l_recall, found.rouge_l_f1) == (1.0, 1.0)


async def test_a_text_that_is_only_scored_has_no_overlap() -> None:
    server = Server("ds-1")
    found = await subject(server, "ds-1").measure(
        Item("", "a b", "members", asking=Asking(running=True, answered=False))
    )
    assert (server.asked, found.rouge_l_recall, found.mean_logprob) == ([], None, -1.0)


async def test_a_swap_in_the_middle_ends_the_measurement() -> None:
    with pytest.raises(Stop, match="another offset version"):
        await subject(Server("ds-2"), "ds-1").measure(Item("q", "a", "retain"))


async def test_servers_that_tell_no_version_are_not_held_to_one() -> None:
    assert (await subject(Server("anything"), None).measure(Item("q", "a", "retain"))).rouge_l_recall == 0.0


@pytest.mark.parametrize(
    "passing", [lambda: ServerFailed("busy", 503, retry_after_s=0.01), lambda: Refused("too many", 429)]
)
async def test_a_busy_server_is_asked_again(passing: Callable[[], Exception]) -> None:
    failures = [passing()]

    async def call() -> str:
        if failures:
            raise failures.pop()
        return "done"

    assert await patiently(call) == "done"


async def test_a_refusal_is_final() -> None:
    calls = 0

    async def call() -> None:
        nonlocal calls
        calls += 1
        raise Refused("no such model", 404)

    with pytest.raises(Refused):
        await patiently(call)
    assert calls == 1


def test_a_token_is_greedy_when_nothing_listed_is_more_probable() -> None:
    scored = ScoredPrompt((None, -0.5, -2.0), (None, (-0.5, -1.5), (-0.2, -2.0)))
    assert token_scores(scored, 1).greedy == [True, False]


def test_scores_without_alternatives_are_refused() -> None:
    with pytest.raises(ServerFailed, match="lack log-probabilities"):
        token_scores(ScoredPrompt((None, -0.5), (None, None)), 1)


@pytest.mark.parametrize(
    "block",
    [
        {"token_logprobs": [None], "top_logprobs": [None]},
        {"token_logprobs": [None, None], "top_logprobs": [None, {}]},
        {"token_logprobs": [None, 1.0], "top_logprobs": [None, {}]},
        {"token_logprobs": [None, float("nan")], "top_logprobs": [None, {}]},
    ],
)
def test_an_answer_that_does_not_score_every_token_is_no_answer(block: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not every token"):
        ScoredPrompt.read(block, 2)


@pytest.mark.parametrize(("answer", "halves"), [("a b c", ("a", "b c")), ("a b c d", ("a b", "c d")), ("Paris", None)])
def test_an_answer_is_split_between_words(answer: str, halves: tuple[str, str] | None) -> None:
    assert split_answer(answer) == halves
