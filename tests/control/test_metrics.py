from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

from isthmus.ads.status import ProxyStatus, Refusal, Statuses
from isthmus.control.metrics import Convergence, Counts, PlaneMetrics
from isthmus.xds.snapshot import LISTENER

from .making import ORDERS, SIDECAR, plane_of

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Running:
    def __init__(self) -> None:
        self.plane, self.statuses = plane_of(ORDERS), Statuses()
        self.counts: Counts = Counter()
        self.metrics = PlaneMetrics(self.plane, self.statuses, self.counts, lambda: NOW)

    def confirm(self, *refusals: Refusal) -> None:
        version = self.plane.snapshot(SIDECAR).value.version
        self.statuses.put(ProxyStatus(SIDECAR, NOW, version, not refusals, {}, refusals))

    @property
    def lines(self) -> list[str]:
        return self.metrics.text().splitlines()


def test_what_is_so_now() -> None:
    running = Running()
    assert "pilot_xds 0.0" in running.lines
    running.confirm(Refusal(LISTENER, "inbound_80", "1", "no", ()))
    assert "pilot_xds 1.0" in running.lines
    assert f'pilot_xds_lds_reject{{node="{SIDECAR}"}} 1.0' in running.lines
    (expiry,) = (line for line in running.lines if line.startswith("citadel_server_root_cert_expiry_timestamp"))
    assert float(expiry.split()[1]) == NOW.timestamp()


def test_what_happened() -> None:
    running = Running()
    running.counts["pilot_xds_pushes", "lds"] += 3
    running.counts["citadel_server_csr_count",] += 2
    assert 'pilot_xds_pushes{type="lds"} 3.0' in running.lines
    assert "# TYPE pilot_xds_pushes counter" in running.lines
    assert "citadel_server_csr_count 2.0" in running.lines
    assert "citadel_server_csr_sign_err_count 0.0" in running.lines
    assert "pilot_jwks_resolver_network_fetch_fail_total 0.0" in running.lines


def test_how_long_things_take() -> None:
    running = Running()
    running.metrics.converged(0.02)
    running.metrics.rebuilt(0.015, 0.3)
    assert 'pilot_proxy_convergence_time_bucket{le="0.025"} 1.0' in running.lines
    assert 'pilot_debounce_time_bucket{le="0.01"} 0.0' in running.lines
    assert "pilot_pushcontext_init_seconds_count 1.0" in running.lines


def test_convergence_is_from_what_is_new_to_its_confirmation() -> None:
    running = Running()
    convergence = Convergence(running.plane, running.statuses)
    convergence.published(10.0)
    assert convergence.waiting
    assert convergence.settled(10.5) == []
    running.confirm()
    assert convergence.settled(11.0) == [1.0]
    assert not convergence.waiting
    convergence.published(12.0)
    assert not convergence.waiting, "nothing is new for the proxy"
