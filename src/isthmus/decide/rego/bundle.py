"""OPA bundles: a gzipped tar of modules and data, read with a limit on everything that its author chooses. Pure.

Source: OPA's documentation, "Bundles": the file format. What OPA takes and this engine does not (WebAssembly, plans,
delta bundles, Rego v0) is refused, never left out.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from isthmus.decide.rego.document import Unparsable, read_json, read_structured
from isthmus.decide.rego.signature import SIGNATURES, Verifier
from isthmus.decide.rego.source import Module, Policy
from isthmus.errors import RegoBundleRefused

MANIFEST: Final = ".manifest"
MAX_BYTES: Final = 32 << 20
"""Of the bundle as it is fetched."""
_UNPACKED_BYTES: Final = 128 << 20
_ENTRIES: Final = 10_000
_PATH_BYTES: Final = 1024
_DATA: Final = frozenset({"data.json", "data.yaml", "data.yml"})
_REFUSED: Final[Mapping[str, str]] = {
    "policy.wasm": "policies compiled to WebAssembly are not run here: build the bundle of Rego (opa build -t rego)",
    "plan.json": "compiled plans are not run here: build the bundle of Rego (opa build -t rego)",
    "patch.json": "delta bundles are not taken: publish whole ones",
}
_MANIFEST_FIELDS: Final = frozenset({"revision", "roots", "wasm", "rego_version", "file_rego_versions", "metadata"})
_COMMENT_OR_STRING: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`|#[^\n]*')
_PACKAGE: Final = re.compile(r'\bpackage\s+([A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*|\s*\[\s*"[^"\\\n]*"\s*\])*)')
_PART: Final = re.compile(r'[A-Za-z_]\w*|"([^"\\\n]*)"')


@dataclass(frozen=True, slots=True)
class Bundle:
    """``roots``: the paths of ``data`` that it speaks of, and no others. ``signed``: its signature was verified."""

    revision: str
    roots: tuple[str, ...]
    modules: tuple[Module, ...] = field(repr=False)
    data: Mapping[str, Any] = field(repr=False)
    signed: bool = False

    def policy(self, name: str, bundle: str) -> Policy:
        """What the engine compiles for the RegoPolicy ``name``; ``bundle``: as decision logs name this bundle."""
        return Policy(name, self.modules, self.data, {bundle: self.revision})


def read_bundle(packed: bytes, verifier: Verifier | None = None) -> Bundle:
    """``verifier``: keys that must have signed it; None: a signature is not looked at.

    Raises RegoBundleRefused with the reason.
    """
    try:
        return _read(packed, verifier)
    except RecursionError:
        raise RegoBundleRefused("its data is nested too deeply") from None


def _read(packed: bytes, verifier: Verifier | None) -> Bundle:
    files = _files(_unpacked(packed))
    for path in files:
        if (reason := _REFUSED.get(_name(path))) is not None:
            raise RegoBundleRefused(f"{path}: {reason}")
    if verifier is not None:
        verifier.verify(files)
    manifest = _manifest(files.get(MANIFEST))
    modules = tuple(Module(path, _text(path, files[path])) for path in sorted(files) if path.endswith(".rego"))
    data: dict[str, Any] = {}
    for path in sorted(files):
        if _name(path) in _DATA:
            _insert(data, path, _structured(path, files[path]))
    roots = _roots(manifest)
    _within_roots(roots, modules, data)
    _only_rego_v1(manifest)
    return Bundle(str(manifest.get("revision", "")), roots, modules, data, verifier is not None)


def _unpacked(packed: bytes) -> bytes:
    if len(packed) > MAX_BYTES:
        raise RegoBundleRefused(f"more than {MAX_BYTES} bytes")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
            found = stream.read(_UNPACKED_BYTES + 1)
    except (OSError, EOFError, zlib.error) as fault:
        raise RegoBundleRefused(f"not a gzipped tar: {fault}") from None
    if len(found) > _UNPACKED_BYTES:
        raise RegoBundleRefused(f"more than {_UNPACKED_BYTES} bytes when unpacked")
    return found


def _files(unpacked: bytes) -> dict[str, bytes]:
    """Contents by path, without a leading slash; nothing is ever written to a disk."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as archive:
            for entries, member in enumerate(archive, 1):
                if entries > _ENTRIES:
                    raise RegoBundleRefused(f"more than {_ENTRIES} entries")
                if member.isdir():
                    continue
                path = _path(member.name)
                if not member.isreg() or member.issparse():
                    raise RegoBundleRefused(f"{path}: neither a file nor a folder (links are not followed)")
                if path in found:
                    raise RegoBundleRefused(f"{path}: twice in the bundle")
                stream = archive.extractfile(member)
                found[path] = content = stream.read() if stream is not None else b""
                if len(content) != member.size:
                    raise RegoBundleRefused(f"{path}: cut short")
            end = archive.offset
    except (tarfile.TarError, ValueError, UnicodeError, EOFError) as fault:
        raise RegoBundleRefused(f"not a gzipped tar: {fault}") from None
    # The reader takes a damaged header for the end: modules behind it would be left out without a word.
    if unpacked[end:].strip(b"\0") or not found:
        raise RegoBundleRefused("the tar is damaged, or empty")
    return found


