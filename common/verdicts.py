"""What the signatures of a file say, and what that means to whoever holds the file.

Workers find out what is true of each signature, the database what became of its serials; `judge`
turns both into one answer. The words are for people, in both languages; programs read the names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from common.partners import Mode
from common.problems import Language
from common.serials import PublicSerial

UNSUPPORTED = "unsupported"


def is_specimen(signer: str) -> bool:
    """Say whether a certificate's subject calls itself a specimen, as the built-in one does."""
    return "SPECIMEN" in signer.upper()


class Changes(StrEnum):
    """How far a file was changed after a signature: pyHanko's levels, least first."""

    NONE = "none"
    LTA_UPDATES = "lta_updates"
    FORM_FILLING = "form_filling"
    ANNOTATIONS = "annotations"
    OTHER = "other"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedSignature:
    """What is true of one signature.

    Attributes:
        field: name of its form field.
        intact: the bytes it covers are those that were signed.
        trusted: its certificate leads to one of the roots.
        whole_file: nothing stands behind what it covers.
        level: PAdES level, `CMS` for another kind of signature, `timestamp` for a document timestamp,
            `none` when it cannot be read, `unsupported` when its kind is not one that we check.
        serial: the first of the serials.
        serials: serial numbers in its reason, in their order.
        signer: subject of the certificate.
        signed_at: time that the signer gave, RFC 3339; of a timestamp, the authority's.
        changed_after: what was changed after it.
        changes_allowed: those changes are ones that a signature of its kind allows.
        fault: why it cannot be read.
    """

    field: str
    intact: bool
    trusted: bool
    whole_file: bool
    level: str
    serial: str | None
    serials: list[str]
    signer: str
    signed_at: str | None
    changed_after: Changes
    changes_allowed: bool
    fault: str | None

    @property
    def holds(self) -> bool:
        """Say whether what was signed is still what the file shows."""
        return self.intact and self.changes_allowed

    @property
    def says_specimen(self) -> bool:
        """Say whether the signer calls itself a specimen, as the built-in certificate does."""
        return is_specimen(self.signer)

    @property
    def last_word(self) -> bool:
        """Say whether nothing but proof for later came after it."""
        return self.whole_file or self.changed_after is Changes.LTA_UPDATES


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSerial:
    """What is known of a serial that a file carries; `state` is `unknown` when it was never issued."""

    serial: str
    state: str
    mode: Mode | None
    affixed_at: datetime | None
    is_this_file: bool
    specimen: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the facts as JSON values."""
        at = self.affixed_at
        return asdict(self) | {"affixed_at": None if at is None else at.isoformat()}


class Verdict(StrEnum):
    """The one answer; the names are stable."""

    STAMPED = "stamped"
    SPECIMEN = "specimen"
    EXTENDED = "extended"
    SERIAL_UNKNOWN = "serial_unknown"
    SERIAL_NOT_AFFIXED = "serial_not_affixed"
    SERIAL_DIFFERS = "serial_differs"
    CHANGED = "changed"
    FOREIGN = "foreign"
    UNSIGNED = "unsigned"

    @property
    def colour(self) -> str:
        """Return `green` for yes, `amber` for look closer, `red` for no."""
        if self is Verdict.STAMPED:
            return "green"
        doubtful = (Verdict.SPECIMEN, Verdict.EXTENDED, Verdict.SERIAL_UNKNOWN)
        return "amber" if self in doubtful else "red"


def is_good(signatures: Sequence[CheckedSignature]) -> bool:
    """Say whether there are signatures, all hold and are trusted, and nothing came after the last."""
    return (
        bool(signatures)
        and all(s.holds and s.trusted for s in signatures)
        and signatures[-1].last_word
    )


def know(serial: str, found: PublicSerial | None, *, sha256: bytes) -> KnownSerial:
    """Put what the database has of a serial beside the file that carries it."""
    if found is None:
        return KnownSerial(
            serial=serial, state="unknown", mode=None, affixed_at=None, is_this_file=False
        )
    return KnownSerial(
        serial=serial,
        state=found.state,
        mode=found.mode,
        affixed_at=found.affixed_at,
        is_this_file=found.state == "affixed"
        and sha256 in (found.document_sha256, found.earlier_sha256),
        specimen=found.specimen,
    )


def judge(
    signatures: Sequence[CheckedSignature],
    known: Mapping[str, KnownSerial],
    *,
    expected: str | None = None,
) -> Verdict:
    """Return the one answer about a file.

    Args:
        signatures: all of the file's, oldest first.
        known: what is known of each serial that they carry.
        expected: the serial that it is said to carry, when somebody asks about one.
    """
    if not signatures:
        return Verdict.UNSIGNED
    # A kind that we do not check says nothing either way; a stamp above it covers what it signed.
    if not all(s.holds for s in signatures if s.level != UNSUPPORTED):
        return Verdict.CHANGED
    # Anybody can sign, and write our serials into the reason: only a trusted signer's count, and what
    # stands in a file that we handed out, whose certificate may have ended since.
    ours = [
        s
        for s in signatures
        if s.serials and (s.trusted or any(known[serial].is_this_file for serial in s.serials))
    ]
    if not ours:
        return Verdict.FOREIGN
    carried = [known[serial] for signature in ours for serial in signature.serials]
    if expected is not None and expected not in {k.serial for k in carried}:
        return Verdict.SERIAL_DIFFERS
    if any(k.state == "unknown" for k in carried):
        return Verdict.SERIAL_UNKNOWN
    if any(k.state != "affixed" for k in carried):
        return Verdict.SERIAL_NOT_AFFIXED
    if any(k.specimen or k.mode is Mode.TEST for k in carried) or any(
        s.says_specimen for s in ours
    ):
        return Verdict.SPECIMEN
    # A file that was stamped twice is the newer stamp's; the older stamp's was another.
    if not any(k.is_this_file for k in carried):
        return Verdict.EXTENDED
    return Verdict.STAMPED


@dataclass(frozen=True, slots=True)
class Words:
    """A sentence in both languages."""

    indonesian: str
    english: str

    def said(self, language: Language) -> str:
        """Return it in the language asked for."""
        return self.indonesian if language == "id" else self.english


HEADLINES: dict[Verdict, Words] = {
    Verdict.STAMPED: Words(
        "Asli: meterainya sah dan dokumennya tidak berubah",
        "Genuine: the stamp is valid and the document is unchanged",
    ),
    Verdict.SPECIMEN: Words(
        "SPECIMEN: hanya contoh, tidak berlaku sebagai bea meterai",
        "SPECIMEN: only an example, without any value as stamp duty",
    ),
    Verdict.EXTENDED: Words(
        "Meterainya asli, tetapi ini bukan persis berkas yang kami serahkan",
        "The stamp is genuine, but this is not exactly the file that we handed out",
    ),
    Verdict.SERIAL_UNKNOWN: Words(
        "Tanda tangannya asli, tetapi nomor serinya tidak ada di catatan kami",
        "The signature is genuine, but its serial number is not in our records",
    ),
    Verdict.SERIAL_NOT_AFFIXED: Words(
        "Tidak berlaku: nomor seri ini tidak dibubuhkan pada dokumen mana pun",
        "Not valid: this serial number was not affixed to any document",
    ),
    Verdict.SERIAL_DIFFERS: Words(
        "Bukan dokumen ini: berkasnya memuat nomor seri lain",
        "Not this document: the file carries another serial number",
    ),
    Verdict.CHANGED: Words(
        "Tidak sah: dokumen berubah atau rusak sesudah ditandatangani",
        "Not valid: the document was changed or damaged after it was signed",
    ),
    Verdict.FOREIGN: Words(
        "Tidak ada meterai kami: penandatangannya bukan penerbit yang kami percaya",
        "No stamp of ours: it was not signed by an issuer that we trust",
    ),
    Verdict.UNSIGNED: Words(
        "Tidak ada meterai elektronik: berkas ini tidak bertanda tangan digital",
        "No electronic stamp: this file carries no digital signature",
    ),
}

ADVICE: dict[Verdict, Words] = {
    Verdict.STAMPED: Words(
        "Berkas ini persis sama dengan yang kami serahkan, sampai ke setiap byte.",
        "This file is the very one that we handed out, to the last byte.",
    ),
    Verdict.SPECIMEN: Words(
        "Jangan terima sebagai dokumen bermeterai. Contoh dipakai untuk uji coba dan peragaan.",
        "Do not accept it as a stamped document. Specimens are for trials and demonstrations.",
    ),
    Verdict.EXTENDED: Words(
        "Setelah kami serahkan, sesuatu ditambahkan, misalnya tanda tangan lain. Baca di bawah apa yang"
        " ditambahkan.",
        "Something was added after we handed it out, such as another signature. Read below what it was.",
    ),
    Verdict.SERIAL_UNKNOWN: Words(
        "Tanyakan kepada penerbit meterai sebelum menerima dokumen ini.",
        "Ask the issuer of the stamp before you accept this document.",
    ),
    Verdict.SERIAL_NOT_AFFIXED: Words(
        "Pembubuhannya belum selesai atau sudah dibatalkan. Minta berkas akhir dari pengirimnya.",
        "The stamping is not finished, or was given up. Ask the sender for the final file.",
    ),
    Verdict.SERIAL_DIFFERS: Words(
        "Kode QR atau nomor seri dapat disalin ke dokumen lain. Jangan terima dokumen ini dengan nomor itu.",
        "A QR code or number can be copied onto another document. Do not accept this one under that number.",
    ),
    Verdict.CHANGED: Words(
        "Jangan terima. Minta berkas asli dari pengirimnya, bukan hasil suntingan atau cetak ulang.",
        "Do not accept it. Ask the sender for the original file, not an edited or reprinted one.",
    ),
    Verdict.FOREIGN: Words(
        "Jangan terima sebagai dokumen bermeterai kami: siapa pun dapat menandatangani dengan sertifikat"
        " buatannya sendiri dan menulis nomor apa pun.",
        "Do not accept it as stamped by us: anybody can sign with a certificate of their own making and"
        " write any number into it.",
    ),
    Verdict.UNSIGNED: Words(
        "Gambar meterai atau kode QR saja bukan bukti. Hasil pindai, foto dan cetak ulang kehilangan tanda"
        " tangannya: minta berkas PDF aslinya.",
        "A picture of a stamp or a QR code proves nothing. Scans, photos and reprints lose the signature:"
        " ask for the original PDF file.",
    ),
}

CHANGES: dict[Changes, Words] = {
    Changes.NONE: Words("Tidak ada yang berubah sesudahnya.", "Nothing was changed after it."),
    Changes.LTA_UPDATES: Words(
        "Sesudahnya hanya ditambahkan bukti untuk pemeriksaan jangka panjang.",
        "Only proof for checks in later years was added after it.",
    ),
    Changes.FORM_FILLING: Words(
        "Sesudahnya isian formulir diisi atau tanda tangan lain ditambahkan.",
        "Form fields were filled in or another signature was added after it.",
    ),
    Changes.ANNOTATIONS: Words(
        "Sesudahnya catatan atau komentar ditambahkan.",
        "Notes or comments were added after it.",
    ),
    Changes.OTHER: Words(
        "Sesudahnya isi dokumen diubah dengan cara yang tidak diizinkan.",
        "The document was changed after it in a way that is not allowed.",
    ),
    Changes.UNKNOWN: Words(
        "Tidak dapat dipastikan apa yang berubah sesudahnya.",
        "What was changed after it cannot be told.",
    ),
}
