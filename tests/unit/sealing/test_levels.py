"""B-T and B-LT in one revision: what pyHanko's AdES validation, pdfsig and openssl say of them."""

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pypdf
import pytest
from asn1crypto import cms
from asn1crypto import x509 as asn1_x509
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign import fields, signers
from pyhanko.sign.fields import SigSeedSubFilter
from pyhanko.sign.timestamps import HTTPTimeStamper
from pyhanko.sign.validation.dss import DocumentSecurityStore
from pyhanko_certvalidator import ValidationContext
from rfc3161_client import decode_timestamp_response
from werkzeug.wrappers import Request, Response

from deploy.sample import sample_letter
from tests.authorities import Pki, Unruly
from tests.unit.sealing.conftest import SERIAL, stamp
from tests.unit.sealing.documents import classic, objects
from tests.unit.sealing.test_seal import BUILDS
from workers.checking import check
from workers.fetching import Fetcher
from workers.revocation import Held, Revocation
from workers.revocation_store import RevocationStore
from workers.sealing import (
    Evidence,
    Sealed,
    SealingError,
    Stamp,
    TokenTooLongError,
    add_timestamp,
    seal,
)
from workers.sealing.signing.certificates import der
from workers.sealing.signing.timestamp import question
from workers.timestamping import Timestamper

OTHER_SERIAL = "S8866D64HDNEMYYPY5A1GB"
LEVELS = ("B-B", "B-T", "B-LT")


class Bench:
    """Seals at a level with the authority's services."""

    def __init__(self, pki: Pki, folder: Path) -> None:
        self.pki = pki
        fetcher, roots = Fetcher(seconds=10), [pki.certificate("root")]
        self.timestamper = Timestamper(urls=[pki.authority()], roots=roots, fetcher=fetcher)
        self.revocation = Revocation(
            store=RevocationStore(folder), files=(), roots=roots, fetcher=fetcher
        )
        self.timestamper.fetch(b"to know who answers")

    def fetch(self, value: bytes) -> bytes:
        return self.timestamper.fetch(value).der

    def held(self, signer: str = "rsa") -> Held:
        certificates = self.pki.signer(signer).certificates
        return self.revocation.evidence(certificates, self.timestamper.chains)

    def seal(
        self, document: bytes, level: str, *stamps: Stamp, signer: str = "rsa", **other: Any
    ) -> Sealed:
        drawn = list(stamps) or [stamp()]
        parts: dict[str, Any] = {}
        if level != "B-B":
            parts = {"timestamp_room": self.timestamper.room, "fetch_timestamp": self.fetch}
        if level == "B-LT":
            parts["evidence"] = self.held(signer).evidence
        return seal(
            document,
            drawn,
            signer=self.pki.signer(signer),
            reason=f"[{drawn[0].serial}] test",
            **({"at": datetime.now(UTC)} | parts | other),
        )


