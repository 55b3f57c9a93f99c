"""Generated requests against the app's own OpenAPI document: no answer is a server error, every error has one shape."""

import httpx2 as httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support.app import RunningApp

FEW = settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
PATHS = ["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"]


@pytest.mark.parametrize("path", PATHS)
def test_no_generated_body_makes_the_server_fail(app: RunningApp, path: str) -> None:
    document = httpx.get(f"{app.url}/openapi.json").json()
    operation = schemathesis.openapi.from_dict(document)[path]["POST"]

    @FEW
    @given(case=operation.as_strategy(), stream=st.booleans())
    def check(case: schemathesis.Case, stream: bool) -> None:
        body = {**case.body, "stream": stream, "max_tokens": 3} if isinstance(case.body, dict) else case.body
        response = httpx.post(app.url + path, json=body, timeout=10)
        assert response.status_code < 500
        if response.status_code >= 400:
            assert set(response.json()["error"]) == {"message", "type", "param", "code"}

    check()
