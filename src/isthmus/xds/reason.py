"""The reason of a refusal as Envoy finds it: one CEL expression, made of :data:`REASONS`, for logs, metrics and bodies.

A response of the backend is told by the first comparison; only a refusal is looked up: by what its details begin with,
then sign by sign, so that no expression has more than the 32 levels that Envoy takes. Details that nobody knows are an
error of the expression, which is no value to whoever evaluates it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from isthmus.filters.allow_policies import NAMESPACE, PEERS_KEY
from isthmus.model.consumer import ANSWERED_KEY
from isthmus.model.reason import REASON_KEY, REASONS, TELLERS, Teller
from isthmus.model.refusal import (
    Details,
    DetailsBegin,
    Group,
    Noted,
    OwnRoute,
    Reason,
    RuleHolding,
    RuleNamed,
    Sign,
    WrongPeer,
)

_HTTP = "response.code_details"
_TCP = "connection.termination_details"
_RBAC = "rbac_access_denied_matched_policy["
_DIRECT = "direct_response"
_METADATA = "metadata.filter_metadata"
_OUTBOUND_CODES = ("proxy-credential-invalid", "misdirected")
"""Beside those of requests and upstreams: what a program's own calls can be refused for on its side."""
_SAID_BY_SERVICES = (Group.IDENTITY, Group.ACCESS, Group.LIMIT)
_NULL = "dyn(null)"

_Choice = tuple[str, str]
"""A condition and a value, both in CEL."""
_Place = tuple[str, str, str, tuple[str, ...]]
"""Where a filter leaves what it found: its details as it refuses, namespace, key and the way below in the metadata."""


def reasons_at(hop: str) -> tuple[Reason, ...]:
    """Those that a request can be refused for at ``hop`` (``gateway``, ``inbound``, ``outbound``)."""
    if hop != "outbound":
        return REASONS
    kinds = (Group.REQUEST, Group.UPSTREAM)
    return tuple(reason for reason in REASONS if reason.group in kinds or reason.code in _OUTBOUND_CODES)


