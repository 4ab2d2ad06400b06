"""The level that is asked for, and what happens when it cannot be had."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError
from werkzeug.wrappers import Request, Response

from common.levels import Level
from common.settings import WorkerSettings
from deploy.firststart import make_settings
from deploy.sample import sample_letter
from deploy.specimen import make_specimen_chain
from tests.authorities import Pki, Unruly
from tests.unit.sealing.conftest import SERIAL, stamp
from tests.unit.test_revocation import Issuer
from workers.checking import check
from workers.fetching import Fetcher
from workers.revocation import EvidenceError, Revocation
from workers.revocation_store import RevocationStore
from workers.sealer import LevelMissedError, Outcome, Sealer, SigningKeyRevokedError
from workers.sealing import SealingError, Signer, add_timestamp
from workers.timestamping import AuthoritiesDownError, Timestamper

TSA, TSA2 = "/pki/tsa/tsa", "/pki/tsa/tsa2"


def settings(pki: Pki, folder: Path, **values: Any) -> WorkerSettings:
    """Return settings as an operator writes them."""
    given = {
        "data_dir": str(folder),
        "link_key": "a key for the links of these tests",
        "code_key_file": "code.key.pem",
        "signing_key_file": str(pki.folder / "rsa.pem"),
        "signing_chain_file": str(pki.file("chain.pem", pki.pem("rsa", "interm"))),
        "signing_roots_file": str(pki.file("root.crt.pem", pki.root_pem)),
        "timestamp_roots_file": str(pki.file("root.crt.pem", pki.root_pem)),
        "timestamp_urls": f"{pki.authority('tsa')}, {pki.authority('tsa2')}",
        "signature_level": "B-LT",
    }
    return WorkerSettings(**(given | values))


Make = Callable[..., Sealer]


@pytest.fixture
def make(pki: Pki, unruly: Unruly, tmp_path: Path) -> Make:
    """Make sealers as a worker process does, each with the same data folder."""

    def make(level: str = "B-LT", policy: str = "wait", **more: Any) -> Sealer:
        chosen = {"signature_level": level, "signature_level_policy": policy}
        return Sealer.from_settings(settings(pki, tmp_path, **(chosen | more)))

    return make


def sealed(sealer: Sealer, pki: Pki, signer: str = "rsa", document: bytes | None = None) -> Outcome:
    return sealer.seal(
        sample_letter() if document is None else document,
        [stamp()],
        signer=pki.signer(signer),
        at=datetime.now(UTC),
        reason=f"[{SERIAL}] test",
    )


def level(pki: Pki, document: bytes) -> str:
    checked = check(document, trust_roots_pem=pki.root_pem)
    assert checked.good
    return str(checked.signatures[-1].level)


def down(request: Request) -> Response:
    return Response(status=503)


@pytest.mark.parametrize("wanted", [Level.B_B, Level.B_T, Level.B_LT])
def test_the_outcome_says_what_the_file_is(wanted: Level, make: Make, pki: Pki) -> None:
    sealer = make(wanted)
    for _ in range(2):
        outcome = sealed(sealer, pki)
        assert (outcome.level, outcome.to_be_upgraded) == (wanted, False)
        assert level(pki, outcome.sealed.bytes) == wanted


def test_only_what_the_level_needs_is_asked_for(make: Make, pki: Pki, unruly: Unruly) -> None:
    sealed(make("B-B"), pki)
    assert unruly.asked == []
    sealed(make("B-T"), pki)
    assert set(unruly.asked) == {TSA}


def test_once_all_is_known_a_document_costs_one_question(
    make: Make, pki: Pki, unruly: Unruly
) -> None:
    sealer = make()
    sealed(sealer, pki)
    unruly.asked.clear()
    sealed(sealer, pki)
    sealer.refresh_ahead()
    assert unruly.asked == [TSA]


def test_another_authority_steps_in_and_its_evidence_comes_along(
    make: Make, pki: Pki, unruly: Unruly
) -> None:
    sealer = make()
    assert sealed(sealer, pki).level == "B-LT"
    unruly.misbehaves[f"{TSA}"] = lambda request: (
        down(request)
        if request.path == TSA
        else Response(
            pki.answer(request.get_data(), "tsa2"), mimetype="application/timestamp-reply"
        )
    )
    outcome = sealed(sealer, pki)
    assert outcome.level == "B-LT"
    assert level(pki, outcome.sealed.bytes) == "B-LT"


def test_with_all_authorities_down_the_job_waits(make: Make, pki: Pki, unruly: Unruly) -> None:
    unruly.misbehaves["/pki/tsa"] = down
    for wanted in ("B-T", "B-LT"):
        with pytest.raises(LevelMissedError, match="HTTP 503"):
            sealed(make(wanted), pki)


def test_with_all_authorities_down_a_document_is_sealed_with_room_for_later(
    make: Make, pki: Pki, unruly: Unruly
) -> None:
    unruly.misbehaves["/pki/tsa"] = down
    sealer = make("B-T", "fall-back")
    outcome = sealed(sealer, pki)
    assert (outcome.level, outcome.to_be_upgraded, outcome.evidence_until) == ("B-B", True, None)
    before = outcome.sealed.bytes
    assert level(pki, before) == "B-B"
    unruly.misbehaves.clear()
    fetch = make("B-T").timestamper.fetch
    after = add_timestamp(before, len(sample_letter()), lambda value: fetch(value).der)
    assert level(pki, after) == "B-T"


def test_a_long_term_document_is_sealed_with_its_evidence_before_the_timestamp_comes(
    make: Make, pki: Pki, unruly: Unruly
) -> None:
    sealer = make("B-LT", "fall-back")
    sealed(sealer, pki)
    unruly.misbehaves["/pki/tsa"] = down
    outcome = sealed(sealer, pki)
    assert (outcome.level, outcome.to_be_upgraded) == ("B-B", True)
    assert outcome.evidence_until is not None
    unruly.misbehaves.clear()
    fetch = sealer.timestamper.fetch
    after = add_timestamp(
        outcome.sealed.bytes, len(sample_letter()), lambda value: make_token(fetch, value, pki)
    )
    assert level(pki, after) == "B-LT"


def make_token(fetch: Callable[[bytes], Any], value: bytes, pki: Pki) -> bytes:
    """Return a token, of the authority that the document knows."""
    token = fetch(value)
    assert token.certificates[0] == pki.certificate("tsa")
    der: bytes = token.der
    return der


def test_a_process_that_starts_while_all_is_down_knows_the_authorities_of_those_before(
    make: Make, pki: Pki, unruly: Unruly
) -> None:
    sealed(make(), pki)
    unruly.misbehaves["/pki/tsa"] = down
    outcome = sealed(make("B-LT", "fall-back"), pki)
    assert (outcome.level, outcome.to_be_upgraded) == ("B-B", True)
    assert outcome.evidence_until is not None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"longest": Infinity, "signers": []}',
        b'{"longest": 1, "signers": [{"at": "x", "chain": []}]}',
    ],
)
def test_what_is_remembered_of_authorities_may_be_damaged(
    content: bytes, make: Make, pki: Pki, tmp_path: Path
) -> None:
    sealed(make(), pki)
    (remembered,) = tmp_path.rglob("authorities.json")
    remembered.write_bytes(content)
    assert sealed(make(), pki).level == "B-LT"
    assert len(remembered.read_bytes()) > len(content)


def test_who_never_met_an_authority_promises_no_long_term_level(
    make: Make, pki: Pki, unruly: Unruly
) -> None:
    unruly.misbehaves["/pki/tsa"] = down
    outcome = sealed(make("B-LT", "fall-back"), pki)
    assert (outcome.level, outcome.to_be_upgraded, outcome.evidence_until) == ("B-B", True, None)


def test_without_revocation_data_the_job_waits(make: Make, pki: Pki, unruly: Unruly) -> None:
    unruly.misbehaves["/pki/crls"] = unruly.misbehaves["/pki/ocsp"] = down
    with pytest.raises(LevelMissedError, match="HTTP 503"):
        sealed(make(), pki)


def test_without_revocation_data_a_document_gets_its_timestamp_at_least(
    make: Make, pki: Pki, unruly: Unruly
) -> None:
    unruly.misbehaves["/pki/crls"] = unruly.misbehaves["/pki/ocsp"] = down
    outcome = sealed(make("B-LT", "fall-back"), pki)
    assert (outcome.level, outcome.to_be_upgraded) == ("B-T", False)
    assert level(pki, outcome.sealed.bytes) == "B-T"


@pytest.fixture
def separate(pki: Pki) -> dict[str, str]:
    """Settings under which the root's CRL is needed for the authorities alone."""
    return {"signing_roots_file": str(pki.file("interm.crt.pem", pki.pem("interm")))}


