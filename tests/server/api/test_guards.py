"""Guards on the wire: every answer names them, and they narrow what a client may draw."""

import httpx2 as httpx
import numpy as np

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.decoding.rows import NumpyRow
from tests.support.app import TEXT, VOCAB, running_app

LIFTED = ord("z")
GUARD = "+kl0.1-minp0.9-t0-nobias"


def test_answers_name_the_guard_and_keep_to_it(tokenizer: Tokenizer) -> None:
    ask = {"model": "tiny", "prompt": "abc", "max_tokens": 4, "temperature": 2.0, "logit_bias": {str(LIFTED): -100}}
    settings = {"guard_kl": 0.1, "guard_min_p": 0.9, "guard_temperature": 0.0, "guard_unbiased": True}
    with running_app(tokenizer, **settings) as app, httpx.Client(base_url=app.url) as client:
        offset = np.zeros(VOCAB)
        offset[LIFTED] = 6.0  # a large correction at every step: `z` wins all of them
        app.version.flat = NumpyRow(app.version.flat.log_base, offset)
        answer = client.post("/v1/completions", json=ask).json()
        assert answer["choices"][0]["text"] == "zzzz"
        assert answer["system_fingerprint"].endswith(GUARD)
        assert client.get("/v1/models").json()["data"][0]["system_fingerprint"].endswith(GUARD)
        assert "deltaserve_guarded_tokens_total 4.0" in client.get("/metrics").text


def test_steps_that_were_hardly_corrected_are_left_alone(tokenizer: Tokenizer) -> None:
    ask = {"prompt": "abc", "max_tokens": 4, "temperature": 0, "logit_bias": {str(TEXT[3]): -100}}
    settings = {"guard_kl": 0.1, "guard_unbiased": True}
    with running_app(tokenizer, **settings) as app, httpx.Client(base_url=app.url) as client:
        answer = client.post("/v1/completions", json=ask).json()
        assert answer["choices"][0]["text"][0] != chr(TEXT[3])
        assert "deltaserve_guarded_tokens_total 0.0" in client.get("/metrics").text
