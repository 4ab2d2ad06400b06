"""What a job's state means to the person who waits: a headline, the steps, and what to do next."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from flask_babel import gettext

from common.jobs import State
from common.jobs.records import JobPicture
from common.problems import PLACEMENT_PROBLEMS, Code


class Phase(StrEnum):
    """How far a step is; also its class in the style sheet."""

    DONE = "done"
    NOW = "now"
    LATER = "later"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Step:
    """One step on a job's way, and when it was reached."""

    name: str
    phase: Phase
    at: datetime | None = None


def tried_before(job: JobPicture) -> bool:
    """Say whether a queued job comes back from an attempt: its ticket no longer tells its place."""
    return job.state is State.QUEUED and job.attempt > 0


def headline(job: JobPicture) -> str:
    """Return the state in a few words."""
    match job.state:
        case State.QUEUED if job.waiting_for is not None:
            said = gettext("Menunggu nomor seri")
        case State.QUEUED if tried_before(job):
            said = gettext("Menunggu dicoba lagi")
        case State.QUEUED:
            said = gettext("Menunggu giliran")
        case State.STAMPING:
            said = gettext("Sedang dibubuhi meterai")
        case State.PARKED:
            said = gettext("Tertunda: sedang kami periksa")
        case State.STAMPED if job.purged_at is not None:
            said = gettext("Selesai: dokumen sudah dihapus setelah masa simpannya habis")
        case State.STAMPED:
            said = gettext("Selesai: dokumen bermeterai siap diunduh")
        case State.FAILED:
            said = gettext("Dokumen tidak dapat dibubuhi meterai")
        case State.CANCELLED:
            said = gettext("Dibatalkan")
    return str(said)


def steps(job: JobPicture) -> list[Step]:
    """Return the steps behind the job and those ahead; what will not happen is left out."""
    accepted = Step(gettext("Diterima"), Phase.DONE, job.accepted_at)
    queued = gettext("Antre")
    stamping = gettext("Pembubuhan meterai")
    done = gettext("Selesai")
    match job.state:
        case State.QUEUED:
            ahead = [Step(queued, Phase.NOW), Step(stamping, Phase.LATER), Step(done, Phase.LATER)]
        case State.STAMPING:
            ahead = [
                Step(queued, Phase.DONE),
                Step(stamping, Phase.NOW, job.started_at),
                Step(done, Phase.LATER),
            ]
        case State.PARKED:
            ahead = [
                Step(queued, Phase.DONE),
                Step(gettext("Diperiksa petugas"), Phase.NOW),
                Step(stamping, Phase.LATER),
                Step(done, Phase.LATER),
            ]
        case State.STAMPED:
            ahead = [
                Step(queued, Phase.DONE),
                Step(stamping, Phase.DONE, job.started_at),
                Step(done, Phase.DONE, job.finished_at),
            ]
        case State.FAILED:
            ahead = [
                Step(queued, Phase.DONE),
                Step(gettext("Gagal"), Phase.BAD, job.finished_at),
            ]
        case State.CANCELLED:
            ahead = [Step(gettext("Dibatalkan"), Phase.BAD, job.finished_at)]
    return [accepted, *ahead]


def advice(code: Code, facts: Mapping[str, Any]) -> str:
    """Return what a person can do about a job that failed for this reason, with these facts."""
    match code:
        case Code.DOCUMENT_LOCKED if facts.get("reason") == "several stamps":
            said = gettext(
                "Dokumen yang sudah ditandatangani menerima satu meterai sekali kirim: kirim lagi dengan satu"
                " meterai."
            )
        case Code.ANCHOR_NOT_FOUND:
            said = gettext(
                "Periksa ejaan teksnya. Hasil pindai hanya berisi gambar, tanpa teks yang dapat dicari: pilih"
                " halaman dan letaknya, lalu kirim lagi."
            )
        case Code.FIELD_NOT_FOUND | Code.FIELD_NOT_EMPTY | Code.FIELD_UNUSABLE:
            said = gettext(
                "Dokumennya tidak salah: sebutkan isian tanda tangan lain yang masih kosong, atau pilih"
                " halaman dan letaknya, lalu kirim lagi."
            )
        case _ if code in PLACEMENT_PROBLEMS:
            said = gettext(
                "Dokumennya tidak salah: pilih halaman atau letak lain, lalu kirim lagi."
            )
        case Code.DOCUMENT_CERTIFIED | Code.DOCUMENT_LOCKED:
            said = gettext(
                "Minta salinan yang belum dikunci kepada pembuat dokumen, lalu kirim salinan itu."
            )
        case Code.STAMPING_FAILED:
            said = gettext("Dokumennya tidak salah: kirim lagi bila meterainya masih diperlukan.")
        case Code.DOCUMENT_ENCRYPTED:
            said = gettext("Simpan salinan tanpa kata sandi, lalu kirim salinan itu.")
        case _:
            said = gettext(
                "Buat PDF baru dari dokumen aslinya (misalnya dengan “Cetak ke PDF”), lalu kirim lagi."
            )
    return str(said)
