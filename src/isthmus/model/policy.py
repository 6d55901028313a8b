"""The three security policies: who is who (peer, token) and who may do what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from isthmus.diag import Origin
from isthmus.model.predicate import Predicate
from isthmus.model.selector import Scope


class Action(Enum):
    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"
    CUSTOM = "CUSTOM"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of an AuthorizationPolicy, as a predicate."""

    predicate: Predicate
    origin: Origin


@dataclass(frozen=True, slots=True)
class AuthorizationPolicy:
    """ALLOW without rules denies all; DENY without rules denies nothing."""

    name: str
    namespace: str
    scope: Scope
    action: Action
    rules: tuple[Rule, ...]
    origin: Origin
    dry_run: bool = False
    provider: str | None = None
    """CUSTOM: the name of an ext_authz provider of the mesh configuration."""
    after_authentication: bool = False
    """CUSTOM: whether it is asked after tokens are verified and access control; Istio's place is before."""

    def rule_name(self, index: int) -> str:
        """The name in Envoy and in the access log, as Istio forms it."""
        return f"ns[{self.namespace}]-policy[{self.name}]-rule[{index}]"


class MutualTls(Enum):
    """What a sidecar takes."""

    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"


@dataclass(frozen=True, slots=True)
class PeerAuthentication:
    """``mode`` None inherits; ``port_modes`` by workload port."""

    name: str
    namespace: str
    scope: Scope
    mode: MutualTls | None
    port_modes: Mapping[int, MutualTls | None]
    origin: Origin


@dataclass(frozen=True, slots=True)
class TokenHeader:
    """A header that may carry the token; ``prefix`` is cut off (``Bearer `` with its blank)."""

    name: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class JwtRule:
    """Tokens of one issuer. Without any location, ``Authorization: Bearer`` and ``?access_token=`` are read."""

    issuer: str
    origin: Origin
    audiences: tuple[str, ...] = ()
    jwks_uri: str | None = None
    """Where the keys are; None with no ``jwks``: by OIDC discovery on the issuer."""
    jwks: str | None = None
    from_headers: tuple[TokenHeader, ...] = ()
    from_params: tuple[str, ...] = ()
    from_cookies: tuple[str, ...] = ()
    forward_original_token: bool = False
    output_payload_to_header: str | None = None
    output_claim_to_headers: tuple[tuple[str, str], ...] = ()
    """(header, claim); dots in the claim go down nested objects."""
    space_delimited_claims: tuple[str, ...] = ()
    timeout: timedelta = timedelta(seconds=5)

    @property
    def output_headers(self) -> tuple[str, ...]:
        """The headers that only the proxy may set, in lower case."""
        payload = (self.output_payload_to_header,) if self.output_payload_to_header else ()
        return tuple(name.lower() for name in (*payload, *(header for header, _ in self.output_claim_to_headers)))


@dataclass(frozen=True, slots=True)
class RequestAuthentication:
    name: str
    namespace: str
    scope: Scope
    rules: tuple[JwtRule, ...]
    origin: Origin


@dataclass(frozen=True, slots=True)
class Broken:
    """A new security document that could not be read: what it selects is denied, or its namespace."""

    scope: Scope
    origin: Origin
