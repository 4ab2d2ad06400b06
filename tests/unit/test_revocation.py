"""Revocation data: checked, kept, asked for anew ahead of its end, and shared between processes."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import ocsp
from werkzeug.wrappers import Request, Response

from tests.authorities import Pki, Unruly
from workers.fetching import Fetcher
from workers.revocation import (
    LONGEST_UNASKED,
    PAUSE_AFTER_FAILURE,
    EvidenceError,
    Held,
    Revocation,
)
from workers.revocation_data import Kind, RevocationDataError, RevokedError, read
from workers.revocation_store import RevocationStore

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
LEAF_CRL = "/pki/crls/interm/latest.crl"
CA_CRL = "/pki/crls/root/latest.crl"


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> datetime:
        return self.time


class Issuer:
    """Signs whatever revocation data a test asks for, as one of the authority's issuers."""

    def __init__(self, pki: Pki, name: str = "interm") -> None:
        self.certificate = pki.certificate(name)
        self.key = load_pem_private_key((pki.folder / f"{name}.pem").read_bytes(), None)

    def crl(
        self,
        *revoked: x509.Certificate,
        since: datetime = NOW - DAY,
        until: datetime = NOW + DAY,
        extension: x509.ExtensionType | None = None,
        name: x509.Name | None = None,
    ) -> bytes:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(name or self.certificate.subject)
            .last_update(since)
            .next_update(until)
        )
        for certificate in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(certificate.serial_number)
                .revocation_date(since)
                .build()
            )
        if extension is not None:
            builder = builder.add_extension(extension, critical=True)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)  # type: ignore[arg-type]

    def ocsp(
        self,
        certificate: x509.Certificate,
        *,
        status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
        since: datetime = NOW - DAY,
        until: datetime | None = NOW + DAY,
        responder: x509.Certificate | None = None,
        issuer: x509.Certificate | None = None,
    ) -> bytes:
        revoked = status is ocsp.OCSPCertStatus.REVOKED
        signer = responder or self.certificate
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                cert=certificate,
                issuer=issuer or self.certificate,
                algorithm=hashes.SHA1(),
                cert_status=status,
                this_update=since,
                next_update=until,
                revocation_time=since if revoked else None,
                revocation_reason=None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, signer)
        )
        if responder is not None:
            builder = builder.certificates([responder])
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def issuer(pki: Pki) -> Issuer:
    return Issuer(pki)


@pytest.fixture
def clock() -> Clock:
    return Clock()


Make = Callable[..., Revocation]


@pytest.fixture
def make(pki: Pki, clock: Clock, tmp_path: Path) -> Iterator[Make]:
    fetcher = Fetcher(seconds=5)

    def make(*files: Path, folder: Path = tmp_path / "kept") -> Revocation:
        return Revocation(
            store=RevocationStore(folder),
            files=files,
            roots=[pki.certificate("root")],
            fetcher=fetcher,
            now=clock,
            jitter=lambda: 0.5,
        )

    yield make
    fetcher.close()


def evidence(revocation: Revocation, pki: Pki, signer: str = "ecdsa") -> Held:
    return revocation.evidence((pki.certificate(signer), pki.certificate("interm")))


def saying(data: bytes, status: int = 200) -> Callable[[Request], Response]:
    return lambda request: Response(data, status=status, mimetype="application/pkix-crl")


# What single pieces of data prove


def test_a_crl_and_a_response_prove_what_they_say(pki: Pki, issuer: Issuer) -> None:
    certificate = pki.certificate("rsa")
    for kind, data in (("crl", issuer.crl()), ("ocsp", issuer.ocsp(certificate))):
        proof = read(kind, data, certificate, issuer.certificate, NOW)  # type: ignore[arg-type]
        assert (proof.since, proof.until) == (NOW - DAY, NOW + DAY)


def test_a_response_without_a_next_update_holds_for_an_hour(pki: Pki, issuer: Issuer) -> None:
    certificate = pki.certificate("rsa")
    data = issuer.ocsp(certificate, since=NOW, until=None)
    assert read("ocsp", data, certificate, issuer.certificate, NOW).until == NOW + timedelta(
        hours=1
    )


