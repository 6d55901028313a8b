"""What a refusal for a limit tells: ``RateLimit-*`` (draft-ietf-httpapi-ratelimit-headers-03), ``Retry-After``.

Envoy's local limits say the former as ``X-RateLimit-*`` and nothing of the latter. Only their own refusals are touched:
what a program says of its own limits passes as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isthmus.envoy_api.packages import core_v3, header_mutation_filter_v3, mutation_rules_v3
from isthmus.filters.filter import Filter, http_filter

_NAME = "isthmus.limit.headers"
_FROM = {
    "ratelimit-limit": "x-ratelimit-limit",
    "ratelimit-remaining": "x-ratelimit-remaining",
    "ratelimit-reset": "x-ratelimit-reset",
    "retry-after": "x-ratelimit-reset",
}


@dataclass(frozen=True, slots=True)
class LimitHeaders:
    """Nothing to configure: a limit that is to tell nothing gives nothing to tell."""


def _build(config: LimitHeaders) -> tuple[Any, ...]:
    mutations = [_told(name, source) for name, source in _FROM.items()]
    header_mutations = header_mutation_filter_v3.Mutations(response_mutations=mutations)
    return (http_filter(_NAME, header_mutation_filter_v3.HeaderMutation(mutations=header_mutations)),)


def _told(name: str, source: str) -> Any:
    refused = f"response.code_details == 'local_rate_limited' && '{source}' in response.headers"
    option = core_v3.HeaderValueOption(
        # An empty value is left out.
        header=core_v3.HeaderValue(key=name, value=f"%CEL({refused} ? response.headers['{source}'] : '')%"),
        append_action=core_v3.HeaderValueOption.ADD_IF_ABSENT,
    )
    return mutation_rules_v3.HeaderMutation(append=option)


LIMIT_HEADERS = Filter(_NAME, LimitHeaders, _build)
