from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from isthmus.envoy_api import unpack
from isthmus.errors import SvidInvalid, Unreachable
from isthmus.identity.validate import peer_identity
from isthmus.kinds.shape.certificate import read_certificates
from isthmus.proxy.file_secret import FileSecret, file_secret, is_file_secret, system_roots
from isthmus.xds.secret import file_certificate_name, file_roots_name
from tests.real.traffic_credentials import Authority


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("files")


@pytest.fixture
def folder(tmp_path: Path, authority: Authority) -> Path:
    pair = authority.certify("partner.example.com")
    (tmp_path / "chain").write_bytes(pair.certificate)
    (tmp_path / "key").write_bytes(pair.key)
    (tmp_path / "roots").write_bytes(authority.pem)
    (tmp_path / "revoked").write_bytes(authority.revoke(pair))
    return tmp_path


def named(name: str) -> FileSecret:
    found = file_secret(name)
    assert found is not None
    return found


def own(folder: Path) -> FileSecret:
    return named(file_certificate_name(str(folder / "chain"), str(folder / "key")))


def trusted(folder: Path) -> FileSecret:
    return named(file_roots_name(str(folder / "roots"), str(folder / "revoked")))


def test_a_certificate(folder: Path) -> None:
    served = own(folder).read()
    secret: Any = unpack(served.packed)
    assert secret.name == served.name == f"file-cert:{folder}/chain~{folder}/key"
    assert secret.tls_certificate.certificate_chain.inline_bytes == (folder / "chain").read_bytes()
    assert secret.tls_certificate.private_key.inline_bytes == (folder / "key").read_bytes()


def test_roots_and_what_they_revoked(folder: Path) -> None:
    secret: Any = unpack(trusted(folder).read().packed)
    assert secret.validation_context.trusted_ca.inline_bytes == (folder / "roots").read_bytes()
    assert secret.validation_context.crl.inline_bytes == (folder / "revoked").read_bytes()
    alone: Any = unpack(named(file_roots_name(str(folder / "roots"))).read().packed)
    assert not alone.validation_context.HasField("crl")


def test_a_change_shows_in_the_marks_and_the_version(folder: Path, authority: Authority) -> None:
    before, version = own(folder).marks(), own(folder).read().version
    assert own(folder).marks() == before
    pair = authority.certify("other.example.com")
    (folder / "chain").write_bytes(pair.certificate)
    (folder / "key").write_bytes(pair.key)
    assert own(folder).marks() != before
    assert own(folder).read().version != version


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("chain", b"", "chain is not a PEM certificate"),
        ("chain", b"-----BEGIN CERTIFICATE-----\nMIIB", "chain is not a PEM certificate"),
        ("key", b"-----BEGIN", "key is not a PEM private key without a password"),
        ("chain", None, "chain: No such file or directory"),
    ],
)
def test_what_is_half_written_is_not_taken(folder: Path, name: str, content: bytes | None, why: str) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(Unreachable, match=why):
        own(folder).read()


def test_a_key_of_another_certificate(folder: Path, authority: Authority) -> None:
    (folder / "key").write_bytes(authority.certify("other.example.com").key)
    with pytest.raises(Unreachable, match=r"key is not the key of .*chain"):
        own(folder).read()


@pytest.mark.parametrize("name", ["roots", "revoked"])
def test_roots_that_are_none(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"nothing")
    with pytest.raises(Unreachable, match=name):
        trusted(folder).read()
    (folder / name).unlink()
    with pytest.raises(Unreachable, match="No such file"):
        trusted(folder).marks()


def test_the_systems_roots(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "roots"))
    assert system_roots() == folder / "roots"
    assert named(file_roots_name(None)).files == (folder / "roots",)


def test_other_secrets_are_not_of_files() -> None:
    assert file_secret("credential:shop/partner") is None
    assert not is_file_secret("credential:shop/partner")
    assert is_file_secret(file_roots_name(None))


def test_a_certificate_of_no_version_that_there_is_ends_nothing(folder: Path, authority: Authority) -> None:
    strange = strange_version(authority.pem)
    (folder / "chain").write_bytes(strange)
    with pytest.raises(Unreachable, match="not a PEM certificate"):
        own(folder).read()
    (folder / "roots").write_bytes(strange)
    with pytest.raises(Unreachable, match="no PEM certificates"):
        trusted(folder).read()
    assert read_certificates(strange) is None
    with pytest.raises(SvidInvalid):
        peer_identity(strange)


def strange_version(pem: bytes) -> bytes:
    """The same certificate, as X.509 v10."""
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    written = base64.encodebytes(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x09", 1))
    return b"-----BEGIN CERTIFICATE-----\n" + written + b"-----END CERTIFICATE-----\n"
