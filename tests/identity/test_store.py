from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from isthmus.errors import IsthmusError, Refused, SpiffeIdInvalid, StateUnusable
from isthmus.identity.authority import create_intermediate, create_root, private_key, signature_hash
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.identity.store import load_or_create, put_back
from isthmus.identity.template import intermediate_template
from isthmus.state import StateDir

from .making import DOMAIN, HOUR, NOW, leaf, new_csr, new_key, uri
from .test_authority import openssl_verify

ORDERS = SpiffeId.workload(DOMAIN, "shop", "orders")
YEAR = timedelta(days=365)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir.at(tmp_path / "state").open()


@pytest.fixture
def ca(state: StateDir) -> Path:
    return state.path / "ca"


FILES = {"root.pem", "root.key", "intermediate.pem", "intermediate.key", "bundle.pem"}


def test_the_first_start_makes_private_files(state: StateDir, ca: Path, tmp_path: Path) -> None:
    authority = load_or_create(state, DOMAIN, NOW)
    files = {path.name: oct(path.stat().st_mode & 0o777) for path in ca.iterdir()}
    assert files == dict.fromkeys(FILES, "0o600")
    assert ca.stat().st_mode & 0o777 == 0o700
    assert authority.bundle.roots == ((ca / "root.pem").read_text(),)
    svid = authority.issue(new_csr(), ORDERS, HOUR, NOW)
    assert openssl_verify(tmp_path, svid.chain, (ca / "root.pem").read_text(), "sslclient") == "leaf.pem: OK"


def test_started_again_it_is_the_same_authority(state: StateDir) -> None:
    first = load_or_create(state, DOMAIN, NOW)
    assert load_or_create(state, DOMAIN, NOW + timedelta(days=200)) == first
    assert load_or_create(state, DOMAIN, NOW, "mesh").root_namespace == "mesh"


def test_the_root_key_can_be_taken_away(state: StateDir, ca: Path) -> None:
    first = load_or_create(state, DOMAIN, NOW)
    (ca / "root.key").unlink()
    # Also when the intermediate would be due.
    again = load_or_create(state, DOMAIN, NOW + timedelta(days=360))
    assert again == first
    assert again.issue(new_csr(), ORDERS, HOUR, NOW + timedelta(days=360)).expires == NOW + timedelta(days=360) + HOUR


def test_without_the_root_key_an_ended_intermediate_says_what_to_do(state: StateDir, ca: Path) -> None:
    load_or_create(state, DOMAIN, NOW)
    (ca / "root.key").rename(ca.parent / "kept")
    with pytest.raises(Refused, match=r"ended on 2027-03-01: put the root key back as .*ca/root\.key"):
        load_or_create(state, DOMAIN, NOW + YEAR)
    (ca.parent / "kept").rename(ca / "root.key")
    load_or_create(state, DOMAIN, NOW + YEAR)


def test_the_intermediate_is_renewed_in_the_last_fifth_of_its_life(state: StateDir, ca: Path, tmp_path: Path) -> None:
    first = load_or_create(state, DOMAIN, NOW)
    before = (ca / "intermediate.key").read_bytes()
    fifth = YEAR / 5
    assert load_or_create(state, DOMAIN, NOW + YEAR - fifth - timedelta(days=1)) == first
    due = NOW + YEAR - fifth + timedelta(days=1)
    renewed = load_or_create(state, DOMAIN, due)
    assert renewed.root == first.root
    assert renewed.chain != first.chain
    assert renewed.expires == due + YEAR
    assert (ca / "intermediate.key").read_bytes() != before
    assert load_or_create(state, DOMAIN, due) == renewed
    assert {path.name for path in ca.iterdir()} == FILES | {"retired.json"}
    svid = renewed.issue(new_csr(), ORDERS, HOUR, due)
    assert openssl_verify(tmp_path, svid.chain, renewed.bundle.roots[0], "sslclient", at=due) == "leaf.pem: OK"


def test_an_intermediate_that_ends_with_its_root_is_not_renewed_over_and_over(state: StateDir) -> None:
    first = load_or_create(state, DOMAIN, NOW)
    late = first.root.not_valid_after_utc - timedelta(days=30)
    renewed = load_or_create(state, DOMAIN, late)
    assert renewed.expires == first.root.not_valid_after_utc
    assert load_or_create(state, DOMAIN, late + timedelta(days=29)) == renewed
    with pytest.raises(Refused, match="the root ended on"):
        load_or_create(state, DOMAIN, first.root.not_valid_after_utc)


