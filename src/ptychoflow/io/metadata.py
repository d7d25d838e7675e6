"""Metadata of products as they are read: plain data of which the parts that other steps use are checked."""

from typing import Any

from pydantic import Field, model_validator

from .json_file import Schema, check_schema, parse_json


class Fingerprint(Schema):
    """Name and checksum of an input of a product."""

    name: str
    sha256: str = ""


class Provenance(Schema):
    """Code version, settings and inputs of a product."""

    ptychoflow: str = ""
    config: dict[str, Any] | None = None
    inputs: dict[str, Fingerprint] = Field(default_factory=dict)


class InferenceTiming(Schema):
    """Timing of a prediction, as ``infer`` writes it."""

    seconds: dict[str, float]
    patterns_per_second: dict[str, float]
    patterns: int
    processes: int
    device: str
    groups: int = 0

    @model_validator(mode="after")
    def _has_total(self) -> "InferenceTiming":
        if "end_to_end" not in self.patterns_per_second:
            raise ValueError("patterns_per_second lacks end_to_end")
        return self


class Metadata(Schema):
    """Metadata of a scan or a reconstruction."""

    provenance: Provenance = Provenance()
    seconds: float | dict[str, float] | None = None
    inference: InferenceTiming | None = None
    snapshot_epochs: list[int] = Field(default_factory=list)
    partial: str = ""
    ground_truth_source: str = ""
    nominal_geometry: bool = False


def parse_metadata(text: str, where: str, remedy: str = "make it again") -> dict:
    """Return the metadata in a JSON text.

    Args:
        text: the text.
        where: its place, for messages.
        remedy: how to make the product again.

    Raises:
        ValueError: if it is not a JSON object, or a part that other steps use is of another kind.
    """
    data = parse_json(text, where)
    check_metadata(data, where, remedy)
    return data


def check_metadata(data: object, where: str, remedy: str = "make it again") -> None:
    """Refuse metadata of which a part that other steps use is of another kind.

    Raises:
        ValueError: naming the part.
    """
    check_schema(data, Metadata, f"metadata of {where}", remedy)
