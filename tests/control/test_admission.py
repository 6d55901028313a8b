from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from cryptography import x509

from isthmus.control.admission import Admission
from isthmus.control.nodes import Certified, Nodes
from isthmus.control.roster import Roster
from isthmus.errors import CsrRejected, NotEnrolled, Refused
from isthmus.identity.authority import Authority, create_intermediate, create_root
from isthmus.identity.enrolment import JoinTokens
from isthmus.identity.server import CertificateService
from isthmus.identity.ticket import Ticket, pin_of
from isthmus.identity.validate import peer_identity
from isthmus.latest import Latest
from isthmus.model.world import Address, Doors
from tests.identity.making import new_key, request_pem

from .making import plane_of
from .test_nodes import Files
from .test_remote import GROUP, MESH

REACH = Doors(Address("plane.example.com", 15012), Address("10.0.0.1", 15013))


class Desk:
    """An admission with all that it asks; ``ended``: the proxies whose streams it closed."""

    def __init__(self, reach: Doors | None = REACH) -> None:
        now = datetime.now(UTC)
        self.revoked = set[int]()
        root, root_key = create_root("cluster.local", now)
        intermediate, key = create_intermediate("cluster.local", root, root_key, now)
        self.root = root
        authority = Latest(Authority("cluster.local", root, (intermediate,), key))
        plane = plane_of(MESH, GROUP)
        plane.rebuild()
        self.nodes, self.tokens, self.ended = Nodes(Files(), self.clock), JoinTokens(), list[str]()
        roster = Roster(plane, self.clock, self.nodes)
        certificates = CertificateService(authority, roster, self.tokens, self.clock, nodes=self.nodes)
        self.admission = Admission(
            plane, self.nodes, self.tokens, certificates, authority, self.clock, reach, self.ended.append, self.deny
        )

    def deny(self, held: Iterable[Certified]) -> None:
        self.revoked = {*self.revoked, *(one.serial for one in held)}

    def clock(self) -> datetime:
        return datetime.now(UTC)

    def invited(self, node: str = "edge-1", scope: str = "gateway:shop/edge") -> Ticket:
        return Ticket.decode(self.admission.invite(node, scope, 600)["token"])


def csr() -> str:
    return request_pem(new_key())


def test_a_token_makes_a_machine_a_node_once() -> None:
    desk = Desk()
    ticket = desk.invited()
    assert (ticket.node, ticket.pins, ticket.enrol_port) == ("edge-1", (pin_of(desk.root),), 15013)
    chain = desk.admission.enrol(ticket.token, csr(), "10.0.0.2")
    assert peer_identity(chain[0].encode()).uri == "spiffe://cluster.local/isthmus/node/edge-1"
    desk.nodes.check("edge-1", chain[0].encode())
    with pytest.raises(NotEnrolled, match="was used already"):
        desk.admission.enrol(ticket.token, csr(), "10.0.0.9")


def test_a_bad_request_uses_the_token_up_and_makes_nobody_a_node() -> None:
    desk = Desk()
    ticket = desk.invited()
    with pytest.raises(CsrRejected):
        desk.admission.enrol(ticket.token, "no request", "10.0.0.2")
    assert desk.nodes.members == {}
    with pytest.raises(NotEnrolled):
        desk.admission.enrol(ticket.token, csr(), "10.0.0.2")


def test_the_token_of_the_control_plane_s_own_machine_is_not_for_others() -> None:
    desk = Desk()
    token = desk.tokens.issue("local", desk.clock())
    with pytest.raises(NotEnrolled, match="of the control plane's own machine"):
        desk.admission.enrol(token, csr(), "10.0.0.2")
    assert desk.tokens.redeem(token, desk.clock()) == "local"


