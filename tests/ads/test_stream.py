from __future__ import annotations

from datetime import timedelta

import pytest

from isthmus.ads.leaving import LINGER
from isthmus.ads.stream import ACK_DEADLINE, Stream
from isthmus.envoy_api.packages import discovery_v3
from isthmus.xds.snapshot import LISTENER, ROUTE, message, snapshot

from .playbook import START, TYPES, cluster, endpoint, extension, listener, playbook, route, settled

DEADLINE = ACK_DEADLINE.total_seconds()
LONG = LINGER.total_seconds()
"""After which a cluster goes that nothing leads to any more."""


# Connecting


def test_a_first_connection_is_told_everything_in_envoys_order() -> None:
    book = playbook(cluster("a"), endpoint("a"), listener("web"), route("web"))
    assert book.ask("CDS") == ["CDS +a"]
    assert book.ask("EDS", "a") == ["EDS +a"]
    assert book.ack("EDS") == []
    assert book.ack("CDS") == []
    assert book.ask("LDS") == ["LDS +web"]
    assert book.ask("RDS", "web") == ["RDS +web"]
    assert book.ack("LDS") == []
    assert not book.stream.status().in_sync
    assert book.ack("RDS") == []
    assert book.stream.status().in_sync


def test_wildcards_are_answered_even_when_there_is_nothing() -> None:
    book = playbook()
    assert book.ask("CDS") == ["CDS"]
    assert book.ack("CDS") == []
    assert book.ask("LDS") == ["LDS"]
    assert book.ack("LDS") == []
    assert book.stream.status().in_sync


def test_an_explicit_wildcard_is_one_too() -> None:
    book = playbook(cluster("a"))
    assert book.ask("CDS", "*") == ["CDS +a"]


def test_a_wildcard_is_not_the_default_of_named_types() -> None:
    book = playbook(endpoint("a"), route("web"))
    assert book.ask("EDS") == []
    assert book.ask("RDS") == []
    assert book.state("EDS") == "NOT_SENT"


def test_a_response_carries_the_resource_its_version_and_the_snapshots() -> None:
    built = listener("web")
    book = playbook(built)
    book.ask("CDS")
    book.ack("CDS")
    book.ask("LDS")
    response = book.responses["LDS"][0]
    assert response.system_version_info == snapshot([built]).version
    assert response.resources[0].version == built.version
    assert response.resources[0].resource.type_url == LISTENER
    assert response.resources[0].SerializeToString(deterministic=True) == built.wire
    assert message(built).stat_prefix == "v1"  # type: ignore[attr-defined]


def test_asked_before_the_clusters_are_taken_listeners_wait() -> None:
    book = playbook(cluster("a"), listener("web"))
    assert book.ask("CDS") == ["CDS +a"]
    assert book.ask("LDS") == []
    assert book.ack("CDS") == ["LDS +web"]


def test_a_named_resource_that_does_not_exist_is_said_so_at_once_and_sent_when_it_does() -> None:
    book = playbook(endpoint("a"))
    assert book.ask("EDS", "a", "b") == ["EDS +a -b"]
    book.ack("EDS")
    assert book.publish(endpoint("a"), endpoint("b")) == ["EDS +b"]


def test_types_that_are_not_served_have_no_resources() -> None:
    book = playbook()
    assert book.ask("SDS", "default") == ["SDS -default"]
    assert book.ack("SDS") == []
    assert TYPES["SDS"] not in book.stream.status().types


# Connecting again


def test_a_second_connection_is_told_only_what_it_does_not_have() -> None:
    a, web, gone = cluster("a"), listener("web"), listener("gone")
    book = playbook(a, cluster("b"), web, listener("new"), route("web"))
    assert book.ask("CDS", known={"a": a.version}) == ["CDS +b"]
    assert book.ask("LDS", known={"web": web.version, "gone": gone.version}) == []
    assert book.ask("RDS", "web", known={"web": route("web").version}) == []
    assert book.ack("CDS") == ["LDS +new"]
    assert book.ack("LDS") == ["LDS -gone"]
    assert book.ack("LDS") == []
    assert book.stream.status().in_sync
    assert book.state("RDS") == "SYNCED"


