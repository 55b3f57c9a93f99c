"""Both sides of the data as ids: every wording of what is to be forgotten and of what is to stay."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.collecting.folder import Side
from deltaserve.offset_models.training.rows.row import BadRow, Row
from deltaserve.offset_models.training.rows.samples import Sample, encode, prompt_ids, refused, wordings

ForgetAnswers = Literal["reference", "refusal", "both"]
NO_QUESTION: Final = (
    "a {text} has no question that a refusal could answer. Give {prompt, completion}, or take an objective that needs "
    "no refusals, as npo (collected with --forget-answers reference)."
)
FORGET_ANSWERS: Final[tuple[ForgetAnswers, ...]] = get_args(ForgetAnswers)


@dataclass(frozen=True, slots=True)
class Data:
    """Both sides as rows, and what is answered in place of what is forgotten."""

    forget: Sequence[Row]  # all with answers
    retain: Sequence[Row]  # the black box answers those without
    refusals: Sequence[str]
    forget_answers: ForgetAnswers = "both"
    answer_tokens: int = 128  # longest answer of the black box

    def sides(self) -> dict[str, Side]:
        """Both as a collection's record names them."""
        return {"forget": Side.of(self.forget), "retain": Side.of(self.retain)}


@dataclass(frozen=True, slots=True)
class Retained:
    """A retain row: its sample, or the prompt that the black box is to answer."""

    sample: Sample | None
    prompt: tuple[int, ...]


@dataclass(slots=True)
class Encoded:
    """Both sides as ids; `forget[i]` and `refused[i]` are one row with its own answer and with a refusal."""

    forget: list[Sample] = field(default_factory=list)
    refused: list[Sample] = field(default_factory=list)
    retain: list[Retained] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)  # sentences

    def __len__(self) -> int:
        """Samples, those included that wait for an answer; each once."""
        return len({*self.known()}) + len({*self.prompts})

    @property
    def prompts(self) -> list[tuple[int, ...]]:
        """What the black box is to answer."""
        return [row.prompt for row in self.retain if row.sample is None]

    def known(self) -> list[Sample]:
        """Every sample that does not wait for an answer."""
        return [*self.forget, *self.refused, *(row.sample for row in self.retain if row.sample is not None)]


def encoded(data: Data, tokenizer: Tokenizer, max_context: int | None = None) -> Encoded:
    """Every wording of every row as ids; what cannot be used is left out and named in `bad`."""
    found = Encoded()
    for row, refusal in _with_refusals(data):
        with _Noting(found.bad):
            if data.forget_answers != "reference" and not row.messages and not row.prompt:
                raise BadRow(f"{row.origin or 'A row'}: {NO_QUESTION}")
            pair = encode(row, tokenizer), encode(refusal, tokenizer)
            _check_length(row, max(len(sample.ids) for sample in pair), max_context)
            found.forget += pair[:1] if data.forget_answers != "refusal" else ()
            found.refused += pair[1:] if data.forget_answers != "reference" else ()
    for row in wordings(data.retain):
        with _Noting(found.bad):
            found.retain.append(_retained(row, data, tokenizer, max_context))
    return found


def check_rows(found: Encoded, *, skip_bad: bool) -> None:
    """Raises BadRow when rows were left out that may not be, or when a side is empty."""
    if found.bad and not skip_bad:
        more = f" And {len(found.bad) - 5} more." if len(found.bad) > 5 else ""
        raise BadRow(" ".join(found.bad[:5]) + more + " Correct them, or give --skip-bad to go on without them.")
    for name, rows in (("forget", [*found.forget, *found.refused]), ("retain", found.retain)):
        if not rows:
            raise BadRow(f"No row of the {name} set can be used.")


def _with_refusals(data: Data) -> Iterator[tuple[Row, Row]]:
    rows = list(wordings(data.forget))
    return zip(rows, refused(rows, data.refusals), strict=True)


def _retained(row: Row, data: Data, tokenizer: Tokenizer, max_context: int | None) -> Retained:
    prompt = tuple(prompt_ids(row, tokenizer))
    if row.completion is not None:
        sample = encode(row, tokenizer)
        _check_length(row, len(sample.ids), max_context)
        return Retained(sample, sample.prompt_ids)
    _check_length(row, len(prompt) + data.answer_tokens, max_context)
    return Retained(None, prompt)


def _check_length(row: Row, tokens: int, max_context: int | None) -> None:
    if max_context is not None and tokens >= max_context:  # scoring asks for one token more
        raise BadRow(f"{row.origin or 'A row'}: {tokens} tokens do not fit the black box's context of {max_context}.")


class _Noting(AbstractContextManager[None]):
    """Bad rows become sentences in a list."""

    def __init__(self, sentences: list[str]) -> None:
        self._sentences = sentences

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, BadRow):
            self._sentences.append(error.message)
            return True
        return False
