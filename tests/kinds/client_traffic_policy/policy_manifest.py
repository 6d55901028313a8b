"""A Gateway with servers of every sort, and policies for them."""

from __future__ import annotations

from textwrap import indent

from tests.kinds.credential import secret
from tests.kinds.traffic_manifest import Compiled, compiled
from tests.real.pki import Authority

ROOT = Authority("root")
_LEAF = ROOT.issue("*.example.com")
SECRETS = (
    secret("server", tls_crt=_LEAF.chain, tls_key=_LEAF.key, ca_crt=ROOT.pem),
    secret("list", kind="Opaque", ca_crl=ROOT.revoke()),
)
GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: edge}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
  - {port: {number: 81, name: redirect, protocol: HTTP}, hosts: ["*"], tls: {httpsRedirect: true}}
  - port: {number: 443, name: simple, protocol: HTTPS}
    hosts: [a.example.com]
    tls: {mode: SIMPLE, credentialName: server}
  - port: {number: 443, name: old, protocol: HTTPS}
    hosts: [o.example.com]
    tls: {mode: SIMPLE, credentialName: server, maxProtocolVersion: TLSV1_2}
  - port: {number: 443, name: mutual, protocol: HTTPS}
    hosts: [b.example.com]
    tls: {mode: MUTUAL, credentialName: server}
  - {port: {number: 444, name: passed, protocol: TLS}, hosts: [c.example.com], tls: {mode: PASSTHROUGH}}
  - {port: {number: 445, name: mesh, protocol: HTTPS}, hosts: [d.example.com], tls: {mode: ISTIO_MUTUAL}}
  - port: {number: 443, name: named, protocol: HTTPS}
    hosts: [e.example.com]
    tls: {mode: MUTUAL, credentialName: server, subjectAltNames: [a.corp], verifyCertificateHash: [HASH]}
  - port: {number: 443, name: file, protocol: HTTPS}
    hosts: [f.example.com]
    tls: {mode: MUTUAL, credentialName: server, caCertificates: /c/ca.crt}
""".replace("HASH", "ab" * 32)


def policy(tls: str, *sections: str, name: str = "corp", target: str = "edge") -> str:
    """A ClientTrafficPolicy whose ``tls`` begins at 6:8; without ``sections`` for the whole Gateway."""
    refs = [f"{{kind: Gateway, name: {target}, sectionName: {section}}}" for section in sections]
    refs = refs or [f"{{kind: Gateway, name: {target}}}"]
    return (
        "apiVersion: isthmus.dev/v1alpha1\nkind: ClientTrafficPolicy\n"
        f"metadata: {{name: {name}, namespace: shop}}\nspec:\n  targetRefs: [{', '.join(refs)}]\n"
        f"  tls: {indent(tls, '       ').strip()}\n"
    )


def done(*policies: str) -> Compiled:
    return compiled(*policies, GATEWAY, *SECRETS)