def test_a_second_connection_with_everything_is_told_nothing_but_that() -> None:
    a, web = cluster("a"), listener("web")
    book = playbook(a, web)
    assert book.ask("CDS", known={"a": a.version}) == ["CDS"]
    book.ack("CDS")
    assert book.ask("LDS", known={"web": web.version}) == ["LDS"]
    book.ack("LDS")
    assert book.stream.status().in_sync


@pytest.mark.parametrize("order", ["clusters first", "endpoints first"])
def test_a_cluster_that_changed_meanwhile_gets_its_endpoints_again(order: str) -> None:
    book = playbook(cluster("a", 2), endpoint("a"))
    old_cluster, same_endpoint = {"a": cluster("a").version}, {"a": endpoint("a").version}
    if order == "clusters first":
        assert book.ask("CDS", known=old_cluster) == ["CDS +a"]
        assert book.ask("EDS", "a", known=same_endpoint) == ["EDS +a"]
    else:
        assert book.ask("EDS", "a", known=same_endpoint) == []
        assert book.ask("CDS", known=old_cluster) == ["CDS +a", "EDS +a"]


def test_what_a_broken_stream_left_in_doubt_is_removed_by_the_next() -> None:
    book = settled()
    book.publish(listener("good"), listener("bad"))
    # Envoy took the good one, refused the whole, and the stream broke before more was said.
    doubt = book.stream.uncertain()
    assert doubt == {LISTENER: frozenset({"good", "bad"})}
    book.stream = Stream("gateway~shop~web", snapshot([]), START, doubt)
    book.ask("CDS")
    book.ack("CDS")
    book.responses.clear()
    assert book.ask("LDS") == ["LDS"]
    assert book.ack("LDS") == ["LDS -bad -good"]


def test_what_is_in_doubt_is_sent_again_even_if_the_proxy_names_its_version() -> None:
    first, second = route("web", 1), route("web", 2)
    book = settled(first)
    book.publish(second)
    book.stream = Stream("gateway~shop~web", snapshot([first]), START, book.stream.uncertain())
    assert book.ask("RDS", "web", known={"web": first.version}) == ["RDS +web"]


def test_a_removal_that_may_not_have_arrived_is_said_by_the_next_stream() -> None:
    book = settled()
    book.publish(listener("good"), listener("bad"))
    book.wait(DEADLINE)
    assert book.publish() == ["LDS -good -bad"]
    # Neither is answered, and Envoy may have refused the first as a whole: it would not name the good one.
    assert book.stream.uncertain() == {LISTENER: frozenset({"good", "bad"})}


def test_a_route_in_doubt_keeps_its_clusters_when_its_newer_version_is_refused() -> None:
    book = settled(cluster("old"), listener("a"), listener("b"))
    book.ask("RDS", "a", "b")
    book.ack("RDS")
    rest = (listener("a"), listener("b"))
    assert book.publish(cluster("old"), *rest, route("a", 1), route("b", 1)) == ["RDS +a +b"]
    assert book.publish(cluster("old"), *rest, route("a", 2), route("b", 1)) == ["RDS +a"]
    assert book.nack("RDS") == ["RDS +b"]
    assert book.nack("RDS") == []
    assert book.ack("RDS") == []
    # Envoy refused a's first version together with b, and may have it all the same.
    assert book.publish(*rest, route("a", 2), route("b", 1)) == []
    assert book.publish(*rest, route("a", 3), route("b", 1)) == ["RDS +a"]
    assert book.wait(LONG) == []
    assert book.ack("RDS") == []
    assert book.wait(LONG) == ["CDS -old"]


