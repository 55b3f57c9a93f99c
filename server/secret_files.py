"""Secrets that lie in files, as Kubernetes and Docker mount them: DELTASERVE_ADMIN_KEY_FILE names the file that holds
what DELTASERVE_ADMIN_KEY would.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

SUFFIX: Final = "_FILE"


class SecretFileError(ValueError):
    """A sentence that names the variable and the file, never what is in it."""


def secret_of(variable: str, environment: Mapping[str, str]) -> str | None:
    """The secret in `variable`, else in the file that `variable`_FILE names; None if neither is set.

    White space around the file's content is cut off. Raises SecretFileError if both are set, or if the file is empty
    or cannot be read.
    """
    said, path = environment.get(variable), environment.get(variable + SUFFIX)
    if not path:
        return said or None
    if said:
        raise SecretFileError(f"{variable} and {variable}{SUFFIX} are both set: keep one of them.")
    return _content(variable + SUFFIX, path)


def _content(variable: str, path: str) -> str:
    try:
        content = Path(path).read_text("utf-8").strip()
    except UnicodeDecodeError:
        raise SecretFileError(f"{variable}: {path} is not UTF-8 text.") from None
    except OSError as error:
        raise SecretFileError(f"{variable}: {path} cannot be read ({error.strerror}).") from None
    if not content:
        raise SecretFileError(f"{variable}: {path} is empty.")
    return content
