"""Which stamping keys there are and where they lie: one in the settings, or several in a TOML file.

[[key]]
name = "2026"                       # in logs, metrics and `stampede keys`
source = "pem"                      # key, chain, passphrase_file
key = "2026.key.pem"                # paths are relative to this file
chain = "2026.chain.pem"

[[key]]
name = "2027"
source = "pkcs12"                   # file, passphrase_file
file = "2027.p12"
passphrase_file = "2027.passphrase"
from = 2027-01-01T00:00:00+07:00    # not before its certificate is valid either way
until = 2027-12-31T00:00:00+07:00
pss = true                          # RSA-PSS instead of PKCS #1 v1.5

[[key]]
name = "hsm"
source = "pkcs11"                   # module, token, key_label or key_id, pin_file, chain
module = "/usr/lib/softhsm/libsofthsm2.so"
token = "stamp"
key_label = "2028"
pin_file = "pin"
"""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from common.settings import WorkerSettings
from workers.sealing import KeyUnusableError, Signer
from workers.sealing.signing import hsm
from workers.sealing.signing.hsm import TokenKey
from workers.sealing.signing.keys import certificates_from_pem

ONE_KEY = "default"


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    folder: Path | None = (info.context or {}).get("folder")
    return path if folder is None else folder / path


_Path = Annotated[Path, AfterValidator(_beside_the_file)]


class _Entry(BaseModel):
    """What every key has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=100)
    pss: bool = False
    since: AwareDatetime | None = Field(None, alias="from")
    until: AwareDatetime | None = None

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Self:
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError("'from' must be before 'until'")
        return self


class PemEntry(_Entry):
    """A key and its certificates in PEM files."""

    source: Literal["pem"] = "pem"
    key: _Path
    chain: _Path
    passphrase_file: _Path | None = None

    def files(self) -> tuple[Path | None, ...]:
        """Return the files that it is read from."""
        return (self.key, self.chain, self.passphrase_file)

    def load(self) -> Signer:
        """Read the key."""
        return Signer.from_pem(
            _read(self.key), _read(self.chain), _secret(self.passphrase_file), pss=self.pss
        )


class Pkcs12Entry(_Entry):
    """A key and its certificates in one PKCS #12 file."""

    source: Literal["pkcs12"]
    file: _Path
    passphrase_file: _Path | None = None

    def files(self) -> tuple[Path | None, ...]:
        """Return the files that it is read from."""
        return (self.file, self.passphrase_file)

    def load(self) -> Signer:
        """Read the key."""
        return Signer.from_pkcs12(_read(self.file), _secret(self.passphrase_file), pss=self.pss)


class Pkcs11Entry(_Entry):
    """A key that a token keeps."""

    source: Literal["pkcs11"]
    module: _Path
    token: str
    key_label: str | None = None
    key_id: str | None = Field(None, pattern=r"^([0-9a-fA-F]{2})+$")
    pin_file: _Path
    chain: _Path | None = None

    @model_validator(mode="after")
    def _names_a_key(self) -> Self:
        if self.key_label is None and self.key_id is None:
            raise ValueError("'key_label' or 'key_id' must say which key of the token it is")
        return self

    def files(self) -> tuple[Path | None, ...]:
        """Return the files that it is read from."""
        return (self.pin_file, self.chain)

    def load(self) -> Signer:
        """Find the key on its token and try it."""
        try:
            pin = (_secret(self.pin_file) or b"").decode()
        except UnicodeDecodeError as error:
            raise KeyUnusableError(f"{self.pin_file} holds no PIN in UTF-8") from error
        place = TokenKey(
            module=self.module,
            token=self.token,
            pin=pin,
            label=self.key_label,
            id=None if self.key_id is None else bytes.fromhex(self.key_id),
        )
        chain = () if self.chain is None else certificates_from_pem(_read(self.chain))
        return hsm.load(place, chain, pss=self.pss)


Entry = PemEntry | Pkcs12Entry | Pkcs11Entry


class _KeysFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: list[Annotated[Entry, Field(discriminator="source")]] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [entry.name for entry in self.key]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two keys are named '{twice[0]}'")
        return self


def read_entries(settings: WorkerSettings) -> tuple[Entry, ...]:
    """Return the keys that the settings name; the keys themselves are not read.

    Raises:
        KeyUnusableError: the list cannot be read; says where and why.
    """
    if settings.signing_key_file is not None and settings.signing_chain_file is not None:
        key, chain = settings.signing_key_file, settings.signing_chain_file
        return (PemEntry(name=ONE_KEY, key=key, chain=chain),)
    file = settings.signing_keys_file
    if file is None:
        raise KeyUnusableError("no stamping key is configured")
    try:
        content = tomllib.loads(_read(file).decode())
        listed = _KeysFile.model_validate(content, context={"folder": file.parent})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise KeyUnusableError(f"{file}: {place or 'key'}: {first['msg']}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KeyUnusableError(f"{file} is not TOML: {error}") from error
    return tuple(listed.key)


def _secret(file: Path | None) -> bytes | None:
    """Return a passphrase or PIN without the line's end that editors add."""
    return None if file is None else _read(file).rstrip(b"\r\n")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise KeyUnusableError(f"cannot read {file}: {error.strerror}") from error
