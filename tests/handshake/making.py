"""Access log entries as Envoy makes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from isthmus.envoy_api import duration
from isthmus.envoy_api.packages import core_v3, data_accesslog_v3

BEGAN = datetime(2026, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)


def entry(address: str = "192.0.2.7", text: str = "", tags: dict[str, str] | None = None, **tls: Any) -> Any:
    """A TCPAccessLogEntry; ``tls``: fields of its TLSProperties."""
    found = data_accesslog_v3.TCPAccessLogEntry()
    about = found.common_properties
    if address:
        place = core_v3.SocketAddress(address=address, port_value=40123)
        about.downstream_direct_remote_address.CopyFrom(core_v3.Address(socket_address=place))
    about.downstream_transport_failure_reason = text
    about.start_time.FromDatetime(BEGAN)
    about.duration.CopyFrom(duration(timedelta(milliseconds=3)))
    about.custom_tags.update(tags or {})
    about.tls_properties.CopyFrom(data_accesslog_v3.TLSProperties(**tls))
    return found