def test_a_bad_route_that_was_never_taken_keeps_no_clusters() -> None:
    book = settled(cluster("old"), listener("a"), listener("b"))
    book.ask("RDS", "a", "b")
    book.ack("RDS")
    rest = (listener("a"), listener("b"))
    assert book.publish(cluster("old"), *rest, route("a"), route("b")) == ["RDS +a +b"]
    assert book.nack("RDS") == ["RDS +a", "RDS +b"]
    assert book.nack("RDS") == []
    assert book.ack("RDS") == []
    assert book.publish(*rest, route("a"), route("b")) == []
    assert book.wait(LONG) == ["CDS -old"]


def test_doubt_ends_when_the_name_is_dropped() -> None:
    book = settled(cluster("old"), listener("a"), listener("b"))
    book.ask("RDS", "a", "b")
    book.ack("RDS")
    rest = (listener("a"), listener("b"))
    book.publish(cluster("old"), *rest, route("a"), route("b"))
    assert book.publish(cluster("old"), *rest, route("b")) == []
    assert book.nack("RDS") == ["RDS +b"]
    assert book.ack("RDS") == []
    assert book.ask("RDS", drop=["a"]) == []
    assert book.publish(*rest, route("a", 2), route("b")) == []
    assert book.ask("RDS", "a") == ["RDS +a"]
    assert book.nack("RDS") == []
    assert book.wait(LONG) == ["CDS -old"]


def test_a_stream_that_was_asked_nothing_hands_the_doubts_on() -> None:
    doubt = {ROUTE: frozenset({"web"})}
    assert Stream("gateway~shop~web", snapshot([]), START, doubt).uncertain() == doubt


def test_doubt_from_an_earlier_stream_keeps_the_clusters_too() -> None:
    book = settled(cluster("old"), listener("web"), route("web", 1))
    doubt = {ROUTE: frozenset({"web"})}
    book.stream = Stream("gateway~shop~web", snapshot([listener("web"), route("web", 2)]), START, doubt)
    assert book.ask("RDS", "web") == ["RDS +web"]
    book.nack("RDS")
    assert book.ask("CDS", known={"old": cluster("old").version}) == ["CDS"]
    assert book.ack("CDS") == []
    assert book.wait(LONG) == []
    assert book.publish(listener("web"), route("web", 3)) == ["RDS +web"]
    assert book.ack("RDS") == []
    assert book.wait(LONG) == ["CDS -old"]


# Changes


def test_nothing_is_sent_again_unchanged() -> None:
    book = settled(cluster("a"), endpoint("a"), listener("web"), route("web"))
    assert book.publish(cluster("a"), endpoint("a"), listener("web"), route("web")) == []
    assert book.stream.status().in_sync


def test_make_before_break() -> None:
    book = settled(cluster("old"), endpoint("old"), listener("out"), listener("web"), route("out"), route("web", 1))
    after = [cluster("new"), endpoint("new"), listener("web", 2), route("web", 2)]
    assert book.publish(*after) == ["CDS +new"]
    assert book.ask("EDS", "new") == ["EDS +new"]
    assert book.ack("CDS") == []
    assert book.ack("EDS") == ["LDS +web", "RDS +web"]
    assert book.ack("LDS") == []
    assert book.ack("RDS") == ["LDS -out"]
    assert not book.stream.status().in_sync
    assert book.ack("LDS") == []
    assert book.stream.status().in_sync, "what lingers is nothing that it lacks"
    assert book.stream.next_deadline == book.now + LINGER
    assert book.wait(LONG) == ["CDS -old"]
    assert book.ack("CDS") == []
    assert book.stream.next_deadline is None
    assert book.stream.status().in_sync


# What may still be used


def test_what_goes_by_name_is_not_removed_and_forgotten_when_it_is_dropped() -> None:
    book = settled(cluster("a"), endpoint("a"), listener("web"), route("web"))
    book.ask("ECDS", "web/rbac")
    book.ack("ECDS")
    book.publish(cluster("a"), endpoint("a"), listener("web"), route("web"), extension("web/rbac"))
    book.ack("ECDS")
    assert book.publish() == ["LDS -web"]
    assert book.ack("LDS") == []
    assert book.stream.status().in_sync
    assert book.wait(LONG) == ["CDS -a"]
    for word, name in (("ECDS", "web/rbac"), ("RDS", "web"), ("EDS", "a")):
        assert set(book.stream.status().types[TYPES[word]].acked) == {name}
        assert book.ask(word, drop=[name]) == []
        assert book.stream.status().types[TYPES[word]].acked == {}


