from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from isthmus.decide.rego.bundle import Bundle, read_bundle
from isthmus.decide.rego.signature import Key, Verifier, readable
from isthmus.errors import RegoBundleRefused
from tests.decide.rego.packing import Files, Signer, digest, pack, users

OPA = Path(__file__).parent / "bundles"
"""Made by OPA 1.4.2: ``opa build --signing-key``, and ``yaml`` by ``opa sign`` over files as they are."""
RSA, EC = (OPA / "rsa.pub").read_bytes(), (OPA / "ec.pub").read_bytes()
SHARED = b"a shared secret of the two"
SIGNER, OTHER = Signer(), Signer()
FILES = users("alice")


def key(signer: Signer = SIGNER, **fields: str) -> Key:
    return Key(**{"id": signer.id, "algorithm": "RS256", "material": signer.pem, **fields})  # type: ignore[arg-type]


def verified(files: Files, verifier: Verifier | None = None) -> Bundle:
    return read_bundle(pack(files), verifier or Verifier((key(),)))


def refusal(files: Files, verifier: Verifier | None = None) -> str:
    with pytest.raises(RegoBundleRefused) as refused:
        verified(files, verifier)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "algorithm", "material"),
    [("rs256", "RS256", RSA), ("es256", "ES256", EC), ("hs256", "HS256", SHARED), ("yaml", "RS256", RSA)],
)
def test_what_opa_signed(name: str, algorithm: str, material: bytes) -> None:
    packed = (OPA / f"{name}.tar.gz").read_bytes()
    bundle = read_bundle(packed, Verifier((Key("default", algorithm, material),)))
    assert bundle.signed
    assert bundle.data["authz"]["methods"] == ["GET"]
    for other in (Key("default", algorithm, OTHER.pem), Key("default", "HS256", RSA), Key("default", "RS512", RSA)):
        with pytest.raises(RegoBundleRefused, match="does not hold"):
            read_bundle(packed, Verifier((other,)))


def test_what_we_sign_alike() -> None:
    assert verified(SIGNER.signed(FILES)).signed
    assert not read_bundle(pack(SIGNER.signed(FILES))).signed


def test_unsigned_is_refused_where_a_key_is_set() -> None:
    assert "it is not signed" in refusal(FILES)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"policy.rego": "package envoy.authz\n\ndefault allow := true\n"}, "policy.rego: is not what was signed"),
        ({"data.json": '{"users": ["alice", "mallory"]}'}, "data.json: is not what was signed"),
        ({".manifest": '{"revision": "2", "roots": ["envoy", "users", "system"]}'}, ".manifest: is not what"),
        ({"more.rego": "package envoy.authz\n\nallow := true\n"}, "more.rego: not among the files"),
        ({"README.md": "and other files"}, "README.md: not among the files"),
    ],
)
def test_tampering(changed: Files, reason: str) -> None:
    assert reason in refusal({**SIGNER.signed(FILES), **changed})


def test_a_file_that_was_taken_out() -> None:
    whole = SIGNER.signed({**FILES, "deny.rego": "package envoy.authz\n"})
    assert "deny.rego: was signed, but is not in" in refusal(
        {name: whole[name] for name in whole if name != "deny.rego"}
    )


def test_white_space_is_not_tampering() -> None:
    files = SIGNER.signed(FILES)
    again = json.dumps(json.loads(str(files["data.json"])), indent=8)
    assert verified({**files, "data.json": again}).signed


def test_somebody_elses_signature() -> None:
    assert "does not hold" in refusal(OTHER.signed(FILES))
    assert "'other', which is not configured" in refusal(Signer("other").signed(FILES))


def test_algorithms_are_the_keys() -> None:
    """A public key is no shared secret, and "none" is no algorithm, whatever the token says."""
    forged = Signer(secret=b"x" * 32)
    assert "does not hold" in refusal(forged.signed(FILES))
    header = "eyJhbGciOiJub25lIiwia2lkIjoiZGVmYXVsdCJ9"
    payload = SIGNER.token({"files": []}).split(".")[1]
    unsigned = json.dumps({"signatures": [f"{header}.{payload}."]})
    assert "does not hold" in refusal({**FILES, ".signatures.json": unsigned})


