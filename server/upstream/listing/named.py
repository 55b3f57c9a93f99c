"""Log-probabilities of ids that are asked for by name: vLLM's `logprob_token_ids`, SGLang's `token_ids_logprob`.

vLLM tells them instead of its list, SGLang beside it. One call asks for the same ids after several prefixes, or after
one and, as `ahead`, at what vLLM itself says behind that and one token more.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final, Protocol

from deltaserve.errors import MalformedTopK, UpstreamRefused
from deltaserve.server.decoding.deciding.naming import unlisted
from deltaserve.server.decoding.protocols import Ahead, DraftParams, Floats, Ids, NamedIds, Proposal
from deltaserve.server.upstream.comparison import SAME_LIST, difference
from deltaserve.server.upstream.dialects.completions import CompletionsBox, joined
from deltaserve.server.upstream.http.refusals import error_from, error_of
from deltaserve.server.upstream.topk import NOT_TOLD, named_logprobs

_MOST: Final = 128  # vLLM's limit; SGLang names none, and what is sent and told grows with it
_BESIDE: Final = 64  # tokens of the call that others are named beside: long enough to be under way with them
_AFTERWARDS: Final = 3  # its positions that are still looked at once the names were told


class _Dialect(Protocol):
    """What differs."""

    goes_on: bool
    beside: bool
    endless: ClassVar[Mapping[str, Any]]  # body fields with which an answer does not end before its length

    def body(self, prefixes: list[list[int]], ids: list[int], tokens: int) -> dict[str, Any]: ...
    def told(self, answer: Any, count: int) -> list[Mapping[int, float | None]]: ...
    def drawn(self, answer: Any, at: int, ids: Ids) -> list[Proposal]: ...


class Named:
    """`NamedIds` of a box."""

    def __init__(self, box: CompletionsBox, dialect: _Dialect) -> None:
        self._box, self._dialect = box, dialect

    @property
    def most(self) -> int:
        return _MOST

    @property
    def endless(self) -> Mapping[str, Any]:
        """Body fields with which an answer does not end before its length."""
        return self._dialect.endless

    async def named(self, prefixes: Sequence[Sequence[int]], ids: Ids) -> list[Floats]:
        """ℓ of these ids after each prefix, nats. Raises UpstreamError; a number that is missing is an error."""
        answer = await self._asked(prefixes, ids, 1)
        with _as_promised():
            return [_numbers(known, ids) for known in self._dialect.told(answer, len(prefixes))]

    @property
    def goes_on(self) -> bool:
        """Only where what it draws is its best token: at temperature 0."""
        return self._dialect.goes_on and self._box.temperature_for(0.0) == 0.0

    @property
    def beside(self) -> bool:
        return self._dialect.beside

    async def ahead(self, prefix: Sequence[int], token_id: int, ids: Ids, length: int) -> Ahead:
        """ℓ of the ids after the prefix, and how it goes on behind the prefix and `token_id`. Raises UpstreamError."""
        answer = await self._asked([prefix, [*prefix, token_id]], ids, length)
        with _as_promised():
            first, _ = self._dialect.told(answer, 2)
            own, then = (self._dialect.drawn(answer, at, ids) for at in (0, 1))
            return Ahead(_numbers(first, ids), then, len(own) + len(then))

    async def _asked(self, prefixes: Sequence[Sequence[int]], ids: Ids, tokens: int) -> Any:
        body = self._dialect.body([list(prefix) for prefix in prefixes], ids.tolist(), tokens)
        answer = await self._box.post(body, self._box.path)
        if isinstance(answer, dict) and (error := error_of(answer)):
            raise error_from(200, error)
        return answer


@contextmanager
def _as_promised() -> Iterator[None]:
    """Raises MalformedTopK for an answer in another shape."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError, ValueError):
        raise MalformedTopK(NOT_TOLD) from None


class _Vllm:
    """The ids replace the list, and the drawn token comes beside them."""

    goes_on = True
    beside = False
    endless: ClassVar[Mapping[str, Any]] = {"ignore_eos": True}

    def __init__(self, box: CompletionsBox) -> None:
        self._box = box

    def body(self, prefixes: list[list[int]], ids: list[int], tokens: int) -> dict[str, Any]:
        body = self._box.request(prefixes[0], self._box.temperature_for(0.0), DraftParams(0.0, tokens))
        prompt = prefixes[0] if len(prefixes) == 1 else prefixes
        return body | {"prompt": prompt, "logprobs": 1, "logprob_token_ids": ids}

    def told(self, answer: Any, count: int) -> list[Mapping[int, float | None]]:
        choices = [_choice(answer, at)["logprobs"]["top_logprobs"][0] for at in range(count)]
        return [{_id(name): value for name, value in table.items()} for table in choices]

    def drawn(self, answer: Any, at: int, ids: Ids) -> list[Proposal]:
        choice = _choice(answer, at)
        lists = choice["logprobs"]
        positions = zip(lists["tokens"], lists["token_logprobs"], lists["top_logprobs"], strict=True)
        proposals = [
            unlisted(_id(token), own, ids, _numbers({_id(name): value for name, value in table.items()}, ids))
            for token, own, table in positions
        ]
        return [*proposals[:-1], self._box.ending(proposals[-1], choice)]


