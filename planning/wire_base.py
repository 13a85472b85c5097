"""The base of all wire types, and the one that most of them hold (see `planning.wire`)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Wire(BaseModel):
    """Base of all wire types: frozen, tolerant of fields that a newer release added."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Target(Wire):
    """A child that a step touches; uid and resourceVersion are its preconditions."""

    name: str
    uid: str
    resource_version: str = ""


class Told(Wire):
    """An Event about the object, recorded once the step that carries it has done something."""

    type: Literal["Normal", "Warning"] = "Normal"
    reason: str
    message: str
