"""Secrets as the configuration gives them: where one is read from, and a value that does not show itself.

An option of an adapter may be one: a field of the type `Secret` takes what stands for a secret anywhere.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from routing.words import quoted, unknown

MAX_SECRET: Final = 4096

_WAYS: Final = "`{env: NAME}`, `{file: PATH}` or the secret itself in quotes would be right"


class Secret:
    """A text that shows itself only to who asks for it by name."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


class SecretError(ValueError):
    """Not a secret; the text says what would be one, and never what was there.

    `path`: the keys below the value at which it went wrong; `of_key`: whether the last of them itself is wrong.
    """

    def __init__(self, text: str, *path: str, of_key: bool = False) -> None:
        super().__init__(text)
        self.path = path
        self.of_key = of_key


def read_secret(raw: object, *, base: Path, environ: Mapping[str, str]) -> Secret:
    """The secret that `raw` stands for: a text is it, `{env: NAME}` and `{file: PATH}` say where it is.

    `base`: the directory to which a path refers. Reads the file, blocking. Raises `SecretError`.
    """
    if isinstance(raw, str):
        if not raw.strip() or len(raw) > MAX_SECRET:
            raise SecretError(f"a text of 1 to {MAX_SECRET} characters would be right")
        if not raw.isprintable():
            raise SecretError("has control characters; a text without them would be right")
        return Secret(raw)
    if not isinstance(raw, Mapping):
        raise SecretError(_WAYS)
    for key in raw:
        if key not in ("env", "file"):
            raise SecretError(unknown("key", str(key), ("env", "file")), str(key), of_key=True)
    if len(raw) != 1:
        raise SecretError(_WAYS)
    ((source, name),) = raw.items()
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise SecretError(f"the {_NAMED[source]} in quotes would be right", source)
    text = _of_environment(name, environ) if source == "env" else _of_file(base / name, name)
    if not text or len(text) > MAX_SECRET or not text.isprintable():
        raise SecretError(
            f"{quoted(name)} holds no secret; one line of 1 to {MAX_SECRET} characters would be right", source
        )
    return Secret(text)


_NAMED: Final[Mapping[str, str]] = {"env": "name of a variable", "file": "path of a file"}


def _of_environment(name: str, environ: Mapping[str, str]) -> str:
    text = environ.get(name)
    if text is None:
        raise SecretError(
            f"the environment has no variable {quoted(name)}; set it, or use {{file: PATH}}", "env"
        )
    return text


def _of_file(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(4 * MAX_SECRET + 2)
        return raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise SecretError(
            f"{quoted(name)} cannot be read: {error.strerror}; a readable file would be right", "file"
        ) from error
    except UnicodeDecodeError as error:
        raise SecretError(
            f"{quoted(name)} is not UTF-8; a file with one line of text would be right", "file"
        ) from error


def signing_key(secret: str) -> bytes:
    """The key that a secret stands for: `whsec_` and base64, as Standard Webhooks has it, else its UTF-8.

    Raises `ValueError`.
    """
    if not secret.startswith("whsec_"):
        key = secret.encode()
    else:
        text = secret.removeprefix("whsec_")
        try:
            key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except binascii.Error:
            raise ValueError("a secret that begins with whsec_ goes on in base64") from None
    if not key:
        raise ValueError("a webhook's secret must not be empty")
    return key
