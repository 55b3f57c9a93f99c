"""The engine's side of one stream: its session, and the corrector that decides its tokens."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from deltaserve.server.decoding.deciding.corrector import AnswerSpec, CorrectingSession, Corrector
from deltaserve.server.decoding.deciding.naming import NamesWanted
from deltaserve.server.processes.wire import messages as m
from deltaserve.server.processes.wire.translation import TextReceiver, decided, proposal, scored, wanted
from deltaserve.server.serving.ports import Tokenizer

Send = Callable[[m.ToFrontEnd], None]
Fail = Callable[[int, Exception], None]


class EngineSide:
    """Works on what a `RemoteSession` asks. Messages are begun in the order in which they came."""

    def __init__(self, session: CorrectingSession, send: Send, fail: Fail, tokenizer: Tokenizer) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._send = send
        self._fail = fail
        self._text = TextReceiver()
        self._corrector: Corrector | None = None
        self._fault: Exception | None = None  # of something that needs no answer: whatever is asked later fails by it
        self._tasks: set[asyncio.Task[None]] = set()
        self._held_back: list[Any] | None = None  # messages that wait until a grammar is compiled
        self._handlers: Mapping[type[Any], Callable[[Any], None]] = {
            m.Prefetch: lambda asked: self._session.prefetch(self._text.heard(asked.text)),
            m.Begin: self._begin,
            m.Ahead: lambda _: self._deciding.prefetch(),
            m.Decide: lambda asked: self._start(asked.id, self._decide(asked)),
            m.Force: lambda asked: self._start(asked.id, self._force(asked)),
            m.Expected: lambda asked: self._start(asked.id, self._expected(asked)),
            m.Lifted: lambda asked: self._start(asked.id, self._lifted(asked)),
            m.DraftBlock: lambda asked: self._start(asked.id, self._draft(asked)),
            m.Score: lambda asked: self._start(asked.id, self._score(asked, list(self._text.heard(asked.text)))),
        }

    def received(self, message: Any) -> None:
        """Never raises: the other streams of the connection have no part in what is wrong with this one."""
        if self._held_back is not None:
            self._held_back.append(message)
            return
        try:
            if self._fault is None:
                self._handlers[type(message)](message)
        except Exception as error:  # noqa: BLE001  (told to the front-end, which raises it)
            self._fault = error
        if self._fault is not None and hasattr(message, "id"):
            self._fail(message.id, self._fault)

    def end(self) -> None:
        """What is still being worked on is not wanted any more."""
        for task in self._tasks:
            task.cancel()

    @property
    def _deciding(self) -> Corrector:
        if self._corrector is None:
            raise RuntimeError("a stream that has not begun")
        return self._corrector

    def _begin(self, begin: m.Begin) -> None:
        spec = AnswerSpec(list(self._text.heard(begin.prompt)), begin.params, begin.policy, begin.index)
        if begin.params.constraint is None:
            self._corrector = self._session.corrector(spec)
            return
        self._held_back = []
        self._run(self._begin_constrained(spec))

    async def _begin_constrained(self, spec: AnswerSpec) -> None:
        """Messages that come meanwhile are worked on after it, in their order."""
        try:
            grammar = await self._tokenizer.grammars.grammar(spec.params.constraint)
            self._corrector = self._session.corrector(replace(spec, grammar=grammar))
        except Exception as error:  # noqa: BLE001  (told to the front-end, which raises it)
            self._fault = error
        waiting, self._held_back = self._held_back or [], None
        for message in waiting:
            self.received(message)

    async def _decide(self, asked: m.Decide) -> m.ToFrontEnd:
        run = [proposal(listed) for listed in asked.run]
        try:
            decisions = await self._deciding.decide(run, asked.draft_temperature, observed=asked.observed)
        except NamesWanted as names:
            return m.Decisions(asked.id, [], wanted(names), names.likely)
        return m.Decisions(asked.id, [decided(decision) for decision in decisions])

    async def _force(self, asked: m.Force) -> m.ToFrontEnd:
        return m.Decisions(asked.id, [decided(decision) for decision in await self._deciding.forced()])

    async def _expected(self, asked: m.Expected) -> m.ToFrontEnd:
        return m.Done(asked.id, msgspec.Raw(msgspec.msgpack.encode(await self._deciding.expected())))

    async def _lifted(self, asked: m.Lifted) -> m.ToFrontEnd:
        ids = await self._deciding.lifted()
        return m.Done(asked.id, msgspec.Raw(msgspec.msgpack.encode(ids.tolist())))

    async def _draft(self, asked: m.DraftBlock) -> m.ToFrontEnd:
        return m.Done(asked.id, msgspec.Raw(msgspec.msgpack.encode(await self._deciding.draft(asked.length))))

    async def _score(self, asked: m.Score, text: list[int]) -> m.ToFrontEnd:
        proposals = [proposal(listed) for listed in asked.proposals]
        tokens = await self._session.scores(text, asked.start, proposals, asked.tail, asked.top)
        return m.Scores(asked.id, [scored(token) for token in tokens])

    def _start(self, asked: int, work: Coroutine[Any, Any, m.ToFrontEnd]) -> None:
        self._run(self._answer(asked, work))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, asked: int, work: Coroutine[Any, Any, m.ToFrontEnd]) -> None:
        try:
            self._send(await work)
        except Exception as error:  # noqa: BLE001  (told to the front-end, which raises it)
            self._fail(asked, error)