@pytest.fixture(scope="module")
def bench(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(pki, tmp_path_factory.mktemp("revocation"))


def levels(pki: Pki, document: bytes) -> list[str]:
    """Return the signatures' levels, having made sure that all are valid."""
    checked = check(document, trust_roots_pem=pki.root_pem)
    assert checked.good, checked
    return [str(signature.level) for signature in checked.signatures]


@pytest.mark.parametrize("signer", ["rsa", "ecdsa"])
@pytest.mark.parametrize("level", LEVELS)
def test_the_level_is_the_one_that_was_asked_for(
    level: str, signer: str, bench: Bench, pki: Pki
) -> None:
    letter = sample_letter()
    sealed = bench.seal(letter, level, signer=signer)
    assert sealed.bytes.startswith(letter)
    assert sealed.bytes.count(b"startxref") == letter.count(b"startxref") + 1
    assert levels(pki, sealed.bytes) == [level]


@pytest.mark.parametrize("build", BUILDS)
def test_every_build_takes_evidence(build: str, bench: Bench, pki: Pki) -> None:
    assert levels(pki, bench.seal(BUILDS[build], "B-LT").bytes) == ["B-LT"]


def test_without_what_it_was_given_to_trust_a_timestamp_is_worth_nothing(
    bench: Bench, pki: Pki
) -> None:
    """The signer's own authority is trusted, the timestamp's is not."""
    sealed = bench.seal(sample_letter(), "B-LT")
    (signature,) = check(sealed.bytes, trust_roots_pem=pki.pem("interm")).signatures
    assert (signature.trusted, signature.level) == (True, "B-B")


def test_who_is_trusted_for_timestamps_is_not_trusted_as_a_signer(bench: Bench, pki: Pki) -> None:
    """Anybody may hold a certificate below a public authority's root."""
    sealed = bench.seal(sample_letter(), "B-LT").bytes
    stamper, stranger = pki.pem("interm"), pki.pem("stranger")
    (signature,) = check(
        sealed, trust_roots_pem=stamper, timestamp_roots_pem=pki.root_pem
    ).signatures
    assert (signature.trusted, signature.level) == (True, "B-LT")
    (signature,) = check(
        sealed, trust_roots_pem=stranger, timestamp_roots_pem=pki.root_pem
    ).signatures
    assert not signature.trusted


@pytest.mark.parametrize(
    "at, trusted",
    [(datetime(2021, 6, 1, tzinfo=UTC), True), (datetime(2023, 6, 1, tzinfo=UTC), False)],
)
def test_a_timestamp_keeps_a_signature_good_after_its_certificate_ended(
    at: datetime, trusted: bool, bench: Bench, pki: Pki
) -> None:
    """The certificate ended in 2022: what an authority saw before counts, and nothing else."""

    def token(value: bytes) -> bytes:
        answer = pki.answer(question(value).as_bytes(), at=at)
        return decode_timestamp_response(answer).time_stamp_token()

    stamped = bench.seal(sample_letter(), "B-T", signer="ended", fetch_timestamp=token).bytes
    (signature,) = check(stamped, trust_roots_pem=pki.root_pem).signatures
    assert (signature.intact, signature.level, signature.trusted) == (True, "B-T", trusted)
    (signature,) = check(stamped, trust_roots_pem=pki.pem("stranger")).signatures
    assert not signature.trusted
    without = bench.seal(sample_letter(), "B-B", signer="ended", at=at).bytes
    (signature,) = check(without, trust_roots_pem=pki.root_pem).signatures
    assert not signature.trusted, "the time that the signer gives itself proves nothing"


@pytest.mark.parametrize("missing", ["certificates", "crls", "ocsp_responses"])
def test_evidence_with_a_gap_is_no_long_term_level(missing: str, bench: Bench, pki: Pki) -> None:
    whole = bench.held().evidence
    parts = {name: getattr(whole, name) for name in ("certificates", "crls", "ocsp_responses")}
    assert parts[missing]
    sealed = bench.seal(sample_letter(), "B-T", evidence=Evidence(**(parts | {missing: ()})))
    # All certificates stand in the signatures too; without the responder's, OCSP proves nothing.
    assert levels(pki, sealed.bytes) == ["B-LT" if missing == "certificates" else "B-T"]


def test_a_damaged_store_is_no_long_term_level(bench: Bench, pki: Pki) -> None:
    sealed = bench.seal(sample_letter(), "B-T", evidence=Evidence((b"no",), (b"no",), (b"no",)))
    assert levels(pki, sealed.bytes) == ["B-T"]


def test_several_stamps_are_under_one_timestamp(bench: Bench, pki: Pki) -> None:
    sealed = bench.seal(sample_letter(), "B-LT", stamp(), stamp(OTHER_SERIAL, position="top-left"))
    assert levels(pki, sealed.bytes) == ["B-LT"]


def test_a_stamped_document_is_stamped_again_and_nothing_stands_there_twice(
    bench: Bench, pki: Pki
) -> None:
    once = bench.seal(sample_letter(), "B-LT").bytes
    twice = bench.seal(once, "B-LT", stamp(OTHER_SERIAL, position="top-left")).bytes
    assert levels(pki, twice) == ["B-LT", "B-LT"]
    for key in ("/Certs", "/CRLs", "/OCSPs"):
        held = [stream.get_object().get_data() for stream in store_of(twice)[key]]
        assert len(held) == len(set(held))
    assert twice.count(der(pki.certificate("tsa"))) == 1
    thrice = bench.seal(twice, "B-B", stamp("TJZ6YFZGFRGFBMV0DQKWXA", x=100, y=300)).bytes
    assert levels(pki, thrice) == ["B-LT", "B-LT", "B-B"]


def store_of(document: bytes) -> Any:
    return pypdf.PdfReader(BytesIO(document)).trailer["/Root"]["/DSS"]  # type: ignore[index]


@pytest.fixture(scope="module")
def signed_before(pki: Pki) -> bytes:
    """The letter, signed by pyHanko with everything that B-LT asks for."""
    folder = pki.folder
    signer: Any = signers.SimpleSigner.load(  # type: ignore[no-untyped-call]
        str(folder / "rsa.pem"),
        str(pki.file("leaf.crt.pem", pki.pem("rsa"))),
        ca_chain_files=(str(pki.file("interm.crt.pem", pki.pem("interm"))),),
    )
    roots = [asn1_x509.Certificate.load(der(pki.certificate("root")))]
    out = BytesIO()
    signers.PdfSigner(
        signers.PdfSignatureMetadata(
            field_name="First",
            subfilter=SigSeedSubFilter.PADES,
            embed_validation_info=True,
            validation_context=ValidationContext(trust_roots=roots, allow_fetching=True),
        ),
        signer=signer,
        timestamper=HTTPTimeStamper(pki.authority()),  # type: ignore[no-untyped-call]
        new_field_spec=fields.SigFieldSpec("First", on_page=0, box=(72, 400, 200, 450)),
    ).sign_pdf(IncrementalPdfFileWriter(BytesIO(sample_letter())), output=out)
    return out.getvalue()


def test_an_earlier_signature_and_its_evidence_stay_as_they_are(
    signed_before: bytes, bench: Bench, pki: Pki
) -> None:
    before = store_of(signed_before)
    sealed = bench.seal(signed_before, "B-LT").bytes
    checked = check(sealed, trust_roots_pem=pki.root_pem)
    first, ours = checked.signatures
    assert (first.field, first.intact, first.trusted) == ("First", True, True)
    assert first.level == "B-LT"
    assert first.changed_after in ("lta_updates", "form_filling")
    assert (ours.serial, ours.level, ours.whole_file) == (SERIAL, "B-LT", True)
    after = store_of(sealed)
    for key in ("/Certs", "/CRLs", "/OCSPs"):
        kept = [item.idnum for item in before[key]]
        assert [item.idnum for item in after[key]][: len(kept)] == kept
    assert set(after["/VRI"]) == set(before["/VRI"])


@pytest.mark.parametrize(
    ("store", "more"),
    [
        (b"/DSS<</Certs[]>>", {}),
        (b"/DSS 20 0 R", {20: b"<</Certs 21 0 R/VRI<<>>>>", 21: b"[]"}),
        (b"/DSS null", {}),
        (b"/DSS<<>>/AcroForm<</Fields[]>>", {}),
    ],
    ids=["direct", "by reference", "null", "beside a direct form"],
)
def test_a_store_that_is_there_is_added_to(
    store: bytes, more: dict[int, bytes], bench: Bench, pki: Pki
) -> None:
    document = classic(objects(catalogue=store) | more)
    sealed = bench.seal(document, "B-LT").bytes
    assert levels(pki, sealed) == ["B-LT"]
    assert ("/VRI" in store_of(sealed)) is bool(more)


@pytest.mark.parametrize("store", [b"/DSS[]", b"/DSS 7", b"/DSS<</Certs<<>>>>", b"/DSS<</CRLs 1>>"])
def test_a_store_of_another_shape_is_refused(store: bytes, bench: Bench) -> None:
    with pytest.raises(SealingError) as refusal:
        bench.seal(classic(objects(catalogue=store)), "B-LT")
    assert refusal.value.code == "document_unreadable"
    assert refusal.value.detail == {"reason": "security store"}


@pytest.mark.parametrize("signer", ["rsa", "ecdsa"])
@pytest.mark.parametrize("full", [False, True])
def test_a_timestamp_comes_later_and_changes_nothing_that_is_signed(
    *, full: bool, signer: str, bench: Bench, pki: Pki
) -> None:
    letter = sample_letter()
    evidence = bench.held(signer).evidence if full else None
    before = bench.seal(
        letter, "B-B", signer=signer, evidence=evidence, timestamp_room=bench.timestamper.room
    ).bytes
    assert levels(pki, before) == ["B-B"]
    after = add_timestamp(before, len(letter), bench.fetch)
    assert len(after) == len(before)
    assert levels(pki, after) == ["B-LT" if full else "B-T"]
    changed = [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    start, end = changed[0], changed[-1]
    assert set(after[start:end]) <= set(b"0123456789abcdef")
    with pytest.raises(ValueError, match="without unsigned attributes"):
        add_timestamp(after, len(letter), bench.fetch)


def test_a_timestamp_that_needs_more_room_says_how_much(bench: Bench) -> None:
    letter = sample_letter()
    with pytest.raises(TokenTooLongError) as refusal:
        bench.seal(letter, "B-T", timestamp_room=100)
    sealed = bench.seal(letter, "B-T", timestamp_room=refusal.value.needed)
    assert sealed.bytes.startswith(letter)
    bare = bench.seal(letter, "B-B").bytes
    with pytest.raises(TokenTooLongError):
        add_timestamp(bare, len(letter), bench.fetch)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file[: len(sample_letter())],
        lambda file: file.replace(b"/ByteRange[0 ", b"/ByteRange[1 "),
        lambda file: file.replace(b"/Contents<30", b"/Contents<zz"),
        lambda file: file.replace(b"/Contents<3082", b"/Contents<3000"),
    ],
    ids=["no signature", "another byte range", "no digits", "no CMS"],
)
def test_a_file_that_is_not_ours_gets_no_timestamp(
    spoil: Callable[[bytes], bytes], bench: Bench
) -> None:
    letter = sample_letter()
    sealed = bench.seal(letter, "B-B", timestamp_room=4000).bytes
    with pytest.raises(ValueError):
        add_timestamp(spoil(sealed), len(letter), bench.fetch)