def test_without_revocation_data_about_the_authority_the_policy_decides(
    make: Make, pki: Pki, unruly: Unruly, separate: dict[str, str]
) -> None:
    unruly.misbehaves["/pki/crls/root"] = down
    with pytest.raises(LevelMissedError, match="no revocation data for the timestamp authority"):
        sealed(make(**separate), pki)
    outcome = sealed(make("B-LT", "fall-back", **separate), pki)
    assert (outcome.level, outcome.to_be_upgraded) == ("B-T", False)
    assert level(pki, outcome.sealed.bytes) == "B-T"


def test_revocation_data_that_ends_before_the_timestamp_is_none(
    make: Make, pki: Pki, unruly: Unruly
) -> None:
    """An authority's clock may be ahead of ours, by minutes."""
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=2)
    crl = Issuer(pki, "root").crl(until=ends)
    unruly.misbehaves["/pki/crls/root"] = lambda request: Response(crl)
    unruly.misbehaves[TSA] = lambda request: Response(
        pki.answer(request.get_data(), at=ends + timedelta(minutes=2)),
        mimetype="application/timestamp-reply",
    )
    with pytest.raises(LevelMissedError, match="no revocation data"):
        sealed(make(), pki)
    assert sealed(make("B-LT", "fall-back"), pki).level == "B-T"


