from __future__ import annotations

from typing import Any

import pytest

from isthmus.decide.rego.input import build_input
from isthmus.envoy_api.packages import ext_authz_service_v3
from isthmus.errors import Undecided

MULTIPART = (
    '--b\r\nContent-Disposition: form-data; name="a"\r\n\r\none\r\n'
    '--b\r\nContent-Disposition: form-data; name="a"\r\n\r\ntwo\r\n'
    '--b\r\nContent-Disposition: form-data; name="j"\r\nContent-Type: application/json\r\n\r\n{"x": 1}\r\n--b--\r\n'
)

FORM = "application/x-www-form-urlencoded"


def request(path: str = "/", body: str = "", *, raw: bytes = b"", **headers: str) -> Any:
    made = ext_authz_service_v3.CheckRequest()
    http = made.attributes.request.http
    http.path, http.body, http.raw_body = path, body, raw
    for name, value in headers.items():
        http.headers[name.replace("_", "-")] = value
    return made


PATHS: list[tuple[str, list[str], dict[str, list[str]]]] = [
    ("/my/test/path", ["my", "test", "path"], {}),
    ("/my/test/path?a=1&a=2", ["my", "test", "path"], {"a": ["1", "2"]}),
    ("/my/test/path?a=1&b=2", ["my", "test", "path"], {"a": ["1"], "b": ["2"]}),
    ("%2Fmy%2Ftest%2Fpath?a=1&a=new%0aline", ["my", "test", "path"], {"a": ["1", "new\nline"]}),
    ("/a//b/", ["a", "", "b", ""], {}),
    ("/a?x=%zz&y=1;2&z=3", ["a"], {"z": ["3"]}),
    ("/a?=1&&b", ["a"], {"": ["1"], "b": [""]}),
    ("/a?b=c?d=e", ["a"], {"b": ["c?d=e"]}),
    ("", [""], {}),
    ("*", ["*"], {}),
]
"""The first are those of the plugin's own tests."""
FOO = '--foo\nContent-Disposition: form-data; name="foo"\nContent-Type: text/plain\n\nbar\n'
JSON = '--foo\nContent-Disposition: form-data; name="bar"\nContent-Type: application/json;\n\n{"name": "bar"}\n'
ENCODED = '--foo\nContent-Disposition: form-data; name="a"\nContent-Transfer-Encoding: {how}\n\nYm=62\n--foo--\n'


@pytest.mark.parametrize(("path", "segments", "query"), PATHS)
def test_paths_and_queries(path: str, segments: list[str], query: dict[str, list[str]]) -> None:
    document = build_input(request(path))
    assert (document["parsed_path"], document["parsed_query"]) == (segments, query)


@pytest.mark.parametrize(
    ("body", "kind", "value"),
    [
        # As in the plugin's own tests.
        ('"foo"', "application/json", "foo"),
        ("true", "application/json", True),
        ("42", "application/json", 42),
        ("null", "application/json", None),
        ('["hello", "opa"]', "application/json", ["hello", "opa"]),
        (r'["\"", "\\", "\/", "\b", "\t", "\u0041"]', "application/json", ['"', "\\", "/", "\b", "\t", "A"]),
        ("firstname=foo&lastname=bar&lastname=foobar", FORM, {"firstname": ["foo"], "lastname": ["bar", "foobar"]}),
        (f"{FOO}--foo--\n\t\t\t", "multipart/form-data; boundary=foo", {"foo": ["bar"]}),
        (f"{FOO}{JSON}--foo--\n", "multipart/form-data; boundary=foo", {"foo": ["bar"], "bar": [{"name": "bar"}]}),
        # As its readers do.
        ("{}", "text/plain; also=application/json", {}),
        ("a=1", "application/grpc; not=application/x-www-form-urlencoded", None),
        (ENCODED.format(how="base64"), "multipart/form-data; boundary=foo", {"a": ["Ym=62"]}),
        (ENCODED.format(how="quoted-printable"), "multipart/form-data; boundary=foo", {"a": ["Ymb"]}),
    ],
)
def test_bodies_are_read_as_by_opa_envoy(body: str, kind: str, value: Any) -> None:
    assert parsed(body, kind, content_length=str(len(body))) == (value, False)
    raw = build_input(request(raw=body.encode(), content_type=kind))
    assert (raw["parsed_body"], raw["truncated_body"]) == (value, False)


def test_without_a_type_or_a_body_nothing_is_said() -> None:
    assert build_input(request(body="{}", content_length="0"))["parsed_body"] is None
    assert parsed("", FORM, content_length="0") == (None, False)
    assert parsed("a=1", FORM, content_length="1000") == (None, True)
    assert parsed("true", content_length="1000") == (None, True)


def parsed(body: str, kind: str = "application/json", **headers: str) -> tuple[Any, bool]:
    document = build_input(request("/", body, content_type=kind, **headers))
    return document["parsed_body"], document["truncated_body"]