def test_a_name_that_comes_back_while_it_is_held_is_not_sent_again_unless_it_changed() -> None:
    book = settled(route("web"))
    assert book.publish() == []
    assert book.publish(route("web")) == []
    assert book.publish() == []
    assert book.publish(route("web", 2)) == ["RDS +web"]


def test_a_name_that_comes_back_after_it_was_dropped_is_sent_again() -> None:
    book = settled(route("web"))
    book.publish()
    book.ask("RDS", drop=["web"])
    assert book.publish(route("web")) == []
    assert book.ask("RDS", "web") == ["RDS +web"]


def test_a_proxy_that_connects_again_keeps_a_filter_that_is_gone() -> None:
    book = playbook(listener("web"))
    gone = extension("old/rbac")
    assert book.ask("ECDS", "old/rbac", known={"old/rbac": gone.version}) == []
    book.ask("CDS")
    book.ack("CDS")
    book.ask("LDS")
    book.ack("LDS")
    assert book.wait(LONG) == []
    assert book.stream.status().in_sync


def test_changes_do_not_put_off_that_a_cluster_goes() -> None:
    book = settled(cluster("a"), cluster("old"))
    heard = book.publish(cluster("a"))
    for content in range(2, 2 + int(LONG)):
        heard += book.publish(cluster("a", content))
        heard += book.ack("CDS")
        heard += book.wait(1)
    assert "CDS -old" in heard


def test_a_cluster_that_is_called_back_stays() -> None:
    book = settled(cluster("a"), cluster("b"))
    assert book.publish(cluster("a")) == []
    assert book.wait(LONG - 1) == []
    assert book.publish(cluster("a"), cluster("b")) == []
    assert book.stream.next_deadline is None
    assert book.wait(LONG) == []
    assert book.publish(cluster("a")) == []
    assert book.wait(LONG - 1) == [], "it has its whole time again"
    assert book.publish(cluster("a"), cluster("b", 2)) == ["CDS +b"]


def test_a_changed_policy_waits_for_nothing_that_leaves() -> None:
    book = settled(cluster("a"), listener("web"), listener("out"))
    book.ask("ECDS", "web/rbac")
    book.ack("ECDS")
    assert book.publish(listener("web"), extension("web/rbac")) == ["ECDS +web/rbac"]
    book.ack("ECDS")
    book.ack("LDS")
    assert book.publish(listener("web"), extension("web/rbac", 2)) == ["ECDS +web/rbac"]


def test_a_changed_cluster_gets_its_endpoints_again() -> None:
    book = settled(cluster("a"), endpoint("a"), cluster("b"), endpoint("b"))
    assert book.publish(cluster("a", 2), endpoint("a"), cluster("b"), endpoint("b")) == ["CDS +a", "EDS +a"]


def test_changed_endpoints_go_alone() -> None:
    book = settled(cluster("a"), endpoint("a"))
    assert book.publish(cluster("a"), endpoint("a", 2)) == ["EDS +a"]


def test_a_push_that_takes_the_place_of_another_ends_with_the_newest() -> None:
    book = settled(cluster("a"), listener("web"), route("web", 1))
    assert book.publish(cluster("a"), cluster("b"), listener("web"), route("web", 2)) == ["CDS +b"]
    assert book.publish(cluster("a"), cluster("b"), cluster("c"), listener("web"), route("web", 3)) == ["CDS +c"]
    assert book.ack("CDS") == []
    assert book.ack("CDS") == ["RDS +web"]
    assert book.responses["RDS"][0].resources[0].version == route("web", 3).version
    assert book.ack("RDS") == []
    assert book.stream.status().in_sync


