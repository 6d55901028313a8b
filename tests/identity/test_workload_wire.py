from __future__ import annotations

import pytest
from spiffe._proto import workload_pb2

from isthmus.identity.workload_wire import message


def test_the_messages_are_those_of_the_standard() -> None:
    """Compared with the generated code that PyPI's ``spiffe`` ships."""
    theirs = workload_pb2.DESCRIPTOR.message_types_by_name
    for name, descriptor in theirs.items():
        ours = message(name).DESCRIPTOR
        assert {(field.name, field.number, field.type, field.is_repeated) for field in ours.fields} == {
            (field.name, field.number, field.type, field.is_repeated) for field in descriptor.fields
        }, name


def test_maps_and_nested_messages_survive() -> None:
    made = message("X509SVIDResponse")(federated_bundles={"spiffe://other.example": b"der"})
    made.svids.add(spiffe_id="spiffe://here/a", x509_svid_key=b"key", hint="inner")
    read = workload_pb2.X509SVIDResponse.FromString(made.SerializeToString())
    assert dict(read.federated_bundles) == {"spiffe://other.example": b"der"}
    assert [(svid.spiffe_id, svid.x509_svid_key, svid.hint) for svid in read.svids] == [
        ("spiffe://here/a", b"key", "inner")
    ]


def test_there_is_no_other_message() -> None:
    with pytest.raises(KeyError):
        message("WITSVIDRequest")