@pytest.mark.parametrize("policy", ["wait", "fall-back"])
def test_an_authority_that_is_revoked_is_passed_over(
    policy: str, make: Make, pki: Pki, unruly: Unruly, separate: dict[str, str]
) -> None:
    crl = Issuer(pki, "root").crl(pki.certificate("tsa"))
    unruly.misbehaves["/pki/crls/root"] = lambda request: Response(crl)
    outcome = sealed(make("B-LT", policy, **separate), pki)
    assert outcome.level == "B-LT"
    assert pki.certificate("tsa2").public_bytes(Encoding.DER) in outcome.sealed.revision
    assert pki.certificate("tsa").public_bytes(Encoding.DER) not in outcome.sealed.revision
    assert level(pki, outcome.sealed.bytes) == "B-LT"


class OutOfTime(Fetcher):
    """The worker's time limit strikes while somebody is asked."""

    def _fetch(self, *what: object) -> bytes:
        raise SoftTimeLimitExceeded


def test_the_time_that_others_take_is_not_blamed_on_the_document(pki: Pki, tmp_path: Path) -> None:
    fetcher, roots = OutOfTime(seconds=1), [pki.certificate("root")]
    timestamper = Timestamper(urls=[pki.authority()], roots=roots, fetcher=fetcher)
    revocation = Revocation(store=RevocationStore(tmp_path), files=(), roots=roots, fetcher=fetcher)
    with pytest.raises(AuthoritiesDownError, match="took too long"):
        timestamper.fetch(b"a value")
    with pytest.raises(EvidenceError, match="took too long"):
        revocation.evidence(pki.signer().certificates)


