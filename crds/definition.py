"""What one kind is to the API server, beside its schema."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Definition:
    """One kind: its model, printer columns as (name, type, path), and whether it has a scale subresource."""

    model: type[BaseModel]
    group: str
    plural: str
    columns: tuple[tuple[str, str, str], ...] = ()
    scale: bool = False
    short_names: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.plural}.{self.group}"
