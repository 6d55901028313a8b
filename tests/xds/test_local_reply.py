from __future__ import annotations

from isthmus.model.client_traffic import Problems
from isthmus.xds.local_reply import build_local_replies
from isthmus.xds.problem import problem_mapper


def test_where_nobody_says_anything_refusals_stay_as_they_are() -> None:
    assert build_local_replies(None, None) is None


def test_problem_documents_alone() -> None:
    assert list(build_local_replies(None, Problems()).mappers) == [problem_mapper(Problems())]


def test_a_lacking_credential_is_401_whichever_body_it_has() -> None:
    (plain,) = build_local_replies("Bearer", None).mappers
    assert (plain.status_code.value, plain.HasField("body_format_override")) == (401, False)
    told, grpc, problems = build_local_replies("Bearer", Problems()).mappers
    assert (told.status_code.value, told.body_format_override) == (401, problems.body_format_override)
    assert told.filter.and_filter.filters[0] == grpc.filter
    assert told.headers_to_add == grpc.headers_to_add == plain.headers_to_add
    assert grpc == plain
