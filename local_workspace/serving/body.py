"""What every request body of the serving management API has in common."""

import re
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from local_workspace.errors import NotImplementedHere


class Body(BaseModel):
    """A request body. A field it does not have is an operation that the local workspace does not have."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _nothing_else(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name in value.keys() - cls.model_fields.keys():
                if value[name] is not None:
                    where = cls.__name__[0].lower() + re.sub(r"([A-Z])", r"_\1", cls.__name__[1:]).lower()
                    raise NotImplementedHere(f"{name} (in {where}) is not available in the local workspace")
            return {name: item for name, item in value.items() if name in cls.model_fields}
        return value