@pytest.mark.parametrize("policy", ["wait", "fall-back"])
def test_with_everybody_hanging_a_worker_is_done_before_its_time_is_up(
    policy: str, make: Make, pki: Pki, unruly: Unruly
) -> None:
    """A task is asked to stop after 0.6 of its lease and killed after 0.8: that would blame the job."""
    lease = 10
    released = threading.Event()

    def hangs(request: Request) -> Response:
        released.wait(30)
        return down(request)

    unruly.misbehaves["/pki"] = hangs
    sealer = make("B-LT", policy, lease_seconds=lease, authority_timeout_seconds=30)
    began = time.monotonic()
    try:
        if policy == "wait":
            with pytest.raises(LevelMissedError):
                sealed(sealer, pki)
        else:
            assert (sealed(sealer, pki)).to_be_upgraded
        assert time.monotonic() - began < 0.6 * lease
    finally:
        released.set()


@pytest.mark.parametrize("policy", ["wait", "fall-back"])
def test_a_revoked_key_signs_nothing_whatever_the_policy(policy: str, make: Make, pki: Pki) -> None:
    with pytest.raises(SigningKeyRevokedError, match="CN=rsa"):
        sealed(make("B-LT", policy), pki, "revoked")


def test_what_is_wrong_with_a_document_is_still_told(make: Make, pki: Pki) -> None:
    with pytest.raises(SealingError, match="document_not_pdf"):
        sealed(make(), pki, document=b"no")


def test_the_specimen_chain_brings_its_own_revocation_data(
    make: Make, pki: Pki, unruly: Unruly, tmp_path: Path
) -> None:
    chain = make_specimen_chain(tmp_path / "specimen")
    sealer = make(
        signing_roots_file=str(chain.root),
        revocation_files=",".join(str(file) for file in chain.revocation),
    )
    outcome = sealer.seal(
        sample_letter(),
        [stamp()],
        signer=Signer.from_pem(chain.signer_key.read_bytes(), chain.chain.read_bytes()),
        at=datetime.now(UTC),
        reason=f"[{SERIAL}] test",
    )
    assert outcome.level == "B-LT"
    roots = chain.root.read_bytes() + pki.root_pem
    checked = check(outcome.sealed.bytes, trust_roots_pem=roots)
    assert (checked.good, checked.signatures[0].level) == (True, "B-LT")
    assert set(unruly.asked) == {TSA, "/pki/crls/root/latest.crl"}


def test_a_specimen_chain_from_before_there_were_lists_still_works(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    chain = make_specimen_chain(tmp_path / "keys" / "specimen")
    assert len(chain.revocation) == 2
    for file in chain.revocation:
        file.unlink()
    variables = make_settings(tmp_path, changing={})
    assert variables["STAMPEDE_REVOCATION_FILES"] == ""
    assert variables["STAMPEDE_SIGNING_ROOTS_FILE"] == str(chain.root)
    names = {name.removeprefix("STAMPEDE_").lower(): value for name, value in variables.items()}
    assert WorkerSettings(**names).signature_level is Level.B_B  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"timestamp_urls": ""}, "STAMPEDE_SIGNATURE_LEVEL=B-LT needs STAMPEDE_TIMESTAMP_URLS"),
        (
            {"timestamp_roots_file": None, "signature_level": "B-T"},
            "STAMPEDE_SIGNATURE_LEVEL=B-T needs STAMPEDE_TIMESTAMP_ROOTS_FILE",
        ),
        ({"timestamp_urls": "ftp://x"}, "'ftp://x' is no http:// or https:// address"),
        ({"timestamp_roots_file": "/no/such/file"}, "there is no file /no/such/file"),
        ({"signing_roots_file": "/no/such/file"}, "there is no file /no/such/file"),
        ({"signature_level": "B-LTA"}, "B-LT"),
        ({"signature_level_policy": "hope"}, "fall-back"),
        ({"authority_timeout_seconds": "0"}, "greater than 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    values: dict[str, Any], sentence: str, pki: Pki, tmp_path: Path
) -> None:
    with pytest.raises(ValidationError) as refusal:
        settings(pki, tmp_path, **values)
    assert sentence in str(refusal.value)


def test_lists_are_written_with_commas(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAMPEDE_REVOCATION_FILES", "/a.crl, /b.crl,")
    chosen = settings(pki, tmp_path)
    assert chosen.revocation_files == (Path("/a.crl"), Path("/b.crl"))
    assert chosen.timestamp_urls == (pki.authority("tsa"), pki.authority("tsa2"))
