"""`stampede receipt`: whether a receipt is genuine, and what it proves."""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from common import jwks
from common.jwks import Use
from common.receipts import Proof, ReceiptChecker, ReceiptError
from deploy.cli.moments import EXAMPLE, Moment
from deploy.cli.surroundings import as_json, first_line, named_file, print_json, said

KEY_VARIABLE = "STAMPEDE_RECEIPT_KEY_FILE"
_PUBLISHED_AT = "/.well-known/jwks.json"
_PATIENCE_SECONDS = 10
# Far longer than any receipt or key set.
_MOST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a check: what the receipt proves or why nothing, and the answers to what was asked."""

    proof: Proof | None
    problem: str | None
    why: str | None
    before: datetime | None
    in_time: bool | None
    matches_document: bool | None

    @property
    def good(self) -> bool:
        """Say whether all that was asked holds."""
        asked = (self.in_time, self.matches_document)
        return self.proof is not None and False not in asked

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        facts = {} if self.proof is None else _facts(self.proof)
        return facts | {
            "genuine": self.proof is not None,
            "problem": self.problem,
            "why": self.why,
            "before": None if self.before is None else self.before.isoformat(),
            "in_time": self.in_time,
            "matches_document": self.matches_document,
            "good": self.good,
        }


@click.group()
def receipt() -> None:
    """Receipts: the signed proof of a document's arrival."""


@receipt.command("verify")
@click.argument(
    "file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
)
@click.option(
    "--jwks",
    "keys",
    metavar="FILE_OR_URL",
    help="The published keys: a key set (JWKS) or PEM in a file, or the address of a copy or of its"
    " key set.  [default: the key of $STAMPEDE_RECEIPT_KEY_FILE]",
)
@click.option(
    "--before",
    type=Moment(),
    help=f"A deadline, such as {EXAMPLE}; UTC without a zone. Did it arrive earlier?",
)
@click.option(
    "--document",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The document as it was sent. Is it the one that arrived?",
)
@as_json
def verify(
    file: Path, keys: str | None, before: datetime | None, document: Path | None, json_: bool
) -> None:
    """Check the receipt in FILE, or - for the standard input. Ends with 1 unless all holds.

    Needs nothing but the receipt and the published keys; a receipt is as good when the service is
    down. With --before and --document: ends with 1 also when it came too late, or is of another
    document.
    """
    shown = sys.stdin.buffer.read(_MOST_BYTES) if str(file) == "-" else _read(file)
    checker = ReceiptChecker(_keys(keys))
    try:
        proof = checker.read(shown.decode("ascii", "replace").strip())
    except ReceiptError as error:
        outcome = Outcome(
            proof=None,
            problem=error.fault,
            why=str(error),
            before=before,
            in_time=None,
            matches_document=None,
        )
    else:
        outcome = Outcome(
            proof=proof,
            problem=None,
            why=None,
            before=before,
            in_time=None if before is None else proof.arrival.arrived_at < before,
            matches_document=None if document is None else _is_of(proof, document),
        )
    if json_:
        print_json(outcome.as_json())
    else:
        for line in _lines(outcome):
            click.echo(line)
    sys.exit(0 if outcome.good else 1)


def _is_of(proof: Proof, document: Path) -> bool:
    with document.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest() == proof.arrival.document_sha256


def _read(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(_MOST_BYTES)


def _facts(proof: Proof) -> dict[str, Any]:
    arrival = proof.arrival
    return {
        "arrived_at": arrival.as_claims()["arrived_at"],
        "document_sha256": arrival.document_sha256.hex(),
        "document_bytes": arrival.document_bytes,
        "external_reference": arrival.external_reference,
        "job": str(arrival.job_id),
        "mode": arrival.mode,
        "stamps": arrival.stamps,
        "issuer": proof.issuer,
        "key": proof.key_id,
    }


def _lines(outcome: Outcome) -> list[str]:
    if outcome.proof is None:
        return [f"NOT genuine: {outcome.why}"]
    lines = [f"{name:<20} {said(value)}" for name, value in _facts(outcome.proof).items()]
    lines.append("genuine: signed by the key above, not a character was changed")
    if outcome.in_time is not None and outcome.before is not None:
        deadline = f"{outcome.before.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        lines.append(
            f"in time: it arrived before {deadline}"
            if outcome.in_time
            else f"LATE: it did not arrive before {deadline}"
        )
    if outcome.matches_document is not None:
        lines.append(
            "the document is the one that arrived"
            if outcome.matches_document
            else "ANOTHER document: its SHA-256 is not the one above"
        )
    return lines


def _keys(named: str | None) -> Sequence[Ed25519PublicKey]:
    """Return the keys that receipts are checked against.

    Raises:
        click.ClickException: there are none; says where they were looked for.
    """
    if named is None:
        return [_own_key()]
    content = _fetch(named) if named.startswith(("http://", "https://")) else _key_file(named)
    try:
        return jwks.public_keys(content, Use.RECEIPT)
    except ValueError as error:
        raise click.ClickException(f"no keys of receipts in {named}: {error}") from error


def _own_key() -> Ed25519PublicKey:
    file = named_file(KEY_VARIABLE)
    if file is None:
        raise click.ClickException(
            "no key to check receipts against; name the published ones with --jwks"
        )
    try:
        return jwks.private_key(file.read_bytes()).public_key()
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{KEY_VARIABLE} cannot be used: {error}") from error


def _key_file(named: str) -> bytes:
    try:
        return _read(Path(named))
    except OSError as error:
        raise click.ClickException(f"{named} cannot be read: {error.strerror}") from error


def _fetch(url: str) -> bytes:
    """Return a key set from its address, or from that of the copy which publishes it."""
    address = url.rstrip("/") + _PUBLISHED_AT if urlsplit(url).path in {"", "/"} else url
    try:
        answer = httpx.get(address, timeout=_PATIENCE_SECONDS, follow_redirects=True)
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise click.ClickException(f"no keys from {address}: {first_line(error)}") from error
    return answer.content[:_MOST_BYTES]
