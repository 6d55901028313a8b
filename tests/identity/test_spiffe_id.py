from __future__ import annotations

import contextlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import SpiffeIdInvalid
from isthmus.identity.spiffe_id import SpiffeId
from isthmus.model.identity import Identity

SEGMENT_CHARACTERS = string.ascii_letters + string.digits + "._-"
DOMAIN_CHARACTERS = string.ascii_lowercase + string.digits + "._-"

trust_domains = st.text(DOMAIN_CHARACTERS, min_size=1, max_size=255)
segments = st.text(SEGMENT_CHARACTERS, min_size=1, max_size=60).filter(lambda text: text not in {".", ".."})


@given(trust_domains, st.lists(segments, max_size=6))
def test_what_the_standard_allows_survives_a_round_trip(trust_domain: str, path: list[str]) -> None:
    text = f"spiffe://{trust_domain}" + "".join(f"/{segment}" for segment in path)
    spiffe_id = SpiffeId.parse(text)
    assert (spiffe_id.uri, str(spiffe_id), spiffe_id.trust_domain) == (text, text, trust_domain)


@given(trust_domains, st.lists(segments, min_size=1, max_size=6), st.characters(), st.data())
def test_a_character_that_is_not_allowed_is_refused_wherever_it_stands(
    trust_domain: str, path: list[str], character: str, data: st.DataObject
) -> None:
    text = f"spiffe://{trust_domain}/{'/'.join(path)}"
    at = data.draw(st.integers(len("spiffe://"), len(text)))
    changed = text[:at] + character + text[at:]
    domain, _, rest = changed.removeprefix("spiffe://").partition("/")
    allowed = bool(domain) and len(domain) <= 255 and set(domain) <= set(DOMAIN_CHARACTERS)
    allowed &= all(
        set(segment) <= set(SEGMENT_CHARACTERS) and segment not in {"", ".", ".."} for segment in rest.split("/")
    )
    if allowed:
        assert SpiffeId.parse(changed).uri == changed
    else:
        with pytest.raises(SpiffeIdInvalid):
            SpiffeId.parse(changed)


@given(st.text())
def test_any_text_is_an_id_or_a_spiffe_id_invalid(text: str) -> None:
    for candidate in (text, "spiffe://" + text):
        with contextlib.suppress(SpiffeIdInvalid):
            assert SpiffeId.parse(candidate).uri == candidate


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe://",
        "spiffe:///ns/a",
        "SPIFFE://td/a",
        "https://td/a",
        "spiffe:/td/a",
        "spiffe://TD/a",
        "spiffe://td:8443/a",
        "spiffe://user@td/a",
        "spiffe://td/a?query",
        "spiffe://td/a#fragment",
        "spiffe://td/a%20b",
        "spiffe://td/",
        "spiffe://td/a/",
        "spiffe://td//a",
        "spiffe://td/./a",
        "spiffe://td/a/..",
        "spiffe://td/ns/ä",
        "spiffe://td/a\n",
        "spiffe://td\n/a",
        "spiffe://td/ns/x/sa/y,spiffe://td/ns/x/sa/z",
        "spiffe://" + "t" * 256,
        "spiffe://td/" + "a" * 2048,
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(SpiffeIdInvalid):
        SpiffeId.parse(text)


def test_2048_bytes_are_the_limit() -> None:
    longest = "spiffe://td/" + "a" * (2048 - len("spiffe://td/"))
    assert len(SpiffeId.parse(longest).uri) == 2048
    with pytest.raises(SpiffeIdInvalid, match="2048"):
        SpiffeId.parse(longest + "a")


def test_a_workload_is_what_the_model_calls_its_identity() -> None:
    identity = Identity("cluster.local", "shop", "orders")
    spiffe_id = SpiffeId.workload("cluster.local", "shop", "orders")
    assert spiffe_id.uri == identity.uri
    assert spiffe_id.path == "/ns/shop/sa/orders"
    assert spiffe_id.node_name is None


def test_a_node_knows_its_name() -> None:
    node = SpiffeId.node("cluster.local", "local")
    assert node.uri == "spiffe://cluster.local/isthmus/node/local"
    assert node.node_name == "local"


@pytest.mark.parametrize("path", ["/isthmus/node", "/isthmus/node/a/b", "/x/isthmus/node/a", "/isthmus/nodes/a", ""])
def test_nothing_else_is_a_node(path: str) -> None:
    assert SpiffeId("td", path).node_name is None


@pytest.mark.parametrize("name", ["a/b", "", "..", "a/../b"])
def test_a_name_is_one_segment(name: str) -> None:
    with pytest.raises(SpiffeIdInvalid):
        SpiffeId.node("td", name)
    with pytest.raises(SpiffeIdInvalid):
        SpiffeId.workload("td", name, "default")
    with pytest.raises(SpiffeIdInvalid):
        SpiffeId.workload("td", "shop", name)
