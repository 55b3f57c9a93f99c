"""A probed black box under watch: what is done when a connection to it was lost."""

from dataclasses import replace
from typing import Final, Protocol

import httpx2 as httpx

from deltaserve.server.upstream.base import Capabilities
from deltaserve.server.upstream.dialects.completions import CompletionsBox
from deltaserve.server.upstream.http.continuity import Continuity, Difference
from deltaserve.server.upstream.http.transport import base_url
from deltaserve.server.upstream.http.watch import Watch
from deltaserve.server.upstream.probing.identity import OTHER_WEIGHTS, Identity, same_weights

# What decides how the box is asked at all: with another of these only a restart builds what is needed.
_FIXED: Final = ("dialect", "model", "vocab_size", "ids_in", "ids_out", "prompt_list", "prompt_logprobs")


class _Prober(Protocol):
    """What the probe knows of an address."""

    @property
    def url(self) -> str: ...
    async def probed(self, model: str | None) -> tuple[CompletionsBox, Identity]: ...
    async def compared(self, facts: Capabilities, identity: Identity) -> Difference | None: ...


async def revalidation(prober: _Prober, box: CompletionsBox, identity: Identity) -> Continuity:
    """Watches over the box from now on, and looks at it again after each lost connection."""
    watched = _Revalidation(prober, box, identity)
    await watched.watch_over()
    return watched.continuity


class _Revalidation:
    """Keeps what was seen last, and the silent connection."""

    def __init__(self, prober: _Prober, box: CompletionsBox, identity: Identity) -> None:
        self._prober, self._box, self._identity = prober, box, identity
        self.continuity = Continuity(self._look, self._learn, self._close)
        root = httpx.URL(base_url(prober.url))
        # Behind TLS stands a host of many servers, whose connections say nothing of the one that computes.
        self._watch = (
            Watch(root.host, root.port or 80, box.timeouts.connect_s, self.continuity.lost)
            if root.scheme == "http"
            else None
        )

    async def watch_over(self) -> None:
        if self._watch is not None:
            await self._watch.keep()

    async def _close(self) -> None:
        if self._watch is not None:
            await self._watch.aclose()

    async def _look(self) -> Difference | None:
        await self.watch_over()  # first, so that a restart during the look is seen, too
        return await self._prober.compared(self._box.capabilities, self._identity)

    async def _learn(self) -> Difference | None:
        """Probes anew and adopts what is understood."""
        known = self._box.capabilities
        other, identity = await self._prober.probed(known.model)
        facts = other.capabilities
        await other.aclose()
        if not same_weights(self._identity, identity):
            return OTHER_WEIGHTS
        changed = [name for name in _FIXED if getattr(known, name) != getattr(facts, name)]
        if changed:
            return Difference(f"it changed ({', '.join(changed)}). Restart this server to use it as it is now")
        end_ids = tuple(dict.fromkeys((*known.end_ids, *facts.end_ids)))
        self._box.adopt(replace(facts, end_ids=end_ids), trusts_draws=other.trusts_draws)
        self._identity = replace(identity, lists=self._identity.lists)  # what is the same is measured from the start
        return None
