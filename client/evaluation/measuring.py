"""One item, measured through the public API of one server: answered, scored, and its text continued."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from deltaserve.client.calls import Ending, Generation
from deltaserve.client.client import AsyncClient
from deltaserve.client.console.terminal import Stop
from deltaserve.client.errors import ServerFailed
from deltaserve.client.evaluation.data.items import FORGET, PLAINLY, Item
from deltaserve.client.evaluation.encoding import Encoder
from deltaserve.client.evaluation.metrics.likelihood import (
    TokenScores,
    exact_memorisation,
    extraction_strength,
    min_k,
    min_k_plus_plus,
    vocabulary_moments,
    zlib_score,
)
from deltaserve.client.evaluation.patience import patiently
from deltaserve.client.evaluation.results import Measurement, ServerAbout, Settings
from deltaserve.client.results import Answer, ScoredPrompt
from deltaserve.offset_models.metrics.overlap import overlap, verbatim_memorisation
from deltaserve.offset_models.metrics.words import spans
from deltaserve.offset_models.tokenizer.continuation import Answered, behind


@dataclass(slots=True)
class Subject:
    """One server under measurement."""

    client: AsyncClient
    about: ServerAbout
    encoder: Encoder
    settings: Settings
    keep_text: bool = False
    end: list[int] = field(default_factory=list)  # ids that end an answer

    async def measure(self, item: Item) -> Measurement:
        """Everything that the figures need of one item. Raises ClientError, and Stop when the offset is swapped."""
        encoded = await self._encoded(item)
        scored = await self._scored(encoded, [] if item.asking.running else self.end)
        answer = await self._answer(item, encoded[0]) if item.asking.answered else None
        words = None if answer is None else overlap(await self._reference(item, encoded[0]), answer.text)
        own, plain = scored[0], item.asking == PLAINLY
        paraphrased, wrong = _compared(item, scored)
        return Measurement(
            tokens=len(own.logprobs),
            mean_logprob=own.mean_logprob,
            paraphrased_mean_logprob=paraphrased,
            perturbed_mean_logprobs=wrong,
            rouge_1_recall=words.rouge_1_recall if words else None,
            rouge_l_recall=words.rouge_l_recall if words else None,
            rouge_l_f1=words.rouge_l_f1 if words and item.asking.running else None,
            exact_memorisation=exact_memorisation(own),
            extraction_strength=extraction_strength(own),
            verbatim_memorisation=await self._verbatim(item) if plain and item.split == FORGET else None,
            zlib_score=zlib_score(own, item.answer),
            min_k=min_k(own),
            min_k_40=min_k(own, 0.4),
            min_k_plus_plus=min_k_plus_plus(own),
            finish_reason=answer.finish_reason if answer else None,
            answer=answer.text if answer and self.keep_text else None,
        )

    async def _encoded(self, item: Item) -> list[Answered]:
        """The answer; where there are wrong answers, also its paraphrase and each of those."""
        texts = [item.answer, *((item.paraphrase, *item.perturbed_answers) if item.perturbed_answers else ())]
        asking = item.asking
        if asking.running:
            encoded = await self.encoder.continued(item.question, texts)
            return [Answered(one.prompt_ids, one.answer_ids[: asking.reference_tokens]) for one in encoded]
        if not asking.opening:
            return await self.encoder.answered(item.question, texts)
        opened, *encoded = await self.encoder.answered(
            item.question, [asking.opening, *(f"{asking.opening} {text}" for text in texts)]
        )
        return [_behind_opening(opened, one) for one in encoded]

    async def _scored(self, encoded: Sequence[Answered], end: list[int]) -> list[TokenScores]:
        whole = [[*one.prompt_ids, *one.answer_ids, *end] for one in encoded]
        scored = await patiently(lambda: self.client.score(whole, self.settings.logprobs, self.about.model))
        return [token_scores(one, len(text.prompt_ids)) for one, text in zip(scored, encoded, strict=True)]

    async def _reference(self, item: Item, encoded: Answered) -> str:
        """What an answer is compared with: the true one, or its beginning."""
        return item.answer if item.asking.reference_tokens is None else await self.encoder.text(encoded.answer_ids)

    async def _answer(self, item: Item, encoded: Answered) -> Answer:
        asking, most = item.asking, self.settings.max_tokens
        tokens = most if asking.max_tokens is None else min(most, asking.max_tokens)
        how = Generation(self.about.model, tokens, temperature=0.0, stop=asking.stops or None)
        if asking.running:
            answer = await patiently(lambda: self.client.complete(encoded.prompt_ids, how))
        else:
            messages = [{"role": "user", "content": item.question}]
            begun = [{"role": "assistant", "content": asking.opening}] if asking.opening else []
            ending: Ending = "begun" if begun else "opened"
            answer = await patiently(lambda: self.client.chat([*messages, *begun], how, ending))
        if self.about.fingerprint is not None and answer.fingerprint != self.about.fingerprint:
            raise Stop(
                "The server began to answer with another offset version; figures of two would mix. "
                "What was measured is kept: run the same command again once the old version is active, "
                "or name another --out."
            )
        return answer

    async def _verbatim(self, item: Item) -> float | None:
        """How much of the answer's second half comes after its first; None for an answer of one word."""
        halves = split_answer(item.answer)
        if halves is None:
            return None
        (begun,) = await self.encoder.answered(item.question, halves[:1])
        ids = [*begun.prompt_ids, *begun.answer_ids]
        how = Generation(self.about.model, self.settings.max_tokens, temperature=0.0)
        continued = await patiently(lambda: self.client.complete(ids, how))
        return verbatim_memorisation(halves[1], continued.text)


def _compared(item: Item, scored: Sequence[TokenScores]) -> tuple[float | None, tuple[float, ...]]:
    """Mean log-probabilities of the paraphrase and of the wrong answers, in the order of `_encoded`."""
    if not item.perturbed_answers:
        return None, ()
    return scored[1].mean_logprob, tuple(scores.mean_logprob for scores in scored[2:])


def _behind_opening(opened: Answered, answer: Answered) -> Answered:
    """An answer that begins with what the asker writes: that comes with the prompt."""
    rest = behind(opened.answer_ids, answer.answer_ids)
    return Answered([*opened.prompt_ids, *opened.answer_ids], rest) if rest else answer


def token_scores(scored: ScoredPrompt, start: int) -> TokenScores:
    """The tokens from `start` on. Raises ServerFailed where the server listed no alternatives for one of them."""
    own, tops = scored.logprobs[start:], scored.alternatives[start:]
    logprobs = [value for value in own if value is not None]
    listed = [top for top in tops if top]
    if not logprobs or not len(logprobs) == len(listed) == len(own):
        raise ServerFailed("The server's scores of a prompt lack log-probabilities or alternatives of a token.")
    moments = [vocabulary_moments(top) for top in listed]
    means, deviations = zip(*moments, strict=True)
    # A list holds the token itself too, so that nothing in it is below the best.
    greedy = [value >= max(top) for value, top in zip(logprobs, listed, strict=True)]
    return TokenScores(logprobs, greedy, means, deviations)


def split_answer(answer: str) -> tuple[str, str] | None:
    """The first half of the words and the rest; None when there are fewer than two."""
    words: Sequence[str] = answer.split()
    half = len(words) // 2
    if half:
        return " ".join(words[:half]), " ".join(words[half:])
    places = [span.start for span in spans(answer) if span.script == "continuous"]  # written without spaces
    middle = places[len(places) // 2] if len(places) > 1 else 0
    return (answer[:middle], answer[middle:]) if middle else None
