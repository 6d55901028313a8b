"""What the limit service is told of limits, in JSON: which there are, what they count, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from isthmus.model.limit import Concurrency, Limit, Period, Quota, Rate

Amount = Rate | Quota | Concurrency


@dataclass(frozen=True, slots=True)
class Definition:
    """``id``: the limit's name in descriptors. ``store``: a name among the settings' stores; None: this machine.

    ``plans``: those that it is about; empty: all. ``headers``: whether answers tell of it. ``clients_choose``: whether
    they can have as many buckets of it as they like.
    """

    id: str
    amount: Amount
    plans: tuple[str, ...] = ()
    shadow: bool = False
    headers: bool = True
    store: str | None = None
    clients_choose: bool = False


@dataclass(frozen=True, slots=True)
class Definitions:
    """``stores``: the URL of each Redis by its name; one without a URL is not there, nobody can count in it."""

    by_id: Mapping[str, Definition] = field(default_factory=dict)
    stores: Mapping[str, str] = field(default_factory=dict, repr=False)


def definition(id_: str, limit: Limit, *, headers: bool, store: str | None) -> Definition:
    """What the service is told of a limit."""
    return Definition(id_, limit.amount, limit.plans, limit.shadow, headers, store, limit.clients_choose)


def to_json(one: Definition) -> dict[str, Any]:
    """Times in seconds."""
    return {
        "id": one.id,
        "amount": _amount_to_json(one.amount),
        "plans": list(one.plans),
        "shadow": one.shadow,
        "headers": one.headers,
        "store": one.store,
        "clients_choose": one.clients_choose,
    }


def _amount_to_json(amount: Amount) -> dict[str, Any]:
    match amount:
        case Rate(requests, per, burst):
            return {"requests": requests, "per": per.total_seconds(), "burst": burst}
        case Quota(requests, period):
            return {"requests": requests, "period": period.value}
        case Concurrency(most, longest):
            return {"most": most, "longest": longest.total_seconds()}


def from_json(settings: Mapping[str, Any]) -> Definitions:
    """Read ``{"limits": [...], "stores": {...}}``. Raises KeyError, TypeError or ValueError for anything else."""
    found = (_definition_from_json(data) for data in settings["limits"])
    return Definitions({one.id: one for one in found}, dict(settings["stores"]))


def _definition_from_json(data: Mapping[str, Any]) -> Definition:
    return Definition(
        id=data["id"],
        amount=_amount_from_json(data["amount"]),
        plans=tuple(data["plans"]),
        shadow=data["shadow"],
        headers=data["headers"],
        store=data["store"],
        clients_choose=data["clients_choose"],
    )


def _amount_from_json(data: Mapping[str, Any]) -> Amount:
    if "period" in data:
        return Quota(data["requests"], Period(data["period"]))
    if "most" in data:
        return Concurrency(data["most"], timedelta(seconds=data["longest"]))
    return Rate(data["requests"], timedelta(seconds=data["per"]), data["burst"])
