"""Names of secrets, and where Envoy gets them: SDS on the proxy's own Unix socket, from the agent, never by ADS."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from isthmus.envoy_api import duration
from isthmus.envoy_api.packages import core_v3, tls_v3
from isthmus.model.revocation import ClientCrls

SVID = "default"
"""The proxy's own certificate and key (the name that SPIRE and Envoy's users know)."""
ROOT_CA = "ROOTCA"
"""The mesh's roots, as a validation context."""
ALL_ROOTS = "ALL"
"""The mesh's roots and those of federated trust domains, each for its own names (SPIRE's name for it)."""
SESSION_TICKET_KEYS = "session-ticket-keys"
"""What a gateway proxy seals TLS sessions with: made by its agent, and kept by nobody else."""
SDS_CLUSTER = "sds"
"""The static cluster of the bootstrap that stands for the agent's socket."""
FILE_CERTIFICATE = "file-cert:"
FILE_ROOTS = "file-root:"
SYSTEM = "system"
"""In the place of a path: the roots that the operating system trusts."""

LOGIN_SECRET = "login-secret:"  # noqa: S105 (a prefix of names)
LOGIN_COOKIE_KEY = "login-cookie-key:"
_FETCHED = "~crl:"
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


def ca_credential_name(namespace: str, name: str, revoked: Sequence[str] = ()) -> str:
    """The CAs of a Secret, with the lists of what they revoked: its own, and those of the Secrets ``revoked``."""
    return "~".join((f"credential-ca:{namespace}/{name}", *revoked))


def login_secret_name(secret: str, key: str) -> str:
    """What a login's client proves itself with: ``key`` of the Secret ``namespace/name``."""
    return f"{LOGIN_SECRET}{secret}~{key}"


def login_cookie_key_name(login: str) -> str:
    """What the cookies of the login of that key are sealed and signed with."""
    return f"{LOGIN_COOKIE_KEY}{login}"


def fetched_crls_name(ca: str, crls: ClientCrls | None) -> str:
    """The client CAs of the secret ``ca`` with the lists that were fetched; None: there is no such secret.

    A new name when somebody was revoked: the chain that refers to it changes, and ends its standing connections once
    it has the new lists.
    """
    return f"{ca}{_FETCHED}{crls.generation if crls is not None else 'none'}"


def without_crls(name: str) -> str:
    """What :func:`fetched_crls_name` was given; any other name as it is."""
    return name.partition(_FETCHED)[0]


def federated_roots_name(trust_domain: str) -> str:
    """The roots of another trust domain alone (SPIRE's form of the name)."""
    return f"spiffe://{trust_domain}"


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
    return tls_v3.SdsSecretConfig(name=name, sds_config=_agent("GRPC"))


def delta_sds() -> Any:
    """The agent as a source of secrets whose names come later: a ConfigSource."""
    return _agent("DELTA_GRPC")


def _agent(form: str) -> Any:
    version = core_v3.ApiVersion.Value("V3")
    return core_v3.ConfigSource(
        resource_api_version=version,
        initial_fetch_timeout=duration(_FIRST_FETCH),
        api_config_source=core_v3.ApiConfigSource(
            api_type=form,
            transport_api_version=version,
            set_node_on_first_message_only=True,
            grpc_services=[grpc_service(SDS_CLUSTER)],
        ),
    )
