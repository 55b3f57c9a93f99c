"""simonw/llm: its command with a model of extra-openai-models.yaml, as its manual says."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from checks import DEMO, QUESTION, SPEAKING, Client

library = Client("llm", "llm")
COMMAND = Path(sys.executable).with_name("llm")


def entry(model_id, server, **more):
    return {"model_id": model_id, "model_name": server.model, "api_base": server.v1, "api_key_name": "own", **more}


FOLDER = tempfile.TemporaryDirectory()
MODELS = [
    entry("demo", DEMO, supports_schema=True),
    entry("demo-text", DEMO, completion=True),
    entry("speaking", SPEAKING, supports_schema=True, supports_tools=True),
]
(Path(FOLDER.name) / "extra-openai-models.yaml").write_text(json.dumps(MODELS))  # JSON is YAML


def llm(*arguments, status=0, stdin=None):
    """What it prints on stdout; on stderr where it must fail."""
    done = subprocess.run(
        [COMMAND, *arguments],
        env={**os.environ, "LLM_USER_PATH": FOLDER.name},
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode == 0) == (status == 0), done.stderr
    return (done.stderr if status else done.stdout).strip()


llm("keys", "set", "own", "--value", DEMO.key)
GREEDY = ("-o", "temperature", "0", "-o", "max_tokens", "256")


@library.check("llm -m demo", "streamed; --no-stream")
def prompt():
    streamed, whole = llm("-m", "demo", QUESTION, *GREEDY), llm("-m", "demo", QUESTION, *GREEDY, "--no-stream")
    assert streamed == whole and whole
    return f"{whole!r} both ways"


@library.check("llm -c", "the conversation goes on")
def conversation():
    more = llm("-c", "And who else?", *GREEDY)
    logged = json.loads(llm("logs", "--json", "-n", "1"))[0]
    assert more and logged["response"].strip() == more
    return f"{more!r}, logged"


@library.check("llm -m demo-text", "completions")
def completion():
    text = llm("-m", "demo-text", "Once", "-o", "temperature", "0", "-o", "max_tokens", "8")
    assert text
    return f"{text!r}"


@library.check("llm -s, stdin", "a system prompt, the text on stdin")
def system():
    text = llm("-m", "demo", "-s", "Answer shortly.", *GREEDY, stdin=QUESTION)
    assert text
    return f"{text!r}"


@library.check("llm --schema", "the demo; the stand-in")
def schema():
    kinds = {"type": "object", "properties": {"kind": {"enum": ["person", "place"]}}, "required": ["kind"]}
    kinds["additionalProperties"] = False
    entry = json.loads(llm("-m", "demo", "--schema", json.dumps(kinds), QUESTION, *GREEDY))
    assert entry["kind"] in ("person", "place")
    person = json.loads(llm("-m", "speaking", "--schema", "name, age int", "Which person?", *GREEDY))
    assert person == {"name": "Ada", "age": 36}
    return f"{entry}, {person}"


@library.check("llm --functions", "a tool of two lines, --td")
def tools():
    code = 'def weather(city: str) -> str:\n    "The weather in a city."\n    return "21 degrees"\n'
    text = llm("-m", "speaking", "--functions", code, "What is the weather?", "-o", "temperature", "0")
    assert text == "It is 21 degrees there."
    return f"the tool ran, then {text!r}"


@library.check("errors", "a wrong key")
def refused():
    said = llm("-m", "demo", "--key", "wrong", QUESTION, status=1)
    assert "401" in said or "API key" in said, said
    return f"exit status 1, {said!r}"


library.end()
