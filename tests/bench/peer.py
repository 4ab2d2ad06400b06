"""The usual way to build this, for comparison: Flask, Celery and pyHanko, honestly put together.

Uploads are saved to a folder, a task signs with pyHanko and saves the result, the task id is the
job. No database, no ledger, no receipts: what it leaves out only makes it faster. Run by the
pipeline bench with PEER_BROKER, PEER_FOLDER, PEER_KEY, PEER_LEAF and PEER_CA in the environment.
"""

import os
import uuid
from io import BytesIO
from pathlib import Path

from celery import Celery
from flask import Flask, Response, jsonify, request
from pyhanko import stamp
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import fields, signers

FOLDER = Path(os.environ.get("PEER_FOLDER", "."))

celery = Celery("peer", broker=os.environ.get("PEER_BROKER", "redis://127.0.0.1:6379/0"))
celery.conf.update(
    task_ignore_result=True,
    worker_send_task_events=True,
    broker_connection_retry_on_startup=True,
)
app = Flask(__name__)


@app.post("/jobs")
def create() -> tuple[Response, int]:
    """Save the upload and send a task."""
    job = str(uuid.uuid4())
    (FOLDER / f"{job}.pdf").write_bytes(request.get_data())
    sign.apply_async((job,), task_id=job)
    return jsonify(id=job), 202


@app.get("/ready")
def ready() -> str:
    """Say that the front end answers."""
    return "ok"


@celery.task(name="peer.sign")  # type: ignore[untyped-decorator]
def sign(job: str) -> None:
    """Sign one document as pyHanko's manual shows, its key loaded with each."""
    signer: signers.SimpleSigner | None = signers.SimpleSigner.load(  # type: ignore[no-untyped-call]
        os.environ["PEER_KEY"], os.environ["PEER_LEAF"], ca_chain_files=(os.environ["PEER_CA"],)
    )
    if signer is None:
        raise RuntimeError("the key could not be loaded")
    writer = IncrementalPdfFileWriter(BytesIO((FOLDER / f"{job}.pdf").read_bytes()))
    out = BytesIO()
    signers.PdfSigner(
        signers.PdfSignatureMetadata(
            field_name="Stamp", reason=job, subfilter=fields.SigSeedSubFilter.PADES
        ),
        signer=signer,
        stamp_style=stamp.QRStampStyle(stamp_text="SPECIMEN\n%(ts)s"),
        new_field_spec=fields.SigFieldSpec("Stamp", on_page=-1, box=(491, 24, 571, 104)),
    ).sign_pdf(writer, output=out, appearance_text_params={"url": f"https://stamp.example/{job}"})
    unfinished = FOLDER / f"{job}.part"
    unfinished.write_bytes(out.getvalue())
    unfinished.rename(FOLDER / f"{job}.signed.pdf")
