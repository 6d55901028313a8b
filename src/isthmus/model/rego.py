"""RegoPolicies: which Rego decides about which requests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from isthmus.diag import Origin
from isthmus.model.attachment import Attachment
from isthmus.model.rego_bundle import BundleSource, DecisionLogging
from isthmus.model.settings import RequestBody

POLICIES = "isthmus-rego-policies"
"""What tells the Rego service which policies hold: a context extension of a route, metadata of the call elsewhere."""
DEFAULT_PATH = "envoy/authz/allow"
"""OPA-Envoy's."""
DEFAULT_TIMEOUT = timedelta(milliseconds=500)


@dataclass(frozen=True, slots=True)
class RegoModule:
    """``file``: as findings name it."""

    file: str
    text: str


@dataclass(frozen=True, slots=True)
class RegoPolicy:
    """``path``: of the rule that decides, with slashes. ``modules`` empty: they come from ``bundle``.

    ``data``: the base document, JSON text.
    """

    name: str
    namespace: str
    attachment: Attachment
    origin: Origin
    path: str = DEFAULT_PATH
    modules: tuple[RegoModule, ...] = ()
    data: str = "{}"
    body: RequestBody | None = None
    timeout: timedelta = DEFAULT_TIMEOUT
    dry_run: bool = False
    provider: str | None = None
    """The name under which CUSTOM AuthorizationPolicies ask it; it then holds nowhere by itself."""
    bundle: BundleSource | None = None
    log: DecisionLogging | None = None
    """Where its decisions are told; None: nowhere."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"
