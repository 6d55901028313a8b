"""``www-authenticate`` on a 401 of jwt_authn, which is told to give no reason and so leaves the whole header out.

RFC 9110, section 11.6.1: whoever answers 401 says which sort of credential would do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isthmus.envoy_api.packages import core_v3, header_mutation_filter_v3, mutation_rules_v3
from isthmus.filters.filter import Filter, http_filter

NAME = "isthmus.challenge"
_HEADER = "www-authenticate"
_REFUSED = "response.code == 401 && response.code_details.startsWith('jwt_authn_access_denied')"


@dataclass(frozen=True, slots=True)
class Challenge:
    """Says nothing of answers that say something themselves."""


def _build(config: Challenge) -> tuple[Any, ...]:
    option = core_v3.HeaderValueOption(
        header=core_v3.HeaderValue(key=_HEADER, value=f"%CEL({_REFUSED} ? 'Bearer' : '')%"),
        append_action=core_v3.HeaderValueOption.ADD_IF_ABSENT,
    )
    mutations = header_mutation_filter_v3.Mutations(
        response_mutations=[mutation_rules_v3.HeaderMutation(append=option)]
    )
    return (http_filter(NAME, header_mutation_filter_v3.HeaderMutation(mutations=mutations)),)


CHALLENGE = Filter(NAME, Challenge, _build)
