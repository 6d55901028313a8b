"""Tokens: verifies what a request brings, and lets a request without any pass to access control (as Istio does).

Stricter than Istio in one point: a token without ``exp`` is refused, for it could never be taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from isthmus.envoy_api.packages import core_v3, jwt_authn_v3, protobuf, route_v3
from isthmus.filters.filter import Filter, http_filter
from isthmus.model.key_set import NO_KEYS
from isthmus.model.oidc import SESSION
from isthmus.model.policy import JwtRule

NAME = "envoy.filters.http.jwt_authn"
PAYLOAD = "payload"
"""The verified payload's key in the dynamic metadata of :data:`NAME`."""
HEADER = "header"
"""The verified token's JOSE header, likewise; that of a session's ID token: :data:`isthmus.model.oidc.SESSION`."""
FAILURE = "jwt_failure"
"""Key of the reason of a refusal (``code``, ``message``) in the same metadata."""
KEYLESS_FAILURE = "jwks_unavailable"
"""The same of an issuer whose keys are not known: a token of it is refused as any that none of the keys fits."""

_SPACE_DELIMITED = ("scope", "permission")
_CACHED_TOKENS = 1000


@dataclass(frozen=True, slots=True)
class JwtProviderConfig:
    """One issuer's rule with its keys (a JWK set as JSON). None: no key is known, every token is refused."""

    rule: JwtRule
    jwks: str | None
    login: str | None = None
    """The key of the login whose ID tokens these are: no token of that issuer, wherever else it stands, is one."""


class Missing(Enum):
    """What becomes of a request without a token."""

    REFUSED = "required"
    ALLOWED = "optional"
    """Only a bad token is refused."""
    WHATEVER = "whatever"
    """Not even that: somebody behind this filter looks at :data:`FAILURE`, or at the token."""


@dataclass(frozen=True, slots=True)
class JwtRequirement:
    """A token of any of these issuers, whatever others the filter knows. ``issuers``: at least one, of its rules."""

    issuers: tuple[str, ...]
    missing: Missing
    logins: tuple[str, ...] = ()
    """Or of a session of any of these logins, by their key."""

    @property
    def name(self) -> str:
        logins = (f"login:{key}" for key in sorted(self.logins))
        return " ".join((self.missing.value, *sorted(self.issuers), *logins))

    def takes(self, one: JwtProviderConfig) -> bool:
        return one.rule.issuer in self.issuers if one.login is None else one.login in self.logins


@dataclass(frozen=True, slots=True)
class JwtRoute:
    """What a route asks for instead of what the chain does; ``requirement`` None: its tokens are nobody's business."""

    requirement: JwtRequirement | None


@dataclass(frozen=True, slots=True)
class JwtAuthn:
    """All rules that speak of one workload, in any order."""

    rules: tuple[JwtProviderConfig, ...]
    clear_route_cache: bool = False
    """The route is chosen anew once a token is verified, for routes that ask for its claims."""
    only_claims: bool = False
    """Nothing but claims for routes: no token is refused, taken off or written to a header. One that does not verify
    has no claims."""
    everywhere: JwtRoute | None = None
    """What is asked of a request whose route says nothing; None: one valid token of any issuer, or none."""
    requirements: tuple[JwtRequirement, ...] = ()
    """What routes may ask for: Envoy refuses every request of a route whose requirement the filter does not know."""


def reserved_headers(rules: Iterable[JwtRule]) -> tuple[str, ...]:
    """The headers that only this filter may set; they are stripped before it, where a preflight passes it by."""
    return tuple(sorted({name for rule in rules for name in rule.output_headers}))


def _build(config: JwtAuthn) -> tuple[Any, ...]:
    by_issuer = sorted(config.rules, key=lambda one: one.rule.issuer)
    providers = {f"issuer-{index}": _build_provider(one, config) for index, one in enumerate(by_issuer)}
    built = jwt_authn_v3.JwtAuthentication(
        providers=providers,
        # A preflight carries no token. The headers that a client could smuggle in with it are stripped before.
        bypass_cors_preflight=True,
        strip_failure_response=True,
    )
    by_name = dict(zip(providers, by_issuer, strict=True))
    for wanted in dict.fromkeys(config.requirements):
        built.requirement_map[wanted.name].CopyFrom(_required(wanted, by_name))
    requires = _everywhere(config, by_name)
    if requires is not None:
        everywhere = route_v3.RouteMatch(prefix="/")
        built.rules.append(jwt_authn_v3.RequirementRule(match=everywhere, requires=requires))
    return (http_filter(NAME, built),)


