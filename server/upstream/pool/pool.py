"""The black box that requests are answered by: one upstream, or several of one model."""

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from typing import Any, Final

from deltaserve.errors import DeltaserveError
from deltaserve.server.decoding.protocols import Draft, DraftParams
from deltaserve.server.upstream.base import Capabilities
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.listing.block_scorer import block_scorer
from deltaserve.server.upstream.listing.named import named_ids
from deltaserve.server.upstream.pool.choosing import Choosing
from deltaserve.server.upstream.pool.member import Member
from deltaserve.server.upstream.pool.session import Common, Session

SCORED_PROMPT: Final = 256  # tokens of a prompt that may be scored to check a block


class Pool:
    """A `BlackBox`. Members may join later; what they can do together is what each of them can."""

    def __init__(self, members: Sequence[Member], *, patience_s: float = 2.0) -> None:
        self._members = list(members)
        self._common = Common(self._members, Choosing(self._members), lambda: self.capabilities, patience_s)
        self._absent: Callable[[], list[dict[str, Any]]] = list  # those that have not joined
        self._care: asyncio.Task[None] | None = None

    @property
    def capabilities(self) -> Capabilities:
        """The first member's, as far as all have them."""
        like = [member for member in self._members if member.unlike is None]
        boxes = [member.box.capabilities for member in like or self._members]
        return boxes[0] if len(boxes) == 1 else _in_common(boxes)

    @property
    def scores_blocks(self) -> bool:
        return all(member.scorer is not None for member in self._members)

    @property
    def names_ids(self) -> bool:
        return all(member.names is not None for member in self._members)

    @property
    def names_go_on(self) -> bool:
        return all(member.names is not None and member.names.goes_on for member in self._members)

    def session(self) -> Session:
        return Session(self._common)

    def draft(self, token_ids: Sequence[int], params: DraftParams) -> AbstractAsyncContextManager[Draft]:
        """One call that belongs to no answer."""
        return self.session().draft(token_ids, params)

    def problem(self) -> str | None:
        working = [member for member in self._members if member.problem is None]
        if not working:
            return self._members[0].problem
        pause_s = min(member.box.throttle.pause_s for member in working)
        if pause_s <= self._common.patience_s:
            return None  # else requests end at once
        return f"The upstream asked not to be called for a while: it is expected back in {math.ceil(pause_s)} s."

    def members(self) -> list[dict[str, Any]]:
        return [*(member.describe() for member in self._members), *self._absent()]

    def join(self, member: Member) -> None:
        """From now on it is asked, too."""
        self._members.append(member)

    def looked_after(self, care: "asyncio.Task[None]", absent: Callable[[], list[dict[str, Any]]]) -> None:
        """By this task, which ends with the pool; `absent`: those that have not joined."""
        self._care, self._absent = care, absent

    async def look_at_troubled(self) -> None:
        """Members that nobody asks look again whether what kept them out is over."""
        for member in self._members:
            if member.box.problem() is not None:
                with suppress(DeltaserveError):
                    await member.box.ping()

    async def ping(self) -> None:
        """Asks every member that is not known to be there. Raises the first one's error where none answers."""
        silent = [member for member in self._members if not member.box.throttle.pause_s]
        heard = await asyncio.gather(*(member.box.ping() for member in silent), return_exceptions=True)
        failed = [error for error in heard if isinstance(error, BaseException)]
        for error in failed:
            if not isinstance(error, DeltaserveError):
                raise error
        if silent and len(failed) == len(self._members):
            raise failed[0]

    async def aclose(self) -> None:
        if self._care is not None:
            self._care.cancel()
            await asyncio.gather(self._care, return_exceptions=True)
        await asyncio.gather(*(member.box.aclose() for member in self._members))


def sole(box: CompletionsBox, name: str = "upstream", *, scored_prompt: int = SCORED_PROMPT) -> Pool:
    """A pool of one."""
    return Pool([Member(name, box, block_scorer(box, scored_prompt), named_ids(box))])


def _in_common(boxes: Sequence[Capabilities]) -> Capabilities:
    contexts = [facts.max_context for facts in boxes if facts.max_context is not None]
    slots = [facts.slots for facts in boxes if facts.slots is not None]
    return replace(
        boxes[0],
        max_context=min(contexts, default=None),
        raw_logprobs=all(facts.raw_logprobs for facts in boxes),
        prompt_list=all(facts.prompt_list for facts in boxes),
        prompt_logprobs=all(facts.prompt_logprobs for facts in boxes),
        named_ids=min(facts.named_ids for facts in boxes),
        greedy_raw=all(facts.greedy_raw for facts in boxes),
        generate=all(facts.generate for facts in boxes),
        echo=all(facts.echo for facts in boxes),
        grammar=all(facts.grammar for facts in boxes),
        holds_forms=all(facts.holds_forms for facts in boxes),
        same_forms=all(facts.same_forms for facts in boxes),
        list_masked=any(facts.list_masked for facts in boxes),
        slots=sum(slots) if len(slots) == len(boxes) else None,
        end_ids=tuple(dict.fromkeys(end for facts in boxes for end in facts.end_ids)),
        notes=tuple(dict.fromkeys(note for facts in boxes for note in facts.notes)),
    )
