"""Names of secrets, and where Envoy gets them: SDS on the proxy's own Unix socket, from the agent, never by ADS."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from isthmus.envoy_api import duration
from isthmus.envoy_api.packages import core_v3, tls_v3

SVID = "default"
"""The proxy's own certificate and key (the name that SPIRE and Envoy's users know)."""
ROOT_CA = "ROOTCA"
"""The mesh's roots, as a validation context."""
SDS_CLUSTER = "sds"
"""The static cluster of the bootstrap that stands for the agent's socket."""
FILE_CERTIFICATE = "file-cert:"
FILE_ROOTS = "file-root:"
SYSTEM = "system"
"""In the place of a path: the roots that the operating system trusts."""

_FIRST_RETRY = timedelta(milliseconds=200)
_LAST_RETRY = timedelta(seconds=2)
_FIRST_FETCH = timedelta(seconds=5)
"""How long a new listener or cluster waits for its secrets before it goes on without them.

Without them it closes every connection (Envoy's NotReadySslSocket), so both ways fail closed. No limit at all would
let one gateway credential that never comes hold back every other host of its port.
"""


def credential_name(namespace: str, name: str) -> str:
    """The secret of a gateway's ``credentialName``."""
    return f"credential:{namespace}/{name}"


def ca_credential_name(namespace: str, name: str) -> str:
    """The client CAs of a gateway's ``credentialName``."""
    return f"credential-ca:{namespace}/{name}"


def file_certificate_name(chain: str, key: str) -> str:
    """The secret of a certificate and key that lie in files of the proxy's machine (Istio's form of the name)."""
    return f"{FILE_CERTIFICATE}{chain}~{key}"


def file_roots_name(file: str | None, crl: str | None = None) -> str:
    """The roots in a file of the proxy's machine, or the system's, with the list of what they revoked."""
    return f"{FILE_ROOTS}{file or SYSTEM}" + (f"~{crl}" if crl else "")


def grpc_service(cluster: str) -> Any:
    """A gRPC service of Envoy's whose stream is back 0.2 s to 2 s after its server is (by default: up to 16 s)."""
    back_off = core_v3.BackoffStrategy(base_interval=duration(_FIRST_RETRY), max_interval=duration(_LAST_RETRY))
    return core_v3.GrpcService(
        envoy_grpc=core_v3.GrpcService.EnvoyGrpc(
            cluster_name=cluster, retry_policy=core_v3.RetryPolicy(retry_back_off=back_off)
        )
    )


def sds_secret(name: str) -> Any:
    """An envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig for the secret ``name`` of the agent."""
    version = core_v3.ApiVersion.Value("V3")
    return tls_v3.SdsSecretConfig(
        name=name,
        sds_config=core_v3.ConfigSource(
            resource_api_version=version,
            initial_fetch_timeout=duration(_FIRST_FETCH),
            api_config_source=core_v3.ApiConfigSource(
                api_type=core_v3.ApiConfigSource.GRPC,
                transport_api_version=version,
                set_node_on_first_message_only=True,
                grpc_services=[grpc_service(SDS_CLUSTER)],
            ),
        ),
    )
