"""What goes over the wires inside: a proxy's secrets from its agent, and every byte of its ADS stream."""

from __future__ import annotations

import base64
import json
from queue import SimpleQueue
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from isthmus.envoy_api.packages import core_v3, discovery_v3, tls_v3
from isthmus.proxy.place import Folders
from isthmus.xds.secret import ROOT_CA, SVID
from isthmus.xds.snapshot import CLUSTER, ENDPOINT, EXTENSION, LISTENER, ROUTE
from tests.real.up import Up, isthmus

_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
_SDS = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"
_ADS = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_SECONDS = 30
_TRIES = 20
_CONTROL_PLANE = "isthmus.istio-system.svc"
_BY_NAME = {"routes": ROUTE, "endpoints": ENDPOINT, "extensions": EXTENSION}


def secrets_of(up: Up, proxy_id: str, *names: str) -> dict[str, Any]:
    """The Secrets that the agent hands to the Envoy of ``proxy_id``, by name."""
    socket = Folders(up.state, (up.state / "run").readlink()).sds_socket(proxy_id)
    wanted = discovery_v3.DiscoveryRequest(
        node=core_v3.Node(id=proxy_id, cluster=proxy_id), resource_names=names, type_url=_SECRET
    )
    found: dict[str, Any] = {}
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        stream = channel.stream_stream(
            _SDS,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=discovery_v3.DiscoveryResponse.FromString,
        )(iter([wanted]), timeout=_SECONDS)
        for response in stream:
            for packed in response.resources:
                secret = tls_v3.Secret.FromString(packed.value)
                found[secret.name] = secret
            if found.keys() >= set(names):
                stream.cancel()
                return found
    raise AssertionError(f"only {sorted(found)} of {names}")


def key_of(secret: Any) -> bytes:
    """A private key in PEM."""
    source = secret.tls_certificate.private_key
    return bytes(source.inline_bytes or source.inline_string.encode())


def traces(key_pem: bytes) -> tuple[bytes, ...]:
    """What a file or a message that holds this key would have in it: its secret number, raw, in hex or in base64."""
    key = load_pem_private_key(key_pem, None)
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    found = [line for line in key_pem.splitlines() if line and not line.startswith(b"-----")][1:2]
    found += [base64.b64encode(key_pem)[60:160], base64.b64encode(der)[60:160]]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        scalar = key.private_numbers().private_value.to_bytes(32, "big")
        found += [scalar, scalar.hex().encode()]
        found += [base64.b64encode(scalar[cut:])[:36] for cut in range(3)]
    return tuple(found)


def ads_bytes(up: Up, proxy_id: str, address: str) -> bytes:
    """Every byte that the control plane at ``address`` answers this proxy with, whatever type it asks for.

    There is one stream for a proxy: this one ends the proxy's own, which connects again and may end this one first.
    """
    for _ in range(_TRIES):
        try:
            return _ads_bytes(up, proxy_id, address)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.ABORTED:
                raise
    raise AssertionError(f"{proxy_id} connected again {_TRIES} times before everything was here")


def _ads_bytes(up: Up, proxy_id: str, address: str) -> bytes:
    secrets = secrets_of(up, proxy_id, SVID, ROOT_CA)
    chain, roots = secrets[SVID].tls_certificate.certificate_chain, secrets[ROOT_CA].validation_context.trusted_ca
    credentials = grpc.ssl_channel_credentials(roots.inline_bytes, key_of(secrets[SVID]), chain.inline_bytes)
    options = (("grpc.ssl_target_name_override", _CONTROL_PLANE),)
    shown = json.loads(isthmus("config", proxy_id, "--state", str(up.state), "-o", "json").stdout)["resources"]
    wanted: dict[str, list[str]] = {CLUSTER: [], LISTENER: []}
    wanted |= {type_url: [one["name"] for one in shown[key]] for key, type_url in _BY_NAME.items() if shown.get(key)}
    node = core_v3.Node(id=proxy_id, cluster=proxy_id)
    requests: SimpleQueue[Any] = SimpleQueue()
    for type_url, some in wanted.items():
        requests.put(discovery_v3.DeltaDiscoveryRequest(node=node, type_url=type_url, resource_names_subscribe=some))
    raw, got = b"", set[str]()
    with grpc.secure_channel(address, credentials, options) as channel:
        stream = channel.stream_stream(_ADS, request_serializer=lambda message: message.SerializeToString())
        for response in (answers := stream(iter(requests.get, None), timeout=_SECONDS)):
            raw += response
            read = discovery_v3.DeltaDiscoveryResponse.FromString(response)
            got.add(read.type_url)
            if got == wanted.keys():
                break
            # What depends on it comes when this one is acknowledged.
            requests.put(discovery_v3.DeltaDiscoveryRequest(type_url=read.type_url, response_nonce=read.nonce))
        requests.put(None)
        answers.cancel()
    return raw
