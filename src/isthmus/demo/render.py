"""The demo's manifests, as they ship, with what is only known on this machine filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources

_VARIABLE = re.compile(r"\$\{([A-Z_]+)\}")


def shipped() -> dict[str, str]:
    """The templates inside the package: text by file name, sorted."""
    folder = resources.files("isthmus.demo").joinpath("manifests")
    found = (file for file in folder.iterdir() if file.name.endswith(".yaml"))
    return {file.name: file.read_text() for file in sorted(found, key=lambda file: file.name)}


def render(template: str, values: Mapping[str, str]) -> str:
    """Replace each ``${NAME}``. ``$(NAME)`` is not ours: a LocalWorkload's own. Raises KeyError for an unknown name."""
    return _VARIABLE.sub(lambda found: values[found[1]], template)


def manifests(idp_url: str, idp_port: int) -> dict[str, str]:
    """All manifests of the demo, by file name. ``idp_url``: the identity provider's, without a slash at the end."""
    values = {"IDP_URL": idp_url, "IDP_PORT": str(idp_port)}
    return {name: render(template, values) for name, template in shipped().items()}
