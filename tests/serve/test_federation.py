from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from isthmus.keeping import Keeping
from isthmus.model.world import Address
from isthmus.serve.federation import OwnBundle, serve_bundle
from isthmus.serve.options import BundleEndpoint
from isthmus.state import StateDir
from tests.proxy.making import free_port
from tests.real.pki import Authority

ROOT = Authority("root")


async def test_what_is_wrong_with_the_endpoint_s_files_is_said_once_in_plain_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = tmp_path / "endpoint.pem", tmp_path / "endpoint.key"
    certificate.write_bytes(ROOT.issue("localhost").chain)
    key.write_bytes(ROOT.issue("localhost").key)
    wanted = BundleEndpoint(Address("127.0.0.1", free_port()), certificate, key)
    keeping = Keeping(StateDir.at(tmp_path / "state").open(), lambda said: None)
    own = OwnBundle(lambda: (ROOT.pem.decode(),), lambda: (), timedelta(minutes=5), keeping, lambda: datetime.now(UTC))
    with caplog.at_level(logging.ERROR), pytest.raises(TimeoutError):
        await asyncio.wait_for(serve_bundle(wanted, own, _nobody), 2.5)
    assert [record.getMessage() for record in caplog.records] == [
        "bundle endpoint: no certificate, and so no connection, yet: the key is not that of the certificate"
    ]


def _nobody() -> NoReturn:
    raise AssertionError("the files are asked for, not our own SVID")