def test_what_two_pushes_change_apart_is_not_lost() -> None:
    book = settled(cluster("a"), listener("one"), listener("two"))
    assert book.publish(cluster("a", 2), listener("one", 2), listener("two")) == ["CDS +a"]
    assert book.publish(cluster("a", 2), listener("one", 2), listener("two", 2)) == []
    assert book.ack("CDS") == ["LDS +one +two"]


def test_a_push_that_takes_back_another_ends_as_before() -> None:
    book = settled(cluster("a"))
    assert book.publish(cluster("a"), cluster("b")) == ["CDS +b"]
    assert book.publish(cluster("a")) == []
    assert book.ack("CDS") == []
    assert book.stream.status().in_sync
    assert book.wait(LONG) == ["CDS -b"]
    assert book.ack("CDS") == []
    assert book.stream.status().in_sync


def test_a_gate_that_does_not_open_is_passed_after_the_deadline() -> None:
    book = settled(cluster("old"), listener("web"))
    assert book.publish(cluster("new"), listener("web", 2)) == ["CDS +new"]
    assert book.stream.next_deadline == book.now + ACK_DEADLINE
    assert book.wait(DEADLINE - 1) == []
    assert book.wait(1) == ["LDS +web"]
    assert book.wait(DEADLINE) == []
    assert book.wait(LONG) == ["CDS -old"]
    assert book.state("CDS") == "STALE"
    assert book.wait(DEADLINE) == []
    assert book.stream.next_deadline is None
    for _ in range(2):
        assert book.ack("CDS") == []
    assert book.ack("LDS") == []
    assert book.stream.status().in_sync


def test_a_response_that_is_overdue_holds_no_later_push_back() -> None:
    book = settled(cluster("a"), listener("web"))
    book.publish(cluster("a", 2), listener("web"))
    book.wait(DEADLINE)
    assert book.publish(cluster("a", 2), listener("web", 2)) == ["LDS +web"]


def test_changes_of_clusters_without_end_do_not_hold_the_routes_back_for_ever() -> None:
    book = settled(cluster("a"), route("web", 1))
    heard: list[str] = []
    for content in range(2, 2 + int(DEADLINE)):
        heard += book.publish(cluster("a", content), route("web", 2))
        heard += book.wait(1)
    assert "RDS +web" in heard


def test_changes_of_clusters_do_not_put_the_deadline_off() -> None:
    book = settled(cluster("a"))
    book.publish(cluster("a", 2))
    first = book.now
    book.wait(5)
    book.publish(cluster("a", 3))
    assert book.stream.next_deadline == first + ACK_DEADLINE


def test_a_push_that_takes_the_place_of_one_at_a_later_gate_has_its_own_deadline() -> None:
    book = settled(cluster("a"), listener("web"))
    book.publish(cluster("a"), listener("web", 2))
    book.wait(DEADLINE - 1)
    assert book.publish(cluster("a", 2), listener("web", 3)) == ["CDS +a"]
    assert book.wait(DEADLINE - 1) == []
    assert book.wait(1) == ["LDS +web"]


def test_a_route_asked_for_while_new_clusters_are_on_their_way_waits_for_them() -> None:
    book = settled(cluster("a"), listener("web"), route("web"))
    book.publish(cluster("a"), cluster("b"), listener("web"), route("web"), route("new"))
    assert book.ask("RDS", "new") == []
    assert book.ack("CDS") == ["RDS +new"]


# Subscriptions


def test_a_name_that_is_asked_for_again_is_sent_again() -> None:
    book = settled(endpoint("a"), endpoint("b"))
    assert book.ask("EDS", "a") == ["EDS +a"]


def test_a_name_that_is_dropped_is_not_sent_any_more() -> None:
    book = settled(endpoint("a"), endpoint("b"))
    assert book.ask("EDS", drop=["a"]) == []
    assert book.publish(endpoint("a", 2), endpoint("b", 2)) == ["EDS +b"]
    book.ack("EDS")
    assert book.stream.status().in_sync


