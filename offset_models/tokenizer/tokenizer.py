"""The tokenizer of a model folder: ids, bytes, chat prompts. Imports no torch and runs no code of the folder."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from deltaserve.errors import BadCheckpoint, BadRequest
from deltaserve.offset_models.files.library_errors import refusing
from deltaserve.offset_models.files.safe_files import read_json
from deltaserve.offset_models.tokenizer.chat_template import ChatTemplate, read_templates
from deltaserve.offset_models.tokenizer.fingerprint import TokenizerFingerprint, fingerprint_of
from deltaserve.offset_models.tokenizer.generation_config import recommended_sampling
from deltaserve.offset_models.tokenizer.special_tokens import declared_ends, listed_tokens, named_tokens, optional_json
from deltaserve.offset_models.tokenizer.token_bytes import spelling_of
from deltaserve.offset_models.tokenizer.turn_marks import turn_marks
from deltaserve.offset_models.tokenizer.written import Covering, Texts, Veil, encode_veiled, read_as_text
from deltaserve.server.decoding.constraints.compiling import GrammarCompiler
from deltaserve.server.decoding.output.text import ByteDetokenizer, IncrementalDetokenizer, PlacedDetokenizer

ADDED_TOKEN_FLAGS: Final = ("lstrip", "rstrip", "single_word", "normalized", "special")
# Words that no template holds, begun and ended by a letter: templates trim what they are given.
_QUESTION: Final = "Which7word7is7asked7for"
_ANSWER: Final = "This7word7is7answered"


class Tokenizer:
    """One tokenizer. Immutable after `load`; safe to share between threads."""

    def __init__(
        self, source: Mapping[str, Any], backend: Backend, named: Mapping[str, str], chat: ChatTemplate
    ) -> None:
        backend.no_truncation()  # a saved tokenizer.json may carry the limits of its training run
        backend.no_padding()
        self.backend = backend
        self._source = source
        self._named = named  # texts of the special tokens by what they are for
        self._chat = chat
        self._added = backend.get_added_tokens_decoder()
        self._spelling = spelling_of(source)
        self._bytes: dict[int, bytes] = {}
        self.eos_ids: tuple[int, ...] = ()
        self.folder: Path | None = None  # where it was loaded from
        self.recommended: Mapping[str, float] = {}  # sampling parameters of the folder's generation_config.json

    @classmethod
    @refusing("The tokenizer cannot be read")
    def load(cls, folder: Path) -> "Tokenizer":
        """From tokenizer.json and the JSON files beside it. Raises BadCheckpoint."""
        if not (folder / "tokenizer.json").is_file():
            raise BadCheckpoint(f"{folder.name} has no tokenizer.json; save it with a fast tokenizer.")
        config = optional_json(folder / "tokenizer_config.json")
        named = named_tokens(folder, config)
        try:
            backend = Backend.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises its base class for every fault of the file
            raise BadCheckpoint(f"{folder.name}/tokenizer.json cannot be read as a tokenizer.") from error
        if not backend.get_vocab_size():
            raise BadCheckpoint(f"{folder.name}/tokenizer.json has no tokens.")
        source = read_json(folder / "tokenizer.json")
        _refuse_moved(backend, {token["id"]: token for token in source.get("added_tokens") or ()})
        _add_missing(backend, listed_tokens(folder, config, named))
        chat = ChatTemplate(read_templates(folder, config), named)
        tokenizer = cls(source, backend, named, chat)
        tokenizer.folder = folder.resolve()
        tokenizer.eos_ids = tokenizer._find_eos(declared_ends(folder))
        tokenizer.recommended = recommended_sampling(folder)
        return tokenizer

    def encode(self, text: str, add_special: bool = False) -> list[int]:
        """Ids of `text`; special tokens written in it become their ids. Raises BadRequest for invalid Unicode."""
        with _refusing_halves():
            # Of the library's ways the one that lets other threads run: a long text takes seconds.
            return self.backend.encode_batch_fast([text], add_special_tokens=add_special)[0].ids

    def veil(self, value: Any) -> Veil | None:
        """Covers the special tokens that are written in the texts of a JSON value; None where none is."""
        return Veil(self._written) if self._written.stand_in(value) else None

    def encode_chat(self, text: str, veil: Covering, add_special: bool = False) -> list[int]:
        """Ids of a rendered chat whose words are under the veil: what stands there is text. Raises BadRequest."""
        before, behind = self._around if add_special else ([], [])
        with _refusing_halves():
            return [*before, *encode_veiled(text, veil, self.backend, self._plain, self._reserved), *behind]

    def encode_words(self, text: str) -> list[int]:
        """Ids of text that is nothing but words: what looks like a special token in it is none. Raises BadRequest."""
        with _refusing_halves():
            return self._plain.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str:
        """Text of `ids`; bytes that are not UTF-8 become U+FFFD. Raises BadRequest for unknown ids."""
        self.check_ids(ids)
        if not self._spelling.joins:
            return self.backend.decode_batch([list(ids)], skip_special_tokens=skip_special)[0]
        whole = ByteDetokenizer(self._said if skip_special else self.token_bytes, leading=self._spelling.leading)
        return "".join(map(whole.step, ids)) + whole.flush()

    def check_ids(self, ids: Iterable[int]) -> None:
        """Raises BadRequest naming the first id that is no token."""
        size, masked = self.vocab_size, self._masked
        for token_id in ids:
            if not 0 <= token_id < size or token_id in masked:
                raise BadRequest(f"Token id {token_id} is not in the vocabulary (0 to {size - 1}).")

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes this id adds to the output; an added token's are its text. Raises BadRequest for an unknown id."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._bytes_of(token_id)
        return known

    def token_text(self, token_id: int) -> str:
        """`token_bytes` as text, alone: half a character shows as U+FFFD."""
        return self.token_bytes(token_id).decode(errors="replace")

    def detokenizer(self, prompt_ids: Sequence[int] = (), *, special: bool = False) -> PlacedDetokenizer:
        """A new incremental decoder; `prompt_ids` decide whether a leading space is text.

        `special`: special tokens have their text; else they have none.
        """
        if self._spelling.joins:
            return ByteDetokenizer(self.token_bytes if special else self._said, prompt_ids, self._spelling.leading)
        return IncrementalDetokenizer(self.backend, prompt_ids, special=special)

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """A chat as prompt text; encode it once, with add_special False. Raises BadRequest."""
        return self._chat.render(
            messages,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            tools=tools,
            chat_template_kwargs=chat_template_kwargs,
        )

    @property
    def joins(self) -> bool:
        """Whether the text of several tokens is their bytes, one after the other."""
        return self._spelling.joins

    @cached_property
    def grammars(self) -> GrammarCompiler:
        """Compiles what answers in these tokens are held to."""
        return GrammarCompiler(self)

    @property
    def chat_template(self) -> str | None:
        """Source of the default chat template."""
        return self._chat.source

    @property
    def tool_template(self) -> str | None:
        """Source of the chat template of conversations with tools: most models have one for all."""
        return self._chat.source_with_tools

    @property
    def template_variables(self) -> frozenset[str]:
        """What the chat templates read: messages, tools, and what `chat_template_kwargs` may give."""
        return self._chat.variables

    @cached_property
    def vocab_size(self) -> int:
        """Largest id + 1. A model may have more rows; those beyond are padding."""
        return max(self._ids) + 1

    @cached_property
    def longest_token(self) -> int:
        """Characters of the longest vocabulary entry: no text has fewer tokens than its characters divided by it."""
        return max(map(len, self.backend.get_vocab(with_added_tokens=True)))

    @cached_property
    def masked_ids(self) -> tuple[int, ...]:
        """Ids below `vocab_size` that are no token, ascending."""
        return tuple(i for i in range(self.vocab_size) if i not in self._ids)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids that `skip_special` leaves out of text."""
        return frozenset(i for i, token in self._added.items() if token.special)

    @cached_property
    def reserved_ids(self) -> frozenset[int]:
        """Tokens that are never words: special ones, and those that tell turns apart."""
        return frozenset(self._reserved)

    @cached_property
    def _reserved(self) -> dict[int, AddedToken]:
        """Tokens that nobody's words may hold as such: special ones, and those that tell turns apart."""
        texts = {i: token.content for i, token in self._added.items() if token.content}
        marks = turn_marks(self.render_chat, self.encode, texts)
        return {i: self._added[i] for i in texts if i in marks or self._added[i].special}

    @cached_property
    def _written(self) -> Texts:
        return Texts([token.content for token in self._reserved.values()])

    @cached_property
    def _plain(self) -> Backend:
        """Reads reserved tokens as text."""
        return read_as_text(self.backend, self._reserved)

    @cached_property
    def added_ids(self) -> frozenset[int]:
        """Ids of added tokens: matched as a whole wherever their text stands, special or not."""
        return frozenset(self._added)

    @cached_property
    def bos_id(self) -> int | None:
        """The token that begins a text: the one so named, else the only one that encoding puts before a text."""
        before, _ = self._around
        return before[0] if "bos_token" not in self._named and len(before) == 1 else self._named_id("bos_token")

    @cached_property
    def turn_end_id(self) -> int | None:
        """The added token that the chat template puts behind an assistant's words; None where it puts none."""
        user, assistant = {"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}
        # Some templates end a turn only where another follows, and some end it by the mark that opens the next one.
        for messages in ([user, assistant], [user, assistant, user]):
            try:
                text = self.render_chat(messages, add_generation_prompt=False)
            except BadRequest:
                continue
            _, answer, behind = text.rpartition(_ANSWER)
            if answer and (mark := self._first_mark(behind)) is not None:
                return mark
        return None

    @cached_property
    def answer_end(self) -> tuple[int, ...]:
        """What ends a chat's answer: the template's own mark, else the tokenizer's end of text; at most one id."""
        return self.eos_ids[:1] if self.turn_end_id is None else (self.turn_end_id,)

    @cached_property
    def fingerprint(self) -> TokenizerFingerprint:
        added = {i: token.content for i, token in self._added.items()}
        return fingerprint_of(self._source, added, self._chat.identity)

    @cached_property
    def _ids(self) -> frozenset[int]:
        return frozenset(self.backend.get_vocab(with_added_tokens=True).values())

    @cached_property
    def _masked(self) -> frozenset[int]:
        return frozenset(self.masked_ids)

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        """Ids that encoding puts before and behind a text when special tokens are asked for."""
        plain, dressed = self.encode("a"), self.encode("a", add_special=True)
        for start in range(len(dressed) - len(plain) + 1 if plain else 0):
            if dressed[start : start + len(plain)] == plain:
                return dressed[:start], dressed[start + len(plain) :]
        return [], []

    def _first_mark(self, text: str) -> int | None:
        """The added token that `text` begins with, white space aside; a beginning of text is no end."""
        ids = self.encode(text.lstrip(), add_special=False)
        if not ids or ids[0] not in self.added_ids:
            return None
        return None if ids[0] == self.bos_id and ids[0] not in self.eos_ids else ids[0]

    def _named_id(self, name: str) -> int | None:
        text = self._named.get(name)
        return None if text is None else self.backend.token_to_id(text)

    def _said(self, token_id: int) -> bytes:
        """What the id adds to the text of an answer."""
        return b"" if token_id in self.special_ids else self.token_bytes(token_id)

    def _bytes_of(self, token_id: int) -> bytes:
        self.check_ids((token_id,))
        if (added := self._added.get(token_id)) is not None:
            return added.content.encode() if added.special else self._spelling.added(added.content)
        return self._spelling.piece(self.backend.id_to_token(token_id) or "")

    def _find_eos(self, declared: Sequence[int]) -> tuple[int, ...]:
        """Ids that end an answer: the tokenizer's own, those that the model's settings add, the one that ends turns."""
        own = self._named_id("eos_token")
        known = [*([] if own is None else [own]), *declared]
        self.eos_ids = tuple(i for i in dict.fromkeys(known) if i in self._ids)
        ids = dict.fromkeys([*self.eos_ids, *([] if self.turn_end_id is None else [self.turn_end_id])])
        _, behind = self._around
        return tuple(ids or behind[-1:])


@contextmanager
def _refusing_halves() -> Iterator[None]:
    """Raises BadRequest for what is no Unicode."""
    try:
        yield
    except (UnicodeEncodeError, TypeError) as error:
        raise BadRequest("The text holds half of a surrogate pair; it is not valid Unicode.") from error


def _refuse_moved(backend: Backend, declared: Mapping[int, Mapping[str, Any]]) -> None:
    """The library numbers added tokens anew when they do not follow the vocabulary; other readers trust the file."""
    for token_id, about in declared.items():
        if (read_as := backend.token_to_id(about["content"])) != token_id:
            raise BadCheckpoint(f"The tokenizer declares id {token_id} for an added token that it reads as {read_as}.")


def _add_missing(backend: Backend, listed: Mapping[int, Mapping[str, Any]]) -> None:
    """Some folders list added tokens, or that they are special, only beside tokenizer.json.

    New ones must land on the ids written there.
    """
    known = {token.content: token.special for token in backend.get_added_tokens_decoder().values()}
    for _, about in sorted(listed.items()):
        special = about.get("special", False)
        if backend.token_to_id(about["content"]) is None or (special and not known.get(about["content"], False)):
            flags = {flag: about.get(flag, False) for flag in ADDED_TOKEN_FLAGS}
            backend.add_tokens([AddedToken(about["content"], **flags)])
    _refuse_moved(backend, listed)
