"""Compiles the grammars of one tokenizer, beside the event loop, and keeps the latest."""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from llguidance import LLTokenizer

from deltaserve.errors import BadRequest
from deltaserve.server.decoding.constraints.constraint import Constraint
from deltaserve.server.decoding.constraints.grammar import Grammar, Vocabulary, compiled, parsing_vocabulary

T = TypeVar("T")

_KEPT: Final = 128  # grammars
_LONGEST_S: Final = 10.0  # seconds that one may take
_AT_ONCE: Final = 2


class GrammarCompiler:
    """One compiled grammar per text, the least recently used is dropped. May be used from any event loop."""

    def __init__(self, vocabulary: Vocabulary, *, kept: int = _KEPT, longest_s: float = _LONGEST_S) -> None:
        self._vocabulary = vocabulary
        self._parsing: LLTokenizer | None = None
        self._kept = kept
        self._longest_s = longest_s
        self._grammars: OrderedDict[str, Grammar] = OrderedDict()
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="grammar")
        self._making = threading.Lock()

    async def check(self, grammar: str, param: str | None = None) -> None:
        """Raises BadRequest, about `param`, where answers cannot be held to this grammar; else it is compiled now."""
        try:
            await self._compiled(grammar)
        except BadRequest as error:
            error.param = error.param or param
            raise

    async def grammar(self, constraint: Constraint | None) -> Grammar | None:
        """The compiled grammar of a constraint; None for None. Raises BadRequest as `check`."""
        return None if constraint is None else await self._compiled(constraint.grammar)

    async def _compiled(self, text: str) -> Grammar:
        known = self._grammars.get(text)
        if known is not None:
            self._grammars.move_to_end(text)
            return known
        # Once for a vocabulary, and apart: it is not the grammar that takes this time.
        parsing = await self._in_thread(self._parsing_made) if self._parsing is None else self._parsing
        try:
            async with asyncio.timeout(self._longest_s):
                grammar = await self._in_thread(lambda: compiled(text, parsing))
        except TimeoutError:
            raise BadRequest(
                f"The grammar was not compiled after {self._longest_s:g} s: ask for a simpler one."
            ) from None
        self._grammars[text] = grammar
        if len(self._grammars) > self._kept:
            self._grammars.popitem(last=False)
        return grammar

    def _parsing_made(self) -> LLTokenizer:
        with self._making:
            if self._parsing is None:
                self._parsing = parsing_vocabulary(self._vocabulary)
            return self._parsing

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)
