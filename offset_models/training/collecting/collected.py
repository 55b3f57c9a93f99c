"""The black box's lists and answers that a folder holds for a data set, and those that are missing."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from deltaserve.errors import BadRequest
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.collecting.cache import AnswerCache, TopKCache
from deltaserve.offset_models.training.collecting.folder import Collection, read_collection
from deltaserve.offset_models.training.rows.dataset import (
    Check,
    Data,
    Encoded,
    RetainRow,
    check_rows,
    encode_data,
    listing_bad_rows,
    no_check,
)
from deltaserve.offset_models.training.rows.samples import Sample
from deltaserve.offset_models.training.rows.scored import Listed


@dataclass(frozen=True, slots=True)
class Collected:
    """What training needs of the black box. `forget` or `refused` is empty when it was not collected."""

    forget: list[Listed]
    refused: list[Listed]
    retain: list[Listed]
    collection: Collection
    bad: tuple[str, ...] = ()  # rows left out, each a sentence


@dataclass(frozen=True, slots=True)
class Caches:
    """Of one model at one k."""

    tops: TopKCache
    answers: AnswerCache

    @classmethod
    def open(cls, folder: Path, model: str, k: int, answer_tokens: int) -> "Caches":
        return cls(TopKCache(folder, model, k), AnswerCache(folder, model, answer_tokens))

    def missing(self, encoded: Encoded) -> tuple[list[Sample], list[tuple[int, ...]]]:
        """Samples without top-k and prompts without an answer, each once."""
        prompts = [prompt for prompt in dict.fromkeys(encoded.prompts) if self.answers.get(prompt) is None]
        samples = dict.fromkeys(self.samples(encoded))
        return [sample for sample in samples if self.tops.get(sample) is None], prompts

    def samples(self, encoded: Encoded) -> list[Sample]:
        """Every sample known by now."""
        return [*encoded.known(), *(sample for row in encoded.retain if row.sample is None for sample in self._of(row))]

    def known(self, encoded: Encoded) -> list[Listed]:
        """Samples with their top-k, each once, as far as it is there."""
        return _listed(dict.fromkeys(self.samples(encoded)), self.tops)

    def answered(self, encoded: Encoded, check: Check) -> Encoded:
        """With the black box's answers to the retain rows that lack one; what `check` refuses of them is left out."""
        whole = replace(encoded, retain=[], bad=list(encoded.bad))
        for row in encoded.retain:
            with listing_bad_rows(whole.bad):
                for sample in self._of(row):
                    if row.sample is None:
                        check(row.row, sample)
                    whole.retain.append(replace(row, sample=sample))
        return whole

    def _of(self, row: RetainRow) -> Iterator[Sample]:
        if row.sample is not None:
            yield row.sample
        elif (answer := self.answers.get(row.prompt)) is not None:
            yield Sample(row.prompt, answer)


def read_collected(
    folder: Path, data: Data, tokenizer: Tokenizer, *, skip_bad: bool = False, check: Check = no_check
) -> Collected:
    """What was collected, without a call of the black box. Raises BadRequest when something is missing, BadRow."""
    collection = read_collection(folder)
    if collection is None or collection.tokenizer != tokenizer.fingerprint.ids:
        raise BadRequest(f"{folder} holds nothing collected with this tokenizer: run `deltaserve collect` first.")
    data = replace(data, answer_tokens=collection.answer_tokens)
    encoded = encode_data(data, tokenizer, collection.max_context, check)
    check_rows(encoded, skip_bad=skip_bad)
    caches = Caches.open(folder, collection.model, collection.k, collection.answer_tokens)
    samples, prompts = caches.missing(encoded)
    if samples or prompts:
        raise BadRequest(
            f"{folder} lacks the black box's answers to {len(samples) + len(prompts)} of the rows: "
            "run `deltaserve collect` with the same files."
        )
    encoded = caches.answered(encoded, check)
    check_rows(encoded, skip_bad=skip_bad)
    return Collected(
        forget=_listed(encoded.forget, caches.tops),
        refused=_listed(encoded.refused, caches.tops),
        retain=_listed(encoded.retained(), caches.tops),
        collection=collection,
        bad=tuple(encoded.bad),
    )


def _listed(samples: Iterable[Sample], tops: TopKCache) -> list[Listed]:
    return [(sample, top) for sample in samples if (top := tops.get(sample)) is not None]
