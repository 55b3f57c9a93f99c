"""One item, measured through the public API of one server: answered, scored, and its text continued."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from deltaserve.client.calls import Generation
from deltaserve.client.client import AsyncClient
from deltaserve.client.console.terminal import Stop
from deltaserve.client.errors import ServerFailed
from deltaserve.client.evaluation.data.items import FORGET, Item
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
        scored = await self._scored(item)
        answer = await self._answer(item.question)
        own, words = scored[0], overlap(item.answer, answer.text)
        return Measurement(
            tokens=len(own.logprobs),
            mean_logprob=own.mean_logprob,
            paraphrased_mean_logprob=scored[1].mean_logprob if item.perturbed_answers else None,
            perturbed_mean_logprobs=tuple(scores.mean_logprob for scores in scored[2:]),
            rouge_1_recall=words.rouge_1_recall,
            rouge_l_recall=words.rouge_l_recall,
            exact_memorisation=exact_memorisation(own),
            extraction_strength=extraction_strength(own),
            verbatim_memorisation=await self._verbatim(item) if item.split == FORGET else None,
            zlib_score=zlib_score(own, item.answer),
            min_k=min_k(own),
            min_k_plus_plus=min_k_plus_plus(own),
            finish_reason=answer.finish_reason,
            answer=answer.text if self.keep_text else None,
        )

    async def _scored(self, item: Item) -> list[TokenScores]:
        """Scores of the answer; where there are wrong answers, also of the paraphrase and of each wrong answer."""
        texts = [item.answer, *((item.paraphrase, *item.perturbed_answers) if item.perturbed_answers else ())]
        encoded = await self.encoder.answered(item.question, texts)
        whole = [[*one.prompt_ids, *one.answer_ids, *self.end] for one in encoded]
        scored = await patiently(lambda: self.client.score(whole, self.settings.logprobs, self.about.model))
        return [token_scores(one, len(text.prompt_ids)) for one, text in zip(scored, encoded, strict=True)]

    async def _answer(self, question: str) -> Answer:
        how = Generation(self.about.model, self.settings.max_tokens, temperature=0.0)
        messages = [{"role": "user", "content": question}]
        answer = await patiently(lambda: self.client.chat(messages, how))
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
