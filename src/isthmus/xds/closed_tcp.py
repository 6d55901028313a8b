"""Where plain TCP is closed because a policy holds that speaks of requests alone (``model/closed_tcp.py``)."""

from __future__ import annotations

from isthmus.model.attachment import RoutePlace
from isthmus.model.closed_tcp import CLOSING_KINDS, closes_tcp
from isthmus.xds.attached import policies_at, policies_of
from isthmus.xds.context import Context


def closed_by_policy(context: Context) -> bool:
    """Whether all plain TCP of a proxy is where no policy names a server."""
    return any(closes_tcp(policy) for kind in CLOSING_KINDS for policy in policies_of(context, kind))


def closed_at(context: Context, place: RoutePlace) -> bool:
    """Whether the connections of one server of a gateway are that go by one VirtualService.

    As of requests, the most specific policy of each kind decides, whole.
    """
    return any(closes_tcp(policy) for kind in CLOSING_KINDS for policy in policies_at(context, kind, place))
