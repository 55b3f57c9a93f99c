"""What a probed black box means for answers: how exact they are, and what it costs to go on from another token."""

from typing import Final

from deltaserve.server.upstream.base import Capabilities

_BILLED: Final = frozenset({"together", "deepseek", "openrouter", "fireworks"})
_CHATS: Final = frozenset({"chat", "deepseek", "openrouter"})


def exactness(facts: Capabilities) -> dict[str, str]:
    """Sentences for the operator, by what they are about."""
    told = {
        "lists": f"{facts.k} tokens at each position, {_named(facts)}",
        "probabilities": _raw(facts),
        "prompts": _prompts(facts),
        "a restart costs": _restart(facts),
    }
    if facts.named_ids:
        told["named ids"] = f"it tells the log-probabilities of {facts.named_ids} ids a call (setting named_ids)"
    return told


def _named(facts: Capabilities) -> str:
    if facts.ids_out:
        return "by their ids; the rest is imputed from the pair"
    return (
        "by their texts: a text that several tokens have is left to the tail, with a bound on what it may hold, and "
        "no greedy step is certified that such a token could win"
    )


def _raw(facts: Capabilities) -> str:
    if facts.raw_logprobs:
        return "the model's own, at any temperature"
    greedy = "; greedy lists are its own" if facts.greedy_raw else ""
    return f"taken after the temperature: drafts are drawn at 1, and more of them are replaced{greedy}"


def _prompts(facts: Capabilities) -> str:
    if facts.ids_in:
        return "token ids: it goes on from exactly the emitted tokens"
    form = "chats, taken apart by the pair's own template" if facts.dialect in _CHATS else "texts"
    return (
        f"{form}: sent only where they encode to exactly the emitted tokens; behind others it is asked from an earlier "
        "place, and the answer ends with an error where it does not draw them again"
    )


def _restart(facts: Capabilities) -> str:
    cost = "a call"
    if facts.prefix_cache is True:
        cost += "; its prefix cache has all but the last tokens"
    elif facts.prefix_cache is False:
        cost += " and the whole prompt, computed anew"
    else:
        cost += ", and as much of the prompt as its prefix cache, of which it tells nothing, does not have"
    if facts.dialect in _BILLED:
        cost += "; prompt and answer so far are billed again as input, at the price of cached tokens where it has one"
    return cost
