from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.decide.rego.activation import Wish
from isthmus.decide.rego.signature import Key, Verifier
from isthmus.decide.rego.store import BundleStore
from isthmus.errors import RegoBundleRefused
from isthmus.model.rego_bundle import BundleSource, bundle_file
from isthmus.state import StateDir
from tests.decide.rego.packing import Signer, pack, users

WISH = Wish("shop/authz", BundleSource("https://bundles.example/b.tar.gz"), "envoy/authz/allow")
PACKED = pack(users("alice"))


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    return BundleStore(StateDir.at(tmp_path / "state").open())


def test_what_was_saved_is_there_for_the_next_run(store: BundleStore) -> None:
    assert store.load(WISH) is None
    digest = store.save(WISH, PACKED, '"tag"')
    found = store.load(WISH)
    assert found is not None
    assert (found.active.digest, found.active.revision, found.tag) == (digest, "alice", '"tag"')
    assert store.packed(digest) == PACKED
    assert store.bundle(digest).data == {"users": ["alice"]}
    file = store.state.within(bundle_file(digest))
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_was_kept_is_verified_anew(store: BundleStore) -> None:
    signer = Signer()
    signed = Wish(WISH.policy, WISH.source, WISH.path, Verifier((Key("default", "RS256", signer.pem),)))
    store.save(signed, pack(signer.signed(users("alice"))), None)
    assert store.load(signed) is not None
    store.save(signed, PACKED, None)
    assert store.load(signed) is None


def test_a_file_that_somebody_changed(store: BundleStore) -> None:
    digest = store.save(WISH, PACKED, None)
    store.state.write_private(bundle_file(digest), pack(users("mallory")))
    assert store.load(WISH) is None
    with pytest.raises(RegoBundleRefused, match="changed the file"):
        store.packed(digest)


def test_what_is_not_here(store: BundleStore) -> None:
    for digest in ("0" * 64, "../../etc/passwd"):
        with pytest.raises(RegoBundleRefused):
            store.packed(digest)


def test_pruning(store: BundleStore) -> None:
    old, new = store.save(WISH, PACKED, None), store.save(WISH, pack(users("bob")), None)
    store.prune({new})
    assert store.packed(new)
    assert not store.state.within(bundle_file(old)).exists()
    assert store.load(WISH) is not None
    BundleStore(StateDir.at(store.state.path / "elsewhere")).prune(set())