def test_what_fetching_a_timestamp_raises_comes_through(bench: Bench) -> None:
    def fetch(value: bytes) -> bytes:
        raise ConnectionError(len(value))

    with pytest.raises(ConnectionError, match="256"):
        bench.seal(sample_letter(), "B-T", fetch_timestamp=fetch)


def test_a_document_timestamp_over_it_all_makes_it_archival(bench: Bench, pki: Pki) -> None:
    """PyHanko adds what B-LTA asks for; we say so, and our signature stays valid."""
    sealed = bench.seal(sample_letter(), "B-LT").bytes
    out = BytesIO()
    roots = [asn1_x509.Certificate.load(der(pki.certificate("root")))]
    signers.PdfTimeStamper(HTTPTimeStamper(pki.authority())).timestamp_pdf(  # type: ignore[no-untyped-call]
        IncrementalPdfFileWriter(BytesIO(sealed)),
        "sha256",
        ValidationContext(trust_roots=roots, allow_fetching=True),
        output=out,
    )
    signature = check(out.getvalue(), trust_roots_pem=pki.root_pem).signatures[0]
    assert (signature.intact, signature.trusted, signature.level) == (True, True, "B-LTA")


def token_of(document: bytes) -> tuple[bytes, bytes]:
    """Return the signature value and the token over it, as pyHanko reads them."""
    (signature,) = PdfFileReader(BytesIO(document)).embedded_signatures
    (attribute,) = signature.signer_info["unsigned_attrs"]
    assert attribute["type"].native == "signature_time_stamp_token"
    token: cms.ContentInfo = attribute["values"][0]
    return signature.signer_info["signature"].native, token.dump()


