"""Answers of the toy world that are held to a grammar, and their dense definition: mask × q."""

import re
from dataclasses import replace
from itertools import product

import numpy as np

from deltaserve.server.decoding.decoder import decode
from deltaserve.server.decoding.drafting.upstream import CallLength, UpstreamSource
from deltaserve.server.decoding.params import SamplingParams
from tests.support.letters import END, compiled, letters, regex
from tests.support.toy import ToyBlackBox, ToySession, toy_logprobs, toy_stream

PROMPT = (1, 2, 3)
_MANY = range(13)  # more than an answer here has tokens
_PARTS = ["a", "bc", *("c" + "d" * n + "e" for n in _MANY)]
LANGUAGES = {  # pattern → its texts, as far as answers reach
    "(a|bc|cd*e){1,3}": ["".join(parts) for n in (1, 2, 3) for parts in product(_PARTS, repeat=n)],
    "(abc|abd|k)": ["abc", "abd", "k"],
    "b*(cde)?f": ["b" * n + middle + "f" for n in _MANY for middle in ("", "cde")],
    "(a|b|cd)(e|f|gh*)": [a + b for a in ("a", "b", "cd") for b in ("e", "f", *("g" + "h" * n for n in _MANY))],
}
BEGINNINGS = {
    pattern: {text[:n] for text in texts for n in range(len(text) + 1)} for pattern, texts in LANGUAGES.items()
}
FORMS = ["", "masked", "unmasked"]  # what the black box does with a grammar
PATTERNS = ["(a|bc|cd*e){1,3}", "(abc|abd|k)", "b*(cde)?f"]
SAMPLED = SamplingParams(max_tokens=12, temperature=1.0, eos_ids=frozenset({END}))
GREEDY = replace(SAMPLED, temperature=0.0)


def held(params, pattern, after=()):
    return replace(params, constraint=regex(pattern, after))


async def answer(params, *, k=5, strength=1.0, length=None, burst=1, rng=0, policy=None, **how):
    """`how`: of the black box. One that keeps to forms is sent the constraint."""
    stream = toy_stream(
        params, session=ToySession(strength=strength), policy=policy, grammar=compiled(params.constraint)
    )
    black_box = ToyBlackBox(k=k, eos_id=END, burst=burst, rng=np.random.default_rng(rng), **how)
    source = UpstreamSource(black_box, CallLength(length, fixed=True), forms=bool(black_box.forms))
    steps = [step async for step in decode(stream, source)]
    return stream, steps, black_box


def allowed_next(pattern, said):
    """Which of the 12 ids the pattern allows behind `said`."""
    mask = np.array([said + letters([token_id]) in BEGINNINGS[pattern] for token_id in range(12)])
    mask[END] = re.fullmatch(pattern, said) is not None
    return mask


def definition(pattern, said, strength=1.0, temperature=1.0):
    """q_G from all of the three models; shape [12]."""
    ids = [*PROMPT, *said]
    m, o, u = (toy_logprobs(name, ids, 12) for name in ("black box", "initial", "unlearned"))
    weights = np.where(allowed_next(pattern, letters(said)), np.exp((m + strength * (u - o)) / temperature), 0.0)
    return weights / weights.sum()


def answers_of(pattern, temperature, strength=1.0, said=()):
    """Probability of every answer of at most four tokens."""
    found = {}
    probs = definition(pattern, said, strength, temperature)
    for token_id in np.flatnonzero(probs):
        answer = (*said, int(token_id))
        text = letters(answer)
        over = token_id == END or len(answer) == 4 or not allowed_next(pattern, text)[:END].any()
        inner = {text: 1.0} if over else answers_of(pattern, temperature, strength, answer)
        found.update({key: probs[token_id] * share for key, share in inner.items()})
    return found