def _bad(pki: Pki, issuer: Issuer) -> dict[str, tuple[Kind, bytes]]:
    rsa, other = pki.certificate("rsa"), pki.certificate("ecdsa")
    stranger = Issuer(pki, "root")
    scope = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }

    def about(**other: object) -> bytes:
        point = x509.IssuingDistributionPoint(**(scope | other))  # type: ignore[arg-type]
        return issuer.crl(extension=point)

    key_only = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
    return {
        "an old crl": ("crl", issuer.crl(since=NOW - 2 * DAY, until=NOW)),
        "a crl of tomorrow": ("crl", issuer.crl(since=NOW + DAY, until=NOW + 2 * DAY)),
        "a crl of another issuer": ("crl", stranger.crl()),
        "a crl under another's name": ("crl", stranger.crl(name=issuer.certificate.subject)),
        "a crl of changes": ("crl", issuer.crl(extension=x509.DeltaCRLIndicator(1))),
        "a crl about authorities": ("crl", about(only_contains_ca_certs=True)),
        "an indirect crl": ("crl", about(indirect_crl=True)),
        "no crl": ("crl", b"no"),
        "an old response": ("ocsp", issuer.ocsp(rsa, since=NOW - 2 * DAY, until=NOW)),
        "a response about another": ("ocsp", issuer.ocsp(other)),
        "a response of another issuer": ("ocsp", stranger.ocsp(rsa, issuer=issuer.certificate)),
        "a response by anybody": (
            "ocsp",
            Issuer(pki, "rsa").ocsp(rsa, responder=rsa, issuer=issuer.certificate),
        ),
        "a response that knows nothing": (
            "ocsp",
            issuer.ocsp(rsa, status=ocsp.OCSPCertStatus.UNKNOWN),
        ),
        "a refusal": ("ocsp", key_only.public_bytes(Encoding.DER)),
        "no response": ("ocsp", b""),
    }


BAD = (
    "an old crl",
    "a crl of tomorrow",
    "a crl of another issuer",
    "a crl under another's name",
    "a crl of changes",
    "a crl about authorities",
    "an indirect crl",
    "no crl",
    "an old response",
    "a response about another",
    "a response of another issuer",
    "a response by anybody",
    "a response that knows nothing",
    "a refusal",
    "no response",
)


@pytest.mark.parametrize("what", BAD)
def test_what_proves_nothing_is_refused(what: str, pki: Pki, issuer: Issuer) -> None:
    kind, data = _bad(pki, issuer)[what]
    with pytest.raises(RevocationDataError):
        read(kind, data, pki.certificate("rsa"), issuer.certificate, NOW)


def test_a_byte_changed_anywhere_proves_nothing_new(pki: Pki, issuer: Issuer) -> None:
    certificate = pki.certificate("rsa")
    good = {"crl": issuer.crl(), "ocsp": issuer.ocsp(certificate)}
    for kind, data in good.items():
        for position in range(0, len(data), 5):
            spoiled = bytearray(data)
            spoiled[position] ^= 0x55
            with pytest.raises((RevocationDataError, RevokedError)):
                read(kind, bytes(spoiled), certificate, issuer.certificate, NOW)  # type: ignore[arg-type]


def test_a_revoked_certificate_is_told_from_a_good_one(pki: Pki, issuer: Issuer) -> None:
    rsa = pki.certificate("rsa")
    for kind, data in (
        ("crl", issuer.crl(rsa)),
        ("ocsp", issuer.ocsp(rsa, status=ocsp.OCSPCertStatus.REVOKED)),
    ):
        with pytest.raises(RevokedError) as revoked:
            read(kind, data, rsa, issuer.certificate, NOW)  # type: ignore[arg-type]
        assert revoked.value.certificate == rsa


# What is collected, kept and asked for