@pytest.mark.parametrize(
    ("node", "scope", "ttl", "said"),
    [
        ("local", "gateway:shop/edge", 600, "own machine"),
        ("A/B", "gateway:shop/edge", 600, "is not a node's name"),
        ("a", "gateway:shop/other", 600, r"have no gateway shop/other \(they have shop/edge\)"),
        ("a", "workload-group:shop/other", 600, "have no WorkloadGroup shop/other"),
        ("a", "anything", 600, "not a scope"),
        ("a", "gateway:shop/edge", 0, "lives from 1s to 24h"),
        ("a", "gateway:shop/edge", 10**9, "lives from 1s to 24h"),
    ],
)
def test_what_cannot_be_gets_no_token(node: str, scope: str, ttl: int, said: str) -> None:
    desk = Desk()
    with pytest.raises(Refused, match=said):
        desk.admission.invite(node, scope, ttl)
    assert desk.tokens.waiting(desk.clock()) == ()


def test_a_control_plane_of_one_machine_invites_nobody() -> None:
    with pytest.raises(Refused, match="isthmus serve --listen"):
        Desk(None).admission.invite("edge-1", "gateway:shop/edge", 600)


def test_an_evicted_node_loses_its_tokens_and_is_shown_as_such() -> None:
    desk = Desk()
    desk.admission.enrol(desk.invited("vm-1", "sidecar:shop/orders").token, csr(), "10.0.0.2")
    waiting = desk.invited("vm-1", "sidecar:shop/orders")
    desk.invited("vm-2", "workload-group:shop/orders")
    assert [(one["name"], one["state"]) for one in desk.admission.nodes()] == [("vm-1", "away"), ("vm-2", "invited")]
    assert desk.admission.evict("vm-1") == {"node": "vm-1", "proxies": [], "revoked": 1}
    with pytest.raises(NotEnrolled):
        desk.admission.enrol(waiting.token, csr(), "10.0.0.2")
    states = {one["name"]: one["state"] for one in desk.admission.nodes()}
    assert states == {"vm-1": "evicted", "vm-2": "invited"}


def test_an_evicted_gateway_s_stream_ends_though_its_node_was_lost_before() -> None:
    desk = Desk()
    desk.admission.enrol(desk.invited().token, csr(), "10.0.0.2")
    # It carries nothing now, as after the grace: whether its Envoy is connected is not known here.
    desk.admission.evict("edge-1")
    assert desk.ended == ["gateway~shop~edge"]


def test_a_token_for_something_else_ends_what_the_first_one_gave() -> None:
    desk = Desk()
    first = desk.admission.enrol(desk.invited().token, csr(), "10.0.0.2")
    second = desk.admission.enrol(desk.invited("edge-1", "sidecar:shop/orders").token, csr(), "10.0.0.9")
    desk.nodes.check("edge-1", second[0].encode())
    with pytest.raises(NotEnrolled, match="joined as edge-1 since"):
        desk.nodes.check("edge-1", first[0].encode())


def test_who_joins_again_is_not_revoked_by_the_next_start_but_with_the_node_is() -> None:
    desk = Desk()
    serials = []
    for _ in range(2):
        leaf = desk.admission.enrol(desk.invited().token, csr(), "10.0.0.2")[0]
        serials.append(x509.load_pem_x509_certificate(leaf.encode()).serial_number)
    assert (desk.revoked, desk.nodes.denied_certificates) == (set(), ())
    desk.admission.evict("edge-1")
    assert desk.revoked == set(serials)
    assert {one.serial for one in desk.nodes.denied_certificates} == set(serials)


def test_an_evicted_nodes_certificates_are_revoked_and_nobody_elses() -> None:
    desk = Desk()
    serials = []
    for node, scope in (("vm-1", "sidecar:shop/orders"), ("vm-2", "sidecar:shop/orders")):
        leaf = desk.admission.enrol(desk.invited(node, scope).token, csr(), "10.0.0.2")[0]
        serials.append(x509.load_pem_x509_certificate(leaf.encode()).serial_number)
    desk.admission.evict("vm-1")
    assert desk.revoked == {serials[0]}
    assert [one.serial for one in desk.nodes.denied_certificates] == [serials[0]]
