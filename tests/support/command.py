"""The `deltaserve` command, called in this process."""

import json
from typing import Any

from typer.testing import CliRunner, Result

from deltaserve.client.cli import app

KEY = "secret-1"  # what guarded servers of the tests want


class Command:
    """Call it with the arguments; stdout and stderr are kept apart. A traceback fails the test."""

    def __call__(self, *arguments: str, stdin: str = "") -> Result:
        result = CliRunner().invoke(app, arguments, input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def json(self, *arguments: str, stdin: str = "") -> Any:
        """What `--json` says; the command must succeed."""
        result = self(*arguments, "--json", stdin=stdin)
        assert result.exit_code == 0, result.stderr or result.stdout
        return json.loads(result.stdout)
