from __future__ import annotations

import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import CsrRejected
from isthmus.identity.wire import CREATE_CERTIFICATE_PATH, CertificateRequest, CertificateResponse

text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


def field(number: int, payload: bytes | int) -> bytes:
    """One field of the protobuf wire format, by hand (short payloads)."""
    if isinstance(payload, int):
        return bytes([number << 3, payload])
    assert len(payload) < 128
    return bytes([number << 3 | 2, len(payload)]) + payload


def with_metadata(**values: object) -> bytes:
    metadata = struct_pb2.Struct()
    metadata.update(values)
    return field(1, b"csr") + field(4, metadata.SerializeToString())


def test_the_path_is_istios() -> None:
    assert CREATE_CERTIFICATE_PATH == "/istio.v1.auth.IstioCertificateService/CreateCertificate"


def test_the_bytes_of_istios_messages() -> None:
    metadata = struct_pb2.Struct()
    metadata.update({"ImpersonatedIdentity": "spiffe://td/ns/a/sa/b"})
    wire = field(1, b"pem") + field(3, 60) + field(4, metadata.SerializeToString())
    assert CertificateRequest.decode(wire) == CertificateRequest("pem", 60, "spiffe://td/ns/a/sa/b")
    assert CertificateRequest("pem", 60, "spiffe://td/ns/a/sa/b").encode() == wire
    assert CertificateResponse(("leaf", "root")).encode() == field(1, b"leaf") + field(1, b"root")


@given(text, st.integers(-(2**63), 2**63 - 1), st.none() | text, st.lists(text, max_size=4).map(tuple))
def test_a_request_survives_a_round_trip(csr: str, seconds: int, identity: str | None, names: tuple[str, ...]) -> None:
    sent = CertificateRequest(csr, seconds, identity, names)
    assert CertificateRequest.decode(sent.encode()) == sent


@given(st.lists(text, max_size=4).map(tuple))
def test_a_response_survives_a_round_trip(chain: tuple[str, ...]) -> None:
    assert CertificateResponse.decode(CertificateResponse(chain).encode()).cert_chain == chain


def test_metadata_of_others_is_left_alone() -> None:
    assert CertificateRequest.decode(with_metadata(CertSigner="x", ClusterID=3)) == CertificateRequest("csr")


@pytest.mark.parametrize(
    "metadata",
    [
        {"ImpersonatedIdentity": 3},
        {"ImpersonatedIdentity": None},
        {"ImpersonatedIdentity": ""},
        {"ImpersonatedIdentity": ["spiffe://td/a"]},
        {"ServerNames": "a.example.com"},
        {"ServerNames": []},
        {"ServerNames": ["a", 1]},
        {"ServerNames": [""]},
        {"ServerNames": None},
    ],
)
def test_metadata_of_the_wrong_type_is_never_taken_for_none(metadata: dict[str, object]) -> None:
    with pytest.raises(CsrRejected):
        CertificateRequest.decode(with_metadata(**metadata))


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05ab", field(1, b"\xff\xfe")])
def test_bytes_that_are_no_request(data: bytes) -> None:
    with pytest.raises(CsrRejected, match="not an IstioCertificateRequest"):
        CertificateRequest.decode(data)
