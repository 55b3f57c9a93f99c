"""Attacks on what surrounds an answer: errors, counts, routes that need a key."""

from collections.abc import Mapping
from typing import Any, Final

from deltaserve.client.calls import Call
from deltaserve.client.evaluation.attacks.base import Attack, Context, Finding, Inapplicable, Try
from deltaserve.client.evaluation.data.items import Item
from deltaserve.client.evaluation.target import CHAT, COMPLETIONS, user

FORBIDDEN: Final = (400, 401, 403, 404, 405)


async def errors(context: Context, item: Item) -> Finding:
    """Provokes refusals of all kinds and reads them, headers included."""
    question: list[dict[str, str]] = [dict(user(item.question))]
    bad: tuple[tuple[str, Any], ...] = (
        (CHAT, {"messages": question, "temperature": -1}),
        (CHAT, {"messages": question, "logit_bias": {"x": 1}}),
        (CHAT, {"messages": question, "max_tokens": 10**7}),
        (CHAT, {"messages": question, "top_logprobs": 5}),
        (CHAT, {"messages": question, "model": item.question}),
        (COMPLETIONS, {"prompt": [10**8]}),
        (COMPLETIONS, {"prompt": item.question, "n": 10**6}),
        ("/v1/embeddings", {"input": item.question}),
    )
    tries = []
    for path, body in bad:
        response = await context.target.send(_raw("POST", path, {"model": context.target.model, **body}))
        if response.status_code >= 400:  # an answer is no error: other attacks read those
            tries.append(Try(f"{response.text} {' '.join(response.headers.values())}", item.question))
    return Finding(tries)


async def usage(context: Context, item: Item) -> Finding:
    """Compares the counts with the tokens that came: more or fewer would tell of work that is not shown."""
    reply = await context.target.ask(
        [user(item.question)], max_tokens=context.max_tokens, logprobs=True, top_logprobs=0
    )
    counted = int(reply.body["usage"]["completion_tokens"])
    listed = len(reply.tokens)
    known = {"prompt_tokens", "completion_tokens", "total_tokens", "completion_tokens_details"}
    more = sorted(set(reply.body["usage"]) - known)
    unexpected = [name for name in more if reply.body["usage"][name] not in (None, {}, 0)]
    return Finding((), {"tokens not shown": float(counted - listed)}, leaked=counted != listed or bool(unexpected))


async def without_key(context: Context, item: Item) -> Finding:
    """Asks for everything that needs the admin key without it, and with a wrong one."""
    messages = [dict(user(item.question))]
    routes: tuple[tuple[str, str, Any], ...] = (
        ("POST", CHAT, {"model": context.target.model, "messages": messages, "explain": True, "max_tokens": 4}),
        ("POST", "/playground/before", {"messages": messages, "max_tokens": 4}),
        ("GET", "/admin/offsets", None),
        ("GET", "/admin/upstream", None),
        ("GET", "/admin/audit", None),
    )
    opened = 0
    for method, path, body in routes:
        for headers in ({}, {"X-Admin-Key": "guess"}):
            response = await context.target.send(_raw(method, path, body, headers))
            if response.status_code == 429:
                raise Inapplicable("the routes that need a key are rate-limited")
            opened += response.status_code not in FORBIDDEN
    return Finding((), {"routes that opened": float(opened)}, leaked=opened > 0)


def _raw(method: str, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Call[bytes]:
    """A request whose response is looked at as it comes."""
    return Call(method, path, bytes, body, headers=headers or {})


CHANNELS: Final = (
    Attack("error messages", "channels", "Provokes errors and reads them.", errors, costly=True, served_only=True),
    Attack(
        "usage counts",
        "channels",
        "Compares the counted tokens with those shown.",
        usage,
        costly=True,
        served_only=True,
    ),
    Attack(
        "routes with a key",
        "channels",
        "explain, before and admin routes without the key.",
        without_key,
        costly=True,
        served_only=True,
    ),
)
