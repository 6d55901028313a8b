from __future__ import annotations

import json
import stat
from io import BytesIO
from pathlib import Path

import pytest

from isthmus.compile import Compiler
from isthmus.config.load import load
from isthmus.config.resource import Document
from isthmus.control.last_good import LastGood
from isthmus.state import StateDir
from tests.kinds.credential import pair, secret
from tests.xds.making import entry, gateway, networking, security, service

ROUTES = "hosts: [shop.example.com]\ngateways: [edge]\nhttp: [{route: [{destination: {host: orders}}]}]"
DRY_RUN = "namespace: shop, annotations: {istio.io/dry-run: 'true'}}"
TEXTS = (
    service("orders"),
    entry("orders-1"),
    gateway(),
    networking("VirtualService", "shop", ROUTES),
    security("AuthorizationPolicy", "tried", "{}").replace("namespace: shop}", DRY_RUN),
)


def documents(*texts: str) -> tuple[Document, ...]:
    return load(["-"], stdin=BytesIO("---\n".join(texts).encode())).documents


def state(tmp_path: Path) -> StateDir:
    return StateDir.at(tmp_path / "state").open()


def saved(folder: StateDir) -> Path:
    return folder.path / "manifests" / "last-good.json"


def test_what_is_loaded_compiles_as_what_was_saved(tmp_path: Path) -> None:
    folder, given = state(tmp_path), documents(*TEXTS)
    LastGood(folder).save(given)
    loaded = LastGood(folder).load()
    before, after = Compiler().compile(given), Compiler().compile(loaded)
    assert after.mesh == before.mesh
    assert after.diagnostics == before.diagnostics, "the places too"
    assert [(one.digest, one.root.plain()) for one in loaded] == [(one.digest, one.root.plain()) for one in given]


def test_a_users_key_stays_in_the_users_file(tmp_path: Path) -> None:
    folder = state(tmp_path)
    certificate, key = pair("cert")
    LastGood(folder).save(documents(*TEXTS, secret("cert", tls_crt=certificate, tls_key=key)))
    assert "Secret" not in {document.ref.kind for document in LastGood(folder).load()}
    assert b"Secret" not in saved(folder).read_bytes()
    assert stat.S_IMODE(saved(folder).stat().st_mode) == 0o600


def test_what_stays_the_same_is_not_written_again(tmp_path: Path) -> None:
    folder = state(tmp_path)
    last_good = LastGood(folder)
    last_good.save(documents(*TEXTS))
    first = saved(folder).stat().st_ino
    last_good.save(documents(*TEXTS))
    assert saved(folder).stat().st_ino == first
    last_good.save(documents(*TEXTS[:2]))
    assert len(LastGood(folder).load()) == 2


@pytest.mark.parametrize("spoilt", [b"", b"{", b"[{}]", b'[{"ref": 5}]', b"5", b"\xff\xfe"])
def test_a_file_that_cannot_be_understood_counts_as_none(tmp_path: Path, spoilt: bytes) -> None:
    folder = state(tmp_path)
    assert LastGood(folder).load() == ()
    folder.write_private("manifests/last-good.json", spoilt)
    assert LastGood(folder).load() == ()


def test_a_document_of_another_shape_spoils_the_file_not_the_start(tmp_path: Path) -> None:
    folder = state(tmp_path)
    LastGood(folder).save(documents(*TEXTS))
    entries = json.loads(saved(folder).read_bytes())
    for spoilt in ("text", {"v": 1, "s": ["x", 1, 1], "p": "", "k": []}):
        entries[0]["root"] = spoilt
        folder.write_private("manifests/last-good.json", json.dumps(entries).encode())
        assert LastGood(folder).load() == ()
