"""OpenRouter: many providers behind one model name, of which one is pinned and none may take its place.

Providers of one model name serve other precisions, templates and lists: an answer must not change from one to another.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from deltaserve.errors import UncorrectableUpstream, UpstreamRefused
from deltaserve.server.decoding.protocols import DraftParams
from deltaserve.server.upstream.base import Capabilities
from deltaserve.server.upstream.call_draft import Reader
from deltaserve.server.upstream.dialects.chat import Chat, as_completion


class OpenRouter(Chat):
    """Whether a provider goes on behind an answer's beginning is found out by the probe."""

    neutral: ClassVar[Mapping[str, Any]] = {
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "transforms": [],  # it shortens prompts in the middle otherwise
        "reasoning": {"enabled": False},
    }
    going_on: ClassVar[Mapping[str, Any]] = {}
    takes_bias: ClassVar[bool] = False

    def adopt(self, capabilities: Capabilities, *, trusts_draws: bool = True) -> None:
        if not capabilities.provider:
            raise UncorrectableUpstream(
                "OpenRouter answers one model name by many providers, whose lists differ: name one "
                "(--upstream-provider, for example deepinfra/fp8)."
            )
        super().adopt(capabilities, trusts_draws=trusts_draws)
        self._seen: set[str] = getattr(self, "_seen", set())  # who answered first, by the name in its answers

    def request(self, token_ids: list[int], temperature: float, params: DraftParams) -> dict[str, Any]:
        pinned = self._capabilities.provider
        routing = {"only": [pinned], "order": [pinned], "allow_fallbacks": False, "require_parameters": True}
        return super().request(token_ids, temperature, params) | {"provider": routing}

    def reader(self) -> Reader:
        return self._of_one_provider

    def _of_one_provider(self, event: Any) -> Any:
        """Raises UpstreamRefused where another one than before answers."""
        provider = event.get("provider") if isinstance(event, dict) else None
        if isinstance(provider, str) and not self._seen:
            self._seen.add(provider)
        if isinstance(provider, str) and provider not in self._seen:
            raise UpstreamRefused("Another provider than the pinned one answered: nothing of it is used.")
        return as_completion(event)