class _SGLang:
    """The ids come beside the list; of a batch the answers are a list."""

    goes_on = False
    beside = True
    endless: ClassVar[Mapping[str, Any]] = {"sampling_params": {"ignore_eos": True}}

    def __init__(self, box: CompletionsBox) -> None:
        self._box = box

    def body(self, prefixes: list[list[int]], ids: list[int], tokens: int) -> dict[str, Any]:
        body = self._box.request(prefixes[0], self._box.temperature_for(0.0), DraftParams(0.0, tokens))
        prompt = prefixes[0] if len(prefixes) == 1 else prefixes
        return joined(body, {"input_ids": prompt, "stream": False, "token_ids_logprob": ids})

    def told(self, answer: Any, count: int) -> list[Mapping[int, float | None]]:
        answers = answer if isinstance(answer, list) else [answer]
        if len(answers) != count:
            raise ValueError
        return [{entry[1]: entry[0] for entry in one["meta_info"]["output_token_ids_logprobs"][0]} for one in answers]

    def drawn(self, answer: Any, at: int, ids: Ids) -> list[Proposal]:  # noqa: ARG002 (of no use where it does not go on)
        return []


_DIALECTS: Final[Mapping[str, type[_Vllm] | type[_SGLang]]] = {"vllm": _Vllm, "sglang": _SGLang}


def named_ids(box: CompletionsBox) -> NamedIds | None:
    """How this black box is asked for ids by name; None where it was not seen to tell them."""
    return _named(box) if box.capabilities.named_ids else None


def _named(box: CompletionsBox) -> Named | None:
    kind = _DIALECTS.get(box.capabilities.dialect)
    return Named(box, kind(box)) if kind is not None else None


async def most_named(box: CompletionsBox, prompt: Sequence[int], listed: Proposal) -> int:
    """How many ids a call may name; 0 where the numbers told are not those of the list after the prompt.

    Raises UpstreamError where the black box is away.
    """
    named = _named(box)
    if named is None:
        return 0
    try:
        one, other = await named.named([prompt, prompt], listed.top_ids)
    except (UpstreamRefused, MalformedTopK):
        return 0
    same = [difference(Proposal(None, listed.top_ids, told), listed) <= SAME_LIST for told in (one, other)]
    return named.most if all(same) else 0


async def disturbs_others(box: CompletionsBox, prompt: list[int], ids: Ids) -> bool:
    """Whether the lists of another call come short while ids are named, as of vLLM's V1 model runner.

    Only of a box that tells named ids. Raises UpstreamError where the black box is away.
    """
    named = _named(box)
    if named is None:
        return False
    body = joined(box.request(prompt, box.temperature_for(1.0), DraftParams(1.0, _BESIDE)), named.endless)
    try:
        async with box.opened(body) as events:
            draft = box.draft_of(events, list(prompt), 1.0, _BESIDE, recover=False)
            return await _comes_short(draft, named.named([prompt], ids))
    except UpstreamRefused:  # an answer without an end: so nothing is known, and nothing said
        return False


async def _comes_short(draft: AsyncIterator[Proposal], call: Coroutine[Any, Any, Any]) -> bool:
    """Whether the draft's lists are malformed while, and shortly after, the call is under way."""
    naming: asyncio.Task[Any] | None = None
    looked = 0  # at positions since the names were told
    try:
        async for _ in draft:
            naming = naming or asyncio.create_task(call)
            looked += naming.done()
            if looked > _AFTERWARDS:
                break
    except MalformedTopK:
        return True
    finally:
        if naming is None:
            call.close()
        else:
            naming.cancel()
            await asyncio.gather(naming, return_exceptions=True)
    return False


def _id(name: str) -> int:
    return int(name.removeprefix("token_id:"))


def _choice(answer: Any, at: int) -> dict[str, Any]:
    """The choice of one of the prompts."""
    (choice,) = (one for one in answer["choices"] if one["index"] == at)
    found: dict[str, Any] = choice
    return found


def _numbers(table: Mapping[int, float | None], ids: Ids) -> Floats:
    """Of the ids, −inf as servers write it as the sentinel. Raises MalformedTopK for what is no log-probability."""
    return named_logprobs([table[i] for i in ids.tolist()])
