"""Which tokenizer this is, as digests that do not depend on how its file was written."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from deltaserve.offset_models.files.digests import Sha256, digest_of


class TokenizerFingerprint(BaseModel):
    """sha256 digests (hex). The first three decide what an id means; the chat template only how a chat becomes text."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    vocabulary: Sha256
    merges: Sha256
    specials: Sha256
    chat_template: Sha256 | None = None

    @property
    def ids(self) -> str:
        """One digest of vocabulary, merges and specials: equal means that the same id is the same token."""
        return digest_of([self.vocabulary, self.merges, self.specials])

    def mismatch(self, other: "TokenizerFingerprint") -> str | None:
        """What differs between the two, in words; None when ids mean the same in both."""
        parts = ("vocabulary", "merges", "specials")
        differing = [part for part in parts if getattr(self, part) != getattr(other, part)]
        return ", ".join(differing) or None


def fingerprint_of(
    tokenizer_json: Mapping[str, Any], specials: Mapping[int, str], template: str | Sequence[Mapping[str, str]] | None
) -> TokenizerFingerprint:
    """Fingerprint of a parsed `tokenizer.json`, added tokens (id → text) and the chat template, or several."""
    model = tokenizer_json["model"]
    return TokenizerFingerprint(
        vocabulary=digest_of(_vocabulary(model["vocab"])),
        merges=digest_of(_merges(model)),
        specials=digest_of(sorted(specials.items())),
        chat_template=None if template is None else digest_of(template),
    )


def _vocabulary(vocab: Mapping[str, int] | Sequence[Sequence[Any]]) -> list[tuple[int, str]]:
    if isinstance(vocab, Mapping):
        return sorted((index, token) for token, index in vocab.items())
    return [(index, entry[0]) for index, entry in enumerate(vocab)]  # Unigram: [[token, score], …]


def _merges(model: Mapping[str, Any]) -> list[Any]:
    """How text becomes pieces: BPE merges (written as "a b" or ["a", "b"], one form here) or Unigram scores."""
    if "merges" in model:
        return [merge.split(" ") if isinstance(merge, str) else list(merge) for merge in model["merges"]]
    vocab = model["vocab"]
    return [] if isinstance(vocab, Mapping) else [entry[1] for entry in vocab]
