"""What vouchers cost: a batch, a void, a request with a code beside one with a key, and a limit.

Run: python -m tests.bench.vouchers --json
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flask.testing import FlaskClient

from common import database, jwks, partners
from common.database import Database
from common.partners import Mode
from common.rates import Bucket, Limit, Rates
from common.settings import WebSettings
from common.vouchers import code, issuing, records
from common.vouchers.code import VoucherCode
from common.vouchers.issuing import NewBatch
from common.wire import Wire
from deploy.servers import embedded_postgres, embedded_valkey
from web.app import create_app

BATCH = 100_000
ROUNDS = 500


def main() -> None:
    """Measure, and print one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only the JSON object")
    quiet = parser.parse_args().json
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database_url = stack.enter_context(embedded_postgres(folder / "postgres"))
        broker_url = stack.enter_context(embedded_valkey(folder / "valkey"))
        database.migrate(database_url)
        settings = _settings(folder, database_url, broker_url)
        db = database.connect(settings)
        stack.callback(db.close)
        found = _batch(db) | _requests(db, settings) | _limit(broker_url)
    if not quiet:
        for name, value in found.items():
            print(f"{name:<22} {value}")
    print(json.dumps(found))


def _settings(folder: Path, database_url: str, broker_url: str) -> WebSettings:
    key = Ed25519PrivateKey.generate()
    private, public = folder / "key.pem", folder / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(jwks.public_pem(key.public_key()))
    os.environ |= {
        "STAMPEDE_ENV_FILE": str(folder / "none.env"),
        "STAMPEDE_DATA_DIR": str(folder),
        "STAMPEDE_DATABASE_URL": database_url,
        "STAMPEDE_BROKER_URL": broker_url,
        "STAMPEDE_LINK_KEY": "a key for the links of this bench",
        "STAMPEDE_RECEIPT_KEY_FILE": str(private),
        "STAMPEDE_CODE_PUBLIC_KEYS_FILE": str(public),
        # Every wrong code of this bench is to be looked up.
        "STAMPEDE_WRONG_CODES_PER_HOUR": "1000000",
        "STAMPEDE_WRONG_CODES_OF_ALL": "1000000",
        "STAMPEDE_LOG_LEVEL": "ERROR",
    }
    return WebSettings.load()


def _issue(db: Database, reference: str, codes: list[VoucherCode]) -> None:
    with db.transaction() as connection:
        owner = partners.create(connection, name="bench")
        batch = NewBatch(
            reference=reference,
            partner_id=owner.id,
            mode=Mode.LIVE,
            stamps=2,
            expires_at=None,
            by="bench",
        )
        issuing.issue(connection, batch, codes)


def _batch(db: Database) -> dict[str, float]:
    """Make a batch, look at it and make it void; seconds."""
    seconds = {}
    codes: list[VoucherCode] = []

    def generate() -> None:
        codes.extend(code.generate() for _ in range(BATCH))

    def look() -> None:
        with db.transaction() as connection:
            records.batches(connection, reference="bench")

    def void() -> None:
        with db.transaction() as connection:
            records.void_batch(connection, "bench", reason="bench", by="bench")

    for name, step in (
        ("generate_s", generate),
        ("issue_s", lambda: _issue(db, "bench", codes)),
        ("list_s", look),
        ("void_s", void),
    ):
        before = time.perf_counter()
        step()
        seconds[name] = round(time.perf_counter() - before, 2)
    return {"vouchers": BATCH} | seconds


def _requests(db: Database, settings: WebSettings) -> dict[str, float]:
    """Ask for the quota with a key and with codes, in turns; median milliseconds."""
    right = code.generate()
    _issue(db, "one", [right])
    with db.transaction() as connection:
        owner = partners.find_by_name(connection, "bench")
        key = partners.issue_key(connection, partner_id=owner.id, mode=Mode.LIVE, label="bench")
    client = create_app(settings).test_client()
    last = right.characters[-1]
    senders: dict[str, Callable[[], str]] = {
        "key_ms": lambda: key.secret,
        "right_code_ms": lambda: str(right),
        "unknown_code_ms": lambda: str(code.generate()),
        "mistyped_code_ms": lambda: right.characters[:-1] + ("A" if last != "A" else "B"),
    }
    times: dict[str, list[float]] = {name: [] for name in senders}
    for _ in range(ROUNDS):
        for name, secret in senders.items():
            times[name].append(_ask(client, secret()))
    return {name: round(statistics.median(taken), 3) for name, taken in times.items()}


def _ask(client: FlaskClient, secret: str) -> float:
    before = time.perf_counter()
    answer: Any = client.get("/v1/quota", headers={"Authorization": f"Bearer {secret}"})
    took = (time.perf_counter() - before) * 1000
    if answer.status_code not in (200, 401):
        raise RuntimeError(answer.get_data(as_text=True))
    return took


def _limit(broker_url: str) -> dict[str, float]:
    """Take from one bucket; median milliseconds."""
    rates = Rates(Wire(broker_url), b"bench")
    mine = Bucket(Limit("bench", 1_000_000, 60), "me")
    taken = []
    for _ in range(ROUNDS):
        before = time.perf_counter()
        rates.take(mine)
        taken.append((time.perf_counter() - before) * 1000)
    return {"take_ms": round(statistics.median(taken), 3)}


if __name__ == "__main__":
    main()
