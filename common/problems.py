"""Every error a client can meet: its stable code, HTTP status, and words in Indonesian and English.

A problem is raised as `ProblemError` anywhere, and turned into a problem document (RFC 9457) or into
the reason of a failed job at the edge. The words are for people; programs read `code`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

Language = Literal["id", "en"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of problem: `status` is its HTTP status, the texts say what happened and what to do."""

    status: int
    english: str
    indonesian: str

    def title(self, language: Language) -> str:
        """Return the sentence for people in the language asked for."""
        return self.indonesian if language == "id" else self.english


class Code(StrEnum):
    """The stable names that clients may switch on; none is ever reused for another meaning."""

    # Who is asking
    KEY_MISSING = "key_missing"
    KEY_INVALID = "key_invalid"
    KEY_REVOKED = "key_revoked"
    FORBIDDEN = "forbidden"
    VOUCHER_INVALID = "voucher_invalid"
    VOUCHER_EXPIRED = "voucher_expired"
    VOUCHER_VOID = "voucher_void"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
    # What was asked
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BAD_REQUEST = "bad_request"
    FIELD_UNKNOWN = "field_unknown"
    FIELD_INVALID = "field_invalid"
    CURSOR_INVALID = "cursor_invalid"
    CONTENT_TYPE_UNSUPPORTED = "content_type_unsupported"
    IDEMPOTENCY_KEY_INVALID = "idempotency_key_invalid"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    IDEMPOTENCY_KEY_IN_USE = "idempotency_key_in_use"
    # The document
    DOCUMENT_MISSING = "document_missing"
    DOCUMENT_EMPTY = "document_empty"
    DOCUMENT_TOO_LARGE = "document_too_large"
    DOCUMENT_NOT_PDF = "document_not_pdf"
    DOCUMENT_ENCRYPTED = "document_encrypted"
    DOCUMENT_UNREADABLE = "document_unreadable"
    DOCUMENT_NO_PAGES = "document_no_pages"
    DOCUMENT_CERTIFIED = "document_certified"
    DOCUMENT_LOCKED = "document_locked"
    DOCUMENT_UNPROCESSABLE = "document_unprocessable"
    PAGE_OUT_OF_RANGE = "page_out_of_range"
    BOX_OFF_PAGE = "box_off_page"
    STAMPS_OVERLAP = "stamps_overlap"
    ANCHOR_NOT_FOUND = "anchor_not_found"
    NO_ROOM = "no_room"
    FIELD_NOT_FOUND = "field_not_found"
    FIELD_NOT_EMPTY = "field_not_empty"
    FIELD_UNUSABLE = "field_unusable"
    # A batch
    BATCH_REFUSED = "batch_refused"
    BATCH_TOO_LARGE = "batch_too_large"
    # The job
    QUOTA_TOO_SMALL = "quota_too_small"
    JOB_NOT_CANCELLABLE = "job_not_cancellable"
    DOCUMENT_NOT_READY = "document_not_ready"
    DOCUMENT_PURGED = "document_purged"
    STAMPING_FAILED = "stamping_failed"
    # The gate
    INTAKE_FULL = "intake_full"
    INTAKE_CLOSED = "intake_closed"
    WAITING_ROOM = "waiting_room"
    # Quota
    PARTNER_UNKNOWN = "partner_unknown"
    REFERENCE_REUSED = "reference_reused"
    # Webhooks
    WEBHOOK_URL_REFUSED = "webhook_url_refused"
    # The service itself
    SERVICE_UNAVAILABLE = "service_unavailable"
    OUTCOME_UNKNOWN = "outcome_unknown"
    INTERNAL_ERROR = "internal_error"


