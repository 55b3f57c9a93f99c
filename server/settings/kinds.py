"""What settings of several themes share: kinds of values, and checks of them."""

from typing import Annotated

from pydantic import Field, SecretStr

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def check_fits_in_a_header(key: SecretStr) -> None:
    """Raises ValueError for a key that cannot be sent in a header as it is."""
    text = key.get_secret_value()
    if not (text.isascii() and text.isprintable() and text.strip() == text):
        raise ValueError("a key must be printable ASCII characters without spaces at its ends")
