"""How a machine without a way to the store of API keys asks the control plane: ``isthmus.v1.ApiKeys``.

The messages are those of ``consumer/wire.py``; between the process that asks and the control plane stands the node's
supervisor (``proxy/key_relay.py``), which has the node's identity and forwards bytes.
"""

from __future__ import annotations

API_KEYS = "isthmus.v1.ApiKeys"
FIND = "Find"
CHANGES = "Changes"


def method_path(method: str) -> str:
    """As gRPC names it."""
    return f"/{API_KEYS}/{method}"


SOCKET = "keys.sock"
"""In the runtime folder of the machine that asks."""