def test_a_stale_nonce_does_not_spoil_a_subscription() -> None:
    book = settled(endpoint("a"), endpoint("b"))
    assert book.ask("EDS", "b", nonce="of another stream") == ["EDS +b"]


def test_a_wildcard_that_is_dropped_leaves_the_names() -> None:
    book = playbook(cluster("a"), cluster("b"))
    book.ask("CDS")
    book.ack("CDS")
    assert book.ask("CDS", "a") == ["CDS +a"]
    book.ack("CDS")
    assert book.ask("CDS", drop=["*"]) == []
    assert book.publish(cluster("a", 2), cluster("b", 2)) == ["CDS +a"]


def test_a_name_that_is_dropped_under_a_wildcard_is_said_again() -> None:
    book = playbook(cluster("a"))
    book.ask("CDS", "*", "a", "b")
    book.ack("CDS")
    assert book.ask("CDS", drop=["a", "b"]) == ["CDS +a -b"]


# Refusals


def test_a_refused_response_is_sent_again_one_by_one() -> None:
    book = settled()
    assert book.publish(listener("bad"), listener("good")) == ["LDS +bad +good"]
    assert book.nack("LDS") == ["LDS +bad", "LDS +good"]
    assert book.nack("LDS", "malformed IP address") == []
    assert book.ack("LDS") == []
    assert book.state("LDS") == "ERROR"
    assert book.refusals() == [
        "Envoy refuses Listener 'bad' made of VirtualService/shop/bad (shop.yaml:1:1): malformed IP address"
    ]
    assert set(book.stream.status().types[LISTENER].acked) == {"good"}
    assert not book.stream.in_sync(snapshot([listener("bad"), listener("good")]).version)


def test_a_response_of_one_resource_is_refused_at_once() -> None:
    book = settled()
    assert book.publish(listener("bad")) == ["LDS +bad"]
    assert book.nack("LDS") == []
    assert len(book.refusals()) == 1


def test_a_refused_resource_is_not_sent_again_until_it_changes() -> None:
    book = settled(listener("web"))
    book.publish(listener("web"), listener("bad"))
    book.nack("LDS")
    assert book.publish(listener("web"), listener("bad")) == []
    assert book.publish(listener("web", 2), listener("bad")) == ["LDS +web"]
    assert book.ack("LDS") == []
    assert book.wait(DEADLINE * 2) == []
    assert len(book.refusals()) == 1
    assert book.publish(listener("web", 2), listener("bad", 2)) == ["LDS +bad"]
    assert len(book.refusals()) == 1
    assert book.ack("LDS") == []
    assert book.refusals() == []
    assert book.stream.status().in_sync


def test_a_refusal_ends_when_the_resource_is_taken_back_or_removed() -> None:
    book = settled(listener("web"))
    book.publish(listener("web", 2))
    book.nack("LDS")
    assert book.publish(listener("web")) == ["LDS +web"]
    book.ack("LDS")
    assert book.refusals() == []
    book.publish(listener("web"), listener("bad"))
    book.nack("LDS")
    assert book.publish(listener("web")) == ["LDS -bad"]
    book.ack("LDS")
    assert book.refusals() == []
    assert book.stream.status().in_sync


def test_a_refusal_names_the_line_where_the_resource_stands_now() -> None:
    book = settled()
    book.publish(listener("bad", line=3))
    book.nack("LDS")
    assert book.publish(listener("bad", line=9)) == []
    assert "shop.yaml:9:1" in book.refusals()[0]


def test_a_refused_route_keeps_the_cluster_of_its_earlier_version() -> None:
    book = settled(cluster("old"), cluster("new"), listener("web"), route("web", 1))
    assert book.publish(cluster("new"), listener("web"), route("web", 2)) == ["RDS +web"]
    assert book.nack("RDS") == []
    assert book.wait(DEADLINE * 2) == []
    assert book.state("CDS") == "STALE"
    assert book.publish(cluster("new"), listener("web"), route("web", 3)) == ["RDS +web"]
    assert book.ack("RDS") == []
    assert book.wait(LONG) == ["CDS -old"]