def _path(name: str) -> str:
    plain = name.removeprefix("./").removeprefix("/")
    parts = plain.split("/")
    if len(name.encode(errors="replace")) > _PATH_BYTES or any(part in ("", ".", "..") for part in parts):
        raise RegoBundleRefused(f"{name[:100]!a}: not a path within a bundle")
    if "\\" in plain or not plain.isprintable():
        raise RegoBundleRefused(f"{name[:100]!a}: not a path within a bundle")
    if parts[-1] in (MANIFEST, SIGNATURES) and len(parts) > 1:
        raise RegoBundleRefused(f"{plain}: stands at the top of a bundle alone")
    return plain


def _name(path: str) -> str:
    return PurePosixPath(path).name


def _text(path: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise RegoBundleRefused(f"{path}: not UTF-8") from None


def _structured(path: str, content: bytes) -> Any:
    try:
        return read_structured(path, content)
    except Unparsable as fault:
        raise RegoBundleRefused(f"{path}: {fault}") from None


def _manifest(content: bytes | None) -> Mapping[str, Any]:
    if content is None:
        return {}
    try:
        found = read_json(content)
    except Unparsable as fault:
        raise RegoBundleRefused(f"{MANIFEST}: {fault}") from None
    if not isinstance(found, dict) or not isinstance(found.get("revision", ""), str):
        raise RegoBundleRefused(f"{MANIFEST}: not a manifest")
    if unknown := found.keys() - _MANIFEST_FIELDS:
        raise RegoBundleRefused(f"{MANIFEST}: no field {min(unknown)!a} is known")
    if found.get("wasm"):
        raise RegoBundleRefused(f"{MANIFEST}: {_REFUSED['policy.wasm']}")
    return found


def _only_rego_v1(manifest: Mapping[str, Any]) -> None:
    of_files = manifest.get("file_rego_versions") or {}
    versions = [manifest.get("rego_version", 1), *(of_files.values() if isinstance(of_files, dict) else (None,))]
    if any(version != 1 for version in versions):
        raise RegoBundleRefused(f"{MANIFEST}: only Rego v1 is run here (opa fmt --v0-v1 rewrites older modules)")


def _insert(data: dict[str, Any], path: str, value: Any) -> None:
    """At the place that the file's folder names. What two files say of one place may add up, not differ."""
    folders = path.split("/")[:-1]
    if not folders and not isinstance(value, dict):
        raise RegoBundleRefused(f"{path}: an object is expected at the top")
    for folder in reversed(folders):
        value = {folder: value}
    _merge(data, value, path)


def _merge(into: dict[str, Any], more: Mapping[str, Any], path: str) -> None:
    for key, value in more.items():
        known = into.get(key)
        if key not in into:
            into[key] = value
        elif isinstance(known, dict) and isinstance(value, dict):
            _merge(known, value, path)
        else:
            raise RegoBundleRefused(f"{path}: {key!a} is in another data file as well")


def _roots(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    given = manifest.get("roots", [""])
    if not isinstance(given, list) or not all(isinstance(root, str) for root in given):
        raise RegoBundleRefused(f"{MANIFEST}: roots are a list of strings")
    roots = tuple(root.strip("/") for root in given)
    for at, one in enumerate(roots):
        for other in roots[at + 1 :]:
            if _holds(_split(one), _split(other)) or _holds(_split(other), _split(one)):
                raise RegoBundleRefused(f"{MANIFEST}: the roots {one!a} and {other!a} overlap")
    return roots


def _split(path: str) -> list[str]:
    return path.split("/") if path else []


def _holds(root: list[str], path: list[str]) -> bool:
    return path[: len(root)] == root


def _within_roots(roots: tuple[str, ...], modules: Iterable[Module], data: Mapping[str, Any]) -> None:
    """Raises RegoBundleRefused for a module or data elsewhere."""
    paths = [_split(root) for root in roots]
    if [] in paths:
        return
    for module in modules:
        package = _package(module)
        if not any(_holds(root, package) for root in paths):
            raise RegoBundleRefused(f"{module.file}: package {'.'.join(package)} is not within the bundle's roots")
    _data_within(paths, data, [])


def _data_within(roots: list[list[str]], value: Any, at: list[str]) -> None:
    if any(_holds(root, at) for root in roots):
        return
    if not isinstance(value, Mapping) or (at and not any(_holds(at, root) for root in roots)):
        raise RegoBundleRefused(f"data at /{'/'.join(at)} is not within the bundle's roots")
    for key, inner in value.items():
        _data_within(roots, inner, [*at, key])


def _package(module: Module) -> list[str]:
    """The path of its package. Raises RegoBundleRefused: none is seen."""
    # A comment may hold quotes, a string number signs: whichever begins first counts.
    plain = _COMMENT_OR_STRING.sub(lambda found: "" if found[0].startswith("#") else found[0], module.text)
    found = _PACKAGE.match(plain.lstrip("\ufeff \t\r\n"))
    if found is None:
        raise RegoBundleRefused(f"{module.file}: no package is declared")
    return [part[1] if part[0].startswith('"') else part[0] for part in _PART.finditer(found[1])]