def test_evidence_is_asked_for_once(pki: Pki, make: Make, unruly: Unruly) -> None:
    revocation = make()
    first = evidence(revocation, pki)
    assert evidence(revocation, pki) is first
    assert unruly.asked == [LEAF_CRL, CA_CRL]
    names = ("ecdsa", "interm", "root")
    assert first.evidence.certificates == tuple(
        pki.certificate(name).public_bytes(Encoding.DER) for name in names
    )
    assert (len(first.evidence.crls), len(first.evidence.ocsp_responses)) == (2, 0)


def test_a_responder_is_asked_before_a_list_is_fetched(
    pki: Pki, make: Make, clock: Clock, unruly: Unruly
) -> None:
    # The responder answers with the time of day; until here, all tests before this one were run.
    clock.time = datetime.now(UTC)
    held = evidence(make(), pki, "rsa")
    assert unruly.asked == ["/pki/ocsp/interm", CA_CRL]
    assert (len(held.evidence.crls), len(held.evidence.ocsp_responses)) == (1, 1)
    responder = pki.certificate("ocsp").public_bytes(Encoding.DER)
    assert responder in held.evidence.certificates


def test_a_list_is_fetched_where_the_responder_fails(pki: Pki, make: Make, unruly: Unruly) -> None:
    unruly.misbehaves["/pki/ocsp"] = saying(b"no")
    assert len(evidence(make(), pki, "rsa").evidence.crls) == 2


def test_files_make_asking_unnecessary(
    pki: Pki, make: Make, unruly: Unruly, issuer: Issuer, tmp_path: Path
) -> None:
    leaf, ca = tmp_path / "leaf.crl.pem", tmp_path / "ca.crl"
    leaf.write_bytes(x509.load_der_x509_crl(issuer.crl()).public_bytes(Encoding.PEM))
    ca.write_bytes(Issuer(pki, "root").crl())
    held = evidence(make(tmp_path / "missing", leaf, ca), pki)
    assert held.until == NOW + DAY
    assert unruly.asked == []


def test_a_restart_finds_what_was_kept(pki: Pki, make: Make, unruly: Unruly) -> None:
    first = evidence(make(), pki)
    unruly.asked.clear()
    second = evidence(make(), pki)
    assert second.evidence.crls == first.evidence.crls
    assert unruly.asked == []


NO_ZONE = b'{"kind": "crl", "der": "", "retry_at": "2026-01-01", "revoked": false, "reason": ""}'


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"kind": "crl"}', b"\xff", NO_ZONE])
def test_a_damaged_file_is_as_good_as_none(
    content: bytes, pki: Pki, make: Make, unruly: Unruly, tmp_path: Path
) -> None:
    evidence(make(), pki)
    for file in (tmp_path / "kept").glob("*.json"):
        file.write_bytes(content)
    unruly.asked.clear()
    evidence(make(), pki)
    assert unruly.asked == [LEAF_CRL, CA_CRL]