def test_the_document_is_that_of_opa_envoy() -> None:
    asked = request("/a/b%2Fc?x=1&x=2+3&y", '{"n": 18446744073709551616}', content_type="application/json")
    asked.attributes.source.principal = "spiffe://cluster.local/ns/shop/sa/edge"
    asked.attributes.source.address.socket_address.address = "10.0.0.1"
    asked.attributes.source.address.socket_address.port_value = 4711
    asked.attributes.request.time.seconds, asked.attributes.request.time.nanos = 3, 4
    asked.attributes.request.http.size = 27
    claims = {"sub": "alice", "exp": 1700000000, "half": 0.5, "groups": ["a", None, True], "deep": {"x": {}}}
    asked.attributes.metadata_context.filter_metadata["jwt"].update(claims)
    assert build_input(asked) == {
        "attributes": {
            "source": {
                "principal": "spiffe://cluster.local/ns/shop/sa/edge",
                "address": {"socketAddress": {"address": "10.0.0.1", "portValue": 4711}},
            },
            "request": {
                "time": {"seconds": 3, "nanos": 4},
                "http": {
                    "path": "/a/b%2Fc?x=1&x=2+3&y",
                    "headers": {"content-type": "application/json"},
                    "body": '{"n": 18446744073709551616}',
                    "size": 27,
                },
            },
            "metadataContext": {"filterMetadata": {"jwt": claims}},
        },
        "parsed_path": ["a", "b", "c"],
        "parsed_query": {"x": ["1", "2 3"], "y": [""]},
        "parsed_body": {"n": 2**64},
        "truncated_body": False,
        "source_principal": "spiffe://cluster.local/ns/shop/sa/edge",
        "version": {"ext_authz": "v3", "encoding": "protojson"},
    }


def test_what_is_unset_is_absent() -> None:
    document = build_input(request("/"))
    assert document["parsed_path"] == [""]
    assert "source_principal" not in document
    assert document["attributes"] == {"request": {"http": {"path": "/"}}}


def test_bodies_by_their_type() -> None:
    assert parsed('{"a": [1]}') == ({"a": [1]}, False)
    assert parsed("") == (None, False)
    assert parsed("a=1&a=2+x%21", "application/x-www-form-urlencoded") == ({"a": ["1", "2 x!"]}, False)
    assert parsed(MULTIPART, "multipart/form-data; boundary=b") == ({"a": ["one", "two"], "j": [{"x": 1}]}, False)
    assert parsed(MULTIPART, "multipart/form-data") == (None, False)
    assert parsed("anything", "text/plain") == (None, False)
    assert parsed("\0\0\0\0\0", "application/grpc") == (None, False)
    raw = build_input(request(raw=b'{"a": 1}', content_type="application/json"))
    assert (raw["parsed_body"], raw["attributes"]["request"]["http"]["rawBody"]) == ({"a": 1}, "eyJhIjogMX0=")


def test_a_part_of_a_type_beyond_ascii_is_text() -> None:
    body = '--b\r\nContent-Disposition: form-data; name="a"\r\nContent-Type: té/xt\r\n\r\none\r\n--b--\r\n'
    assert parsed(body, "multipart/form-data; boundary=b") == ({"a": ["one"]}, False)


def test_a_body_that_is_cut_off_says_nothing() -> None:
    assert parsed('{"a": ', content_length="20") == (None, True)
    assert parsed('{"a": 1}', x_envoy_auth_partial_body="true") == (None, True)
    assert parsed('{"a": 1}', content_length="8", x_envoy_auth_partial_body="false") == ({"a": 1}, False)


@pytest.mark.parametrize(
    ("body", "kind", "headers"),
    [
        ('{"a": ', "application/json", {}),
        ("NaN", "application/json", {}),
        ("[" * 100_000, "application/json", {}),
        ("{}", "application/json", {"content_length": "x"}),
        ("a=1;b=2", "application/x-www-form-urlencoded", {}),
        ("a=%zz", "application/x-www-form-urlencoded", {}),
        ("no parts", "multipart/form-data; boundary=b", {}),
        ("{} {}", "application/json", {}),
        ('["foo" : 42}', "application/json", {}),
        (FOO, "multipart/form-data; boundary=foo", {}),
        (
            FOO.replace("text/plain\n\nbar", "multipart/mixed; boundary=x\n\n--x\n\nbar\n--x--") + "--foo--\n",
            "multipart/form-data; boundary=foo",
            {},
        ),
    ],
)
def test_a_body_that_is_not_what_it_says_is_an_error(body: str, kind: str, headers: dict[str, str]) -> None:
    with pytest.raises(Undecided):
        parsed(body, kind, **headers)


def test_a_part_of_a_body_may_hold_any_bytes() -> None:
    asked = request("/", "", content_type="multipart/form-data; boundary=b")
    part = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    body = part % (b"text", "Zoë".encode()) + part % (b"bytes", b"\xff\x00") + b"--b--\r\n"
    asked.attributes.request.http.raw_body = body
    asked.attributes.request.http.headers["content-length"] = str(len(body))
    assert build_input(asked)["parsed_body"] == {"text": ["Zoë"], "bytes": ["\N{REPLACEMENT CHARACTER}\0"]}


def test_a_path_with_an_escape_that_is_none_is_an_error() -> None:
    with pytest.raises(Undecided):
        build_input(request("/a%zz"))