def denials(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    """Without what is no refusal but a failure."""
    return tuple(reason for reason in reasons if reason.group is not Group.UPSTREAM)


def reason_of_request(reasons: Sequence[Reason], otherwise: str = _NULL) -> str:
    """The CEL expression whose value is the code; ``otherwise`` (in CEL) for what was not refused."""
    return _looked_up(reasons, otherwise, lambda namespace: _value(namespace, REASON_KEY), lambda reason: reason.code)


def title_of_request(reasons: Sequence[Reason], otherwise: str) -> str:
    """The same of what the client may be told about it."""
    spoken = {reason.code: reason.about for reason in reasons if reason.group in _SAID_BY_SERVICES}
    said = json.dumps(spoken, separators=(",", ":"))

    def told(namespace: str) -> str:
        return f"{said}[{_value(namespace, REASON_KEY)}]"

    return _looked_up(reasons, otherwise, told, lambda reason: reason.about)


def reason_of_connection(peers: str | None) -> str:
    """The code of a TCP connection that a policy closed, else null. ``peers``: see :func:`asked_peers`."""
    choices: list[_Choice] = [(f"!{_TCP}.startsWith({_text(_RBAC)})", _NULL)]
    for reason, sign in _in_order(REASONS):
        match sign:
            case RuleNamed() | RuleHolding() | DetailsBegin():
                found = [one for lead, one in _conditions(sign, _TCP) if lead == _lead(_RBAC)]
            case WrongPeer() if peers is not None:
                found = [f"{_nobody_allowed(_TCP)} && {_wrong_peer(_text(peers))}"]
            case _:
                found = []
        choices += ((one, _text(reason.code)) for one in found)
    return _chosen(choices, _NULL)


def own_body() -> str:
    """True of a refusal whose body one of our services wrote: it stays as it is."""
    ours = " || ".join(
        f"({_told(one)} && {_has(one.namespace, ANSWERED_KEY)} && {_value(one.namespace, ANSWERED_KEY)} == true)"
        for one in TELLERS
    )
    return f"({ours})"


def _looked_up(
    reasons: Sequence[Reason], otherwise: str, told: Callable[[str], str], value: Callable[[Reason], str]
) -> str:
    """By what the details begin with: the choices to be made, or for all that is known by its text alone, a map."""
    signs = [(sign, value(reason)) for reason, sign in _in_order(reasons)]
    choices: dict[str, list[_Choice]] = defaultdict(list)
    # What a service said itself comes before all signs; where no such reason is possible, none is asked.
    if any(not reason.signs for reason in reasons):
        for teller in TELLERS:
            choices[_lead(teller.details)].append((_told(teller), told(teller.namespace)))
    for sign, _ in signs:
        if not isinstance(sign, Details):
            choices.update({lead: [] for lead in _leads(sign) if lead not in choices})
    noted = _places(signs)
    exact: dict[str, str] = {}
    for sign, said in signs:
        if isinstance(sign, Noted):
            if values := noted.pop(_place(sign), None):
                choices[_lead(sign.details)].append(_noted(_place(sign), values))
            continue
        for lead, condition in _conditions(sign, _HTTP):
            if isinstance(sign, Details) and lead not in choices:
                exact.update((text, said) for text in sign.texts if _lead(text) == lead)
            else:
                choices[lead].append((condition, _text(said)))
    answered = (f"{_HTTP} == {_text('via_upstream')}", otherwise)
    return _chosen([answered, *_leaves(choices, otherwise)], f"{json.dumps(exact, separators=(',', ':'))}[{_HTTP}]")


def _leaves(choices: Mapping[str, Sequence[_Choice]], otherwise: str) -> Iterator[_Choice]:
    """What is to be chosen by its beginning; what begins like nothing else, by what it means."""
    alone: dict[str, list[str]] = defaultdict(list)
    for lead, found in choices.items():
        if len(found) > 1:
            yield f"{_HTTP}.startsWith({_text(lead)})", f"({_chosen(found, otherwise)})"
        else:
            ((condition, value),) = found
            alone[value].append(condition)
    for value, conditions in alone.items():
        yield " || ".join(f"({condition})" for condition in conditions), value


def _in_order(reasons: Iterable[Reason]) -> list[tuple[Reason, Sign]]:
    """What is told by a mere beginning comes last."""
    signs = ((reason, sign) for reason in reasons for sign in reason.signs)
    return sorted(signs, key=lambda one: isinstance(one[1], DetailsBegin))


def _leads(sign: Sign) -> Iterator[str]:
    if isinstance(sign, Noted):
        yield _lead(sign.details)
    else:
        yield from (lead for lead, _ in _conditions(sign, _HTTP))


def _place(sign: Noted) -> _Place:
    return sign.details, sign.namespace, sign.key, sign.below


def _places(signs: Iterable[tuple[Sign, str]]) -> dict[_Place, dict[str, str]]:
    """What may be found in each place, and what it means."""
    found: dict[_Place, dict[str, str]] = {}
    for sign, said in signs:
        if isinstance(sign, Noted):
            found.setdefault(_place(sign), {})[sign.value] = said
    return found


def _lead(details: str) -> str:
    """What details of one sort begin with; no two sorts begin with one another."""
    found = re.match(r"[^_.{\[]+[_.{\[]?", details)
    assert found is not None
    return found[0]


def _conditions(sign: Sign, details: str) -> Iterator[tuple[str, str]]:
    """Conditions that each mean the sign, with the lead of the details for which they can hold."""
    match sign:
        case Details(texts):
            for lead, alike in _by_lead(texts).items():
                yield lead, _one_of(details, alike)
        case DetailsBegin(texts):
            for lead, alike in _by_lead(texts).items():
                yield lead, " || ".join(f"{details}.startsWith({_text(text)})" for text in alike)
        case RuleNamed(name):
            # Those that users name end in "]]".
            yield _lead(_RBAC), f"{details}.endsWith({_text(f'policy[{name}]')})"
        case RuleHolding(text):
            yield _lead(_RBAC), f"{details}.contains({_text(text)})"
        case OwnRoute(name, status):
            yield _lead(_DIRECT), f"xds.route_name == {_text(name)} && response.code == {status}"
        case Noted():
            raise ValueError("what filters leave in one place is looked up together")
        case WrongPeer():
            peers = _value(NAMESPACE, PEERS_KEY)
            yield _lead(_RBAC), f"{_nobody_allowed(details)} && {_has(NAMESPACE, PEERS_KEY)} && {_wrong_peer(peers)}"


def _noted(place: _Place, values: Mapping[str, str]) -> _Choice:
    """Of all that a filter may leave in one place."""
    details, namespace, key, below = place
    known = json.dumps(values, separators=(",", ":"))
    left = _value(namespace, key) + "".join(f"[{_text(step)}]" for step in below)
    return f"{_HTTP} == {_text(details)} && {_has(namespace, key)} && {_one_of(left, list(values))}", f"{known}[{left}]"


def _by_lead(texts: Iterable[str]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        found[_lead(text)].append(text)
    return found


def _nobody_allowed(details: str) -> str:
    return f"{details}.endsWith({_text('policy[none]')})"


def _wrong_peer(peers: str) -> str:
    return f"(!connection.mtls || !connection.uri_san_peer_certificate.matches({peers}))"


def _told(teller: Teller) -> str:
    told = f"{_HTTP} == {_text(teller.details)} && {_has(teller.namespace, REASON_KEY)}"
    if teller.but_not is None:
        return told
    return f"{told} && !({_has(*teller.but_not)} && {_value(*teller.but_not)} == true)"


def _struct(namespace: str) -> str:
    return f"{_METADATA}[{_text(namespace)}]"


def _has(namespace: str, key: str) -> str:
    return f"{_text(namespace)} in {_METADATA} && {_text(key)} in {_struct(namespace)}"


def _value(namespace: str, key: str) -> str:
    return f"{_struct(namespace)}[{_text(key)}]"


def _one_of(value: str, texts: Sequence[str]) -> str:
    if len(texts) == 1:
        return f"{value} == {_text(texts[0])}"
    return f"{value} in [{','.join(map(_text, texts))}]"


def _chosen(choices: Iterable[_Choice], otherwise: str) -> str:
    return " : ".join((*(f"{condition} ? {value}" for condition, value in choices), otherwise))


def _text(value: str) -> str:
    """A CEL string."""
    return json.dumps(value)


DENIED_CODE = reason_of_request(denials(REASONS), otherwise='""')
"""The code of a refused request; empty of others, failures among them."""