def test_what_was_put_into_the_store_by_others_is_checked(
    pki: Pki, make: Make, unruly: Unruly, tmp_path: Path
) -> None:
    evidence(make(), pki)
    forged = Issuer(pki, "root").crl(name=pki.certificate("interm").subject)
    for file in (tmp_path / "kept").glob("*.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"der": forged.hex()}))
    unruly.asked.clear()
    evidence(make(), pki)
    assert unruly.asked == [LEAF_CRL, CA_CRL]


def test_a_store_that_cannot_be_written_is_done_without(
    pki: Pki, make: Make, tmp_path: Path
) -> None:
    blocked = tmp_path / "a file"
    blocked.write_bytes(b"")
    assert evidence(make(folder=blocked / "kept"), pki).evidence.crls


def refreshed(revocation: Revocation) -> None:
    """Let everything that is due be asked for."""
    for _ in range(4):
        revocation.refresh_ahead()


def test_newer_data_is_asked_for_when_half_of_its_time_is_over(
    pki: Pki, make: Make, unruly: Unruly, clock: Clock, issuer: Issuer
) -> None:
    unruly.misbehaves[LEAF_CRL] = saying(issuer.crl(until=NOW + timedelta(minutes=60)))
    revocation = make()
    first = evidence(revocation, pki)
    refreshed(revocation)
    assert unruly.asked == [LEAF_CRL, CA_CRL], "nothing is due yet"
    clock.time = NOW + timedelta(minutes=31)
    unruly.misbehaves[LEAF_CRL] = saying(issuer.crl(since=NOW, until=NOW + DAY))
    refreshed(revocation)
    assert unruly.asked == [LEAF_CRL, CA_CRL, LEAF_CRL]
    second = evidence(revocation, pki)
    assert second is not first
    assert second.until > first.until


def test_what_is_valid_for_long_is_asked_for_every_hour(
    pki: Pki, make: Make, unruly: Unruly, clock: Clock, issuer: Issuer
) -> None:
    unruly.misbehaves[LEAF_CRL] = saying(issuer.crl(until=NOW + 300 * DAY))
    revocation = make()
    evidence(revocation, pki)
    clock.time = NOW + LONGEST_UNASKED
    refreshed(revocation)
    assert unruly.asked.count(LEAF_CRL) == 2


def test_old_data_is_used_while_newer_cannot_be_had_and_refused_when_it_ends(
    pki: Pki, make: Make, unruly: Unruly, clock: Clock, issuer: Issuer
) -> None:
    unruly.misbehaves[LEAF_CRL] = saying(issuer.crl(until=NOW + timedelta(minutes=60)))
    revocation = make()
    first = evidence(revocation, pki)
    unruly.misbehaves[LEAF_CRL] = saying(b"", status=500)
    clock.time = NOW + timedelta(minutes=40)
    refreshed(revocation)
    refreshed(revocation)
    assert unruly.asked.count(LEAF_CRL) == 2, "after a failure nobody asks at once"
    assert evidence(revocation, pki).evidence is first.evidence
    clock.time = NOW + timedelta(minutes=60)
    with pytest.raises(EvidenceError, match=r"CN=ecdsa.*HTTP 500"):
        evidence(revocation, pki)
    with pytest.raises(EvidenceError, match="HTTP 500"):
        evidence(make(), pki)
    assert unruly.asked.count(LEAF_CRL) == 3, "all processes leave it alone for a while"
    unruly.misbehaves[LEAF_CRL] = saying(issuer.crl(since=clock.time, until=NOW + DAY))
    clock.time += 2 * PAUSE_AFTER_FAILURE
    assert evidence(revocation, pki).until > clock.time


def test_a_stale_list_is_no_evidence(pki: Pki, make: Make, unruly: Unruly, issuer: Issuer) -> None:
    unruly.misbehaves[LEAF_CRL] = saying(issuer.crl(since=NOW - 2 * DAY, until=NOW - DAY))
    with pytest.raises(EvidenceError, match="out of date"):
        evidence(make(), pki)


def test_a_revoked_signer_is_refused_by_all_processes_without_asking_each_time(
    pki: Pki, make: Make, unruly: Unruly, clock: Clock
) -> None:
    for _ in range(3):
        with pytest.raises(RevokedError):
            evidence(make(), pki, "revoked")
    assert unruly.asked.count(LEAF_CRL) == 1
    clock.time += PAUSE_AFTER_FAILURE
    with pytest.raises(RevokedError):
        evidence(make(), pki, "revoked")
    assert unruly.asked.count(LEAF_CRL) == 2


def test_a_revoked_signer_stays_revoked_when_nobody_answers_any_more(
    pki: Pki, make: Make, unruly: Unruly, clock: Clock
) -> None:
    revocation = make()
    for _ in range(3):
        with pytest.raises(RevokedError):
            evidence(revocation, pki, "revoked")
        unruly.misbehaves["/pki"] = saying(b"", status=503)
        clock.time += 2 * PAUSE_AFTER_FAILURE


def test_a_revoked_signer_stays_revoked_when_the_time_runs_out(
    pki: Pki, make: Make, clock: Clock, tmp_path: Path
) -> None:
    with pytest.raises(RevokedError):
        evidence(make(), pki, "revoked")

    class OutOfTime(Fetcher):
        def _fetch(self, *what: object) -> bytes:
            raise SoftTimeLimitExceeded

    store, roots = RevocationStore(tmp_path / "kept"), [pki.certificate("root")]
    slow = Revocation(store=store, files=(), roots=roots, fetcher=OutOfTime(seconds=1), now=clock)
    clock.time += 2 * PAUSE_AFTER_FAILURE
    with pytest.raises(RevokedError):
        evidence(slow, pki, "revoked")


def test_a_clock_that_was_ahead_for_a_while_does_not_keep_anybody_from_asking(
    pki: Pki, make: Make, unruly: Unruly, clock: Clock
) -> None:
    clock.time = NOW + 2_000 * DAY
    with pytest.raises(EvidenceError):
        evidence(make(), pki)
    clock.time = NOW
    assert evidence(make(), pki).until > NOW


def test_a_revocation_is_noticed_while_old_data_would_still_do(
    pki: Pki, make: Make, unruly: Unruly, clock: Clock, issuer: Issuer
) -> None:
    unruly.misbehaves[LEAF_CRL] = saying(issuer.crl())
    revocation = make()
    evidence(revocation, pki)
    revoking = issuer.crl(pki.certificate("ecdsa"), since=NOW)
    unruly.misbehaves[LEAF_CRL] = saying(revoking)
    clock.time += LONGEST_UNASKED
    refreshed(revocation)
    with pytest.raises(RevokedError):
        evidence(revocation, pki)


def test_a_newer_one_that_another_process_got_is_taken_up(
    pki: Pki, make: Make, unruly: Unruly, clock: Clock, issuer: Issuer
) -> None:
    unruly.misbehaves[LEAF_CRL] = saying(issuer.crl(until=NOW + timedelta(minutes=60)))
    one, other = make(), make()
    evidence(one, pki)
    evidence(other, pki)
    clock.time = NOW + timedelta(minutes=35)
    unruly.misbehaves[LEAF_CRL] = saying(issuer.crl(since=NOW, until=NOW + DAY))
    refreshed(one)
    asked = unruly.asked.count(LEAF_CRL)
    refreshed(other)
    assert unruly.asked.count(LEAF_CRL) == asked
    assert evidence(other, pki).evidence.crls == evidence(one, pki).evidence.crls


def test_many_at_once_ask_once(pki: Pki, make: Make, unruly: Unruly) -> None:
    found: list[Held] = []

    def look() -> None:
        found.append(evidence(make(), pki))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 8
    assert (unruly.asked.count(LEAF_CRL), unruly.asked.count(CA_CRL)) == (1, 1)


def test_an_authority_without_evidence_does_not_spoil_the_signers(
    pki: Pki, make: Make, unruly: Unruly
) -> None:
    chain = (pki.certificate("ecdsa"), pki.certificate("interm"))
    other = (pki.certificate("rsa"),)
    held = make().evidence(chain, [other, (pki.certificate("tsa"), pki.certificate("root"))])
    assert len(held.covers) == 2
    assert other[0].public_bytes(Encoding.DER) not in held.evidence.certificates


def test_a_chain_that_ends_nowhere_says_what_is_missing(pki: Pki, make: Make) -> None:
    with pytest.raises(EvidenceError, match=r"the issuer of CN=ecdsa.* is not known"):
        make().evidence((pki.certificate("ecdsa"),))


def test_one_list_serves_all_certificates_of_its_issuer(
    pki: Pki, make: Make, unruly: Unruly
) -> None:
    chain = (pki.certificate("ecdsa"), pki.certificate("interm"))
    held = make().evidence(chain, [(pki.certificate("tsa"), pki.certificate("root"))])
    assert unruly.asked == [LEAF_CRL, CA_CRL]
    assert len(held.evidence.crls) == 2


def test_the_store_shows_nothing_half_written(tmp_path: Path, pki: Pki, make: Make) -> None:
    evidence(make(), pki)
    left = [file.name for file in (tmp_path / "kept").iterdir()]
    assert all(name.endswith((".json", ".lock")) for name in left)
    assert len(left) == 4