def test_which_key() -> None:
    both = (key(OTHER, id="other"), key(id="mine"))
    assert "which is not configured" in refusal(SIGNER.signed(FILES), Verifier(both))
    assert verified(SIGNER.signed(FILES), Verifier(both, "mine")).signed
    assert "does not hold" in refusal(SIGNER.signed(FILES), Verifier(both, "other"))
    # As OPA before 0.39 has it: the payload names the key.
    nameless = Signer("")
    old = {**FILES, ".signatures.json": json.dumps({"signatures": [nameless.token({"keyid": "mine", "files": []})]})}
    assert "does not hold" in refusal(old, Verifier(both))
    assert "not among" in refusal(old, Verifier((key(nameless, id="mine"), both[0])))
    assert verified(nameless.signed(FILES), Verifier((key(nameless, id="any"),))).signed


def test_scopes() -> None:
    written = SIGNER.signed(FILES, scope="write")
    assert "another scope" in refusal(written)
    assert verified(written, Verifier((key(),), scope="write")).signed
    assert verified(written, Verifier((key(scope="write"),))).signed
    assert "another scope" in refusal(SIGNER.signed(FILES), Verifier((key(),), scope="write"))


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        ([{"name": "a"}], "without name, hash or algorithm"),
        ("all", "names no files"),
        (None, "names no files"),
        ([{"name": "policy.rego", "hash": "00", "algorithm": "MD5"}], "not among"),
    ],
)
def test_what_a_signature_lists(listed: object, reason: str) -> None:
    assert reason in refusal(
        {**FILES, ".signatures.json": json.dumps({"signatures": [SIGNER.token({"files": listed})]})}
    )


def test_hashes_that_prove_nothing() -> None:
    listed = [{"name": name, "hash": "0" * 32, "algorithm": "MD5"} for name in FILES]
    token = SIGNER.token({"files": listed})
    assert "'MD5', which is not taken" in refusal({**FILES, ".signatures.json": json.dumps({"signatures": [token]})})


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"signatures": []}', '{"signatures": [1]}', '{"signatures": ["a", "b"]}', "{"]
)
def test_what_is_no_signature_file(content: str) -> None:
    assert ".signatures.json" in refusal({**FILES, ".signatures.json": content})


@pytest.mark.parametrize("header", [{"alg": "HS256", "crit": 1}, {"alg": 1}, {"alg": "RS256", "kid": {}}, []])
def test_headers_that_no_library_expects(header: object) -> None:
    first = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    token = ".".join((first, *SIGNER.token({"files": []}).split(".")[1:]))
    assert refusal({**FILES, ".signatures.json": json.dumps({"signatures": [token]})})


def test_ten_thousand_files_may_be_named() -> None:
    files = {f"{n}.txt": "" for n in range(5000)}
    assert verified(SIGNER.signed(files)).signed


def test_older_opas_hash_data_yml_as_it_is() -> None:
    assert digest("a/data.yml", "a: 1") != digest("a/data.yaml", "a: 1")
    assert verified(SIGNER.signed({"a/data.yml": "a: 1", "b/data.yaml": "a: 1"})).data == {"a": {"a": 1}, "b": {"a": 1}}


def test_keys_that_can_verify() -> None:
    assert readable(Key("a", "RS256", RSA)) is None
    assert readable(Key("a", "ES256", EC)) is None
    assert readable(Key("a", "HS256", SHARED)) is None
    for wrong in (Key("a", "RS256", EC), Key("a", "ES256", RSA), Key("a", "RS256", b"x"), Key("a", "HS256", b"")):
        assert "'a'" in (readable(wrong) or "")
    assert SHARED.decode() not in repr(Key("a", "HS256", SHARED))
