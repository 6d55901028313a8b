"""The messages of Istio's certificate service, as an Istio agent sends them.

Source: istio/api, security/v1alpha1/ca.proto (package istio.v1.auth).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2
from google.protobuf.message import DecodeError

from isthmus.errors import CsrRejected

SERVICE = "istio.v1.auth.IstioCertificateService"
CREATE_CERTIFICATE = "CreateCertificate"
CREATE_CERTIFICATE_PATH = f"/{SERVICE}/{CREATE_CERTIFICATE}"

TRUST_SERVICE = "isthmus.v1.Trust"
CONFIRM_TRUST = "Confirm"
CONFIRM_TRUST_PATH = f"/{TRUST_SERVICE}/{CONFIRM_TRUST}"
"""A node tells, with the version of the plan's trust as the whole message, that all its proxies have it. (Ours.)"""

NODE_SERVICE = "isthmus.v1.Nodes"
FOLLOW = "Follow"
FOLLOW_PATH = f"/{NODE_SERVICE}/{FOLLOW}"
"""A node tells what it carries, and follows its plan: see ``control/node_service.py``. (Ours.)"""

REGO_BUNDLES = "isthmus.v1.RegoBundles"
FETCH_BUNDLE = "Fetch"
FETCH_BUNDLE_PATH = f"/{REGO_BUNDLES}/{FETCH_BUNDLE}"
"""A node asks for a bundle that its plan names: see ``control/bundle_service.py``. (Ours.)"""

IMPERSONATED_IDENTITY = "ImpersonatedIdentity"
"""Metadata: the SPIFFE ID that a node agent asks for on a proxy's behalf (Istio's name for it, from ztunnel)."""

SERVER_NAMES = "ServerNames"
"""Metadata: a list of DNS names, for a gateway's development certificate (ours)."""

_PACKAGE = "istio.v1.auth"


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """``csr``: PEM. ``validity_seconds``: a wish, 0 for the default. Metadata of other names is left alone."""

    csr: str
    validity_seconds: int = 0
    impersonated_identity: str | None = None
    server_names: tuple[str, ...] = ()

    def encode(self) -> bytes:
        metadata: dict[str, Any] = {}
        if self.impersonated_identity is not None:
            metadata[IMPERSONATED_IDENTITY] = self.impersonated_identity
        if self.server_names:
            metadata[SERVER_NAMES] = list(self.server_names)
        message = _message("IstioCertificateRequest")(csr=self.csr, validity_duration=self.validity_seconds)
        if metadata:
            message.metadata.update(metadata)
        encoded: bytes = message.SerializeToString()
        return encoded

    @classmethod
    def decode(cls, data: bytes) -> CertificateRequest:
        """Raises CsrRejected: not such a message, or metadata of ours that is not of its type."""
        try:
            message = _message("IstioCertificateRequest").FromString(data)
        except DecodeError as error:
            raise CsrRejected("not an IstioCertificateRequest") from error
        fields = message.metadata.fields
        identity: str | None = None
        if IMPERSONATED_IDENTITY in fields:
            identity = _text(fields[IMPERSONATED_IDENTITY], IMPERSONATED_IDENTITY)
        names: tuple[str, ...] = ()
        if SERVER_NAMES in fields:
            value = fields[SERVER_NAMES]
            if value.WhichOneof("kind") != "list_value" or not value.list_value.values:
                raise CsrRejected(f"metadata {SERVER_NAMES} is a list of names")
            names = tuple(_text(name, SERVER_NAMES) for name in value.list_value.values)
        return cls(message.csr, message.validity_duration, identity, names)


@dataclass(frozen=True, slots=True)
class CertificateResponse:
    """``cert_chain``: PEM, the leaf first, each issued by the next, one an element; last all trusted roots in one."""

    cert_chain: tuple[str, ...]

    def encode(self) -> bytes:
        encoded: bytes = _message("IstioCertificateResponse")(cert_chain=self.cert_chain).SerializeToString()
        return encoded

    @classmethod
    def decode(cls, data: bytes) -> CertificateResponse:
        """Raises google.protobuf.message.DecodeError: not such a message."""
        return cls(tuple(_message("IstioCertificateResponse").FromString(data).cert_chain))


def _text(value: Any, name: str) -> str:
    if value.WhichOneof("kind") != "string_value" or not value.string_value:
        raise CsrRejected(f"metadata {name} holds text")
    text: str = value.string_value
    return text


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    # A pool of its own: another copy of Istio's types in the process may live in the default one.
    kinds = descriptor_pb2.FieldDescriptorProto
    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    metadata_type = f".{struct_pb2.Struct.DESCRIPTOR.full_name}"
    request = descriptor_pb2.DescriptorProto(
        name="IstioCertificateRequest",
        field=[
            kinds(name="csr", number=1, label=one, type=kinds.TYPE_STRING),
            kinds(name="validity_duration", number=3, label=one, type=kinds.TYPE_INT64),
            kinds(name="metadata", number=4, label=one, type=kinds.TYPE_MESSAGE, type_name=metadata_type),
        ],
    )
    response = descriptor_pb2.DescriptorProto(
        name="IstioCertificateResponse",
        field=[kinds(name="cert_chain", number=1, label=many, type=kinds.TYPE_STRING)],
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(
        descriptor_pb2.FileDescriptorProto(
            name="security/v1alpha1/ca.proto",
            package=_PACKAGE,
            syntax="proto3",
            dependency=[struct_pb2.DESCRIPTOR.name],
            message_type=[request, response],
        )
    )
    return pool


@cache
def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))
