"""Protobuf messages as OPA-Envoy gives them to policies: JSON's names, numbers that stay numbers, what is unset absent.

Not protobuf's JSON form, in which 64-bit numbers and times are strings. Source: opa-envoy-plugin,
envoyauth/protomap.go.
"""

from __future__ import annotations

import base64
from typing import Any

from isthmus.envoy_api import Message

_STRUCT = "google.protobuf.Struct"


def protomap(message: Message) -> dict[str, Any]:
    """JSON values. Enums are numbers, bytes are base64, a Struct is the object that it says."""
    if message.DESCRIPTOR.full_name == _STRUCT:
        return _struct(message)
    return {field.json_name: _field(field, value) for field, value in message.ListFields()}


def _field(field: Any, value: Any) -> Any:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        of = kind.fields_by_name["value"]
        return {str(key): _one(of, value[key]) for key in value}
    if field.is_repeated:
        return [_one(field, each) for each in value]
    return _one(field, value)


def _one(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return protomap(value)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _struct(struct: Any) -> dict[str, Any]:
    return {key: _value(struct.fields[key]) for key in struct.fields}


def _value(value: Any) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            number: float = value.number_value
            return int(number) if number.is_integer() else number
        case "struct_value":
            return _struct(value.struct_value)
        case "list_value":
            return [_value(each) for each in value.list_value.values]
        case "string_value" | "bool_value" as kind:
            return getattr(value, kind)
    return None
