"""How long a request took until every policy had spoken, for its span: tokens, external authorisation, access control.

A refused request never comes here: its whole duration is that time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isthmus.envoy_api.packages import core_v3, http_set_filter_state_v3, set_filter_state_common_v3
from isthmus.filters.filter import Filter, http_filter

NAME = "isthmus.decision_time"
STATE = "isthmus.policies_ms"
"""The key of the filter state: whole milliseconds since the request began."""


@dataclass(frozen=True, slots=True)
class DecisionTime:
    """Nothing to configure."""


def _build(config: DecisionTime) -> tuple[Any, ...]:
    value = set_filter_state_common_v3.FilterStateValue(
        object_key=STATE,
        factory_key="envoy.string",
        format_string=core_v3.SubstitutionFormatString(
            # Of a request that goes on, what has passed until now.
            text_format_source=core_v3.DataSource(inline_string="%DURATION%")
        ),
    )
    return (http_filter(NAME, http_set_filter_state_v3.Config(on_request_headers=[value])),)


DECISION_TIME = Filter(NAME, DecisionTime, _build)
