"""`/v/<serial>`: what is publicly true of a serial; the address that a stamp's QR code opens."""

from flask import Blueprint, Response, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from common import serials
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


@blueprint.get("/verify")
def ask() -> AnyResponse:
    """Ask for a serial, or go to the one that was typed."""
    wanted = typed_serial(request.args.get("serial", ""))
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
