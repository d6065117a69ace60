"""What every record of a study's directory is made of."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A typed piece of a file: values do not change, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
