"""`/v/<serial>`: what is publicly true of a serial; with a token, the address a stamp's QR code opens."""

from flask import Blueprint, Response, make_response, redirect, render_template, request
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.wrappers import Response as AnyResponse

from common import codes, serials
from common.serials import PublicSerial
from web.pages.language import to
from web.parts import parts

blueprint = Blueprint("verification", __name__, template_folder="templates")

# Letters that serials do without, because people read them as these digits.
_MISREAD = str.maketrans("OIL", "011")


def typed_serial(typed: str) -> str:
    """Return the serial that somebody typed, or pasted as the address in the QR code.

    `  sabc-0123…` and `https://…/V/SABC0123…` both give `SABC0123…`.
    """
    last = typed.strip().rstrip("/").rpartition("/")[2].partition("?")[0]
    return "".join(last.split()).replace("-", "").upper().translate(_MISREAD)[:64]


def pasted_code(typed: str) -> tuple[str, str] | None:
    """Return serial and token of a code's address that somebody pasted, or None for anything else."""
    serial, _, token = typed.strip().partition("?")[0].rstrip("/").rpartition("/")
    serial = serial.rpartition("/")[2].upper()
    return (serial, token) if token and serials.is_well_formed(serial) else None


@blueprint.get("/verify")
def ask() -> AnyResponse:
    """Ask for a serial, or go to the one that was typed, or to the code that was pasted."""
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
    well_formed = serials.is_well_formed(wanted)
    found = None
    if well_formed:
        with parts().database.transaction() as connection:
            found = serials.look_up(connection, wanted)
    page = render_template("serial.html", serial=wanted[:64], well_formed=well_formed, found=found)
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
    found, away = _look_up(wanted) if genuine else (None, False)
    page = render_template(
        "code.html",
        serial=wanted[:64],
        well_formed=serials.is_well_formed(wanted),
        found=found,
        token=read,
        genuine=genuine,
        specimen=serials.is_test(wanted),
        away=away,
    )
    response = make_response(page, 200 if genuine else 404)
    response.headers["Cache-Control"] = "no-store"
    return response


def _look_up(serial: str) -> tuple[PublicSerial | None, bool]:
    """Return what is known of a serial, and whether the database is away."""
    try:
        with parts().database.transaction() as connection:
            return serials.look_up(connection, serial), False
    except (OperationalError, PoolTimeoutError):
        return None, True
