"""How a connection manager words the refusals that its filters make: the first mapper that fits is the only one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isthmus.envoy_api.packages import accesslog_v3, http_connection_manager_v3
from isthmus.filters.access import unauthenticated_mapper
from isthmus.model.client_traffic import Problems
from isthmus.xds.outcome import of_grpc
from isthmus.xds.problem import document, problem_mapper


def build_local_replies(challenge: str | None, problems: Problems | None) -> Any:
    """A LocalReplyConfig; None: all stay as they are.

    ``challenge``: what AccessPolicies tell those who lack a credential. ``problems``: refusals are problem documents.
    """
    mappers = [*_unauthenticated(challenge, problems), *([problem_mapper(problems)] if problems is not None else [])]
    return http_connection_manager_v3.LocalReplyConfig(mappers=mappers) if mappers else None


def _unauthenticated(challenge: str | None, problems: Problems | None) -> Iterator[Any]:
    if challenge is None:
        return
    mapper = unauthenticated_mapper(challenge)
    if problems is not None:
        told = http_connection_manager_v3.ResponseMapper()
        told.CopyFrom(mapper)
        # A gRPC client would find the document in its grpc-message.
        told.filter.CopyFrom(_both(mapper.filter, of_grpc(invert=True)))
        told.body_format_override.CopyFrom(document(problems))
        yield told
    yield mapper


def _both(one: Any, other: Any) -> Any:
    return accesslog_v3.AccessLogFilter(and_filter=accesslog_v3.AndFilter(filters=[one, other]))
