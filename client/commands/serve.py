"""deltaserve serve"""

from typing import Any

import typer

from deltaserve.client.console.generated import accepts
from deltaserve.client.console.server_settings import EPILOG, read_settings, setting_flags
from deltaserve.client.console.terminal import new_app

app = new_app()


@app.command(epilog=EPILOG)
@accepts(setting_flags())
def serve(**values: Any) -> None:
    """Serve a black box's answers, corrected, in OpenAI's format.

    Runs until SIGINT or SIGTERM; running answers may finish within the drain timeout, and end with an error after it.
    The exit status is 0 either way. A second signal ends the server at once, with exit status 130.
    """
    settings = read_settings(values)
    from deltaserve.server.processes.run import run

    if status := run(settings):
        raise typer.Exit(status)
