from __future__ import annotations

import pytest

from isthmus.kinds.shape.protocol import named_protocol, port_protocol
from isthmus.model.cluster import Protocol


@pytest.mark.parametrize(
    ("written", "protocol"),
    [("HTTP", Protocol.HTTP), ("gRPC", Protocol.GRPC), ("TLS", Protocol.TLS), ("http-a", None), ("", None)],
)
def test_by_its_very_name(written: str, protocol: Protocol | None) -> None:
    assert named_protocol(written) is protocol


@pytest.mark.parametrize(
    ("app_protocol", "name", "number", "protocol"),
    [
        (None, "http", 80, Protocol.HTTP),
        (None, "httpx", 80, None),
        (None, "", 80, None),
        (None, "", 53, Protocol.TCP),
        (None, "http-dns", 53, Protocol.HTTP),
        ("tcp", "http", 80, Protocol.TCP),
        ("unheard-of", "http", 80, None),
    ],
)
def test_of_a_port(app_protocol: str | None, name: str, number: int, protocol: Protocol | None) -> None:
    assert port_protocol(app_protocol, name, number) is protocol
