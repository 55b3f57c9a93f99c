"""A tokenizer view over a table of bytes: greedy longest match, enough for what upstreams ask of a tokenizer."""

from collections.abc import Mapping, Sequence


class TableTokenizer:
    """Ids that the table does not name stand for the text `<t17>`."""

    def __init__(self, vocab_size: int, table: Mapping[int, bytes]) -> None:
        self._size = vocab_size
        self._table = dict(table)
        self._by_bytes = {name: token_id for token_id, name in table.items()}
        self._longest = max(map(len, self._by_bytes), default=0)

    @property
    def vocab_size(self) -> int:
        return self._size

    @property
    def special_ids(self) -> frozenset[int]:
        return frozenset(i for i in range(self._size) if i not in self._table)

    @property
    def added_ids(self) -> frozenset[int]:
        return self.special_ids

    @property
    def eos_ids(self) -> tuple[int, ...]:
        return ()

    def token_bytes(self, token_id: int) -> bytes:
        return self._table.get(token_id, b"<t%d>" % token_id)

    def token_text(self, token_id: int) -> str:
        return self.token_bytes(token_id).decode(errors="replace")

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(map(self.token_bytes, ids)).decode(errors="replace")

    def encode(self, text: str, add_special: bool = False) -> list[int]:
        rest, ids = text.encode(), []
        while rest:
            length = next(n for n in range(min(self._longest, len(rest)), 0, -1) if rest[:n] in self._by_bytes)
            ids.append(self._by_bytes[rest[:length]])
            rest = rest[length:]
        return ids


def byte_tokenizer(extra: Sequence[bytes] = (), vocab_size: int | None = None) -> TableTokenizer:
    """Every single byte has the id of its value; `extra` tokens follow from 256 on."""
    table = {value: bytes([value]) for value in range(256)} | dict(enumerate(extra, 256))
    return TableTokenizer(vocab_size or len(table), table)
