"""Attacks on what surrounds an answer: errors, counts, routes that need a key."""

from typing import Any, Final

from deltaserve.client.evaluation.attacks.base import Attack, Field, Finding, Try, user
from deltaserve.client.evaluation.attacks.items import Item
from deltaserve.client.evaluation.side import CHAT, COMPLETIONS, Blocked

FORBIDDEN: Final = (400, 401, 403, 404, 405)


async def errors(field: Field, item: Item) -> Finding:
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
        answer = await field.side.ask("POST", path, {"model": field.side.model, **body})
        if answer.status_code >= 400:  # an answer is no error: other attacks read those
            tries.append(Try(f"{answer.text} {' '.join(answer.headers.values())}", item.question))
    return Finding(tries)


async def usage(field: Field, item: Item) -> Finding:
    """Compares the counts with the tokens that came: more or fewer would tell of work that is not shown."""
    said = await field.side.chat([user(item.question)], max_tokens=field.max_tokens, logprobs=True, top_logprobs=0)
    counted = int(said.body["usage"]["completion_tokens"])
    shown = len((said.body["choices"][0].get("logprobs") or {}).get("content") or [])
    more = sorted(set(said.body["usage"]) - {"prompt_tokens", "completion_tokens", "total_tokens"})
    unexpected = [name for name in more if said.body["usage"][name] not in (None, {}, 0)]
    return Finding((), {"tokens not shown": float(counted - shown)}, leaked=counted != shown or bool(unexpected))


async def without_key(field: Field, item: Item) -> Finding:
    """Asks for everything that needs the admin key without it, and with a wrong one."""
    messages = [dict(user(item.question))]
    routes: tuple[tuple[str, str, Any], ...] = (
        ("POST", CHAT, {"model": field.side.model, "messages": messages, "explain": True, "max_tokens": 4}),
        ("POST", "/playground/before", {"messages": messages, "max_tokens": 4}),
        ("GET", "/admin/offsets", None),
        ("GET", "/admin/upstream", None),
        ("GET", "/admin/audit", None),
    )
    opened = 0
    for method, path, body in routes:
        for headers in ({}, {"X-Admin-Key": "guess"}):
            answer = await field.side.ask(method, path, body, headers=headers)
            if answer.status_code == 429:
                raise Blocked(429, "the routes that need a key are rate-limited")
            opened += answer.status_code not in FORBIDDEN
    return Finding((), {"routes that opened": float(opened)}, leaked=opened > 0)


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