def _everywhere(config: JwtAuthn, by_name: Mapping[str, JwtProviderConfig]) -> Any:
    if config.everywhere is not None:
        wanted = config.everywhere.requirement
        return None if wanted is None else _required(wanted, by_name)
    names = [name for name, one in by_name.items() if one.login is None]
    if not names:
        return None
    return _whatever(names) if config.only_claims else _requirement(names)


def _required(wanted: JwtRequirement, by_name: Mapping[str, JwtProviderConfig]) -> Any:
    """Raises ValueError: none of them is wanted, so nobody could get in."""
    names = [name for name, one in by_name.items() if wanted.takes(one)]
    if not names:
        raise ValueError(f"no rule for any of {', '.join((*wanted.issuers, *wanted.logins))}")
    match wanted.missing:
        case Missing.ALLOWED:
            return _requirement(names)
        case Missing.WHATEVER:
            return _whatever(names)
        case Missing.REFUSED:
            each = [jwt_authn_v3.JwtRequirement(provider_name=name) for name in names]
            return each[0] if len(each) == 1 else _any_of(*each)


def _build_route(config: JwtRoute) -> Any:
    wanted = config.requirement
    if wanted is None:
        return jwt_authn_v3.PerRouteConfig(disabled=True)
    return jwt_authn_v3.PerRouteConfig(requirement_name=wanted.name)


def _requirement(names: list[str]) -> Any:
    """One valid token, or none at all: (P1 or P2 or ... or missing), where missing is asked of each issuer alone.

    Source: istio, pilot/pkg/security/authn/policy_applier.go, convertToEnvoyJwtConfig.
    """
    each = [jwt_authn_v3.JwtRequirement(provider_name=name) for name in names]
    missing = jwt_authn_v3.JwtRequirement(allow_missing=protobuf.Empty())
    if len(each) == 1:
        return _any_of(each[0], missing)
    none = [_any_of(one, missing) for one in each]
    all_missing = jwt_authn_v3.JwtRequirement(requires_all=jwt_authn_v3.JwtRequirementAndList(requirements=none))
    return _any_of(*each, all_missing)


def _whatever(names: Iterable[str]) -> Any:
    """The first valid token, or none, or one that is not valid."""
    each = [jwt_authn_v3.JwtRequirement(provider_name=name) for name in names]
    return _any_of(*each, jwt_authn_v3.JwtRequirement(allow_missing_or_failed=protobuf.Empty()))


def _any_of(*requirements: Any) -> Any:
    return jwt_authn_v3.JwtRequirement(requires_any=jwt_authn_v3.JwtRequirementOrList(requirements=requirements))


def _build_provider(one: JwtProviderConfig, config: JwtAuthn) -> Any:
    rule = one.rule
    output: dict[str, Any] = {}
    if not config.only_claims:
        output = {
            "forward_payload_header": rule.output_payload_to_header or "",
            "claim_to_headers": [
                jwt_authn_v3.JwtClaimToHeader(header_name=header, claim_name=claim)
                for header, claim in rule.output_claim_to_headers
            ],
            "header_in_metadata": HEADER if one.login is None else f"{SESSION}{one.login}",
            "failed_status_in_metadata": FAILURE if one.jwks is not None else KEYLESS_FAILURE,
        }
    normalized = jwt_authn_v3.JwtProvider.NormalizePayload(
        space_delimited_claims=dict.fromkeys((*_SPACE_DELIMITED, *rule.space_delimited_claims))
    )
    return jwt_authn_v3.JwtProvider(
        issuer=rule.issuer,
        audiences=rule.audiences,
        require_expiration=True,
        local_jwks=core_v3.DataSource(inline_string=one.jwks if one.jwks is not None else NO_KEYS.text),
        forward=rule.forward_original_token or config.only_claims,
        from_headers=[
            jwt_authn_v3.JwtHeader(name=header.name, value_prefix=header.prefix) for header in rule.from_headers
        ],
        from_params=rule.from_params,
        from_cookies=rule.from_cookies,
        payload_in_metadata=PAYLOAD,
        normalize_payload_in_metadata=normalized,
        jwt_cache_config=jwt_authn_v3.JwtCacheConfig(jwt_cache_size=_CACHED_TOKENS),
        clear_route_cache=config.clear_route_cache,
        **output,
    )


JWT_AUTHN = Filter(NAME, JwtAuthn, _build, _build_route, JwtRoute, discovered=True)
