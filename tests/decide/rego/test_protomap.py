from __future__ import annotations

from isthmus.decide.rego.protomap import protomap
from isthmus.envoy_api.packages import core_v3, ext_authz_service_v3, protobuf


def test_numbers_bytes_enums_and_times() -> None:
    assert protomap(protobuf.Timestamp(seconds=1 << 40, nanos=5)) == {"seconds": 1 << 40, "nanos": 5}
    assert protomap(protobuf.BytesValue(value=b"\xff\x01")) == {"value": "/wE="}
    assert protomap(core_v3.SocketAddress(protocol=1, port_value=80)) == {"protocol": 1, "portValue": 80}


def test_maps_and_lists_of_messages() -> None:
    metadata = core_v3.Metadata()
    metadata.filter_metadata["a"].update({"n": 1.0, "none": None})
    assert protomap(metadata) == {"filterMetadata": {"a": {"n": 1, "none": None}}}
    context = ext_authz_service_v3.AttributeContext()
    context.context_extensions["k"] = "v"
    assert protomap(context) == {"contextExtensions": {"k": "v"}}
    headers = core_v3.HeaderMap(headers=[core_v3.HeaderValue(key="a", value="b")])
    assert protomap(headers) == {"headers": [{"key": "a", "value": "b"}]}
