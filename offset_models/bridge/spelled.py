"""A tokenizer as the bridge needs it: what its ids spell, what it writes, and which ids end an answer."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.bridge.neighbours import WrittenNeighbours
from deltaserve.offset_models.bridge.tree import ByteTree
from deltaserve.offset_models.bridge.vocabulary import ByteVocabulary
from deltaserve.offset_models.files.digests import digest_of
from deltaserve.offset_models.tokenizer.continuation import ANCHORS, behind_anchors
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer

# NFC leaves nearly all text as it is; text that it would change is text that the tokenizer never writes.
_KEPT: Final = frozenset({"NFC", "Replace", "Prepend", "Sequence"})


@dataclass(frozen=True)
class Spelled:
    """One of the two tokenizers."""

    tokenizer: Tokenizer

    @cached_property
    def vocabulary(self) -> ByteVocabulary:
        """Special tokens, marks of turns and ids that the tokenizer does not have are no text."""
        hidden = self.tokenizer.reserved_ids.union(self.tokenizer.masked_ids, self.ends)
        size = self.tokenizer.vocab_size
        return ByteVocabulary([None if i in hidden else self.tokenizer.token_bytes(i) for i in range(size)])

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Ids that end an answer or a turn, ascending."""
        return tuple(sorted({*self.tokenizer.eos_ids, *self.tokenizer.answer_end}))

    @cached_property
    def tree(self) -> ByteTree:
        """Of what this tokenizer writes."""
        return ByteTree(self.vocabulary, WrittenNeighbours(self.vocabulary.spelling, self.encode))

    @property
    def identity(self) -> str:
        """Changes with what ids mean, and with which are ends or no text: models of one tokenizer differ there."""
        return digest_of([self.tokenizer.fingerprint.ids, self.ends, sorted(self.tokenizer.reserved_ids)])

    @cached_property
    def way(self) -> str:
        """Changes with how a text is split into tokens, beside what `identity` says."""
        backend = self.tokenizer.backend
        steps = (backend.normalizer, backend.pre_tokenizer, backend.post_processor)
        return digest_of([None if step is None else step.__getstate__().decode() for step in steps])

    def encode(self, text: bytes) -> Sequence[int] | None:
        """Ids of bytes inside a text, never at its beginning; None where they are no text by themselves."""
        try:
            words = text.decode()
        except UnicodeDecodeError:
            return None
        if not self._marks_beginnings:
            return self.tokenizer.encode_words(words)
        return next(behind_anchors(self.tokenizer.encode_words, words, ANCHORS), None)

    @cached_property
    def _marks_beginnings(self) -> bool:
        """Whether the beginning of a text is encoded as nothing inside one would be."""
        words = self.tokenizer.encode_words("a")
        return b"".join(map(self.tokenizer.token_bytes, words)) != b"a"


def spelled(tokenizer: Tokenizer, whose: str) -> Spelled:
    """`whose`: "The pair's" or "The black box's". Raises BadCheckpoint where its bytes cannot be bridged."""
    if not tokenizer.joins:
        raise BadCheckpoint(f"{whose} tokenizer cannot be bridged: its tokens' bytes do not join to the text.")
    if (kind := type(tokenizer.backend.model).__name__) != "BPE":
        raise BadCheckpoint(f"{whose} tokenizer cannot be bridged: it is {kind}, and only BPE is supported.")
    if changing := sorted(set(_steps(tokenizer)) - _KEPT):
        raise BadCheckpoint(f"{whose} tokenizer cannot be bridged: {', '.join(changing)} changes the text it is given.")
    return Spelled(tokenizer)


def _steps(tokenizer: Tokenizer) -> Iterator[str]:
    """What the tokenizer does to a text before it splits it."""
    if (normalizer := tokenizer.backend.normalizer) is not None:
        yield from _kinds(json.loads(normalizer.__getstate__()))


def _kinds(step: Mapping[str, Any]) -> Iterator[str]:
    if step["type"] == "Replace" and step["content"] != "▁":
        yield f"Replace with {step['content']!r}"
    yield step["type"]
    for part in step.get("normalizers") or ():
        yield from _kinds(part)
