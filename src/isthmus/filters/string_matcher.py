"""String matches as Envoy's StringMatcher."""

from __future__ import annotations

from typing import Any

from isthmus.envoy_api.packages import matcher_v3
from isthmus.model.match import (
    Contains,
    Exact,
    PathTemplate,
    Prefix,
    Present,
    Regex,
    StringMatch,
    Suffix,
    template_regex,
)


def build_string_matcher(match: StringMatch) -> Any:
    """A StringMatcher that agrees with ``model.facts.matches``.

    Envoy's prefix, suffix and contains may not be empty, so those are regexes. A path template is a regex too, not
    Envoy's uri_template, which refuses characters that ``{*}`` takes (RFC 3986 pchar only).
    """
    match match:
        case Present():
            return _regex("(?s).+")
        case Regex(value):
            return _regex(value)
        case PathTemplate(value):
            return _regex(template_regex(value))
        case Exact(value, ignore_case):
            return matcher_v3.StringMatcher(exact=value, ignore_case=ignore_case)
        case Prefix("") | Suffix("") | Contains(""):
            return _regex("(?s).*")
        case Prefix(value, ignore_case):
            return matcher_v3.StringMatcher(prefix=value, ignore_case=ignore_case)
        case Suffix(value, ignore_case):
            return matcher_v3.StringMatcher(suffix=value, ignore_case=ignore_case)
        case Contains(value, ignore_case):
            return matcher_v3.StringMatcher(contains=value, ignore_case=ignore_case)


def _regex(value: str) -> Any:
    return matcher_v3.StringMatcher(safe_regex=matcher_v3.RegexMatcher(regex=value))
