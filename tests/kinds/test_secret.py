from __future__ import annotations

import base64

import pytest
from credential import pair, secret
from traffic_manifest import compiled, core

from isthmus.config.node import Node
from isthmus.diag import Report, Source
from isthmus.kinds.secret import SPEC, secret_bytes

CERT, KEY = pair("one")
OTHER_KEY = pair("two")[1]
PLACE = Source("test", 1, 1)


def node(**values: str) -> Node:
    entries = {name.replace("_", "."): Node(value, PLACE) for name, value in values.items()}
    return Node(entries, PLACE)


def test_a_certificate_and_its_key() -> None:
    done = compiled(secret("tls", tls_crt=CERT, tls_key=KEY, ca_crt=CERT))
    assert done.found == []
    (found,) = done.mesh.secrets.values()
    assert found.key == "shop/tls"
    assert found.keys == {"tls.crt", "tls.key", "ca.crt"}


def test_the_digest_follows_the_content() -> None:
    def digest(text: str) -> str:
        return compiled(text).mesh.secrets["shop/tls"].digest

    same, other = secret("tls", tls_crt=CERT, tls_key=KEY), secret("tls", tls_crt=CERT, tls_key=KEY, ca_crt=CERT)
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