def test_a_refused_resource_without_earlier_version_holds_nothing_back() -> None:
    book = settled(cluster("old"), listener("web"))
    assert book.publish(listener("web"), listener("bad")) == ["LDS +bad"]
    assert book.nack("LDS") == []
    assert book.wait(LONG) == ["CDS -old"]


def test_a_changed_cluster_does_not_bring_refused_endpoints_back() -> None:
    book = settled(cluster("a"), endpoint("a"))
    book.publish(cluster("a"), endpoint("a", 2))
    book.nack("EDS")
    assert book.publish(cluster("a", 2), endpoint("a", 2)) == ["CDS +a"]


def test_a_refusal_of_what_is_out_of_date_does_not_count() -> None:
    book = settled(listener("web"))
    book.publish(listener("web", 2))
    book.publish(listener("web", 3))
    assert book.nack("LDS") == []
    assert book.refusals() == []
    assert book.ack("LDS") == []
    assert book.stream.status().in_sync


def test_a_refused_removal_counts_as_done() -> None:
    book = settled(listener("web"))
    assert book.publish() == ["LDS -web"]
    assert book.nack("LDS") == []
    assert book.refusals() == []
    assert book.stream.status().in_sync


def test_a_bad_resource_that_goes_and_comes_back_before_it_is_refused_is_refused() -> None:
    book = settled(cluster("a"))
    book.publish(cluster("a"), listener("bad"))
    book.publish(cluster("a"), cluster("b"))
    assert book.nack("LDS") == []
    assert book.refusals() == []
    assert book.publish(cluster("a"), cluster("b"), listener("bad", line=5)) == []
    assert "shop.yaml:5:1" in book.refusals()[0]
    assert book.state("LDS") == "ERROR"


def test_envoys_words_are_cut() -> None:
    book = settled()
    book.publish(listener("bad"))
    book.nack("LDS", "x" * 100_000)
    assert len(book.stream.status().refusals[0].message) == 4096


# Status


def test_states_over_a_push() -> None:
    book = playbook(cluster("a"), listener("web"), route("web"))
    assert [book.state(word) for word in ("CDS", "LDS", "RDS")] == ["NOT_SENT", "NOT_SENT", "NOT_SENT"]
    book.ask("CDS")
    assert book.state("CDS") == "STALE"
    book.now += timedelta(seconds=1)
    book.ack("CDS")
    status = book.stream.status()
    assert book.state("CDS") == "SYNCED"
    assert status.types[TYPES["CDS"]].last_ack == START + timedelta(seconds=1)
    assert status.types[TYPES["CDS"]].acked == {"a": cluster("a").version}
    assert not status.in_sync
    book.ask("LDS")
    book.ack("LDS")
    status = book.stream.status()
    assert status.in_sync
    assert status.connected_since == START
    assert status.types[ROUTE].state.value == "NOT_SENT"


def test_in_sync_is_about_the_newest_snapshot() -> None:
    book = settled(listener("web"))
    older = book.stream.status().snapshot_version
    assert book.stream.in_sync(older)
    book.publish(listener("web", 2))
    newest = snapshot([listener("web", 2)]).version
    assert not book.stream.in_sync(older)
    assert not book.stream.in_sync(newest)
    book.ack("LDS")
    assert book.stream.in_sync(newest)
    assert not book.stream.in_sync(older)


def test_a_status_is_a_photograph() -> None:
    book = settled(listener("web"))
    before = book.stream.status()
    book.publish(listener("web"), listener("new"))
    book.ack("LDS")
    assert set(before.types[LISTENER].acked) == {"web"}


def test_an_answer_to_nothing_is_ignored() -> None:
    book = settled(listener("web"))
    request = discovery_v3.DeltaDiscoveryRequest(type_url=LISTENER, response_nonce="77")
    request.error_detail.message = "no"
    assert book.hear(book.stream.receive(request, book.now)) == []
    assert book.stream.status().in_sync
