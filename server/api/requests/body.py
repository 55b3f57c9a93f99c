"""What every request body has in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from deltaserve.server.api.requests.json_text import MAX_FIELDS

JsonObject = dict[str, Any]  # what JSON was parsed into is not looked through again


class Body(BaseModel):
    """Strict types; null means not given."""

    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if len(data) > MAX_FIELDS:
            raise ValueError(f"it has more than {MAX_FIELDS} fields")
        return {name: value for name, value in data.items() if value is not None}
