from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from isthmus.envoy_api import Message, to_json, unpack
from isthmus.model.world import Address
from isthmus.proxy.envoy import find_envoy
from isthmus.xds.relay import (
    ANYWHERE,
    RelaySettings,
    build_relay_bootstrap,
    build_relay_clusters,
    build_relay_listeners,
    relay_socket,
)
from tests.xds.making import HCM

SETTINGS = RelaySettings("/run/x", "/run/x/a.admin", "/run/x/clusters.yaml", "/run/x/listeners.yaml")
TARGETS = (Address("192.0.2.1", 443), Address("db.example.com", 5432))


def resources(response: object) -> dict[str, Message]:
    opened = [unpack(packed) for packed in response.resources]  # type: ignore[attr-defined]
    return {found.name: found for found in opened}  # type: ignore[attr-defined]


def test_each_target_has_a_socket_of_its_own_and_the_same_one_always() -> None:
    sockets = {relay_socket("/run/x", to) for to in (*TARGETS, None)}
    assert len(sockets) == 3
    assert relay_socket("/run/x", Address("192.0.2.1", 443)) in sockets
    assert all(len(path) == len("/run/x/") + 16 for path in sockets)


def test_a_target_is_bytes_to_where_it_says_looked_up_here() -> None:
    listeners = resources(build_relay_listeners(SETTINGS, TARGETS))
    clusters = resources(build_relay_clusters(TARGETS))
    assert listeners.keys() == clusters.keys() == {ANYWHERE, "192.0.2.1:443", "db.example.com:5432"}
    for to, kind in zip(TARGETS, ("STATIC", "STRICT_DNS"), strict=True):
        shown = to_json(listeners[str(to)])
        assert shown["address"] == {"pipe": {"path": relay_socket("/run/x", to), "mode": 0o600}}
        (filter_,) = shown["filter_chains"][0]["filters"]
        assert (filter_["typed_config"]["cluster"], filter_["typed_config"]["idle_timeout"]) == (str(to), "0s")
        cluster = to_json(clusters[str(to)])
        assert cluster.get("type", "STATIC") == kind
        (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        there = endpoint["endpoint"]["address"]["socket_address"]
        assert (there["address"], there["port_value"]) == (to.host, to.port)


def test_anywhere_adds_nothing_and_never_leads_to_the_machine_itself() -> None:
    anywhere = to_json(resources(build_relay_listeners(SETTINGS, ()))[ANYWHERE])
    (filter_,) = anywhere["filter_chains"][0]["filters"]
    assert filter_["name"] == HCM
    hcm = filter_["typed_config"]
    assert [each["name"].rpartition(".")[2] for each in hcm["http_filters"]] == [
        "dynamic_forward_proxy",
        "rbac",
        "dynamic_forward_proxy",
        "router",
    ]
    refused = json.dumps(hcm["http_filters"][1])
    # Whatever else a name leads to: of what the cluster may dial, the machine's own addresses are taken out.
    lookup = hcm["http_filters"][2]["typed_config"]["dns_cache_config"]
    cluster = to_json(resources(build_relay_clusters(()))[ANYWHERE])
    assert cluster["cluster_type"]["typed_config"]["dns_cache_config"] == lookup
    dialled = json.dumps(lookup["resolved_address_filter"])
    for address in ("127.0.0.0", "0.0.0.0", "::1", "::ffff:127.0.0.0", "::ffff:0.0.0.0"):
        assert f'"{address}"' in refused
        assert f'"{address}"' in dialled
    assert hcm["skip_xff_append"] is True
    assert hcm["generate_request_id"] is False


def test_what_changed_has_another_version() -> None:
    one, same, other = (build_relay_clusters(targets) for targets in (TARGETS, TARGETS, TARGETS[:1]))
    assert one.version_info == same.version_info != other.version_info


def test_it_watches_its_files_and_has_no_tcp_port() -> None:
    shown = to_json(build_relay_bootstrap(SETTINGS))
    assert shown["admin"]["address"]["pipe"]["path"] == "/run/x/a.admin"
    dynamic = shown["dynamic_resources"]
    assert dynamic["cds_config"]["path_config_source"]["path"] == "/run/x/clusters.yaml"
    assert dynamic["lds_config"]["path_config_source"]["path"] == "/run/x/listeners.yaml"
    assert "static_resources" not in shown


@pytest.mark.real
def test_envoy_takes_it(tmp_path: Path) -> None:
    settings = RelaySettings(str(tmp_path), str(tmp_path / "a"), str(tmp_path / "c.yaml"), str(tmp_path / "l.yaml"))
    shown = to_json(build_relay_bootstrap(settings))
    del shown["dynamic_resources"]
    shown["static_resources"] = {
        "listeners": [to_json(found) for found in resources(build_relay_listeners(settings, TARGETS)).values()],
        "clusters": [to_json(found) for found in resources(build_relay_clusters(TARGETS)).values()],
    }
    (tmp_path / "relay.json").write_text(json.dumps(shown))
    command = (str(find_envoy()), "--mode", "validate", "-c", str(tmp_path / "relay.json"), "--disable-hot-restart")
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
