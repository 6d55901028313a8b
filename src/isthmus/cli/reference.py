"""The generated pages of ``docs/reference``: ``python -m isthmus.cli.reference docs/reference`` (``make docs``).

Codes, fields and commands are told from the very values that report, read and run them, so that no page goes stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import timedelta
from enum import Enum
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import typer

import isthmus
from isthmus.cli.app import app
from isthmus.config.decode import Field, Reader
from isthmus.diag import Code
from isthmus.kinds import KINDS, LATER_KINDS
from isthmus.kinds.authorization_policy.attribute import KEYS
from isthmus.kinds.shape.kind import AnyKind
from isthmus.kinds.shape.mesh_config import MESH_CONFIG
from isthmus.model.metric import (
    CONTROL_PLANE_METRICS,
    DENIED,
    ENVOY_STAT_ENDINGS,
    ENVOY_STAT_PARTS,
    ENVOY_STATS,
    HANDSHAKE_METRICS,
    LABELS,
    PROXY_METRICS,
    Metric,
)
from isthmus.model.reason import REASONS
from isthmus.model.refusal import URN, Group, Reason

_GENERATED = "<!-- Written by `make docs` from the source: change it there. -->\n"


def pages() -> dict[str, str]:
    """The text of each page by its file name; the same source gives the same text."""
    return {
        "codes.md": codes_page(all_codes()),
        "kinds.md": kinds_page(KINDS),
        "cli.md": cli_page(),
        "metrics.md": metrics_page(),
        "reasons.md": reasons_page(REASONS),
    }


def main(folder: Path) -> None:
    """Write the pages into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


def named_codes() -> dict[str, list[Code]]:
    """Every code of the package by the name of its constant; different modules may use the same name."""
    found: dict[str, list[Code]] = {}
    for module in walk_packages(isthmus.__path__, "isthmus."):
        if module.name.endswith(".__main__"):
            continue
        for name, value in vars(import_module(module.name)).items():
            if isinstance(value, Code) and not any(value is known for known in found.setdefault(name, [])):
                found[name].append(value)
    return found


def all_codes() -> list[Code]:
    """Every code once, by its id; two codes that share an id are both there."""
    codes: list[Code] = []
    for values in named_codes().values():
        codes += [value for value in values if not any(value is known for known in codes)]
    return sorted(codes, key=lambda code: (code.id, code.title))


def codes_page(codes: Iterable[Code]) -> str:
    codes = list(codes)
    rows = [(f"[{code.id}](#{code.id.lower()})", code.severity.word, code.title) for code in codes]
    parts = [
        "# Codes",
        _GENERATED,
        "Everything that Isthmus reports of manifests has a code. `IST` codes are those of Istio's own analyzers for\n"
        "the same finding. An error that *spares the rest* does not end a first start, unless `--strict` is given.\n",
        _table(("Code", "Severity", "Title"), rows),
        *map(_code, codes),
    ]
    return "\n".join(parts)


def _code(code: Code) -> str:
    template = code.template.replace("{{", "{").replace("}}", "}")
    severity = code.severity.word if code.stops or code.severity.word != "error" else "error, spares the rest"
    return (
        f"## {code.id}\n\n**{code.title}** ({severity})\n\n```text\n{template}\n```\n\n"
        f"{code.what} {code.why}\n\nExample:\n\n```yaml\n{code.example}\n```\n\nWhat to do: {code.fix}\n"
    )


def kinds_page(kinds: Iterable[AnyKind]) -> str:
    parts = [
        "# Kinds",
        _GENERATED,
        "Every kind that is read, with each of its fields. `[]` stands for the entries of a list, `.*` for the values\n"
        "of a map. A field that is *warned about* has no effect yet; one that is *refused* is an error, because the\n"
        "rest would mean something else, or let in more, without it.\n",
        *map(_kind, kinds),
        "## Known, without effect\n\nKinds of Istio that are reported with a warning (ISM2003):\n",
    ]
    parts += [f"- `{group}`: {', '.join(names)}" for group, names in LATER_KINDS.items()]
    return "\n".join(parts) + "\n"


def _kind(kind: AnyKind) -> str:
    rows = list(_fields("" if kind.whole_document else "spec.", kind.spec))
    text = f"## {kind.name}\n\n{kind.about}\n\n{', '.join(f'`{version}`' for version in kind.api_versions)}\n\n"
    text += _table(("Field", "Type", "", "Note"), rows)
    if kind.name == "ConfigMap":
        mesh = list(_fields("", MESH_CONFIG))
        text += "\nThe mesh configuration in `data.mesh`:\n\n" + _table(("Field", "Type", "", "Note"), mesh)
    if kind.name == "AuthorizationPolicy":
        text += "\nKeys of `when`: " + ", ".join(f"`{key}`" for key in KEYS) + ".\n"
    return text


def _fields(prefix: str, reader: Reader[Any]) -> Iterator[tuple[str, ...]]:
    for field in reader.fields:
        kind = field.reader.name if field.reader is not None else ""
        yield f"`{prefix}{field.name}`", kind, field.support.value, _note(field)
        if field.reader is not None:
            yield from _below(f"{prefix}{field.name}", field.reader)


def _below(path: str, reader: Reader[Any]) -> Iterator[tuple[str, ...]]:
    while not reader.fields and reader.item is not None:
        path += "[]" if reader.name.startswith("a list") else ".*"
        reader = reader.item
    yield from _fields(f"{path}.", reader)


def _note(field: Field) -> str:
    default = _shown(field.default)
    parts = ("required" if field.required else "", f"default {default}" if default else "", field.note)
    return "; ".join(part for part in parts if part)


