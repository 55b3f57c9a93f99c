"""Streams that ask one after the other, each answer held against what it must say; a few leave in the middle."""

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.crashing.kills import uncorrected
from benchmarks.swap.streams import Ask, Got, Known, stream, wrong
from deltaserve.server.upstream.http.transport import Limits, Timeouts, Transport

_LEAVING: Final = 0.03  # of all answers
_LONGEST_STAY_S: Final = 2.0
_PAUSE_S: Final = 0.1  # after an answer that was not whole
_PATIENT: Final = Timeouts(first_token_s=900, between_tokens_s=900)
_CODE: Final = re.compile(r"\b[a-z]+(?:_[a-z0-9]+)+\b")
_KINDS: Final = ("upstream_error", "server_error", "rate_limit_error", "service_unavailable_error")  # types, not codes
CALLED_FOR: Final = ("upstream_malformed_top_k", "upstream_blind_position")  # by a list that is wrong, or not there


@dataclass(slots=True)
class Tally:
    """Of all answers so far; none is kept."""

    answers: int = 0
    tokens: int = 0
    left: int = 0  # by their client
    whole_and_wrong: int = 0
    wrong_tokens: int = 0  # at places where the known answer has another one, or none
    ended: Counter[str] = field(default_factory=Counter)  # answers that ended with an error, by its code
    without_word: int = 0  # that were cut off without an error
    longest_s: float = 0.0  # of one answer

    def add(self, got: Got, known: Known) -> None:
        self.answers += 1
        self.tokens += len(got.ids)
        self.longest_s = max(self.longest_s, time.perf_counter() - got.began)
        self.whole_and_wrong += wrong([got], known)
        self.wrong_tokens += uncorrected([got], _of_version(got, known))
        if not got.whole:
            self.without_word += got.fault is None
            self.ended.update([code_of(got.fault)] if got.fault is not None else [])

    @property
    def torn(self) -> int:
        """Answers that neither came whole nor ended with the error that a wrong list calls for."""
        return self.without_word + sum(count for code, count in self.ended.items() if code not in CALLED_FOR)


def code_of(fault: str) -> str:
    """The code in an error's words; its words where there is none."""
    codes = [code for code in _CODE.findall(fault) if code not in _KINDS]
    return codes[-1] if codes else fault[:80]


def _of_version(got: Got, known: Known) -> Known:
    """The answers of the versions that the stream names, which is one."""
    return {key: ids for key, ids in known.items() if key[0] in got.fingerprints}


@dataclass(slots=True)
class Clients:
    """So many, until they are told to stop."""

    url: str
    asks: Sequence[Ask]
    known: Known
    count: int
    tally: Tally = field(default_factory=Tally)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: "list[asyncio.Task[None]]" = field(default_factory=list)

    async def __aenter__(self) -> "Clients":
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(self.count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Lets running answers end."""
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _client(self, number: int) -> None:
        chance = random.Random(number)
        # A failed answer is not to be hidden by another one; the server's deadline is to end an answer, not ours.
        transport = Transport(self.url, timeouts=_PATIENT, limits=Limits(attempts=1))
        try:
            while not self._stop.is_set():
                ask = chance.choice(self.asks)
                if chance.random() < _LEAVING:
                    await self._leaving(transport, ask, chance.uniform(0, _LONGEST_STAY_S))
                else:
                    await self._asking(transport, ask)
        finally:
            await transport.aclose()

    async def _asking(self, transport: Transport, ask: Ask) -> None:
        got = await stream(transport, ask)
        self.tally.add(got, self.known)
        if not got.whole:
            await asyncio.sleep(_PAUSE_S)

    async def _leaving(self, transport: Transport, ask: Ask, stay_s: float) -> None:
        try:
            async with asyncio.timeout(stay_s):
                got = await stream(transport, ask)
        except TimeoutError:
            self.tally.left += 1
        else:
            self.tally.add(got, self.known)
