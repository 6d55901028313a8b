"""Whether a regular expression is one that Envoy's engine (RE2) takes.

Python's engine checks the structure; what RE2 leaves out is refused by name, what RE2 alone has is translated first.
Source: github.com/google/re2/wiki/Syntax.
"""

from __future__ import annotations

import re
import warnings

from isthmus.diag import Code, Severity

INVALID_REGEX = Code(
    "IST0122",
    Severity.ERROR,
    "Invalid regular expression",
    '"{regex}" is not a regular expression of RE2: {problem}',
    what="A regular expression that Envoy's engine, RE2, would refuse.",
    why="RE2 answers in linear time and so has no lookaround and no backreferences; Envoy would refuse the route.",
    example='uri: {regex: "/(?!admin).*"}',
    fix="Write it without the construct that the message names; a regular expression must match the whole value.",
)

_MAX_REPEAT = 1000
_ESCAPES = set("dDsSwWbBAzpPQECafnrtvx")
_REFUSED = (
    (re.compile(r"\(\?<?[=!]"), "it has no lookaround"),
    (re.compile(r"\(\?P="), "it has no backreferences"),
    (re.compile(r"\(\?[>(#]"), "it has no atomic groups, conditions or comments"),
    (re.compile(r"[*+?}]\+"), "it has no possessive repetition"),
)
_GROUP_NAME = re.compile(r"\(\?P?<(\w+)>")
_CODE_POINT = re.compile(r"\\x\{([0-9a-fA-F]+)\}")
_CLASS = re.compile(r"\[\^?\]?(?:\[:\^?\w+:\]|[^\]])*\]")


def regex_problem(pattern: str) -> str | None:
    """None if RE2 takes ``pattern``, else why not."""
    for escape in re.findall(r"\\(.)", pattern, re.DOTALL):
        if escape in "123456789":
            return "it has no backreferences"
        if escape.isalpha() and escape not in _ESCAPES:
            return f"it has no \\{escape}"
    if any(int(point, 16) > 0xFF for point in _CODE_POINT.findall(pattern)):
        return "Envoy matches bytes: \\x{...} goes up to FF"
    bare = _CLASS.sub("a", re.sub(r"\\.", "a", pattern, flags=re.DOTALL))
    for construct, why in _REFUSED:
        if construct.search(bare):
            return why
    if any(
        int(count) > _MAX_REPEAT for bounds in re.findall(r"\{(\d+)(?:,(\d*))?\}", bare) for count in bounds if count
    ):
        return f"it repeats at most {_MAX_REPEAT} times"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(_in_python(pattern))
    except (re.error, RecursionError, OverflowError) as error:
        return str(error)
    return None


def _in_python(pattern: str) -> str:
    """``pattern`` with RE2's own constructs replaced by others of the same structure."""
    pattern = re.sub(r"\\Q(.*?)(?:\\E|$)", lambda quoted: re.escape(quoted[1]), pattern, flags=re.DOTALL)
    pattern = re.sub(r"\[:\^?\w+:\]|\\[pP](?:\{\^?\w+\}|\w)|\\C|\\x\{[0-9a-fA-F]+\}", "a", pattern)
    pattern = re.sub(r"\(\?[imsU-]+\)", "", pattern)
    pattern = re.sub(r"\(\?[imsU-]+:", "(?:", pattern)
    return _GROUP_NAME.sub("(", pattern.replace(r"\z", r"\Z"))
