"""Shows what an issuer's own stamp design holds, and a picture of stamps that it makes."""

import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pypdfium2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image, ImageDraw, ImageFont

from common.codes import CodeSigner
from deploy.sample import blank_page
from deploy.specimen import make_specimen_chain
from workers.sealing import Box, Design, Placement, Signer, Stamp, seal
from workers.sealing.drawing import appearance, matrix
from workers.sealing.placing.placement import View

# What the pictures show; no such serial is ever given out, and its check character is wrong.
SERIAL = "CONTOHSAMPLE0000000000"
_SIDE = 80.0
_DPI = 600
# The width that a stamp should still be read at when it is printed, and the printer's resolution.
_SMALL_MM, _SMALL_DPI = 25.0, 150
_MM = 25.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a design holds.

    `bytes_per_document` are added once, `bytes_per_stamp` for each stamp; lengths are in points.
    `dots_per_module` are those of a code on a stamp 25 mm wide, printed at 150 dpi; below 2 it is not
    read reliably.
    """

    width: float
    height: float
    places: list[str]
    bytes_per_document: int
    bytes_per_stamp: int
    dots_per_module: float
    remarks: list[str]

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)


def report(design: Design, *, public_url: str) -> Report:
    """Say what a design holds, for codes with this address."""
    layout = design.layout
    stamp = _stamp(public_url, specimen=True)
    modules, _ = matrix.dark_modules(stamp.qr_text)
    square = (0, 0, _SIDE, _SIDE)
    box = Box(1, square, _SIDE, _SIDE, 0, View(*square, rotation=0, unit=1))
    part = layout.code.square.width / max(layout.width, layout.height)
    dots = _SMALL_MM / _MM * _SMALL_DPI * part / (modules + 2 * layout.quiet)
    remarks = list(design.remarks)
    if dots < 2:
        remarks.append("the code is too small to be read at 25 mm; give it more room")
    return Report(
        width=round(layout.width, 2),
        height=round(layout.height, 2),
        places=[
            name
            for name, place in (
                ("serial", layout.serial),
                ("qr", layout.code),
                ("date", layout.date),
                ("face_value", layout.face_value),
            )
            if place is not None
        ],
        bytes_per_document=design.size,
        bytes_per_stamp=len(appearance.form(stamp, box, layout, ground=1)),
        dots_per_module=round(dots, 2),
        remarks=remarks,
    )


def picture(design: Design | None, *, public_url: str, dpi: int = _DPI) -> bytes:
    """Return a PNG: the stamp in test mode, and beside it, called a sample, in live mode.

    Both carry a serial that is never given out and a code signed by a key that is thrown away.
    """
    layout = appearance.BUILT_IN if design is None else design.layout
    scale = _SIDE / max(layout.width, layout.height)
    size = (layout.width * scale, layout.height * scale)
    test, live = (
        _rendered(design, _stamp(public_url, specimen=specimen, size=size), size, dpi)
        for specimen in (True, False)
    )
    _call_sample(live)
    both = Image.new("RGB", (test.width + live.width, test.height), "white")
    both.paste(test, (0, 0))
    both.paste(live, (test.width, 0))
    out = BytesIO()
    both.save(out, "PNG", optimize=True, dpi=(dpi, dpi))
    return out.getvalue()


def _stamp(public_url: str, *, specimen: bool, size: tuple[float, float] = (_SIDE, _SIDE)) -> Stamp:
    day = date(2026, 11, 24)
    signer = CodeSigner(Ed25519PrivateKey.generate(), public_url=public_url)
    return Stamp(
        serial=SERIAL,
        qr_text=signer.text(serial=SERIAL, day=day, document_sha256=bytes(32)),
        face_value=10_000,
        date=day,
        specimen=specimen,
        placement=Placement(x=4, y=4, width=size[0], height=size[1]),
    )


def _rendered(
    design: Design | None, stamp: Stamp, size: tuple[float, float], dpi: int
) -> Image.Image:
    with tempfile.TemporaryDirectory() as folder:
        chain = make_specimen_chain(Path(folder) / "chain")
        signer = Signer.from_pem(chain.signer_key.read_bytes(), chain.chain.read_bytes())
    sealed = seal(
        blank_page(size[0] + 8, size[1] + 8),
        [stamp],
        signer=signer,
        at=datetime.now(UTC),
        reason="sample",
        design=design,
    )
    pdf = pypdfium2.PdfDocument(sealed.bytes)
    pdf.init_forms()
    rendered: Image.Image = pdf[0].render(scale=dpi / 72).to_pil()
    return rendered.convert("RGB")


def _call_sample(picture: Image.Image) -> None:
    """Write over a picture, from corner to corner, that it is a sample."""
    label = Image.new("L", (picture.width, picture.height))
    font = ImageFont.load_default(picture.width / 5)
    centre = (picture.width / 2, picture.height / 2)
    ImageDraw.Draw(label).text(centre, "CONTOH\nSAMPLE", 150, font, anchor="mm", align="center")
    picture.paste((220, 30, 30), mask=label.rotate(35))
