"""Envoy's question and answer (envoy.service.auth.v3), and ours."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from isthmus.decide.client.api_key import Cleaned
from isthmus.decide.client.check import Answer, ConsumerFacts
from isthmus.decide.client.outcome import Refused, Verified
from isthmus.decide.client.question import Question
from isthmus.envoy_api.packages import core_v3, ext_authz_service_v3, protobuf
from isthmus.model.client_authentication import ACCEPTS, Accepted, read_accepted
from isthmus.model.consumer import CONSUMER_HEADER
from isthmus.model.oidc import SESSION

JWT_AUTHN = "envoy.filters.http.jwt_authn"
_PAYLOAD = "payload"
_FAILURES = ("jwt_failure", "jwks_unavailable")
"""The second is that of issuers whose keys are not known."""
_DENIED = 7  # google.rpc.Code.PERMISSION_DENIED: anything but OK is a denial, its status stands beside it
_OVERWRITE = core_v3.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD

_accepted = lru_cache(4096)(read_accepted)


def read_question(request: Any, metadata: Mapping[str, str | bytes]) -> Question:
    """``metadata``: of the call. A route says what it takes; else the filter says it for its whole chain.

    Raises ValueError: nobody says what is taken.
    """
    attributes = request.attributes
    written = attributes.context_extensions.get(ACCEPTS) or metadata.get(ACCEPTS)
    if not isinstance(written, str):
        raise ValueError("it does not say what is accepted")
    accepted: Accepted = _accepted(written)
    headers: dict[str, tuple[str, ...]] = {}
    for header in attributes.request.http.header_map.headers:
        key = header.key.lower()
        value = (header.raw_value or header.value.encode()).decode(errors="replace")
        headers[key] = (*headers.get(key, ()), value)
    token, failure, login = None, None, None
    if accepted.issuers or accepted.logins or accepted.introspection is not None:
        token, failure, login = _token(attributes.metadata_context)
    path, certificate = attributes.request.http.path, attributes.source.certificate
    return Question(accepted, headers, path, certificate, token, failure, login)


def _token(context: Any) -> tuple[Mapping[str, Any] | None, str | None, str | None]:
    """Payload, failure, and the login whose session it is."""
    if JWT_AUTHN not in context.filter_metadata:
        return None, None, None
    fields = context.filter_metadata[JWT_AUTHN].fields
    token = to_plain(fields[_PAYLOAD]) if _PAYLOAD in fields else None
    failure = next((to_plain(fields[key]) for key in _FAILURES if key in fields), None)
    message = failure.get("message") if isinstance(failure, dict) else None
    login = next((name.removeprefix(SESSION) for name in fields if name.startswith(SESSION)), None)
    return token if isinstance(token, dict) else None, None if message is None else str(message), login


def to_plain(value: Any) -> Any:
    """A google.protobuf.Value as JSON's own types."""
    match value.WhichOneof("kind"):
        case "struct_value":
            return {name: to_plain(one) for name, one in value.struct_value.fields.items()}
        case "list_value":
            return [to_plain(one) for one in value.list_value.values]
        case "null_value" | None:
            return None
        case kind:
            return getattr(value, kind)


def build_answer(answer: Answer) -> Any:
    """An ``envoy.service.auth.v3.CheckResponse``."""
    match answer.outcome:
        case Refused() as refused:
            return _build_refusal(refused)
        case Verified() as verified:
            return _build_consent(verified, answer)


def _build_refusal(refused: Refused) -> Any:
    """Without a body: what it says is for the proxy, which knows how its errors are to look."""
    built = ext_authz_service_v3.CheckResponse()
    built.status.code = _DENIED
    built.denied_response.status.code = refused.status
    if refused.challenge is not None:
        # Not its raw value, of which Envoy makes nothing on a denial.
        challenge = core_v3.HeaderValue(key="www-authenticate", value=refused.challenge)
        built.denied_response.headers.append(core_v3.HeaderValueOption(header=challenge, append_action=_OVERWRITE))
    built.dynamic_metadata.fields["reason"].string_value = refused.reason
    return built


def _build_consent(verified: Verified, answer: Answer) -> Any:
    cleaned = answer.cleaned
    if verified.claims is None and cleaned.path is None and cleaned.cookie is None:
        return _usual(verified.method, verified.consumer, answer.consumer, cleaned.headers)
    return _consent(verified, answer)


@lru_cache(4096)
def _usual(method: str, consumer: str | None, facts: ConsumerFacts | None, headers: tuple[str, ...]) -> Any:
    """What is the same for every request of a consumer. Nobody writes to it."""
    verified = Verified(method, consumer)
    return _consent(verified, Answer(verified, facts, Cleaned(headers)))


def _consent(verified: Verified, answer: Answer) -> Any:
    built = ext_authz_service_v3.CheckResponse()
    consent = built.ok_response
    # There must be a consent, even an empty one: it is what tells Envoy to look into it.
    consent.SetInParent()
    consent.headers_to_remove.extend(answer.cleaned.headers)
    if answer.cleaned.path is not None:
        consent.headers.append(_header(":path", answer.cleaned.path))
    if answer.cleaned.cookie is not None:
        consent.headers.append(_header("cookie", answer.cleaned.cookie))
    if verified.consumer is None:
        consent.headers_to_remove.append(CONSUMER_HEADER)
    else:
        consent.headers.append(_header(CONSUMER_HEADER, verified.consumer))
    for name, value in _told(verified, answer).items():
        _set(built.dynamic_metadata.fields[name], value)
    return built


def _told(verified: Verified, answer: Answer) -> dict[str, Any]:
    """By :data:`isthmus.model.consumer.CLIENT_KEYS`."""
    told: dict[str, Any] = {}
    if verified.method:
        told["method"] = verified.method
    if verified.consumer is not None and answer.consumer is not None:
        told["consumer_namespace"], _, told["consumer"] = verified.consumer.partition("/")
        told["groups"] = list(answer.consumer.groups)
        if answer.consumer.plan is not None:
            told["plan"] = answer.consumer.plan
    if verified.claims is not None:
        told["claims"] = dict(verified.claims)
    return told


def _set(field: Any, value: Any) -> None:
    """JSON's own types as a google.protobuf.Value."""
    match value:
        case bool():
            field.bool_value = value
        case int() | float():
            field.number_value = value
        case str():
            field.string_value = value
        case list() | tuple():
            field.list_value.SetInParent()
            for one in value:
                _set(field.list_value.values.add(), one)
        case dict():
            field.struct_value.SetInParent()
            for name, one in value.items():
                _set(field.struct_value.fields[str(name)], one)
        case _:
            field.null_value = protobuf.NullValue.Value("NULL_VALUE")


def _header(name: str, value: str) -> Any:
    """Of a consent Envoy takes ``value`` alone, which is text."""
    header = core_v3.HeaderValue(key=name, value=value)
    return core_v3.HeaderValueOption(header=header, append_action=_OVERWRITE)
