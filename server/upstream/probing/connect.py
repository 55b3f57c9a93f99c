"""Connect to a black box: detect its dialect, then measure with tiny requests what it really does.

What cannot be corrected exactly is refused here, with a sentence that names the setting to change.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal

import structlog

from deltaserve.errors import MalformedTopK, UncorrectableUpstream, UpstreamRefused
from deltaserve.server.upstream.base import Capabilities, Dialect, TokenizerView
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.dialects.table import KINDS, box_of
from deltaserve.server.upstream.dialects.text_box import TextBox
from deltaserve.server.upstream.http.continuity import Difference
from deltaserve.server.upstream.http.throttle import Throttle
from deltaserve.server.upstream.http.transport import Limits, Timeouts, Transport
from deltaserve.server.upstream.probing.detect import Detected, detect
from deltaserve.server.upstream.probing.identity import Identity, compare, identify
from deltaserve.server.upstream.probing.measure import measured
from deltaserve.server.upstream.probing.otherwise import understood
from deltaserve.server.upstream.probing.revalidation import revalidation
from deltaserve.server.upstream.probing.tokenizer_check import named_end


async def connect(
    url: str,
    *,
    tokenizer: TokenizerView,
    model: str | None = None,
    key: str | None = None,
    dialect: Dialect | Literal["auto"] = "auto",
    k: int = 20,
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    cache_salt: str | None = None,
    prefix_cache: bool | None = True,
    trust_draws: bool = True,
    provider: str | None = None,
) -> CompletionsBox:
    """A probed black box; without `prefix_cache` (llama.cpp only) it computes every prompt whole; None: where it can.

    `provider`: who has to answer, behind a router of many (OpenRouter).
    Without `trust_draws` what it draws is only a guess; nor is it trusted where it may hide what it drew.
    Raises UncorrectableUpstream when it cannot be corrected, UpstreamError when it is away.
    """
    prober = Prober(url, tokenizer, key, dialect, k, timeouts, limits, cache_salt, prefix_cache, trust_draws, provider)
    return (await prober.connected(model))[0]


_SPOILT_LOOKS: Final = 3  # with an answer that cannot be used, until it counts as another server; a whole look decides
CACHE_IS_TOLD: Final[frozenset[Dialect]] = frozenset({"llamacpp"})  # by each request


@dataclass(frozen=True, slots=True)
class Prober:
    """One address, and how it is asked."""

    url: str
    tokenizer: TokenizerView
    key: str | None
    dialect: Dialect | Literal["auto"]
    k: int
    timeouts: Timeouts | None
    limits: Limits | None
    cache_salt: str | None
    prefix_cache: bool | None
    trust_draws: bool
    provider: str | None = None
    throttle: Throttle | None = None  # of all calls to this address; None: without limits

    async def connected(self, model: str | None) -> tuple[CompletionsBox, Identity]:
        """Probed, and watched from now on. Raises UncorrectableUpstream, UpstreamError."""
        box, identity = await self.probed(model)
        structlog.get_logger(__name__).info("upstream_probed", **box.capabilities.describe())
        box.revalidate_with(await revalidation(self, box, identity))
        return box, identity

    async def probed(self, model: str | None) -> tuple[CompletionsBox, Identity]:
        """All of it, with some dozen calls. Raises UncorrectableUpstream, UpstreamError."""
        transport = self._transport(self.limits)
        try:
            pages = await detect(transport, model, None if self.dialect == "auto" else self.dialect)
            box, pages = await understood(pages, partial(self._measured, transport), guessed=self.dialect == "auto")
            identity = await identify(box, self.tokenizer, pages)
        except (MalformedTopK, UpstreamRefused) as error:
            await transport.aclose()
            raise UncorrectableUpstream(error.message) from error
        except BaseException:
            await transport.aclose()
            raise
        return box, identity

    async def _measured(self, transport: Transport, pages: Detected) -> CompletionsBox:
        box = self._box(transport, self._assumed(pages))
        box.trusts_draws = box.trusts_draws and self.trust_draws and pages.is_known
        return await measured(box, self.tokenizer)

    async def compared(self, facts: Capabilities, identity: Identity) -> Difference | None:
        """A look at little cost. Raises UpstreamError where the server does not answer."""
        limits = replace(self.limits or Limits(), attempts=1)  # whoever waits for the look tries again
        transport, seen = self._transport(limits), None
        try:
            for _ in range(_SPOILT_LOOKS):
                try:
                    pages = await detect(transport, facts.model, identity.pages.dialect)
                    return await compare(identity, self._box(transport, facts), self.tokenizer, pages)
                except (MalformedTopK, UpstreamRefused, UncorrectableUpstream) as error:
                    seen = Difference(error.message.rstrip("."))
            return seen
        finally:
            await transport.aclose()

    def _transport(self, limits: Limits | None) -> Transport:
        return Transport(self.url, key=self.key, timeouts=self.timeouts, limits=limits, throttle=self.throttle)

    def _assumed(self, pages: Detected) -> Capabilities:
        """What the probe starts from and then corrects. Raises UncorrectableUpstream."""
        return Capabilities(
            dialect=pages.dialect,
            server=pages.server,
            model=pages.model,
            k=self.k,
            max_k=self.k,
            vocab_size=pages.vocab_size,
            max_context=pages.max_context,
            ids_in=KINDS[pages.dialect].takes_ids,
            ids_out=not issubclass(KINDS[pages.dialect], TextBox),
            raw_logprobs=True,
            prompt_list=False,
            prompt_logprobs=False,
            prefix_cache=self._prefix_cache(pages.dialect),
            provider=self.provider,
            slots=pages.slots,
            end_ids=named_end(pages.end, self.tokenizer),
            notes=pages.notes,
        )

    def _prefix_cache(self, dialect: Dialect) -> Literal[False] | None:
        """False: every request says to do without. Raises UncorrectableUpstream where none can say so."""
        if self.prefix_cache or (self.prefix_cache is None and dialect not in CACHE_IS_TOLD):
            return None
        return _without_cache(dialect)

    def _box(self, transport: Transport, facts: Capabilities) -> CompletionsBox:
        return box_of(transport, self.tokenizer, facts, cache_salt=self.cache_salt)


def _without_cache(dialect: Dialect) -> Literal[False]:
    if dialect in CACHE_IS_TOLD:
        return False
    raise UncorrectableUpstream(
        "Only llama.cpp can be told by a request to leave its prefix cache alone. Keep upstream_prefix_cache on; "
        "other servers turn their cache off when they are started (vLLM: --no-enable-prefix-caching)."
    )
