"""deltaserve serve"""

from contextlib import suppress
from typing import Any

from client.generated import accepts
from client.server_settings import EPILOG, read_settings, setting_flags
from client.terminal import new_app

app = new_app()


@app.command(epilog=EPILOG)
@accepts(setting_flags())
def serve(**values: Any) -> None:
    """Serve a black box's answers, corrected, in OpenAI's format.

    Runs until SIGINT or SIGTERM; running answers may finish within the drain timeout.
    """
    settings = read_settings(values)
    from server.app import run

    with suppress(KeyboardInterrupt):  # the server has put everything away; Ctrl-C is how it is ended
        run(settings)
