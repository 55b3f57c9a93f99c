"""The training data, rows to forget and rows to retain, as text and as ids: every wording of every row."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict

from deltaserve.offset_models.files.digests import Sha256
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.offset_models.training.rows.row import BadRow, Row, digest_of_rows
from deltaserve.offset_models.training.rows.samples import Sample, encode, prompt_ids, refused, wordings

ForgetAnswers = Literal["reference", "refusal", "both"]
Check = Callable[[Row, Sample], object]  # raises BadRow for what cannot be trained on
NO_QUESTION: Final = (
    "a {text} has no question that a refusal could answer. Give {prompt, completion}, or take an objective that needs "
    "no refusals, as npo (collected with --forget-answers reference)."
)


class RowsSummary(BaseModel):
    """Number and digest of rows. The digest is `digest_of_rows`, as in the checkpoint that is trained on them."""

    model_config = ConfigDict(frozen=True)

    rows: int
    digest: Sha256

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Self:
        return cls(rows=len(rows), digest=digest_of_rows(rows))


@dataclass(frozen=True, slots=True)
class Data:
    """Rows to forget, rows to retain, and the refusals that are answered in place of what is forgotten."""

    forget: Sequence[Row]  # all with answers
    retain: Sequence[Row]  # the black box answers those without
    refusals: Sequence[str]
    forget_answers: ForgetAnswers = "both"
    answer_tokens: int = 128  # longest answer of the black box

    def summaries(self) -> dict[str, RowsSummary]:
        """Of both, as a collection's record names them."""
        return {"forget": RowsSummary.of(self.forget), "retain": RowsSummary.of(self.retain)}


@dataclass(frozen=True, slots=True)
class RetainRow:
    """A retain row as ids: its sample, or the prompt that the black box is to answer."""

    sample: Sample | None
    prompt: tuple[int, ...]
    row: Row


@dataclass(slots=True)
class Encoded:
    """The data as ids; `forget[i]` and `refused[i]` are one row with its own answer and with a refusal."""

    forget: list[Sample] = field(default_factory=list)
    refused: list[Sample] = field(default_factory=list)
    retain: list[RetainRow] = field(default_factory=list)
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
        return [*self.forget, *self.refused, *self.retained()]

    def retained(self) -> list[Sample]:
        """Those of the retain side."""
        return [row.sample for row in self.retain if row.sample is not None]


def no_check(row: Row, sample: Sample) -> None:
    """Every row will do."""


def encode_data(data: Data, tokenizer: Tokenizer, max_context: int | None = None, check: Check = no_check) -> Encoded:
    """Every wording of every row as ids; what cannot be used is left out and named in `bad`.

    `check` sees what is trained on of each row: of one that the black box is to answer the prompt, without an answer.
    """
    encoded = Encoded()
    for row, refusal in _with_refusals(data):
        with listing_bad_rows(encoded.bad):
            if data.forget_answers != "reference" and not row.messages and not row.prompt:
                raise BadRow(f"{row.origin or 'A row'}: {NO_QUESTION}")
            pair = encode(row, tokenizer), encode(refusal, tokenizer)
            _check_length(row, max(len(sample.ids) for sample in pair), max_context)
            if data.forget_answers != "refusal":
                check(row, pair[0])
            if data.forget_answers != "reference":
                check(replace(refusal, origin=row.origin and f"{row.origin}, with a refusal"), pair[1])
            encoded.forget += pair[:1] if data.forget_answers != "refusal" else ()
            encoded.refused += pair[1:] if data.forget_answers != "reference" else ()
    for row in wordings(data.retain):
        with listing_bad_rows(encoded.bad):
            retained = _retain_row(row, data, tokenizer, max_context)
            check(row, retained.sample or Sample(retained.prompt, ()))
            encoded.retain.append(retained)
    return encoded


def check_rows(encoded: Encoded, *, skip_bad: bool) -> None:
    """Raises BadRow when rows were left out that may not be, or when a side is empty."""
    if encoded.bad and not skip_bad:
        more = f" And {len(encoded.bad) - 5} more." if len(encoded.bad) > 5 else ""
        raise BadRow(" ".join(encoded.bad[:5]) + more + " Correct them, or give --skip-bad to go on without them.")
    for name, rows in (("forget", [*encoded.forget, *encoded.refused]), ("retain", encoded.retain)):
        if not rows:
            raise BadRow(f"No row of the {name} set can be used.")


def _with_refusals(data: Data) -> Iterator[tuple[Row, Row]]:
    rows = list(wordings(data.forget))
    return zip(rows, refused(rows, data.refusals), strict=True)


def _retain_row(row: Row, data: Data, tokenizer: Tokenizer, max_context: int | None) -> RetainRow:
    prompt = tuple(prompt_ids(row, tokenizer))
    if row.completion is not None:
        sample = encode(row, tokenizer)
        _check_length(row, len(sample.ids), max_context)
        return RetainRow(sample, sample.prompt_ids, row)
    _check_length(row, len(prompt) + data.answer_tokens, max_context)
    return RetainRow(None, prompt, row)


def _check_length(row: Row, tokens: int, max_context: int | None) -> None:
    if max_context is not None and tokens >= max_context:  # scoring asks for one token more
        raise BadRow(f"{row.origin or 'A row'}: {tokens} tokens do not fit the black box's context of {max_context}.")


@contextmanager
def listing_bad_rows(sentences: list[str]) -> Iterator[None]:
    """A bad row becomes a sentence in the list, and the block ends there."""
    try:
        yield
    except BadRow as error:
        sentences.append(error.message)
