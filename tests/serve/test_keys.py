"""From the store of a state to what a machine of the mesh is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.consumer.key import ApiKey
from isthmus.consumer.place import FILE
from isthmus.consumer.record import KeyRecord
from isthmus.consumer.store import CredentialStore
from isthmus.consumer.wire import decode_changes, decode_record, encode_position, fingerprint
from isthmus.control.roster import Roster
from isthmus.model.key_lookup import CHANGES, FIND, method_path
from isthmus.serve.keys import key_service
from isthmus.state import StateDir
from tests.control.making import plane_of
from tests.control.test_credential_service import Connection
from tests.identity.making import NOW, leaf, uri

POLICY = """\
apiVersion: isthmus.dev/v1alpha1
kind: ClientAuthentication
metadata: {name: keys, namespace: shop}
spec: {methods: [{apiKey: {}}]}
"""


class Call:
    """How gRPC asks a handler for a method."""

    invocation_metadata = ()

    def __init__(self, method: str) -> None:
        self.method = method_path(method)


async def test_from_the_file_to_the_wire(tmp_path: Path) -> None:
    state = StateDir.at(tmp_path / "state").open()
    plane = plane_of(POLICY)
    handler = key_service(plane, Roster(plane, lambda: NOW), state, lambda: NOW).handler()
    pem = leaf(uri("spiffe://cluster.local/isthmus/node/local")).public_bytes(Encoding.PEM)

    async def ask(method: str, request: bytes) -> bytes:
        question: Callable[[bytes, Any], Any] = handler.service(Call(method)).unary_unary
        answer: bytes = await question(request, Connection(pem))
        return answer

    assert not (state.path / FILE).exists(), "nobody has asked"
    before = decode_changes(await ask(CHANGES, b"")).position
    key = ApiKey.make()
    assert decode_record(await ask(FIND, key.id.encode())) is None
    store = CredentialStore.at_file(state.path / FILE)
    store.add(record := KeyRecord(key.id, "shop/mobile", key.digest, datetime(2026, 5, 1, tzinfo=UTC)))
    store.close()
    assert decode_record(await ask(FIND, key.id.encode())) == record
    changed: frozenset[str] | None = frozenset()
    while not changed:
        changed = decode_changes(await ask(CHANGES, encode_position(before))).ids
    assert changed == {fingerprint(key.id)}
