"""The messages of the SPIFFE Workload API.

Source: SPIFFE Workload API, section 5 and appendix A (workloadapi.proto; no proto package).
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

SERVICE: Final = "SpiffeWorkloadAPI"
HEADER: Final = ("workload.spiffe.io", "true")
"""Every call has this metadata, so that no browser or proxy that was tricked into a request is taken for a workload."""

_KINDS = descriptor_pb2.FieldDescriptorProto
_STRUCT = f".{struct_pb2.Struct.DESCRIPTOR.full_name}"
_TEXT, _TEXTS, _BYTES, _BYTES_LIST, _BUNDLES = "text", "texts", "bytes", "bytes list", "bundles"
"""``_BUNDLES``: a map from the SPIFFE ID of a trust domain to bytes. Any other name: that message, repeated."""

_MESSAGES: Final[dict[str, tuple[tuple[str, int, str], ...]]] = {
    "X509SVIDRequest": (),
    "X509SVIDResponse": (("svids", 1, "X509SVID"), ("crl", 2, _BYTES_LIST), ("federated_bundles", 3, _BUNDLES)),
    "X509SVID": (
        ("spiffe_id", 1, _TEXT),
        ("x509_svid", 2, _BYTES),
        ("x509_svid_key", 3, _BYTES),
        ("bundle", 4, _BYTES),
        ("hint", 5, _TEXT),
    ),
    "X509BundlesRequest": (),
    "X509BundlesResponse": (("crl", 1, _BYTES_LIST), ("bundles", 2, _BUNDLES)),
    "JWTSVIDRequest": (("audience", 1, _TEXTS), ("spiffe_id", 2, _TEXT)),
    "JWTSVIDResponse": (("svids", 1, "JWTSVID"),),
    "JWTSVID": (("spiffe_id", 1, _TEXT), ("svid", 2, _TEXT), ("hint", 3, _TEXT)),
    "JWTBundlesRequest": (),
    "JWTBundlesResponse": (("bundles", 1, _BUNDLES),),
    "ValidateJWTSVIDRequest": (("audience", 1, _TEXT), ("svid", 2, _TEXT)),
    "ValidateJWTSVIDResponse": (("spiffe_id", 1, _TEXT), ("claims", 2, _STRUCT)),
}


@cache
def message(name: str) -> Any:
    """The class of a message, such as ``X509SVIDResponse``. Raises KeyError: there is none of that name."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(name))


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    # A pool of its own: a client library in the same process has the same names in the default one.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(
        descriptor_pb2.FileDescriptorProto(
            name="workload.proto",
            syntax="proto3",
            dependency=[struct_pb2.DESCRIPTOR.name],
            message_type=[_descriptor(name, fields) for name, fields in _MESSAGES.items()],
        )
    )
    return pool


def _descriptor(name: str, fields: tuple[tuple[str, int, str], ...]) -> descriptor_pb2.DescriptorProto:
    made = descriptor_pb2.DescriptorProto(name=name)
    for field, number, kind in fields:
        made.field.append(_field(name, field, number, kind))
        if kind == _BUNDLES:
            entry = made.nested_type.add(name=_entry(field), field=[_plain("key", 1), _plain("value", 2, _BYTES)])
            entry.options.map_entry = True
    return made


def _field(message_name: str, name: str, number: int, kind: str) -> descriptor_pb2.FieldDescriptorProto:
    if kind in (_TEXT, _BYTES):
        return _plain(name, number, kind)
    if kind in (_TEXTS, _BYTES_LIST):
        item = _KINDS.TYPE_STRING if kind == _TEXTS else _KINDS.TYPE_BYTES
        return _KINDS(name=name, number=number, label=_KINDS.LABEL_REPEATED, type=item)
    label = _KINDS.LABEL_OPTIONAL if kind == _STRUCT else _KINDS.LABEL_REPEATED
    full = f".{message_name}.{_entry(name)}" if kind == _BUNDLES else kind if kind == _STRUCT else f".{kind}"
    return _KINDS(name=name, number=number, label=label, type=_KINDS.TYPE_MESSAGE, type_name=full)


def _plain(name: str, number: int, kind: str = _TEXT) -> descriptor_pb2.FieldDescriptorProto:
    item = _KINDS.TYPE_STRING if kind == _TEXT else _KINDS.TYPE_BYTES
    return _KINDS(name=name, number=number, label=_KINDS.LABEL_OPTIONAL, type=item)


def _entry(field: str) -> str:
    """protoc's name for the message of a map's entry."""
    return "".join(word.capitalize() for word in field.split("_")) + "Entry"