@pytest.mark.system
def test_openssl_verifies_the_timestamp(bench: Bench, pki: Pki, tmp_path: Path) -> None:
    value, token = token_of(bench.seal(sample_letter(), "B-T").bytes)
    (tmp_path / "value").write_bytes(value)
    (tmp_path / "token").write_bytes(token)
    (tmp_path / "root").write_bytes(pki.root_pem)
    command = ["openssl", "ts", "-verify", "-token_in", "-in", "token", "-data", "value"]
    done = subprocess.run(
        [*command, "-CAfile", "root"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "Verification: OK" in done.stdout + done.stderr


class OpenSsl:
    """openssl ts as the authority, with the certificate of one that the others have."""

    def __init__(self, pki: Pki, folder: Path) -> None:
        self.folder = folder
        (folder / "tsa.pem").write_bytes(pki.pem("tsa"))
        (folder / "root.pem").write_bytes(pki.root_pem)
        (folder / "serial").write_text("01")
        (folder / "ts.cnf").write_text(
            "[tsa]\ndefault_tsa = one\n[one]\nserial = serial\ncrypto_device = builtin\n"
            f"signer_cert = tsa.pem\ncerts = root.pem\nsigner_key = {pki.folder / 'tsa.pem'}\n"
            "signer_digest = sha256\ndefault_policy = 1.2.3.4\ndigests = sha256\n"
            "accuracy = secs:1\nordering = no\ntsa_name = yes\ness_cert_id_chain = no\n"
        )

    def answer(self, request: Request) -> Response:
        (self.folder / "query").write_bytes(request.get_data())
        command = ["openssl", "ts", "-reply", "-config", "ts.cnf", "-queryfile", "query"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, check=True)
        return Response(done.stdout, mimetype="application/timestamp-reply")


@pytest.mark.system
def test_openssl_as_the_authority_is_taken_and_makes_the_levels(
    bench: Bench, pki: Pki, unruly: Unruly, tmp_path: Path
) -> None:
    unruly.misbehaves["/pki/tsa"] = OpenSsl(pki, tmp_path).answer
    for level in ("B-T", "B-LT"):
        sealed = bench.seal(sample_letter(), level, timestamp_room=8000)
        assert levels(pki, sealed.bytes) == [level]


@pytest.mark.system
@pytest.mark.parametrize("level", LEVELS)
def test_pdfsig_and_qpdf_find_nothing_wrong(
    level: str, bench: Bench, tmp_path: Path, signed_before: bytes
) -> None:
    file = tmp_path / "sealed.pdf"
    file.write_bytes(bench.seal(signed_before, level).bytes)
    said = subprocess.run(
        ["pdfsig", "-nocert", str(file)], capture_output=True, text=True, check=True
    ).stdout
    assert said.count("Signature is Valid") == 2
    assert "Total document signed" in said
    checked = subprocess.run(
        ["qpdf", "--check", str(file)], capture_output=True, text=True, check=True
    ).stdout
    assert "No syntax or stream encoding errors found" in checked


def test_pyhanko_reads_the_store(bench: Bench) -> None:
    sealed = bench.seal(sample_letter(), "B-LT").bytes
    store = DocumentSecurityStore.read_dss(PdfFileReader(BytesIO(sealed)))
    evidence = bench.held().evidence
    assert {certificate.dump() for certificate in store.load_certs()} == set(evidence.certificates)
    assert len(store.crls) == len(evidence.crls)
    assert len(store.ocsps) == len(evidence.ocsp_responses)
