"""`/verify` and `/v/<serial>`: what is true of a serial, of a scanned code, and of a file.

`/v/<serial>` with a token behind it is the address that a stamp's QR code opens. A file that is sent to
a page is checked and forgotten.
"""

from datetime import datetime

from flask import Blueprint, Response, make_response, redirect, render_template, request
from flask_babel import gettext
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.wrappers import Response as AnyResponse

from common import codes, serials
from common.problems import PROBLEMS, Code, ProblemError
from common.serials import PublicSerial
from common.telemetry import REFUSED
from common.verdicts import ADVICE, CHANGES, HEADLINES
from web import limits
from web.answers import language_of
from web.api.intake import read_upload
from web.api.verifications import NoFields, verify
from web.pages.language import selected, to
from web.parts import parts

blueprint = Blueprint("verification", __name__, template_folder="templates")

# Letters that generated serials do without, because people read them as these digits.
_MISREAD = str.maketrans("OIL", "011")


def typed_serial(typed: str) -> str:
    """Return the serial that somebody typed, or pasted as the address in the QR code.

    `  sabc-0123…` and `https://…/V/SABC0123…` both give `SABC0123…`.
    """
    last = typed.strip().rstrip("/").rpartition("/")[2].partition("?")[0]
    return "".join(last.split()).replace("-", "").upper()[:64]


def readings(serial: str) -> list[str]:
    """Return what a serial may be that somebody copied by eye, as it stands first.

    Imported ones may have the letters O, I and L; in generated ones these are digits misread.
    """
    return list(dict.fromkeys((serial, serial.translate(_MISREAD))))


def pasted_code(typed: str) -> tuple[str, str] | None:
    """Return serial and token of a code's address that somebody pasted, or None for anything else."""
    serial, _, token = typed.strip().partition("?")[0].rstrip("/").rpartition("/")
    serial = serial.rpartition("/")[2].upper()
    return (serial, token) if token and serials.may_be_ours(serial) else None


@blueprint.context_processor
def _form() -> dict[str, int]:
    """Give every page of this file what its form for files says."""
    return {"most": _most_bytes()}


@blueprint.get("/verify")
def ask() -> AnyResponse:
    """Ask for a file or a serial, or go to the one that was typed, or to the code that was pasted."""
    typed = request.args.get("serial", "")
    code = pasted_code(typed)
    if code is not None:
        return redirect(to("verification.show_code", serial=code[0], token=code[1]), 303)
    wanted = typed_serial(typed)
    if wanted:
        return redirect(to("verification.show", serial=wanted), 303)
    return make_response(render_template("verify.html"))


# A QR code's address is in capitals throughout, which keeps the code small.
@blueprint.get("/V/<serial>", endpoint="show_scanned")
@blueprint.get("/v/<serial>", endpoint="show")
def show(serial: str) -> Response:
    """Show what is known of a serial."""
    wanted = serial.upper()
    found = None
    if serials.may_be_ours(wanted):
        with parts().database.transaction() as connection:
            known = serials.look_up_all(connection, readings(wanted))
        found = next((known[each] for each in readings(wanted) if each in known), None)
    page = render_template(
        "serial.html",
        serial=found.serial if found else wanted[:64],
        possible=serials.may_be_ours(wanted),
        well_formed=any(map(serials.is_well_formed, readings(wanted))),
        found=found,
    )
    response = make_response(page, 200 if found else 404)
    response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.get("/V/<serial>/<token>", endpoint="show_scanned_code")
@blueprint.get("/v/<serial>/<token>", endpoint="show_code")
def show_code(serial: str, token: str) -> Response:
    """Show what a scanned code says, whether we signed it, and what is known of its serial.

    The code is checked against the published keys alone, so this works while the database is away.
    """
    wanted = serial.upper()
    genuine, read = False, None
    try:
        read = codes.token_of(wanted, token)
        genuine = parts().codes.signed(read)
    except codes.CodeError:
        pass
    if not genuine:
        limits.count_wrong_link()
    found, away = _look_up(wanted) if genuine else (None, False)
    page = render_template(
        "code.html",
        serial=wanted[:64],
        possible=serials.may_be_ours(wanted),
        well_formed=serials.is_well_formed(wanted),
        found=found,
        token=read,
        genuine=genuine,
        test=serials.is_test(wanted),
        specimen=serials.is_test(wanted) or (found is not None and found.specimen),
        away=away,
    )
    response = make_response(page, 200 if genuine else 404)
    response.headers["Cache-Control"] = "no-store"
    return response