@pytest.mark.parametrize("moved", ["neither", "key"])
def test_a_renewal_that_a_crash_cut_short_is_finished(state: StateDir, ca: Path, moved: str) -> None:
    first = load_or_create(state, DOMAIN, NOW)
    shutil.copytree(ca, ca.parent / "other")
    due = NOW + timedelta(days=340)
    renewed = load_or_create(state, DOMAIN, due)
    # As it was just after both new files were written, or after the first of them got its name.
    (ca / "intermediate.pem").rename(ca / "next.pem")
    shutil.copy(ca.parent / "other/intermediate.pem", ca / "intermediate.pem")
    if moved == "neither":
        (ca / "intermediate.key").rename(ca / "next.key")
        shutil.copy(ca.parent / "other/intermediate.key", ca / "intermediate.key")
    assert load_or_create(state, DOMAIN, due) == renewed != first
    assert not list(ca.glob("next.*"))


def test_a_renewal_that_had_no_certificate_yet_is_dropped(state: StateDir, ca: Path) -> None:
    first = load_or_create(state, DOMAIN, NOW)
    state.write_private("ca/next.key", private_key(new_key()).pem)
    assert load_or_create(state, DOMAIN, NOW) == first
    assert not list(ca.glob("next.*"))


class TestUsersOwn:
    def test_a_root_and_its_key_before_the_first_start(self, tmp_path: Path) -> None:
        root, key = create_root(DOMAIN, NOW)
        ca = tmp_path / "state/ca"
        ca.mkdir(parents=True)
        (ca / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
        (ca / "root.key").write_bytes(private_key(key).pem)
        authority = load_or_create(StateDir.at(tmp_path / "state").open(), DOMAIN, NOW)
        assert authority.root == root
        assert (ca / "intermediate.key").exists()

    def test_an_intermediate_below_another_without_any_root_key(self, state: StateDir, tmp_path: Path) -> None:
        root, root_key = create_root(DOMAIN, NOW)
        middle_key = ec.generate_private_key(ec.SECP384R1())
        middle = _authority_below(root, root_key, middle_key, path_length=1)
        signing, key = create_intermediate(DOMAIN, middle, middle_key, NOW)
        state.write_private("ca/root.pem", root.public_bytes(Encoding.PEM))
        chain = signing.public_bytes(Encoding.PEM) + middle.public_bytes(Encoding.PEM)
        state.write_private("ca/intermediate.pem", chain)
        state.write_private("ca/intermediate.key", private_key(key).pem)
        authority = load_or_create(state, DOMAIN, NOW)
        assert authority.chain == (signing, middle)
        svid = authority.issue(new_csr(), ORDERS, HOUR, NOW)
        assert openssl_verify(tmp_path, svid.chain, authority.bundle.roots[0], "sslclient") == "leaf.pem: OK"

    def test_a_root_that_allows_no_authority_below_it(self, state: StateDir) -> None:
        root, root_key = create_root(DOMAIN, NOW)
        narrow_key = new_key()
        narrow = _authority_below(root, root_key, narrow_key, path_length=0, own_issuer=True)
        state.write_private("ca/root.pem", narrow.public_bytes(Encoding.PEM))
        state.write_private("ca/root.key", private_key(narrow_key).pem)
        with pytest.raises(StateUnusable, match="allows 0 authorities below it"):
            load_or_create(state, DOMAIN, NOW)


class TestRefused:
    @pytest.mark.parametrize(
        ("gone", "why"),
        [
            (["root.pem"], r"root\.pem: missing, while other files"),
            (["intermediate.pem"], r"intermediate\.pem: missing, while .*intermediate\.key is there"),
            (["intermediate.key"], r"intermediate\.key: missing, while .*intermediate\.pem is there"),
            (["root.key", "intermediate.pem", "intermediate.key"], r"root\.key is not there to make a new one"),
            (["root.pem", "intermediate.pem", "intermediate.key"], r"root\.pem: missing"),
        ],
    )
    def test_a_file_that_is_gone_is_named(self, state: StateDir, ca: Path, gone: list[str], why: str) -> None:
        load_or_create(state, DOMAIN, NOW)
        for name in gone:
            (ca / name).unlink()
        kept = {path.name: path.read_bytes() for path in ca.iterdir()}
        with pytest.raises(StateUnusable, match=why):
            load_or_create(state, DOMAIN, NOW)
        assert {path.name: path.read_bytes() for path in ca.iterdir()} == kept, "nothing of the user's is overwritten"

    @pytest.mark.parametrize("name", ["root.pem", "root.key", "intermediate.pem", "intermediate.key"])
    @pytest.mark.parametrize(
        "data", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    )
    def test_a_corrupt_file_is_named(self, state: StateDir, ca: Path, name: str, data: bytes) -> None:
        load_or_create(state, DOMAIN, NOW)
        (ca / name).write_bytes(data)
        with pytest.raises(StateUnusable, match=rf"ca/{name}: "):
            load_or_create(state, DOMAIN, NOW)

    @pytest.mark.parametrize("name", ["root.key", "intermediate.key"])
    def test_a_key_of_another_certificate(self, state: StateDir, ca: Path, name: str) -> None:
        load_or_create(state, DOMAIN, NOW)
        other = private_key(new_key()).pem
        (ca / name).write_bytes(other)
        with pytest.raises(StateUnusable, match=rf"{name}: not the key of") as caught:
            load_or_create(state, DOMAIN, NOW)
        assert other.decode().splitlines()[1] not in str(caught.value)

    def test_an_encrypted_key(self, state: StateDir, ca: Path) -> None:
        load_or_create(state, DOMAIN, NOW)
        key = new_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
        (ca / "root.key").write_bytes(key)
        with pytest.raises(StateUnusable, match="encrypted"):
            load_or_create(state, DOMAIN, NOW)

    def test_an_intermediate_of_another_root(self, state: StateDir) -> None:
        load_or_create(state, DOMAIN, NOW)
        stranger, key = create_intermediate(DOMAIN, *create_root(DOMAIN, NOW), NOW)
        state.write_private("ca/intermediate.pem", stranger.public_bytes(Encoding.PEM))
        state.write_private("ca/intermediate.key", private_key(key).pem)
        with pytest.raises(StateUnusable, match="does not lead to"):
            load_or_create(state, DOMAIN, NOW)

    def test_a_root_that_is_no_authority(self, state: StateDir) -> None:
        key = new_key()
        state.write_private("ca/root.pem", leaf(uri(ORDERS.uri), key=key).public_bytes(Encoding.PEM))
        state.write_private("ca/root.key", private_key(key).pem)
        with pytest.raises(StateUnusable, match="not an authority's certificate"):
            load_or_create(state, DOMAIN, NOW)

    def test_two_roots(self, state: StateDir, ca: Path) -> None:
        load_or_create(state, DOMAIN, NOW)
        (ca / "root.pem").write_bytes((ca / "root.pem").read_bytes() * 2)
        with pytest.raises(StateUnusable, match="one certificate is wanted, not 2"):
            load_or_create(state, DOMAIN, NOW)

    def test_another_trust_domains_state(self, state: StateDir) -> None:
        load_or_create(state, DOMAIN, NOW)
        with pytest.raises(Refused, match=r"belongs to the trust domain cluster\.local, not prod\.example\.com"):
            load_or_create(state, "prod.example.com", NOW)

    def test_a_name_that_is_no_trust_domain(self, state: StateDir, ca: Path) -> None:
        with pytest.raises(SpiffeIdInvalid):
            load_or_create(state, "Prod Example", NOW)
        assert not ca.exists()

    def test_a_state_that_cannot_be_written(self, state: StateDir) -> None:
        (state.path / "ca").write_text("in the way")
        with pytest.raises(IsthmusError):
            load_or_create(state, DOMAIN, NOW)


def _authority_below(root, root_key, key, *, path_length: int, own_issuer: bool = False) -> x509.Certificate:
    """A user's authority, with the path length that ours never have."""
    meant = intermediate_template(DOMAIN, key.public_key(), root, NOW)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "A user's own")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + YEAR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    usage = next(extension for extension in meant._extensions if isinstance(extension.value, x509.KeyUsage))
    builder = builder.add_extension(usage.value, critical=True)
    if own_issuer:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "A user's own")])
        return builder.issuer_name(name).sign(key, signature_hash(key))
    of_root = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    return builder.issuer_name(root.subject).add_extension(of_root, False).sign(root_key, signature_hash(root_key))


def test_a_running_authority_whose_files_were_removed_is_put_back_without_its_root_key(
    state: StateDir, ca: Path
) -> None:
    authority = load_or_create(state, DOMAIN, NOW)
    assert not put_back(state, authority)
    shutil.rmtree(ca)
    assert put_back(state, authority)
    assert load_or_create(state, DOMAIN, NOW) == authority
    assert {path.name for path in ca.iterdir()} == FILES - {"root.key"}
    assert not put_back(state, authority)
