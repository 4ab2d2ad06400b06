"""The page that a stamp's code opens: genuine or not, with and without the database."""

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from common import codes, serials
from common.codes import CodeSigner
from common.database import Database
from common.partners import Mode
from common.settings import WebSettings, WorkerSettings
from deploy.servers import free_port
from tests.samples import DAY
from tests.service.test_job_states import accept, new_job
from tests.stack import Account
from web.app import create_app

SHA = bytes(range(32))
GENUINE = "Kode ini asli: ditandatangani oleh layanan ini"
FORGED = "Kode ini PALSU atau rusak"


@pytest.fixture
def code_signer(worker_settings: WorkerSettings) -> CodeSigner:
    return CodeSigner.from_pem(
        worker_settings.code_key_file.read_bytes(), public_url=worker_settings.public_url
    )


@pytest.fixture
def serial() -> str:
    return serials.generate(Mode.LIVE)


@pytest.fixture
def address(code_signer: CodeSigner, serial: str, worker_settings: WorkerSettings) -> str:
    code = code_signer.text(serial=serial, day=DAY, document_sha256=SHA)
    return code.removeprefix(worker_settings.public_url.upper())


def test_a_genuine_code_says_what_was_signed_and_what_the_database_knows(
    client: FlaskClient, address: str, serial: str
) -> None:
    for path in (address, address.lower()):
        page = client.get(path)
        assert page.status_code == 200
        assert GENUINE in page.text
        for fact in (serial, "24-11-2026", SHA[: codes.HASH_BYTES].hex()):
            assert fact in page.text
        # Signed, but the serial is none that this database gave out.
        assert "tidak pernah diterbitkan" in page.text
        assert "state stamped" not in page.text, "nothing green above a no"
        assert page.headers["Cache-Control"] == "no-store"
    english = client.get(address + "?lang=en")
    assert "This code is genuine" in english.text


def test_a_genuine_code_of_test_mode_is_called_a_specimen(
    client: FlaskClient, code_signer: CodeSigner
) -> None:
    code = code_signer.text(serial=serials.generate(Mode.TEST), day=DAY, document_sha256=SHA)
    page = client.get("/V/" + code.partition("/V/")[2]).text
    assert GENUINE in page
    assert "UJI COBA · SPECIMEN" in page
    assert 'class="state stamped"' not in page


@pytest.mark.parametrize(
    "how", ["another serial", "damaged", "cut short", "nonsense", "foreign key"]
)
def test_a_code_that_we_did_not_sign_is_called_forged(
    how: str, client: FlaskClient, address: str, serial: str, worker_settings: WorkerSettings
) -> None:
    token = address.rpartition("/")[2]
    foreign = CodeSigner.from_pem(
        worker_settings.code_key_file.with_name("receipt.key.pem").read_bytes(), public_url=""
    ).text(serial=serial, day=DAY, document_sha256=SHA)
    path = {
        "another serial": f"/V/{serials.generate(Mode.LIVE)}/{token}",
        "damaged": f"/V/{serial}/{token[:40]}{'0' if token[40] != '0' else '1'}{token[41:]}",
        "cut short": address[:-1],
        "nonsense": f"/V/{serial}/<b>x",
        "foreign key": f"/V/{serial}/{foreign.rpartition('/')[2]}",
    }[how]
    page = client.get(path)
    assert page.status_code == 404
    assert FORGED in page.text
    assert GENUINE not in page.text
    assert 'class="state stamped"' not in page.text
    assert "<b>" not in page.text


def test_a_forged_code_is_red_even_where_the_serial_is_reserved(
    client: FlaskClient, account: Account, db: Database, code_signer: CodeSigner
) -> None:
    accept(db, new_job(account))
    with db.transaction() as connection:
        serial = connection.execute(
            text("select serial from serials where state = 'reserved' order by serial limit 1")
        ).scalar_one()
    page = client.get(f"/V/{serial}/{'1' * codes.TOKEN_LENGTH}").text
    assert 'class="state failed"' in page
    assert 'class="state queued"' not in page
    assert f'href="/v/{serial}"' in page
    genuine = code_signer.text(serial=serial, day=DAY, document_sha256=SHA)
    page = client.get("/V/" + genuine.partition("/V/")[2]).text
    assert GENUINE in page
    assert "Dicadangkan, belum dibubuhkan" in page


def test_the_form_takes_the_address_of_a_code(client: FlaskClient, address: str) -> None:
    answer = client.get("/verify", query_string={"serial": f"https://x{address}", "lang": "en"})
    place = answer.headers["Location"]
    assert (answer.status_code, place) == (303, f"{address.replace('/V/', '/v/')}?lang=en")
    assert "This code is genuine" in client.get(place).text


def test_the_code_is_checked_while_the_database_is_away(
    web_settings: WebSettings, address: str
) -> None:
    away = web_settings.model_copy(
        update={"database_url": f"postgresql://nobody@127.0.0.1:{free_port()}/none"}
    )
    app: Flask = create_app(away)
    page = app.test_client().get(address)
    assert page.status_code == 200
    assert GENUINE in page.text
    assert "Basis data kami sedang tidak terjangkau" in page.text
    assert "tidak pernah diterbitkan" not in page.text


def test_the_key_set_holds_both_kinds_and_tells_them_apart(
    client: FlaskClient, code_signer: CodeSigner, serial: str
) -> None:
    answer = client.get("/.well-known/jwks.json")
    uses = [key["stampede_use"] for key in answer.json["keys"]]
    assert uses == ["receipt", "code"]
    assert all(key["use"] == "sig" and "d" not in key for key in answer.json["keys"])
    code = code_signer.text(serial=serial, day=DAY, document_sha256=SHA)
    assert codes.PublishedKeys(answer.data).signed(codes.read(code))
