"""API keys: ``isk_<id>_<secret><checksum>``, letters and digits.

The prefix and the checksum let whoever finds one in a text know, without asking anybody, that it is one (GitHub's way:
CRC-32 of what stands before it, six digits of base 62). The id says which, the secret proves it. Of the secret nothing
but a digest is kept: it has 190 bits, which no dictionary knows, so a slow hash would only slow us.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import zlib
from dataclasses import dataclass, field
from typing import Self

PREFIX = "isk_"
ID_LENGTH = 12
SECRET_LENGTH = 32
_CHECKSUM_LENGTH = 6
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_FORM = re.compile(rf"isk_([0-9A-Za-z]{{{ID_LENGTH}}})_([0-9A-Za-z]{{{SECRET_LENGTH}}})([0-9A-Za-z]{{6}})", re.ASCII)
_ID = re.compile(rf"[0-9A-Za-z]{{{ID_LENGTH}}}", re.ASCII)


class KeyMalformed(ValueError):
    """Not an API key of ours; the message does not repeat it."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """No repr shows the secret."""

    id: str
    secret: str = field(repr=False)

    @classmethod
    def make(cls) -> Self:
        """A new one, from the system's randomness."""
        return cls(_random(ID_LENGTH), _random(SECRET_LENGTH))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises KeyMalformed."""
        form = _FORM.fullmatch(text)
        if form is None:
            raise KeyMalformed("not of the form isk_<id>_<secret><checksum>")
        if form[3] != _checksum(text[:-_CHECKSUM_LENGTH]):
            raise KeyMalformed("its checksum is wrong: mistyped, or not made by us")
        return cls(form[1], form[2])

    @property
    def text(self) -> str:
        """What its owner shows; never to be written anywhere."""
        written = f"{PREFIX}{self.id}_{self.secret}"
        return written + _checksum(written)

    @property
    def digest(self) -> bytes:
        """SHA-256 of id and secret, 32 bytes: what is kept. With the id in it, no digest is good for another key."""
        return hashlib.sha256(f"{self.id}_{self.secret}".encode()).digest()

    def has(self, digest: bytes) -> bool:
        """Whether ``digest`` is this key's, in a time that does not tell how much of it is right."""
        return hmac.compare_digest(self.digest, digest)


def is_id(text: str) -> bool:
    """Whether ``text`` can be a key's id."""
    return _ID.fullmatch(text) is not None


def _random(length: int) -> str:
    return "".join(secrets.choice(_DIGITS) for _ in range(length))


def _checksum(text: str) -> str:
    rest = zlib.crc32(text.encode("ascii"))
    digits = []
    for _ in range(_CHECKSUM_LENGTH):
        rest, digit = divmod(rest, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
