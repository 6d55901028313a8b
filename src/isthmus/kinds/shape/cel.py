"""CEL expressions over Envoy's attributes, checked as they are read: Envoy would refuse the whole listener for one."""

from __future__ import annotations

from functools import cache
from typing import Any

from cel_expr_python import cel

from isthmus.config.decode import Reader, checked, text

_ATTRIBUTES = (
    *("request", "response", "connection", "upstream", "source", "destination"),
    *("metadata", "filter_state", "upstream_filter_state", "xds"),
)
"""The top-level names that Envoy offers ("Attributes" in its documentation)."""


@cache
def _environment() -> Any:
    return cel.NewEnv(variables=dict.fromkeys(_ATTRIBUTES, cel.Type.DYN))


def _problem(written: str) -> str | None:
    try:
        _environment().compile(written)
    except RuntimeError as wrong:
        told = str(wrong).partition("ERROR: ")[2] or str(wrong)
        return f"no CEL expression over Envoy's attributes: {told.splitlines()[0].removeprefix('<input>:')}"
    return None


expression: Reader[str] = checked(text, _problem)