def _shown(default: object) -> str:
    """A default that is worth saying, as it would be written."""
    if isinstance(default, Enum):
        return default.name if default.value is not None else ""
    if isinstance(default, timedelta):
        return f"{default.total_seconds():g}s"
    if isinstance(default, bool):
        return str(default).lower()
    return str(default) if isinstance(default, int | str) and default != "" else ""


def cli_page() -> str:
    """From the parsed commands, not from what help prints: that depends on the terminal."""
    group: Any = typer.main.get_command(app)
    parts = [
        "# Commands",
        _GENERATED,
        "Exit codes: 0 nothing to report, 1 the manifests (or the comparison) are at fault or the request cannot be\n"
        "granted, 2 wrong usage, 70 a fault of Isthmus. `isthmus run` ends with the exit code of its command.\n",
    ]
    for name, command in _commands("isthmus", group):
        parts.append(f"## {name}\n\n{_help(command.help)}\n")
        rows = [_parameter(one) for one in command.params if not getattr(one, "hidden", False)]
        parts += [_table(("", "", "Default"), rows)] if rows else []
    return "\n".join(parts)


def metrics_page() -> str:
    """From the definitions that the builders, and the control plane, share."""
    labels = [(f"`{name}`", about) for name, about in LABELS.items()]
    endings = [(f"`...{name}`", about) for name, about in ENVOY_STAT_ENDINGS.items()]
    parts = [(f"`...{name}...`", about) for name, about in ENVOY_STAT_PARTS.items()]
    stats = [*((f"`{name}...`", about) for name, about in ENVOY_STATS.items()), *endings, *parts]
    return "\n".join(
        (
            "# Metrics",
            _GENERATED,
            "How they are read and sent: [Telemetry](../guides/telemetry.md). Names, types and labels are Istio's.\n",
            "## Of every proxy\n",
            _table(("Metric", "Type", "", "`match.metric`"), _metrics(PROXY_METRICS, "selector")),
            "Labels of all of them (`response_code` of those of HTTP only). What cannot be known is `unknown`.\n",
            _table(("Label", ""), labels),
            "Over OTLP what is looked up in the mesh is not there: `source_workload`, `source_workload_namespace`,\n"
            "`source_app` and `source_version` where `reporter` is `destination`; what is unknown is empty.\n",
            "## Of what is refused\n",
            _table(("Metric", "Type", "", "Labels"), _metrics([DENIED], "labels")),
            "What `reason` may be: [Reasons](reasons.md), all but those of what stands behind the proxy. It counts\n"
            "requests only; no label is what a client writes, and no Telemetry changes them.\n",
            "## Of TLS handshakes, at every listener that ends TLS\n",
            _table(("Metric", "Type", "", "Labels"), _metrics(HANDSHAKE_METRICS, "labels")),
            "Reason codes: [When TLS fails](../guides/tls-troubleshooting.md).\n",
            "## Of the control plane\n",
            _table(("Metric", "Type", "", "Labels"), _metrics(CONTROL_PLANE_METRICS, "labels")),
            "## Envoy's own\n",
            "Beside these an Envoy keeps the statistics whose names (as its admin interface tells them) fit here;\n"
            "Prometheus finds them as `envoy_...`.\n",
            _table(("Name", ""), stats),
        )
    )


def reasons_page(reasons: Iterable[Reason]) -> str:
    """From the very values that proxies recognise refusals by."""
    reasons = list(reasons)
    parts = [
        "# Reasons",
        _GENERATED,
        "Every refusal has one code: in `reason` of the access log, in the metric `isthmus_denied_requests_total`\n"
        "and, where a ClientTrafficPolicy switches it on, in the answer ([Why was it\n"
        "refused?](../guides/reasons.md)). Codes stay; new ones come. Handshakes that fail have codes of their own,\n"
        "which begin with `tls-`: [When TLS fails](../guides/tls-troubleshooting.md).\n",
        f"The type of a problem document is `{URN}CODE`; its title is the sentence beside the code here.\n",
    ]
    for group in Group:
        rows = [
            (f"`{reason.code}`", str(reason.status or "closed"), reason.about, reason.fix)
            for reason in reasons
            if reason.group is group
        ]
        parts += [f"## {group.value}\n", _table(("Code", "Status", "Means", "What to do"), rows)]
    return "\n".join(parts)


def _metrics(metrics: Iterable[Metric], last: str) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for metric in metrics:
        shown = metric.labels if last == "labels" else ((metric.selector,) if metric.selector else ())
        rows.append((f"`{metric.name}`", metric.kind.value, metric.about, ", ".join(f"`{one}`" for one in shown)))
    return rows


def _commands(prefix: str, group: Any) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from _commands(f"{prefix} {name}", command)
        else:
            yield f"{prefix} {name}", command


def _help(text: str) -> str:
    """The examples, which stand indented after blank lines, as one block."""
    before, _, examples = text.partition("\n    ")
    if not examples:
        return before
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    return before.rstrip() + "\n\n```sh\n" + "\n".join(lines) + "\n```"


def _parameter(parameter: Any) -> tuple[str, ...]:
    choices = "|".join(each.value for each in type(parameter.default)) if isinstance(parameter.default, Enum) else ""
    metavar = parameter.metavar or choices
    names = ", ".join(parameter.opts) if parameter.opts[0].startswith("-") else ""
    default = parameter.default.value if isinstance(parameter.default, Enum) else parameter.default
    shown = "" if default is None or default is False else f"`{default}`"
    variable = f" (`{parameter.envvar}`)" if parameter.envvar else ""
    return f"`{' '.join(part for part in (names, metavar) if part)}`", (parameter.help or "") + variable, shown


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
