"""The algebra of predicates as RBAC policies: each is one Permission and one Principal, both true.

Most facts can stand on either side; some on one only (SNI is a Permission's, the peer a Principal's). A conjunction is
dealt out to the two sides; what mixes them under an OR or a NOT becomes several policies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

from isthmus.envoy_api.packages import rbac_config_v3
from isthmus.filters.rbac_term import build_permission, build_principal
from isthmus.model.predicate import (
    All,
    AnyOf,
    Claim,
    DestinationIp,
    DestinationPort,
    FilterMetadata,
    Not,
    Peer,
    Predicate,
    RemoteIp,
    RequestPrincipal,
    Sni,
    SourceIp,
    all_of,
    any_of,
    leaves,
    negate,
)

_PERMISSION_ONLY = (Sni, DestinationPort, DestinationIp)
_PRINCIPAL_ONLY = (Peer, SourceIp, RemoteIp)
_ABOUT_THE_CALLER = (*_PRINCIPAL_ONLY, Claim, RequestPrincipal, FilterMetadata)

MOST_PARTS = 256
"""How many policies one predicate may become."""

Conjuncts = tuple[Predicate, ...]


def build_policies(name: str, predicate: Predicate) -> Mapping[str, Any]:
    """RBAC policies, one of which matches exactly when ``predicate`` holds.

    One policy called ``name``; several, where the sides mix, called ``name-part[0]`` and so on. Raises ValueError if
    they would be more than :data:`MOST_PARTS`, or if RBAC has no word for a match (a regex over ``iss/sub``).
    """
    policies = [
        rbac_config_v3.Policy(permissions=[build_permission(request)], principals=[build_principal(caller)])
        for request, caller in deal_out(predicate)
    ]
    if len(policies) == 1:
        return {name: policies[0]}
    return {f"{name}-part[{index}]": policy for index, policy in enumerate(policies)}


def deal_out(predicate: Predicate) -> tuple[tuple[Predicate, Predicate], ...]:
    """``predicate`` as a disjunction of pairs: what a Permission must say and what a Principal must, both."""
    return tuple(
        (
            all_of(*(part for part in parts if not _is_about_the_caller(part))),
            all_of(*(part for part in parts if _is_about_the_caller(part))),
        )
        for parts in _conjoined(predicate.parts if isinstance(predicate, All) else (predicate,))
    )


def _is_about_the_caller(part: Predicate) -> bool:
    """Whether an unmixed part is a Principal: it must be one, or all of its facts are about the caller."""
    found = leaves(part)
    if any(isinstance(leaf, _PRINCIPAL_ONLY) for leaf in found):
        return True
    return bool(found) and all(isinstance(leaf, _ABOUT_THE_CALLER) for leaf in found)


def _conjoined(parts: Iterable[Predicate]) -> tuple[Conjuncts, ...]:
    """The conjunction of ``parts`` as a disjunction of conjunctions of unmixed parts."""
    alternatives: list[Conjuncts] = [()]
    for part in parts:
        choices = _unmixed(part)
        if len(alternatives) * len(choices) > MOST_PARTS:
            raise ValueError(f"a predicate that needs more than {MOST_PARTS} RBAC policies")
        alternatives = [(*left, *right) for left, right in product(alternatives, choices)]
    return tuple(alternatives)


def _unmixed(part: Predicate) -> tuple[Conjuncts, ...]:
    """``part`` as a disjunction of conjunctions of parts, each of which fits one side."""
    found = leaves(part)
    if not any(isinstance(leaf, _PERMISSION_ONLY) for leaf in found):
        return ((part,),)
    if not any(isinstance(leaf, _PRINCIPAL_ONLY) for leaf in found):
        return ((part,),)
    match part:
        case All(parts):
            return _conjoined(parts)
        case AnyOf(parts):
            return tuple(choice for inner in parts for choice in _unmixed(inner))
        case Not(All(parts)):
            return _unmixed(any_of(*(negate(inner) for inner in parts)))
        case Not(AnyOf(parts)):
            return _unmixed(all_of(*(negate(inner) for inner in parts)))
        case Not(Not(inner)):
            return _unmixed(inner)
    raise AssertionError(f"a single fact is never mixed: {part}")
