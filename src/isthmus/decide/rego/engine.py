"""One compiled Rego policy: modules and data in, values out. The engine is rego-cpp, by ``regopy``.

Compiled once; of an input it is given what it reads (``need.py``), and nothing that it would read wrong (``give.py``).
What the engine would take for undefined where OPA refuses to compile is refused here (``plan.py``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from isthmus.decide.rego.give import MOST_NESTED, give
from isthmus.decide.rego.library import regopy
from isthmus.decide.rego.literal import canonical, nesting, package_of
from isthmus.decide.rego.load import load_plan
from isthmus.decide.rego.need import Need, needed, reads
from isthmus.decide.rego.plan import is_rule, problems
from isthmus.decide.rego.source import Policy
from isthmus.errors import PolicyBroken, Undecided

MASK, DROP = "system/log/mask", "system/log/drop"
"""Rules with which a policy says what its decision log must not hold (OPA)."""
_NEWLINE = b"\n"
_ERROR = re.compile(r"errormsg (\d+):")
_PLACE = re.compile(r"\(error (\d+):")


class Undefined:
    """What a rule without a value gives."""


UNDEFINED = Undefined()


class Engine:
    """``evaluate`` may be called from any thread. Made by :func:`compile_policy`."""

    def __init__(self, bundle: Any, paths: frozenset[str], need: Need | None = None) -> None:
        """``need``: what its rules read of an input."""
        self._bundle = bundle
        self._paths = paths
        self._need = need
        self._free: list[Any] = []
        """Interpreters that nobody uses now: each has an input of its own."""

    def has(self, path: str) -> bool:
        """Whether there is a rule at ``path`` (``envoy/authz/allow``) that was compiled to be asked."""
        return path in self._paths

    def evaluate(self, path: str, document: Any) -> Any:
        """The value of a rule: JSON values, sets as lists; ``UNDEFINED`` if it has none.

        Raises Undecided: the input cannot be given to the engine, or evaluating it failed.
        """
        if path not in self._paths:
            return UNDEFINED
        try:
            interpreter = self._free.pop()
        except IndexError:
            interpreter = _interpreter()
        try:
            give(interpreter, needed(document, self._need))
            return _value(_ask(interpreter, self._bundle, path))
        except Undecided:
            raise
        except Exception as broken:
            # What the engine raises is not told apart from what it does not survive: nothing of it is an answer.
            raise Undecided(f"the engine failed: {type(broken).__name__}") from None
        finally:
            self._free.append(interpreter)


def compile_policy(policy: Policy, paths: Sequence[str]) -> Engine:
    """``paths``: the rules that will be asked for, as ``envoy/authz/allow``; each must be there.

    Raises PolicyBroken with every reason, each as ``file:line: what``.
    """
    interpreter = _interpreter()
    asked = (*paths, *(path for path in (MASK, DROP) if _speaks_of_log(policy)))
    try:
        for module in policy.modules:
            _add(interpreter, module.file, canonical(module.text))
        if policy.data:
            interpreter.add_data_json(_data(policy))
        bundle = interpreter.build(None, tuple(dict.fromkeys(asked)))
    except regopy().rego_shared.RegoError as broken:
        raise PolicyBroken(_said(str(broken), policy)) from None
    if not bundle.ok():
        raise PolicyBroken("the engine cannot compile it: a rule is used in a way that it does not know")
    plan = load_plan(interpreter, bundle)
    found = problems(plan, interpreter.is_builtin)
    missing = [path for path in paths if not is_rule(plan, path)]
    found += tuple(f"there is no rule data.{path.replace('/', '.')}" for path in missing)
    if found:
        raise PolicyBroken("; ".join(found))
    engine = Engine(bundle, frozenset(path for path in asked if is_rule(plan, path)), reads(plan))
    _verify(bundle, paths)
    return engine


def _interpreter() -> Any:
    made = regopy().Interpreter()
    made.log_level = regopy().rego_shared.LogLevel.NONE
    return made


def _add(interpreter: Any, file: str, text: str) -> None:
    if "\0" in text:
        raise PolicyBroken(f"{file}: a module holds no NUL")
    if nesting(text) > MOST_NESTED:
        raise PolicyBroken(f"{file}: nested deeper than {MOST_NESTED}")
    interpreter.add_module(file, text)


def _speaks_of_log(policy: Policy) -> bool:
    return any(package_of(module.text) == "system.log" for module in policy.modules)


def _data(policy: Policy) -> str:
    """The engine reads no exponents in data."""
    text = json.dumps(_readable(policy.data), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace").decode()


def _readable(value: Any, depth: int = 0) -> Any:
    if depth > MOST_NESTED:
        raise PolicyBroken(f"data: nested deeper than {MOST_NESTED}")
    if isinstance(value, dict):
        return {key: _readable(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(each, depth + 1) for each in value]
    if isinstance(value, float):
        if value.is_integer():
            return int(value)
        if "e" in repr(value):
            raise PolicyBroken(f"data: the engine cannot read the number {value!r}")
    return value


def _verify(bundle: Any, paths: Sequence[str]) -> None:
    """The engine verifies what it compiled when it is first asked. An error of the policy's own is for later."""
    interpreter = _interpreter()
    for path in paths:
        interpreter.set_input({})
        said = _ask(interpreter, bundle, path)
        if said is not None and said.startswith("(error") and "bundle verify" in said:
            unbound = "a variable that nothing binds is used (OPA: rego_unsafe_var_error)"
            raise PolicyBroken(unbound if "local index" in said else _message(said))


def _ask(interpreter: Any, bundle: Any, path: str) -> str | None:
    """The engine's own text; None: it says that it failed."""
    rego_shared = regopy().rego_shared
    output = rego_shared.rego_bundle_query_entrypoint(interpreter._impl, bundle._impl, path)
    try:
        return str(rego_shared.rego_output_string(output)) if rego_shared.rego_output_ok(output) else None
    finally:
        rego_shared.rego_free_output(output)


def _value(text: str | None) -> Any:
    if text is None:
        raise Undecided("the policy failed: rules contradict each other, or a function was given what it cannot take")
    if text == "undefined":
        return UNDEFINED
    if text.startswith("(error"):
        raise Undecided(f"the engine failed: {_message(text)}")
    (value,) = json.loads(text)["expressions"]
    return value


def _said(error: str, policy: Policy) -> str:
    """The engine's errors, each with its file and line; without their syntax trees."""
    found: list[str] = []
    for part in re.split(r"(?=\(error )", error):
        message = _message(part)
        if message:
            found.append(f"{_where(part, policy)}{message}")
    return "; ".join(dict.fromkeys(found)) or "the engine cannot parse it"


def _message(error: str) -> str:
    found = _ERROR.search(error)
    return error[found.end() : found.end() + int(found.group(1))] if found is not None else ""


def _where(error: str, policy: Policy) -> str:
    found = _PLACE.search(error)
    if found is None:
        return ""
    name = error[found.end() : found.end() + int(found.group(1))]
    offset = re.match(r"\|(\d+)", error[found.end() + int(found.group(1)) :])
    module = next((one for one in policy.modules if one.file == name), None)
    if module is None or offset is None:
        return f"{name}: "
    before = canonical(module.text).encode()[: int(offset.group(1))]
    return f"{name}:{before.count(_NEWLINE) + 1}: "