# No token against forged requests on these two: they use no session and no right of the sender, and
# change nothing. Whoever makes a browser send a file here learns and gains nothing by it.
@blueprint.post("/verify", endpoint="check")
def check() -> Response:
    """Check the file that was sent."""
    return _check(None)


@blueprint.post("/V/<serial>", endpoint="check_scanned")
@blueprint.post("/v/<serial>", endpoint="check_for")
def check_for(serial: str) -> Response:
    """Check whether the file that was sent is the one that carries this serial."""
    return _check(serial.upper()[:64])


def _check(expected: str | None) -> Response:
    """Answer with the result, or with the form again and what was wrong."""
    try:
        limits.count_check()
        upload = read_upload(NoFields, max_bytes=_most_bytes(), beside_a_form=("lang",))
        verified = verify(upload.document, expected=expected)
    except ProblemError as error:
        return _refused(error, expected)
    lang = language_of(selected())
    other = language_of("id" if lang == "en" else "en")
    page = render_template(
        "verified.html",
        name=upload.file_name or "PDF",
        expected=expected,
        verified=verified,
        headline=HEADLINES[verified.verdict].said(lang),
        same_in_other=HEADLINES[verified.verdict].said(other),
        other=other,
        advice=ADVICE[verified.verdict].said(lang),
        changes={kind: words.said(lang) for kind, words in CHANGES.items()},
        at=datetime.fromisoformat,
    )
    response = make_response(page)
    response.headers["Cache-Control"] = "no-store"
    return response


def _look_up(serial: str) -> tuple[PublicSerial | None, bool]:
    """Return what is known of a serial, and whether the database is away."""
    try:
        with parts().database.transaction() as connection:
            return serials.look_up(connection, serial), False
    except (OperationalError, PoolTimeoutError):
        return None, True


def _why(code: Code) -> str:
    """Return why a file could not be checked, and what to do.

    The catalogue's words are for documents that are to be stamped: whoever made one smaller or exported
    it again would lose the signature that is to be checked.
    """
    match code:
        case Code.DOCUMENT_MISSING:
            said = gettext("Belum ada berkas yang dipilih.")
        case Code.DOCUMENT_TOO_LARGE:
            said = gettext(
                "Berkas ini lebih besar daripada yang kami periksa di sini. Jangan perkecil, karena tanda"
                " tangannya akan hilang: periksa di pembaca PDF."
            )
        case Code.DOCUMENT_NOT_PDF:
            said = gettext(
                "Dokumen ini bukan PDF. Foto dan hasil pindai tidak memuat tanda tangan, juga bila disimpan"
                " sebagai PDF: minta berkas PDF aslinya."
            )
        case Code.DOCUMENT_ENCRYPTED:
            said = gettext(
                "Berkas ini hanya terbuka dengan kata sandi. Periksa di pembaca PDF, atau minta berkas tanpa"
                " kata sandi dari pengirimnya."
            )
        case Code.DOCUMENT_UNREADABLE:
            said = gettext(
                "Berkas ini rusak atau terpotong. Minta berkas aslinya dari pengirimnya, dan jangan"
                " mengekspor atau mencetaknya ulang."
            )
        case Code.DOCUMENT_UNPROCESSABLE:
            said = gettext(
                "Susunan berkas ini tidak wajar, jadi kami tidak dapat menyatakan apa pun tentangnya. Jangan"
                " terima begitu saja: minta berkas aslinya dari pengirimnya."
            )
        case _:
            return PROBLEMS[code].title(language_of(selected()))
    return str(said)


def _refused(error: ProblemError, expected: str | None) -> Response:
    REFUSED.labels(error.code).inc()
    page = render_template(
        "verify.html",
        expected=expected,
        problem=_why(error.code),
        busy=error.problem.status == 503,
        code=error.code,
    )
    response = make_response(page, error.problem.status)
    response.headers.update(error.headers)
    response.headers["Cache-Control"] = "no-store"
    return response


def _most_bytes() -> int:
    return parts().settings.max_checked_bytes
