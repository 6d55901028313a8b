"""Metrics of what was fetched about who is revoked. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from isthmus.control.revocation import Demands, Statuses

Gauges = Mapping[str, Mapping[tuple[str, ...], float]]
"""By name, and then by the values of their labels."""


def revocation_gauges(wanted: Demands, statuses: Statuses) -> Gauges:
    """0 where nothing is held: an alarm on the next update's time goes off for what never came, too."""
    lists: dict[tuple[str, ...], float] = {}
    revoked: dict[tuple[str, ...], float] = {}
    for source in {source for demand in wanted.crls for source in demand.sources}:
        held = statuses[source].held if source in statuses else None
        # One URL may be read for several bundles of CAs: the worst counts.
        end = held.next_update.timestamp() if held is not None else 0.0
        lists[source.url,] = min(end, lists.get((source.url,), end))
        revoked[source.url,] = max(len(held.revoked) if held is not None else 0, revoked.get((source.url,), 0))
    answers: dict[tuple[str, ...], float] = {}
    for demand in wanted.staples:
        status = statuses.get(demand.source) if demand.source is not None else None
        held = status.held if status is not None else None
        answers[demand.name,] = held.next_update.timestamp() if held is not None else 0.0
    return {
        "isthmus_crl_next_update_timestamp_seconds": lists,
        "isthmus_crl_revoked": revoked,
        "isthmus_ocsp_staple_next_update_timestamp_seconds": answers,
    }
