"""Envoy's own message types, built from the descriptors that the pinned Envoy binary carries.

``cluster_v3.Cluster(name="orders")`` makes a message of ``envoy.config.cluster.v3.Cluster``. A misspelt message or
field is an error at once, and there is no dict anywhere on the way. The types live in a pool of their own: well-known
types come from here too (``protobuf.Duration``), because a pool's messages cannot hold those of another.
"""

from __future__ import annotations

import json
import lzma
from datetime import timedelta
from functools import cache
from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message

__all__ = [
    "Message",
    "Package",
    "any_of",
    "duration",
    "from_json",
    "message_class",
    "to_json",
    "unpack",
]


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    raw = resources.files(__package__).joinpath("descriptors.binpb.xz").read_bytes()
    files = descriptor_pb2.FileDescriptorSet.FromString(lzma.decompress(raw)).file
    by_name = {file.name: file for file in files}
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(name: str) -> None:
        if name in added:
            return
        added.add(name)
        for dependency in by_name[name].dependency:
            add(dependency)
        pool.Add(by_name[name])

    for name in by_name:
        add(name)
    return pool


@cache
def message_class(full_name: str) -> Any:
    """The class of ``full_name`` (``envoy.config.cluster.v3.Cluster``). Raises KeyError if Envoy has no such type."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(full_name))


class Package:
    """A protobuf package whose messages and enums are attributes, made when first asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        full_name = f"{self._name}.{name}"
        try:
            found = message_class(full_name)
        except KeyError:
            try:
                found = EnumTypeWrapper(_pool().FindEnumTypeByName(full_name))
            except KeyError:
                raise AttributeError(f"Envoy has no type {full_name}") from None
        setattr(self, name, found)
        return found


_ANY = "google.protobuf.Any"


def any_of(message: Message) -> Any:
    """``message`` in a google.protobuf.Any, serialised the same way every time."""
    return message_class(_ANY)(
        type_url=f"type.googleapis.com/{message.DESCRIPTOR.full_name}",
        value=message.SerializeToString(deterministic=True),
    )


def unpack(packed: Any) -> Message:
    """The message inside an Any. Raises KeyError for a type that this Envoy does not have."""
    message: Message = message_class(packed.type_url.rpartition("/")[2]).FromString(packed.value)
    return message


def duration(value: timedelta) -> Any:
    """A google.protobuf.Duration."""
    whole = message_class("google.protobuf.Duration")()
    whole.FromTimedelta(value)
    return whole


def to_json(message: Message) -> Any:
    """Plain JSON values in protobuf's JSON form, Anys opened: for people and for ``envoy -c``; never a way to build."""
    return json.loads(json_format.MessageToJson(message, descriptor_pool=_pool(), preserving_proto_field_name=True))


def from_json(text: str, full_name: str) -> Message:
    """Parse protobuf JSON (such as Envoy's admin answers) into ``full_name``; fields unknown here are dropped.

    Raises ValueError for what is no such thing.
    """
    message: Message = message_class(full_name)()
    try:
        json_format.Parse(text, message, ignore_unknown_fields=True, descriptor_pool=_pool())
    except json_format.ParseError as broken:
        raise ValueError(str(broken)) from broken
    return message
