from __future__ import annotations

import base64

import pytest
from credential import pair, secret
from tests.real.pki import Authority, key_pem
from traffic_manifest import compiled, core

from isthmus.config.node import Node
from isthmus.diag import Report, Source
from isthmus.kinds.secret import SPEC, secret_bytes
from isthmus.model.lifetime import Lasting

CERT, KEY = pair("one")
OTHER_KEY = pair("two")[1]
ROOT, OTHER = Authority("root"), Authority("other")
BELOW = ROOT.intermediate("below")
LEAF = BELOW.issue("a.example.com")
PLACE = Source("test", 1, 1)


def node(**values: str) -> Node:
    entries = {name.replace("_", "."): Node(value, PLACE) for name, value in values.items()}
    return Node(entries, PLACE)


def test_a_certificate_and_its_key() -> None:
    done = compiled(secret("tls", tls_crt=CERT, tls_key=KEY, ca_crt=ROOT.pem))
    assert done.found == []
    (found,) = done.mesh.secrets.values()
    assert found.key == "shop/tls"
    assert found.keys == {"tls.crt", "tls.key", "ca.crt"}


def test_the_digest_follows_the_content() -> None:
    def digest(text: str) -> str:
        return compiled(text).mesh.secrets["shop/tls"].digest

    same, other = secret("tls", tls_crt=CERT, tls_key=KEY), secret("tls", tls_crt=CERT, tls_key=KEY, ca_crt=ROOT.pem)
    assert digest(same) == digest(same)
    assert digest(same) != digest(other)


def test_string_data_wins() -> None:
    root = Node({"data": node(cert=base64.b64encode(b"old").decode()), "stringData": node(cert="new")}, PLACE)
    assert secret_bytes(root, "cert") == b"new"
    assert secret_bytes(Node({"data": node(cert="b2xk")}, PLACE), "cert") == b"old"
    assert secret_bytes(root, "key") is None


def test_values_are_in_no_repr_and_no_message() -> None:
    spec = SPEC.read(Node({"stringData": node(cert="hunter2")}, PLACE), Report())
    assert spec.values == {"cert": b"hunter2"}
    assert "hunter2" not in repr(spec)
    done = compiled(core("Secret", "data: {a: 'hunter2!', b: [hunter2], c: 5551234}", "x"))
    assert done.found == ["4:11 error ISM1106", "4:26 error ISM1106", "4:40 error ISM1106"]
    assert "hunter2" not in done.messages
    assert "5551234" not in done.messages


@pytest.mark.parametrize(
    ("text", "found", "keys"),
    [
        (secret("tls", tls_crt=CERT, tls_key=OTHER_KEY), "6:12 error IST0161", set()),
        (secret("tls", tls_crt=CERT), "6:12 error IST0161", set()),
        (secret("tls", tls_key=KEY), "6:3 error IST0161", set()),
        (secret("tls", tls_crt=b"no certificate", tls_key=KEY), "6:12 error IST0161", set()),
        (secret("tls", tls_crt=CERT, tls_key=b"no key"), "6:12 error IST0161", set()),
        (secret("tls", kind="Opaque", cert=CERT, key=OTHER_KEY), "6:9 error IST0161", set()),
        (secret("tls", tls_crt=CERT, tls_key=KEY, ca_crt=b"x"), "8:11 error IST0161", {"tls.crt", "tls.key"}),
        (secret("tls", tls_crt=BELOW.pem + LEAF.pem, tls_key=LEAF.key), "6:12 error IST0161", set()),
        (secret("tls", kind="Opaque", ca_crt=ROOT.pem, ca_crl=b"x"), "7:11 error IST0161", set()),
        (secret("tls", kind="Opaque", ca_crt=ROOT.pem, crl=b"x"), "7:8 error IST0161", set()),
    ],
)
def test_what_cannot_be_used_is_left_out(text: str, found: str, keys: set[str]) -> None:
    done = compiled(text)
    assert done.found == [found]
    assert done.mesh.secrets["shop/tls"].keys == keys


def test_a_key_of_something_else_is_nobodys_business() -> None:
    done = compiled(core("Secret", "type: Opaque\nstringData: {key: hunter2}", "x"))
    assert done.found == []
    assert done.mesh.secrets["shop/x"].keys == {"key"}


@pytest.mark.parametrize(
    ("body", "found"),
    [("data: [hunter2]", "4:7 error ISM1106"), ("dta: {}", "4:1 error ISM1101"), ("type: 5", "4:7 error ISM1102")],
)
def test_secrets_that_cannot_be_read(body: str, found: str) -> None:
    done = compiled(core("Secret", body, "x"))
    assert done.found == [found]
    assert not done.mesh.secrets


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (secret("tls", tls_crt=LEAF.chain, tls_key=LEAF.key), []),
        (secret("tls", tls_crt=LEAF.pem + ROOT.pem + BELOW.pem, tls_key=LEAF.key), ["6:12 warning ISM2242"]),
        (secret("tls", tls_crt=ROOT.pem, tls_key=key_pem(ROOT.private)), ["6:12 warning ISM2242"]),
        (secret("tls", kind="Opaque", ca_crt=ROOT.pem + OTHER.pem), []),
        (secret("tls", kind="Opaque", ca_crt=ROOT.pem + Authority("root").pem), ["6:11 warning ISM2243"]),
        (secret("tls", kind="Opaque", ca_crt=LEAF.pem), ["6:11 warning ISM2243"]),
        (secret("tls", kind="Opaque", ca_crt=ROOT.pem, ca_crl=ROOT.revoke(LEAF)), []),
        (secret("tls", kind="Opaque", ca_crt=ROOT.pem, ca_crl=OTHER.revoke() + ROOT.revoke()), []),
        (secret("tls", kind="Opaque", ca_crt=ROOT.pem, ca_crl=OTHER.revoke()), ["7:11 warning ISM2244"]),
        (secret("tls", kind="Opaque", ca_crt=ROOT.pem, ca_crl=Authority("root").revoke()), ["7:11 warning ISM2244"]),
        (secret("tls", kind="Opaque", crl=b"anything"), []),
    ],
)
def test_what_is_odd_is_said_and_kept(text: str, found: list[str]) -> None:
    done = compiled(text)
    assert done.found == found
    assert done.mesh.secrets["shop/tls"].keys


def test_a_wrong_order_is_told_from_a_wrong_key() -> None:
    done = compiled(secret("tls", tls_crt=BELOW.pem + LEAF.pem, tls_key=LEAF.key))
    assert "tls.crt is in the wrong order: tls.key is the key of its certificate 2" in done.messages
    assert LEAF.key.splitlines()[1].decode() not in done.messages


def test_how_long_things_last() -> None:
    done = compiled(secret("tls", tls_crt=LEAF.chain, tls_key=LEAF.key, ca_crt=ROOT.pem, ca_crl=ROOT.revoke()))
    found = done.mesh.secrets["shop/tls"].lifetimes
    assert [(one.of, one.name, one.origin.source.line) for one in found] == [
        (Lasting.CERTIFICATE, "leaf", 6),
        (Lasting.CERTIFICATE, "below", 6),
        (Lasting.CA, "root", 8),
        (Lasting.CRL, "root", 9),
    ]
    assert found[0].ends == LEAF.certificate.not_valid_after_utc
