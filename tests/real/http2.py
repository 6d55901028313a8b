"""HTTP/2 by a client that says what it likes: several authorities over one connection."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field

from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset


@dataclass
class H2Client:
    """One connection, over TLS. Requests one after the other."""

    address: tuple[str, int]
    context: ssl.SSLContext
    server_name: str
    _connection: H2Connection = field(default_factory=H2Connection)

    def __enter__(self) -> H2Client:
        self.context.set_alpn_protocols(["h2"])
        raw = socket.create_connection(self.address, 20)
        self._socket = self.context.wrap_socket(raw, server_hostname=self.server_name)
        assert self._socket.selected_alpn_protocol() == "h2"
        self._connection.initiate_connection()
        self._socket.sendall(self._connection.data_to_send())
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def get(self, authority: str, path: str = "/", **headers: str) -> tuple[int, bytes]:
        """Status and body; (0, b"") if the stream is reset. Raises ConnectionError where the connection is to end."""
        stream = self._connection.get_next_available_stream_id()
        pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", path)]
        self._connection.send_headers(stream, [*pseudo, *headers.items()], end_stream=True)
        self._socket.sendall(self._connection.data_to_send())
        status, body = 0, b""
        while data := self._socket.recv(65536):
            for event in self._connection.receive_data(data):
                if isinstance(event, ResponseReceived):
                    found = {bytes(name): bytes(value) for name, value in event.headers or ()}
                    status = int(found[b":status"])
                elif isinstance(event, DataReceived):
                    body += event.data or b""
                    self._connection.acknowledge_received_data(event.flow_controlled_length or 0, stream)
                elif isinstance(event, ConnectionTerminated):
                    raise ConnectionError("told to go")
                elif isinstance(event, StreamReset):
                    return 0, b""
                elif isinstance(event, StreamEnded):
                    return status, body
            self._socket.sendall(self._connection.data_to_send())
        raise ConnectionError("the connection ended")
