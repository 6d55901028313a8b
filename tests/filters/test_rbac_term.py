from __future__ import annotations

from ipaddress import ip_network

import pytest

from isthmus.filters.rbac_term import build_permission, build_principal
from isthmus.model.match import Contains, Exact, Prefix, Present, Regex, Suffix, wildcard
from isthmus.model.predicate import (
    Claim,
    DestinationIp,
    DestinationPort,
    FilterMetadata,
    Header,
    Host,
    Path,
    Peer,
    RemoteIp,
    RequestPrincipal,
    Sni,
    SourceIp,
    split_request_principal,
)


@pytest.mark.parametrize(
    ("written", "issuer", "subject"),
    [
        ("*", Present(), Present()),
        ("https://idp/alice", Exact("https://idp"), Exact("alice")),
        ("https://idp/*", Exact("https://idp"), Present()),
        ("https://idp/al*", Exact("https://idp"), Prefix("al")),
        ("accounts*", Prefix("accounts"), Present()),
        ("*@example.com", Present(), Suffix("@example.com")),
        ("*/alice", Present(), Exact("alice")),
        ("*.example.com/alice", Suffix(".example.com"), Exact("alice")),
    ],
)
def test_a_request_principal_is_split_at_the_last_slash(written, issuer, subject):
    assert split_request_principal(wildcard(written)) == (issuer, subject)


@pytest.mark.parametrize("match", [Regex(".*"), Contains("a")])
def test_what_istio_cannot_write_of_a_request_principal_is_refused(match):
    with pytest.raises(ValueError, match="cannot write"):
        build_principal(RequestPrincipal(match))


def test_the_peer_is_read_from_the_handshakes_state_and_never_matches_several_names():
    exact = build_principal(Peer(Exact("spiffe://td/ns/a/sa/b")))
    assert (exact.filter_state.key, exact.filter_state.string_match.exact) == ("isthmus.peer", "spiffe://td/ns/a/sa/b")
    for match in (Present(), Prefix("spiffe://td/"), Suffix("/b"), Regex(".*"), Exact("spiffe://td/a,spiffe://td/b")):
        fits, single = build_principal(Peer(match)).and_ids.ids
        assert fits.filter_state.key == "isthmus.peer"
        assert single.not_id.filter_state.string_match.contains == ","


def test_addresses_of_the_caller():
    network = ip_network("10.1.0.0/16")
    for built in (build_principal(RemoteIp(network)).remote_ip, build_principal(SourceIp(network)).direct_remote_ip):
        assert (built.address_prefix, built.prefix_len.value) == ("10.1.0.0", 16)


def test_the_destination_is_a_permissions():
    assert build_permission(DestinationPort(80)).destination_port == 80
    assert build_permission(DestinationIp(ip_network("10.0.0.1/32"))).destination_ip.prefix_len.value == 32
    assert build_permission(Sni(Exact("a"))).requested_server_name.exact == "a"


@pytest.mark.parametrize("leaf", [Sni(Exact("a")), DestinationPort(80), DestinationIp(ip_network("10.0.0.0/8"))])
def test_a_principal_cannot_tell_the_destination(leaf):
    with pytest.raises(ValueError, match="a Principal cannot tell"):
        build_principal(leaf)


@pytest.mark.parametrize("leaf", [Peer(Present()), SourceIp(ip_network("::/0")), RemoteIp(ip_network("10.0.0.0/8"))])
def test_a_permission_cannot_tell_the_caller(leaf):
    with pytest.raises(ValueError, match="a Permission cannot tell"):
        build_permission(leaf)


def test_a_claim_is_a_string_or_an_element_of_a_list():
    matcher = build_principal(Claim(("realm", "roles"), Exact("admin"))).sourced_metadata.metadata_matcher
    assert matcher.filter == "envoy.filters.http.jwt_authn"
    assert [step.key for step in matcher.path] == ["payload", "realm", "roles"]
    element, string = matcher.value.or_match.value_matchers
    assert element.list_match.one_of.string_match.exact == "admin"
    assert string.string_match.exact == "admin"


def test_metadata_of_a_filter_is_a_list_only_where_the_policy_says_so():
    def value(listed):
        leaf = FilterMetadata("envoy.filters.x", ("key",), Exact("v"), listed)
        return build_principal(leaf).sourced_metadata.metadata_matcher.value

    assert value(True).list_match.one_of.string_match.exact == "v"
    assert value(False).string_match.exact == "v"


def test_facts_of_the_request():
    assert build_permission(Host(Exact("a.b", ignore_case=True))).header.string_match.ignore_case
    assert build_permission(Host(Exact("a.b"))).header.name == ":authority"
    assert build_permission(Path(Prefix("/a"))).url_path.path.prefix == "/a"
    header = build_permission(Header("x-a", Present())).header
    assert (header.name, header.string_match.safe_regex.regex) == ("x-a", "(?s).+")
    assert not header.treat_missing_header_as_empty
