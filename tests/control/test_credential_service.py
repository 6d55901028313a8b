from __future__ import annotations

from datetime import datetime
from typing import Any, NoReturn

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.control.control_plane import ControlPlane
from isthmus.control.credential_service import SERVICE, CredentialService
from isthmus.control.roster import Roster
from isthmus.envoy_api import unpack
from isthmus.envoy_api.packages import discovery_v3
from isthmus.proxy.plan import TrustBundle
from tests.identity.making import HOUR, NOW, leaf, uri
from tests.kinds.credential import pair, secret
from tests.real.pki import Authority

from .making import plane_of

NODE = "spiffe://cluster.local/isthmus/node/local"
GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {app: edge}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [shop.example.com]
    tls: {mode: MUTUAL, credentialName: cert}
  - port: {number: 443, name: https-generic, protocol: HTTPS}
    hosts: [generic.example.com]
    tls: {mode: SIMPLE, credentialName: generic}
  - port: {number: 443, name: https-dev, protocol: HTTPS}
    hosts: [dev.example.com]
    tls: {mode: SIMPLE, credentialName: development}
"""
CERTIFICATE, KEY = pair("cert")
SECRETS = (
    secret("cert", tls_crt=CERTIFICATE, tls_key=KEY, ca_crt=CERTIFICATE),
    secret("generic", kind="Opaque", cert=CERTIFICATE, key=KEY),
    secret("unused", tls_crt=CERTIFICATE, tls_key=KEY),
)


class Aborted(Exception):
    def __init__(self, code: grpc.StatusCode) -> None:
        self.code = code


class Connection:
    """What gRPC tells a method of its caller."""

    def __init__(self, certificate: bytes | None) -> None:
        self._certificate = certificate

    def auth_context(self) -> dict[str, list[bytes]]:
        return {} if self._certificate is None else {"x509_pem_cert": [self._certificate]}

    async def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        assert details
        raise Aborted(code)


class Call:
    """How gRPC asks a handler for a method."""

    method = f"/{SERVICE}/FetchSecrets"
    invocation_metadata = ()


def plane(*texts: str) -> ControlPlane:
    return plane_of(GATEWAY, *(texts or SECRETS))


async def fetch(
    *names: str, uris: tuple[str, ...] = (NODE,), now: datetime = NOW, of: ControlPlane | None = None
) -> dict[str, Any]:
    asked = of or plane()
    service = CredentialService(asked, Roster(asked, lambda: now), lambda: now)
    method = service.handler().service(Call()).unary_unary
    certificate = leaf(*(uri(one) for one in uris)).public_bytes(Encoding.PEM) if uris else None
    response = await method(discovery_v3.DiscoveryRequest(resource_names=names), Connection(certificate))
    found: list[Any] = [unpack(packed) for packed in response.resources]
    return {one.name: one for one in found}


async def test_a_node_gets_what_is_planned_for_its_gateways() -> None:
    names = ("credential:shop/cert", "credential-ca:shop/cert", "credential:shop/generic")
    found = await fetch(*names)
    assert found.keys() == set(names)
    certificate = found["credential:shop/cert"].tls_certificate
    assert certificate.certificate_chain.inline_bytes == CERTIFICATE
    assert certificate.private_key.inline_bytes == KEY
    authority = found["credential-ca:shop/cert"]
    assert authority.validation_context.trusted_ca.inline_bytes == CERTIFICATE
    assert not authority.HasField("tls_certificate"), "an authority's name is not a way to a key"
    assert found["credential:shop/generic"].tls_certificate.private_key.inline_bytes == KEY


async def test_nothing_else() -> None:
    """Not another Secret, not what gets a development certificate, not a name that is none."""
    assert not await fetch("credential:shop/unused", "credential:shop/development", "credential:", "", "shop/cert")


async def test_a_secret_that_is_gone_is_left_out() -> None:
    assert not await fetch("credential:shop/cert", of=plane(SECRETS[1]))


@pytest.mark.parametrize(
    ("uris", "code"),
    [
        ((), grpc.StatusCode.UNAUTHENTICATED),
        ((NODE, "spiffe://cluster.local/ns/shop/sa/edge"), grpc.StatusCode.UNAUTHENTICATED),
        (("spiffe://cluster.local/ns/shop/sa/edge",), grpc.StatusCode.PERMISSION_DENIED),
        (("spiffe://other.domain/isthmus/node/local",), grpc.StatusCode.PERMISSION_DENIED),
    ],
)
async def test_only_a_node_is_answered(uris: tuple[str, ...], code: grpc.StatusCode) -> None:
    with pytest.raises(Aborted) as aborted:
        await fetch("credential:shop/cert", uris=uris)
    assert aborted.value.code is code


async def test_a_nodes_certificate_that_has_ended_is_nobodys() -> None:
    with pytest.raises(Aborted) as aborted:
        await fetch("credential:shop/cert", now=NOW + 2 * HOUR)
    assert aborted.value.code is grpc.StatusCode.UNAUTHENTICATED


async def test_another_node_gets_none_of_them() -> None:
    assert not await fetch("credential:shop/cert", uris=("spiffe://cluster.local/isthmus/node/other",))


async def test_lists_come_with_their_authority() -> None:
    """Its own, and those of the Secrets that its name has; without one of them none of it is served."""
    root = Authority("root")
    own, other = root.revoke(), Authority("other").revoke()
    policy = """\
apiVersion: isthmus.dev/v1alpha1
kind: ClientTrafficPolicy
metadata: {name: lists, namespace: shop}
spec:
  targetRefs: [{kind: Gateway, name: edge, sectionName: https}]
  tls: {clientValidation: {crl: {refs: [{name: lists}]}}}
"""
    cert = secret("cert", tls_crt=CERTIFICATE, tls_key=KEY, ca_crt=root.pem, ca_crl=own)
    lists = secret("lists", kind="Opaque", crl=other)
    name = "credential-ca:shop/cert~lists"
    found = await fetch(name, of=plane(cert, lists, policy))
    assert found[name].validation_context.trusted_ca.inline_bytes == root.pem
    assert found[name].validation_context.crl.inline_bytes == own + b"\n" + other
    assert not await fetch(name, of=plane(cert, policy))


async def test_our_own_lists_come_with_our_own_authority_alone() -> None:
    root, other = Authority("ours"), Authority("theirs")
    name, listed = "credential-ca:shop/cert", root.revoke(root.issue("a"))
    for authorities, expected in ((root.pem, listed), (root.pem + other.pem, b""), (other.pem, b"")):
        of = plane(secret("cert", tls_crt=CERTIFICATE, tls_key=KEY, ca_crt=authorities))
        of.inputs.trust = (TrustBundle("cluster.local", (root.pem.decode(),), lists=(listed.decode(),)),)
        of.rebuild()
        context = (await fetch(name, of=of))[name].validation_context
        assert context.crl.inline_bytes == expected
        assert context.only_verify_leaf_cert_crl is bool(expected)
    assert of.world.own_lists
