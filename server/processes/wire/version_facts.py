"""Which tokenizers a version has, told so that a front-end can load the same one and prove it."""

from typing import Any

from deltaserve.offset_models.files.digests import digest_of
from deltaserve.server.processes.wire.messages import TokenizerFacts, VersionFacts


def facts(version: Any) -> VersionFacts:
    """Of a loaded version."""
    pair = version.pair_tokenizer
    return VersionFacts(
        version.name,
        version.fingerprint,
        version.max_context,
        _tokenizer_facts(version.tokenizer),
        None if pair is None else _tokenizer_facts(pair),
    )


def _tokenizer_facts(tokenizer: Any) -> TokenizerFacts:
    return TokenizerFacts(str(tokenizer.folder), tokenizer_digest(tokenizer))


def tokenizer_digest(tokenizer: Any) -> str:
    """Of all that decides what a request becomes: ids, chat templates, ends of answers, recommended sampling."""
    return digest_of(
        [tokenizer.fingerprint.model_dump(), list(tokenizer.eos_ids), sorted(tokenizer.recommended.items())]
    )
