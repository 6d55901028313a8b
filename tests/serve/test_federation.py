from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from isthmus.keeping import Keeping
from isthmus.model.world import Address
from isthmus.serve.federation import OwnBundle, serve_bundle
from isthmus.serve.options import BundleEndpoint
from isthmus.state import StateDir
from tests.real.pki import Authority
from tests.real.up import free_port

ROOT = Authority("root")
LOCKED = ROOT.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))


@pytest.mark.parametrize(
    ("key", "why"),
    [
        pytest.param(ROOT.issue("localhost").key, "the key is not that of the certificate", id="another's"),
        pytest.param(LOCKED, "wanted in PEM, the key without a password", id="encrypted"),
        pytest.param(None, "No such file", id="missing"),
    ],
)
async def test_what_is_wrong_with_the_files_of_the_endpoint_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, key: bytes | None, why: str
) -> None:
    wanted = BundleEndpoint(Address("127.0.0.1", free_port()), tmp_path / "endpoint.pem", tmp_path / "endpoint.key")
    (tmp_path / "endpoint.pem").write_bytes(ROOT.issue("localhost").chain)
    if key is not None:
        (tmp_path / "endpoint.key").write_bytes(key)
    keeping = Keeping(StateDir.at(tmp_path / "state").open(), lambda said: None)
    own = OwnBundle(lambda: (ROOT.pem.decode(),), lambda: (), timedelta(minutes=5), keeping, lambda: datetime.now(UTC))
    with caplog.at_level(logging.ERROR), pytest.raises(TimeoutError):
        await asyncio.wait_for(serve_bundle(wanted, own, _nobody), 1.5)
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.startswith("bundle endpoint: no certificate, and so no connection, yet: ")
    assert why in said


def _nobody() -> NoReturn:
    raise AssertionError("the files are asked for, not our own SVID")
