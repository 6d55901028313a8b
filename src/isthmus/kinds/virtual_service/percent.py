"""Istio's Percent: ``{value: 0.5}`` is half a per cent."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.config.decode import checked, number, optional, record
from isthmus.config.node import Node


@dataclass(frozen=True, slots=True)
class Percent:
    at: Node
    value: float


def percent_problem(value: float) -> str | None:
    return None if 0 <= value <= 100 else f"{value:g} is not a percentage (0 to 100)"


PERCENTAGE = record(Percent, optional("value", checked(number, percent_problem), 0.0))
