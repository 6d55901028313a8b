"""Policies from files; whether the engine survives them; a compiled policy's plan, which it shows only as a file."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from isthmus.decide.rego.source import Module, Policy
from isthmus.errors import PolicyBroken

_TRIAL = "isthmus.decide.rego.trial"
_TRIAL_SECONDS = 90.0
_ENVIRONMENT = ("LANG", "LC_ALL", "PATH", "PYTHONPATH", "TMPDIR", "TZ")
_DATA = (".json", ".yaml", ".yml")


def load_plan(interpreter: Any, bundle: Any) -> Any:
    """The plan (OPA's intermediate representation), JSON values. Through a folder that is nobody else's."""
    with tempfile.TemporaryDirectory(prefix="isthmus-rego-") as folder:
        interpreter.save_bundle(folder, bundle)
        return json.loads((Path(folder) / "plan.json").read_bytes())


async def examine(policy: Policy, path: str) -> str | None:
    """:func:`examine_all` of one."""
    (problem,) = await examine_all([(policy, path)])
    return problem


async def examine_all(asked: Sequence[tuple[Policy, str]]) -> list[str | None]:
    """Whether the engine can compile each policy, asked for a rule, in a process of its own: None, or what is wrong."""
    found: list[str | None] = []
    while len(found) < len(asked):
        rest = asked[len(found) :]
        said = await _try(rest)
        found += said
        if len(said) < len(rest):
            # The one that it was at; those behind it are asked again.
            found.append("the engine cannot compile it: it ended while it tried (rego-cpp lacks what it uses)")
    return found


async def _try(asked: Sequence[tuple[Policy, str]]) -> list[str | None]:
    """What one process says before it ends: fewer answers than questions if it died."""
    question = [
        {"path": path, "modules": [{"file": one.file, "text": one.text} for one in policy.modules], "data": policy.data}
        for policy, path in asked
    ]
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", _TRIAL),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
    )
    said = b""
    try:
        async with asyncio.timeout(_TRIAL_SECONDS):
            said, _ = await child.communicate(json.dumps(question).encode())
    except TimeoutError:
        return [f"the engine did not compile it in {_TRIAL_SECONDS:g} s"] * len(asked)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return [json.loads(line)["problem"] for line in said.splitlines() if line.startswith(b'{"problem": ')]


def load_policy(paths: Iterable[Path]) -> Policy:
    """All ``*.rego`` of files and folders, the RegoPolicies of manifests, and other JSON and YAML as data, at the root.

    Raises PolicyBroken: a file cannot be read, or two say different things of one place in data.
    """
    modules: list[Module] = []
    data: dict[str, Any] = {}
    for path in _files(paths):
        try:
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".rego":
                modules.append(Module(str(path), text))
                continue
            for document in yaml.safe_load_all(text):
                module, more = _read(str(path), document)
                modules += module
                _merge(data, more, str(path))
        except (OSError, UnicodeDecodeError) as broken:
            raise PolicyBroken(f"{path}: {getattr(broken, 'strerror', None) or 'not UTF-8'}") from None
        except yaml.YAMLError:
            raise PolicyBroken(f"{path}: neither JSON nor YAML") from None
    if not modules:
        raise PolicyBroken("there is no Rego in what was named")
    return Policy("", tuple(modules), data)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(one for one in path.rglob("*") if one.suffix in (".rego", *_DATA) and one.is_file())
        else:
            yield path


def _read(file: str, document: Any) -> tuple[list[Module], Mapping[str, Any]]:
    """The module and the data of one document: a RegoPolicy's own; other manifests are not data."""
    if not isinstance(document, dict):
        return [], {}
    if "apiVersion" not in document or "kind" not in document:
        return [], document
    spec = document.get("spec")
    if document["kind"] != "RegoPolicy" or not isinstance(spec, dict) or not isinstance(spec.get("rego"), str):
        return [], {}
    metadata = document.get("metadata")
    name = metadata.get("name", "") if isinstance(metadata, dict) else ""
    own = spec.get("data")
    return [Module(f"{file}#{name}", spec["rego"])], own if isinstance(own, dict) else {}


def _merge(into: dict[str, Any], more: Mapping[str, Any], file: str) -> None:
    for key, value in more.items():
        known = into.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            _merge(known, value, file)
        elif key in into and known != value:
            raise PolicyBroken(f"{file}: another file says something else of data.{key}")
        else:
            into[key] = value