PROBLEMS: dict[Code, Problem] = {
    Code.KEY_MISSING: Problem(
        401,
        "Send your API key in the header 'Authorization: Bearer sk_…'.",
        "Kirim kunci API Anda di header 'Authorization: Bearer sk_…'.",
    ),
    Code.KEY_INVALID: Problem(
        401,
        "This API key is not known. Check that it was copied whole.",
        "Kunci API ini tidak dikenal. Periksa apakah kunci disalin lengkap.",
    ),
    Code.KEY_REVOKED: Problem(
        401,
        "This API key was revoked or has expired. Use another key of yours.",
        "Kunci API ini sudah dicabut atau kedaluwarsa. Gunakan kunci Anda yang lain.",
    ),
    Code.FORBIDDEN: Problem(
        403,
        "What you sent to show who you are does not open this address.",
        "Kunci atau kode yang Anda kirim tidak berlaku untuk alamat ini.",
    ),
    Code.VOUCHER_INVALID: Problem(
        401,
        "This voucher code is not known. Check each of its 16 characters against the voucher.",
        "Kode voucher ini tidak dikenal. Cocokkan ke-16 karakternya dengan voucher Anda.",
    ),
    Code.VOUCHER_EXPIRED: Problem(
        403,
        "This voucher has expired: its stamps can no longer be used. What was submitted is not affected.",
        "Voucher ini kedaluwarsa: sisanya tidak dapat dipakai. Dokumen yang sudah dikirim tetap diproses.",
    ),
    Code.VOUCHER_VOID: Problem(
        403,
        "This voucher was made void. Ask where you bought it. What was submitted is not affected.",
        "Voucher ini dibatalkan. Tanyakan ke penjualnya. Dokumen yang sudah dikirim tetap diproses.",
    ),
    Code.TOO_MANY_ATTEMPTS: Problem(
        429,
        "Too many attempts in a short time. Wait a while, then try again.",
        "Terlalu banyak percobaan dalam waktu singkat. Tunggu dulu, lalu coba lagi.",
    ),
    Code.NOT_FOUND: Problem(
        404, "There is nothing here under this address.", "Tidak ada apa pun di alamat ini."
    ),
    Code.METHOD_NOT_ALLOWED: Problem(
        405,
        "This address does not answer to this method; see the Allow header.",
        "Alamat ini tidak melayani metode tersebut; lihat header Allow.",
    ),
    Code.BAD_REQUEST: Problem(
        400, "The request could not be read.", "Permintaan tidak dapat dibaca."
    ),
    Code.FIELD_UNKNOWN: Problem(
        422,
        "The request has a field that this address does not know.",
        "Permintaan memuat isian yang tidak dikenal di alamat ini.",
    ),
    Code.FIELD_INVALID: Problem(
        422,
        "A field of the request is missing or has a value that cannot be used.",
        "Salah satu isian permintaan kosong atau nilainya tidak dapat dipakai.",
    ),
    Code.CURSOR_INVALID: Problem(
        400,
        "This cursor is not one that we gave out. Start again without a cursor.",
        "Kursor ini bukan dari kami. Mulai lagi tanpa kursor.",
    ),
    Code.CONTENT_TYPE_UNSUPPORTED: Problem(
        415,
        "This content type is not taken here; see 'accepted' for the ones that are.",
        "Jenis konten ini tidak diterima di sini; lihat 'accepted' untuk jenis yang diterima.",
    ),
    Code.IDEMPOTENCY_KEY_INVALID: Problem(
        400,
        "The Idempotency-Key must be 1 to 255 printable ASCII characters.",
        "Idempotency-Key harus terdiri atas 1 sampai 255 karakter ASCII yang dapat dicetak.",
    ),
    Code.IDEMPOTENCY_KEY_REUSED: Problem(
        422,
        "This Idempotency-Key was used for another request. Use a new key for a new request.",
        "Idempotency-Key ini sudah dipakai untuk permintaan lain. Pakai kunci baru.",
    ),
    Code.IDEMPOTENCY_KEY_IN_USE: Problem(
        409,
        "A request with this Idempotency-Key is being worked on. Try again in a moment.",
        "Permintaan dengan Idempotency-Key ini sedang diproses. Coba lagi sebentar.",
    ),
    Code.DOCUMENT_MISSING: Problem(
        422,
        "The request holds no document. Send it as the part 'document' or as the body.",
        "Permintaan tidak memuat dokumen. Kirim sebagai bagian 'document' atau sebagai isi.",
    ),
    Code.DOCUMENT_EMPTY: Problem(
        422, "The document is empty (0 bytes).", "Dokumen kosong (0 byte)."
    ),
    Code.DOCUMENT_TOO_LARGE: Problem(
        413,
        "The document is larger than the limit. Make it smaller, for example by scanning at 150 dpi.",
        "Dokumen melebihi batas ukuran. Perkecil, misalnya dengan memindai pada 150 dpi.",
    ),
    Code.DOCUMENT_NOT_PDF: Problem(
        422,
        "The document is not a PDF. Save it as PDF and send that file.",
        "Dokumen ini bukan PDF. Simpan sebagai PDF lalu kirim berkas itu.",
    ),
    Code.DOCUMENT_ENCRYPTED: Problem(
        422,
        "The document is protected by a password or encryption. Remove the protection and send it again.",
        "Dokumen dilindungi kata sandi atau enkripsi. Hapus perlindungannya lalu kirim lagi.",
    ),
    Code.DOCUMENT_UNREADABLE: Problem(
        422,
        "The document is damaged or cut short and cannot be read. Export it again and send the new file.",
        "Dokumen rusak atau terpotong sehingga tidak terbaca. Ekspor ulang lalu kirim berkas baru.",
    ),
    Code.DOCUMENT_NO_PAGES: Problem(
        422, "The document has no pages.", "Dokumen tidak memiliki halaman."
    ),
    Code.DOCUMENT_CERTIFIED: Problem(
        422,
        "The document is certified, and its certification does not allow a new signature.",
        "Dokumen tersertifikasi, dan sertifikasinya tidak mengizinkan tanda tangan baru.",
    ),
    Code.DOCUMENT_LOCKED: Problem(
        422,
        "A signature in the document locks it against further signatures.",
        "Tanda tangan di dalam dokumen menguncinya dari tanda tangan berikutnya.",
    ),
    Code.DOCUMENT_UNPROCESSABLE: Problem(
        422,
        "The document asks for more than a document may: it is built in a way we do not process.",
        "Susunan dokumen ini tidak wajar sehingga tidak dapat kami proses.",
    ),
    Code.PAGE_OUT_OF_RANGE: Problem(
        422,
        "The document has no page of this number.",
        "Dokumen tidak memiliki halaman dengan nomor ini.",
    ),
    Code.BOX_OFF_PAGE: Problem(
        422,
        "The stamp would lie outside the visible page. Move it or make it smaller.",
        "Meterai akan berada di luar halaman yang terlihat. Geser atau perkecil.",
    ),
    Code.STAMPS_OVERLAP: Problem(
        422,
        "Two stamps of this request would cover each other. Move one of them.",
        "Dua meterai dalam permintaan ini akan saling menutupi. Geser salah satunya.",
    ),
    Code.ANCHOR_NOT_FOUND: Problem(
        422,
        "The document does not have the text that the stamp is to stand at, or not that often.",
        "Teks penanda letak meterai tidak ditemukan di dokumen, atau jumlahnya kurang.",
    ),
    Code.NO_ROOM: Problem(
        422,
        "The page has no empty area that is large enough for the stamp. Say where it is to go.",
        "Halaman tidak memiliki area kosong yang cukup untuk meterai. Tentukan letaknya.",
    ),
    Code.FIELD_NOT_FOUND: Problem(
        422,
        "The document has no form field of this name.",
        "Dokumen tidak memiliki isian formulir dengan nama ini.",
    ),
    Code.FIELD_NOT_EMPTY: Problem(
        422,
        "This signature field of the document is already signed. Name an empty one.",
        "Isian tanda tangan ini sudah ditandatangani. Sebutkan isian yang masih kosong.",
    ),
    Code.FIELD_UNUSABLE: Problem(
        422,
        "This field of the document cannot carry the stamp ('reason' says why). Name another or say where.",
        "Isian ini tidak dapat memuat meterai (sebabnya di 'reason'). Pilih isian lain atau letaknya.",
    ),
    Code.BATCH_REFUSED: Problem(
        422,
        "The batch was not taken, because not all of it can be: 'errors' names each and says why.",
        "Kiriman tidak diterima karena ada bagian yang tidak dapat diproses; lihat 'errors'.",
    ),
    Code.BATCH_TOO_LARGE: Problem(
        413,
        "The batch has more documents or bytes than one may have. Send it in several batches.",
        "Kiriman melebihi jumlah dokumen atau ukuran yang diizinkan. Bagi menjadi beberapa kiriman.",
    ),
    Code.QUOTA_TOO_SMALL: Problem(
        402,
        "The quota is too small for this request. Top up and send it again.",
        "Kuota tidak cukup untuk permintaan ini. Isi ulang kuota lalu kirim lagi.",
    ),
    Code.JOB_NOT_CANCELLABLE: Problem(
        409,
        "Only a job that is still queued can be cancelled.",
        "Hanya pekerjaan yang masih mengantre yang dapat dibatalkan.",
    ),
    Code.DOCUMENT_NOT_READY: Problem(
        409,
        "There is no stamped document: the job is not stamped. See its state.",
        "Belum ada dokumen bermeterai: pekerjaan belum selesai. Lihat statusnya.",
    ),
    Code.INTAKE_FULL: Problem(
        429,
        "More is waiting than can be stamped in good time, so nothing new is taken for now. Nothing was"
        " accepted or charged: send it again after Retry-After.",
        "Antrean terlalu panjang, jadi kiriman baru belum diterima. Tidak ada yang diterima atau"
        " ditagih: kirim lagi setelah waktu di Retry-After.",
    ),
    Code.INTAKE_CLOSED: Problem(
        503,
        "The intake is closed for now ('reason' says why). What was accepted before is not affected."
        " Nothing was accepted or charged now.",
        "Penerimaan dokumen sedang ditutup (sebabnya di 'reason'). Yang sudah diterima tetap diproses."
        " Kali ini tidak ada yang diterima atau ditagih.",
    ),
    Code.WAITING_ROOM: Problem(
        429,
        "Many come at once: a place is kept for you in the waiting room. Nothing was accepted or charged"
        " yet; submit when its turn comes.",
        "Peminat sedang ramai: tempat Anda di ruang tunggu sudah dicatat. Belum ada yang diterima atau"
        " ditagih; kirim dokumen saat giliran Anda tiba.",
    ),
    Code.PARTNER_UNKNOWN: Problem(
        422, "There is no partner of this id or name.", "Tidak ada mitra dengan id atau nama ini."
    ),
    Code.REFERENCE_REUSED: Problem(
        409,
        "This reference was used before, for something else. Nothing was changed.",
        "Referensi ini sudah dipakai untuk hal lain. Tidak ada yang berubah.",
    ),
    Code.DOCUMENT_PURGED: Problem(
        410,
        "The document was deleted at the end of its retention time. Its record and serials stay valid.",
        "Dokumen sudah dihapus karena masa simpannya habis. Catatan dan nomor serinya tetap berlaku.",
    ),
    Code.STAMPING_FAILED: Problem(
        500,
        "The document could not be stamped for a reason of ours. Nothing is charged.",
        "Dokumen gagal dibubuhi meterai karena gangguan di pihak kami. Tidak ada yang ditagih.",
    ),
    Code.WEBHOOK_URL_REFUSED: Problem(
        422,
        "Webhooks are not sent to this address. Use a public https:// address.",
        "Webhook tidak dikirim ke alamat ini. Gunakan alamat https:// publik.",
    ),
    Code.SERVICE_UNAVAILABLE: Problem(
        503,
        "The service cannot take this right now. Nothing was accepted or charged; try again later.",
        "Layanan belum dapat menerima ini. Tidak ada yang diterima atau ditagih; coba lagi nanti.",
    ),
    Code.OUTCOME_UNKNOWN: Problem(
        503,
        "We lost the connection while recording this: it may have been done, or not. Look before you"
        " send it again, or send it again with the same Idempotency-Key.",
        "Koneksi terputus saat permintaan dicatat: mungkin sudah dikerjakan, mungkin belum. Periksa"
        " dulu sebelum mengirim lagi, atau kirim lagi dengan Idempotency-Key yang sama.",
    ),
    Code.INTERNAL_ERROR: Problem(
        500,
        "Something of ours went wrong. Nothing was accepted or charged; try again.",
        "Terjadi kesalahan di pihak kami. Tidak ada yang diterima atau ditagih; coba lagi.",
    ),
}


