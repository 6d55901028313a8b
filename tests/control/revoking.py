"""A gateway whose servers go by published lists and staple answers, without a network."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

from isthmus.control.control_plane import ControlPlane
from isthmus.control.revocation import Demands, demands
from isthmus.control.secret_value import secret_value
from isthmus.revocation.held import Held
from isthmus.revocation.server import SourceStatus
from isthmus.revocation.source import Source
from tests.kinds.credential import secret
from tests.real.pki import Authority, Leaf
from tests.real.revocation_server import answered_at, with_points

from .making import plane_of

NOW = datetime(2026, 1, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROOT, OTHER = Authority("root"), Authority("other")
LISTED, OWN, RESPONDER = "http://ca.example/root.crl", "http://ca.example/own.crl", "http://ca.example/ocsp"
LEAF = ROOT.issue("shop.example.com", extensions=[answered_at(RESPONDER)])
PLAIN = ROOT.issue("mutual.example.com")
CLIENT_CAS = with_points(ROOT, OWN) + OTHER.pem
SILENT = ROOT.issue("silent.example.com")

GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: edge}
  servers:
  - port: {number: 443, name: mutual, protocol: HTTPS}
    hosts: [mutual.example.com]
    tls: {mode: MUTUAL, credentialName: plain, caCertCredentialName: clients}
  - port: {number: 443, name: simple, protocol: HTTPS}
    hosts: [shop.example.com]
    tls: {mode: SIMPLE, credentialName: shop}
"""


def policy(section: str, tls: str) -> str:
    return f"""\
apiVersion: isthmus.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {{name: of-{section}, namespace: shop}}
spec:
  targetRefs: [{{kind: Gateway, name: edge, sectionName: {section}}}]
  tls: {tls}
"""


def crl(points: str = f"distributionPoints: ['{LISTED}']") -> str:
    return policy("mutual", f"{{clientValidation: {{crl: {{{points}}}}}}}")


def staple(how: str) -> str:
    return policy("simple", f"{{ocspStapling: {how}}}")


def secrets(leaf: Leaf = LEAF) -> tuple[str, ...]:
    return (
        secret("plain", tls_crt=PLAIN.chain, tls_key=PLAIN.key),
        secret("clients", kind="Opaque", ca_crt=CLIENT_CAS),
        secret("shop", tls_crt=leaf.chain + ROOT.pem, tls_key=leaf.key),
    )


def plane(*policies: str, leaf: Leaf = LEAF) -> ControlPlane:
    return plane_of(GATEWAY, *secrets(leaf), *policies)


def wanted(of: ControlPlane) -> Demands:
    return demands(of.mesh, partial(secret_value, of.compiled.value))


def held(source: Source, life: timedelta = 4 * HOUR, *revoked: int, name: Authority = ROOT) -> Held:
    """What ``source`` gave at NOW; its bytes are a list's."""
    return Held(ROOT.revoke(), NOW, NOW + life, None, frozenset(revoked), name.subject.public_bytes())


def fresh(found: Held) -> SourceStatus:
    return SourceStatus(found, None)
