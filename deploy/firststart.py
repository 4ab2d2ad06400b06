"""What a data folder gets at its first start and keeps: keys, settings, a demo partner, a letter."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from dotenv import dotenv_values
from sqlalchemy import Connection

from common import accounts, jwks, ledger, partners
from common.database import Database
from common.identifiers import new_id
from common.partners import Mode, Partner
from common.settings import ENV_FILE_NAME
from common.vouchers import code, issuing
from common.vouchers.issuing import NewBatch
from deploy.sample import sample_letter
from deploy.specimen import make_specimen_chain

# In the data folder.
CODE_PUBLIC_KEYS = Path("keys/code.pub.pem")
DEMO_FILE_NAME = "demo.env"
DEMO_PARTNER = "demo"
DEMO_QUOTA = 1000
DEMO_VOUCHER_STAMPS = 100
_FLOWER_USER = "ops"


@dataclass(frozen=True, slots=True)
class Demo:
    """The demo partner's keys, and a voucher of test mode."""

    test_key: str
    live_key: str
    voucher: str


def write_privately(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads; it appears whole or not at all."""
    building = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(building, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    building.replace(path)


def read_variables(path: Path) -> dict[str, str]:
    """Return the variables of a settings file; none when it is missing."""
    return {name: value for name, value in dotenv_values(path).items() if value is not None}


def write_variables(path: Path, variables: Mapping[str, str]) -> None:
    """Write a settings file, each value quoted."""
    lines = [f"{name}='{value}'" for name, value in sorted(variables.items())]
    write_privately(path, ("\n".join(lines) + "\n").encode())


def make_settings(data: Path, *, changing: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of a data folder, making keys and secrets that it does not have yet.

    Args:
        data: the data folder, absolute.
        changing: what every start decides anew: addresses and ports.
    """
    file = data / ENV_FILE_NAME
    receipt_key = data / "keys" / "receipt.key.pem"
    chain = make_specimen_chain(data / "keys" / "specimen")
    _make_key(receipt_key)
    chosen = {n: v for n, v in os.environ.items() if n.startswith("STAMPEDE_")}
    code_key = Path(chosen.get("STAMPEDE_CODE_KEY_FILE", data / "keys" / "code.key.pem"))
    code_public_keys = data / CODE_PUBLIC_KEYS
    if "STAMPEDE_CODE_KEY_FILE" not in chosen:
        _make_key(code_key)
    if code_key.exists() and "STAMPEDE_CODE_PUBLIC_KEYS_FILE" not in chosen:
        _publish(code_key, code_public_keys)
    fresh = {
        "STAMPEDE_LINK_KEY": secrets.token_urlsafe(32),
        "STAMPEDE_WEBHOOK_ALLOW_PRIVATE": "true",
        "FLOWER_BASIC_AUTH": f"{_FLOWER_USER}:{secrets.token_urlsafe(12)}",
    }
    places = {
        "STAMPEDE_RECEIPT_KEY_FILE": str(receipt_key),
        "STAMPEDE_CODE_KEY_FILE": str(code_key),
        "STAMPEDE_CODE_PUBLIC_KEYS_FILE": str(code_public_keys),
        "STAMPEDE_SIGNING_KEY_FILE": str(chain.signer_key),
        "STAMPEDE_SIGNING_CHAIN_FILE": str(chain.chain),
        "STAMPEDE_SIGNING_ROOTS_FILE": str(chain.root),
        "STAMPEDE_REVOCATION_FILES": ",".join(str(file) for file in chain.revocation),
        "STAMPEDE_TRUST_ROOTS_FILE": str(chain.root),
    }
    variables = fresh | read_variables(file) | places | chosen | dict(changing)
    variables["STAMPEDE_DATA_DIR"] = str(data)
    variables.pop("STAMPEDE_ENV_FILE", None)
    if "STAMPEDE_SIGNING_KEYS_FILE" in variables:
        # A list of keys takes the place of the SPECIMEN key, but not of one that was chosen too.
        for name in ("STAMPEDE_SIGNING_KEY_FILE", "STAMPEDE_SIGNING_CHAIN_FILE"):
            if name not in chosen:
                del variables[name]
    write_variables(file, variables)
    return variables


def _make_key(file: Path) -> None:
    """Make an Ed25519 key where there is none."""
    if not file.exists():
        write_privately(
            file,
            Ed25519PrivateKey.generate().private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ),
        )


def _publish(key: Path, published: Path) -> None:
    """Put a key's public part in front of those that codes are checked against, if it is not there.

    Earlier ones stay: the codes that they signed are about.
    """
    public = jwks.public_pem(jwks.private_key(key.read_bytes()).public_key())
    known = published.read_bytes() if published.exists() else b""
    if public.strip() not in known:
        write_privately(published, public + known)


def make_demo(data: Path, database: Database) -> Demo:
    """Return the demo partner's keys and voucher, making what is missing once."""
    known = read_demo(data)
    if known is not None:
        return known
    variables = read_variables(data / DEMO_FILE_NAME)
    with database.transaction() as connection:
        partner = partners.create(connection, name=DEMO_PARTNER)
        if "LIVE_KEY" not in variables:
            variables |= _demo_keys(connection, partner)
        variables["VOUCHER"] = _demo_voucher(connection, partner)
    write_variables(data / DEMO_FILE_NAME, variables)
    return _demo(variables)


def read_demo(data: Path) -> Demo | None:
    """Return the demo partner's keys and voucher, or None before the first start."""
    known = read_variables(data / DEMO_FILE_NAME)
    return _demo(known) if {"TEST_KEY", "LIVE_KEY", "VOUCHER"} <= set(known) else None


def _demo(variables: Mapping[str, str]) -> Demo:
    return Demo(variables["TEST_KEY"], variables["LIVE_KEY"], variables["VOUCHER"])


def _demo_keys(connection: Connection, partner: Partner) -> dict[str, str]:
    test, live = (
        partners.issue_key(connection, partner_id=partner.id, mode=mode, label=DEMO_PARTNER)
        for mode in (Mode.TEST, Mode.LIVE)
    )
    ledger.top_up(
        connection,
        account_id=accounts.of_partner(connection, partner_id=partner.id, mode=Mode.LIVE),
        amount=DEMO_QUOTA,
        reference="first start",
        by="stampede",
    )
    return {"TEST_KEY": test.secret, "LIVE_KEY": live.secret}


def _demo_voucher(connection: Connection, partner: Partner) -> str:
    batch = NewBatch(
        # Another one where the file of an earlier one was lost.
        reference=f"demo {new_id()}",
        partner_id=partner.id,
        mode=Mode.TEST,
        stamps=DEMO_VOUCHER_STAMPS,
        expires_at=None,
        by="stampede",
    )
    made = code.generate()
    issuing.issue(connection, batch, [made])
    return str(made)


def make_letter(data: Path) -> Path:
    """Return where the sample letter lies, writing it once."""
    letter = data / "sample-letter.pdf"
    if not letter.exists():
        letter.write_bytes(sample_letter())
    return letter