# What a job can end with as `failed`, because only the reading of its document shows it: the
# document is at fault, or the place that was asked for is not in it.
DOCUMENT_PROBLEMS = (
    Code.DOCUMENT_NOT_PDF,
    Code.DOCUMENT_ENCRYPTED,
    Code.DOCUMENT_UNREADABLE,
    Code.DOCUMENT_NO_PAGES,
    Code.DOCUMENT_CERTIFIED,
    Code.DOCUMENT_LOCKED,
    Code.DOCUMENT_UNPROCESSABLE,
)
PLACEMENT_PROBLEMS = (
    Code.PAGE_OUT_OF_RANGE,
    Code.BOX_OFF_PAGE,
    Code.STAMPS_OVERLAP,
    Code.ANCHOR_NOT_FOUND,
    Code.NO_ROOM,
    Code.FIELD_NOT_FOUND,
    Code.FIELD_NOT_EMPTY,
    Code.FIELD_UNUSABLE,
)
JOB_FAILURES = (*DOCUMENT_PROBLEMS, *PLACEMENT_PROBLEMS)


@dataclass(slots=True)
class ProblemError(Exception):
    """A problem met by this request or job, with the facts that help to mend it.

    `facts` become members of the problem document: JSON values only, never personal data.
    `headers` go out with the response (`Retry-After`, `Allow`, …).
    """

    code: Code
    detail: str = ""
    facts: dict[str, object] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def problem(self) -> Problem:
        """Return the kind that the code names."""
        return PROBLEMS[self.code]

    def __str__(self) -> str:
        """Return the code and the detail, for logs."""
        return f"{self.code}: {self.detail}" if self.detail else str(self.code)
