"""One request being answered, whatever its wire form."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import Request

from deltaserve.server.api.replies.explain import check_explain_allowed
from deltaserve.server.api.replies.tokens import Spelling
from deltaserve.server.api.replies.usage import Usage
from deltaserve.server.api.requests.schema import Generation
from deltaserve.server.observability.records import RequestRecord
from deltaserve.server.serving.ports import Version
from deltaserve.server.serving.service import Choice, Serving
from deltaserve.server.serving.worker_threads import SHORT_BYTES

T = TypeVar("T")


class Spellings:
    """One `Spelling` per tokenizer and form, shared by all requests of an app."""

    def __init__(self) -> None:
        self._by_tokenizer: dict[tuple[int, bool], tuple[object, Spelling]] = {}

    def of(self, version: Version, as_ids: bool) -> Spelling:
        tokenizer = version.tokenizer
        key = (id(tokenizer), as_ids)
        if key not in self._by_tokenizer:  # the tokenizer is kept with it, so that its id stays its own
            self._by_tokenizer[key] = (tokenizer, Spelling(tokenizer, as_ids))
        return self._by_tokenizer[key][1]


@dataclass(frozen=True, slots=True)
class Exchange:
    """What every step of answering one request needs."""

    request: Generation
    serving: Serving
    spellings: Spellings
    record: RequestRecord

    @classmethod
    def of(cls, request: Request, body: Generation) -> "Exchange":
        """Raises what `explain` raises for one who may not see it."""
        check_explain_allowed(request, body)
        state = request.app.state
        return cls(body, state.serving, state.spellings, request.state.record)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """The result of `work`, done in a thread where the request is long."""
        return await self.serving.threads.run(self.record.body_bytes, work)

    async def beside(self, work: Callable[[], T]) -> T:
        """The same, whatever the request's length: a short schema may be long work."""
        return await self.serving.threads.run(max(self.record.body_bytes, SHORT_BYTES + 1), work)

    @asynccontextmanager
    async def pinned(self) -> AsyncIterator[Version]:
        """The version that answers, held for the whole request. Raises ModelNotFound, Unavailable."""
        async with self.serving.pinned(self.request.model, self.record.client) as version:
            self.record.model = version.name
            self.record.fingerprint = self.serving.fingerprint(version)
            yield version

    def usage_of(self, choices: Sequence[Choice]) -> Usage:
        """The request's counts; the prompt's are known now. The n choices of a prompt share it: it is read once."""
        prompts = sum(len(choice.prompt_ids) for choice in choices if choice.sample == 0)
        usage = Usage(self.record, prompts, tells_costs=not self.serving.settings.pace_ms)
        self.serving.metrics.prompt_tokens.inc(usage.prompt_tokens)
        return usage
