"""The `deltaserve` command, and a client for what openai-python does not cover: `from deltaserve import Client`."""
