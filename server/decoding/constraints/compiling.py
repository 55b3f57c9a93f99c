"""Compiles the grammars of one tokenizer, beside the event loop, and keeps the latest."""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

from llguidance import LLTokenizer

from deltaserve.errors import BadRequest, RateLimited
from deltaserve.server.decoding.constraints.constraint import Constraint
from deltaserve.server.decoding.constraints.grammar import Grammar, Vocabulary, compiled, parsing_vocabulary

T = TypeVar("T")

_KEPT: Final = 32  # grammars: with a large vocabulary one may grow to 25 MB
_LONGEST_S: Final = 10.0  # seconds that one may take
_AT_ONCE: Final = 2
# Definitions are compiled within each other: a thousand in a row are too much for the usual stack, and end the process.
_STACK_BYTES: Final = 512 * 2**20  # a thread takes of it what it needs
_STARTING: Final = threading.Lock()


class GrammarCompiler:
    """One compiled grammar per text, the least recently used is dropped. May be used from any event loop."""

    def __init__(self, vocabulary: Vocabulary, *, kept: int = _KEPT, longest_s: float = _LONGEST_S) -> None:
        self._vocabulary = vocabulary
        self._parsing: LLTokenizer | None = None
        self._kept = kept
        self._longest_s = longest_s
        self._grammars: OrderedDict[str, Future[Grammar]] = OrderedDict()  # those being compiled, too
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="grammar")
        self._making = threading.Lock()
        self._looking = threading.RLock()

    async def check(self, grammar: str, param: str | None = None) -> None:
        """Raises BadRequest, about `param`, where answers cannot be held to this grammar; else it is compiled now."""
        try:
            await self._compiled(grammar)
        except BadRequest as error:
            raise BadRequest(error.message, param=error.param or param) from None

    async def grammar(self, constraint: Constraint | None) -> Grammar | None:
        """The compiled grammar of a constraint; None for None. Raises BadRequest as `check`."""
        return None if constraint is None else await self._compiled(constraint.grammar)

    async def in_thread(self, function: Callable[[], T]) -> T:
        """The result of what looks at grammars, in a thread whose stack holds them."""
        return await asyncio.wrap_future(self._begin(function))

    async def _compiled(self, text: str) -> Grammar:
        # Once for a vocabulary, and apart: it is not the grammar that takes this time.
        parsing = await self.in_thread(self._parsing_made) if self._parsing is None else self._parsing
        grammar = self._of(text, parsing)
        if grammar.done():
            return grammar.result()
        try:
            async with asyncio.timeout(self._longest_s):
                return await asyncio.shield(asyncio.wrap_future(grammar))  # others may wait for it
        except TimeoutError:
            if not (grammar.running() or grammar.done()):
                raise RateLimited("The server is busy: too many grammars are waiting to be compiled.") from None
            raise BadRequest(
                f"The grammar was not compiled after {self._longest_s:g} s: ask for a simpler one."
            ) from None

    def _of(self, text: str, parsing: LLTokenizer) -> Future[Grammar]:
        """Compiled once, whoever asks for it meanwhile. What fails is not kept."""
        with self._looking:
            grammar = self._grammars.get(text)
            if grammar is None or _useless(grammar):
                grammar = self._grammars[text] = self._begin(lambda: compiled(text, parsing))
                grammar.add_done_callback(lambda done: self._drop_failed(text, done))
                if len(self._grammars) > self._kept:
                    self._grammars.popitem(last=False)
            else:
                self._grammars.move_to_end(text)
            return grammar

    def _drop_failed(self, text: str, grammar: Future[Grammar]) -> None:
        with self._looking:
            if grammar.exception() is not None and self._grammars.get(text) is grammar:
                del self._grammars[text]

    def _parsing_made(self) -> LLTokenizer:
        with self._making:
            if self._parsing is None:
                self._parsing = parsing_vocabulary(self._vocabulary)
            return self._parsing

    def _begin(self, function: Callable[[], T]) -> Future[T]:
        with _STARTING:
            before = threading.stack_size(_STACK_BYTES)
            try:
                return self._threads.submit(function)
            finally:
                threading.stack_size(before)


def _useless(grammar: Future[Grammar]) -> bool:
    return grammar.done() and (grammar.exception() is not None or grammar.result().spent)
