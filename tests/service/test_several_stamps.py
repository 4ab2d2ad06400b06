"""Several stamps in one job: one serial each, one signature, one hold, all or none."""

import io
import json
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pypdfium2
import pytest
import zxingcpp
from flask.testing import FlaskClient
from pypdf import PdfReader, PdfWriter
from sqlalchemy import text

from common import codes
from common.database import Database
from common.settings import WebSettings
from tests.service.test_intake_api import assert_problem, post
from tests.service.test_job_states import assert_clean, shown
from tests.service.test_stamping import ended, submit
from tests.stack import Account
from workers.checking import check

ON_EVERY_PAGE: list[dict[str, Any]] = [
    {"page": 1, "position": "top-left", "margin": 40},
    {"page": 2, "x": 300, "y": 100, "origin": "top-left", "width": 100, "height": 100},
    {"page": "last", "corner": "bottom-right"},
]


@pytest.fixture(scope="session")
def contract(letter: bytes) -> bytes:
    """Return a document of three pages."""
    writer = PdfWriter()
    for _ in range(3):
        writer.append(io.BytesIO(letter))
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def three(**changed: Any) -> dict[str, str]:
    """Return the fields for three stamps, the last with something changed."""
    return {"stamps": json.dumps([*ON_EVERY_PAGE[:2], ON_EVERY_PAGE[2] | changed])}


def multipart(
    client: FlaskClient, account: Account, document: bytes, fields: dict[str, str], **headers: str
) -> Any:
    return client.post(
        "/v1/jobs",
        data={"document": (io.BytesIO(document), "a.pdf")} | fields,
        headers=account.live | headers,
    )


def quota(client: FlaskClient, account: Account) -> tuple[int, int, int]:
    now: Any = client.get("/v1/quota", headers=account.live).json
    return now["available"], now["held"], now["captured"]


def ledger_of(db: Database, job_id: str) -> list[tuple[str, int]]:
    with db.transaction() as connection:
        entries = connection.execute(
            text("select kind, amount from ledger_entries where job_id = :id order by id"),
            {"id": job_id},
        ).all()
    return [(kind, amount) for kind, amount in entries]


def states_of(client: FlaskClient, job: dict[str, Any]) -> list[str]:
    return [
        (client.get(f"/v1/serials/{stamp['serial']}").json or {})["state"]
        for stamp in job["stamps"]
    ]


def reason_of(field: Any) -> str:
    return str(field["/V"]["/Reason"])


def serials_on(page: pypdfium2.PdfPage, server: str) -> list[str]:
    """Return the serials that the page's codes carry, every code with its address."""
    texts = [code.text for code in zxingcpp.read_barcodes(page.render(scale=200 / 72).to_pil())]
    assert all(text.startswith(f"{server.upper()}/V/") for text in texts)
    return [codes.read(text).serial for text in texts]


def test_cancelling_releases_all(
    client: FlaskClient, account: Account, contract: bytes, db: Database
) -> None:
    job = multipart(client, account, contract, three()).json
    assert quota(client, account) == (97, 3, 0)
    assert states_of(client, job) == ["reserved"] * 3
    client.post(f"/v1/jobs/{job['id']}/cancel", headers=account.live)
    assert states_of(client, job) == ["void"] * 3
    assert ledger_of(db, job["id"]) == [("hold", 3), ("release", 3)]
    assert quota(client, account) == (100, 0, 0)


def test_the_same_request_twice_is_one_job_and_another_order_is_another_request(
    client: FlaskClient, account: Account, contract: bytes
) -> None:
    key = {"Idempotency-Key": "three"}
    first = multipart(client, account, contract, three(), **key)
    again = multipart(client, account, contract, three(), **key)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.get_data() == first.get_data()
    assert quota(client, account) == (97, 3, 0)
    turned = {"stamps": json.dumps(ON_EVERY_PAGE[::-1])}
    other = multipart(client, account, contract, turned, **key)
    assert_problem(other, 422, "idempotency_key_reused")
    client.post(f"/v1/jobs/{first.json['id']}/cancel", headers=account.live)


def test_a_quota_for_two_is_too_small_for_three(
    client: FlaskClient,
    make_account: Callable[..., Account],
    contract: bytes,
    db: Database,
    web_settings: WebSettings,
) -> None:
    poor = make_account(quota=2)
    objects = list((web_settings.data_dir / "objects").rglob("*.pdf"))
    response = multipart(client, poor, contract, three())
    problem = assert_problem(response, 402, "quota_too_small")
    assert (problem["available"], problem["needed"]) == (2, 3)
    assert quota(client, poor) == (2, 0, 0)
    assert list((web_settings.data_dir / "objects").rglob("*.pdf")) == objects
    # Nothing is reserved for what was refused.
    two = {"stamps": json.dumps(ON_EVERY_PAGE[:2])}
    job = multipart(client, poor, contract, two).json
    assert quota(client, poor) == (0, 2, 0)
    client.post(f"/v1/jobs/{job['id']}/cancel", headers=poor.live)
    assert_clean(db)


def test_one_placement_in_stamps_is_one_stamp(
    client: FlaskClient, account: Account, letter: bytes
) -> None:
    job = post(client, account, letter, 'stamps=[{"page":1}]').json
    assert [stamp["placement"] for stamp in job["stamps"]] == [{"page": 1}]
    assert quota(client, account) == (99, 1, 0)
    client.post(f"/v1/jobs/{job['id']}/cancel", headers=account.live)


def test_a_flat_placement_is_also_in_the_list(
    client: FlaskClient, account: Account, letter: bytes
) -> None:
    job = post(client, account, letter).json
    assert job["placement"] == {"page": "last"}
    assert job["stamps"] == [{"serial": job["serial"], "placement": {"page": "last"}}]
    client.post(f"/v1/jobs/{job['id']}/cancel", headers=account.live)


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({"stamps": "not json"}, "field_invalid", "stamps: "),
        ({"stamps": ""}, "field_invalid", "stamps: "),
        ({"stamps": "{}"}, "field_invalid", "stamps: "),
        ({"stamps": "[]"}, "field_invalid", "at least 1"),
        ({"stamps": json.dumps([{}] * 21)}, "field_invalid", "at most 20"),
        ({"stamps": '[{}, {"colour": "red"}]'}, "field_unknown", "stamps.1.colour"),
        ({"stamps": "[{}]", "page": "1"}, "field_invalid", "leave out page"),
        ({"stamps": "[{}]", "anchor": "Hormat"}, "field_invalid", "leave out anchor"),
        ({"stamps": '[{"x": 1}]'}, "field_invalid", "stamps.0: "),
        ({"stamps": '[{}, {"page": 0}]'}, "page_out_of_range", None),
        ({"stamps": '[{"x": -1, "y": 1}]'}, "box_off_page", None),
        ({"page": str(2**70)}, "page_out_of_range", None),
        ({"origin": "top-left"}, "field_invalid", "origin goes only with x and y"),
        ({"anchor": "a", "field": "b"}, "field_invalid", "not both anchor and field"),
    ],
)
def test_bad_stamps_are_refused_with_nothing_taken(
    client: FlaskClient,
    account: Account,
    letter: bytes,
    fields: dict[str, str],
    code: str,
    said: str | None,
) -> None:
    query = str(httpx.QueryParams(fields))
    for response in (
        post(client, account, letter, query),
        multipart(client, account, letter, fields),
    ):
        problem = assert_problem(response, 422, code)
        assert said is None or said in problem["detail"]
    assert client.get("/v1/jobs", headers=account.live).json["data"] == []
    assert quota(client, account) == (100, 0, 0)


def test_stamps_given_twice_are_refused(
    client: FlaskClient, account: Account, letter: bytes
) -> None:
    assert_problem(post(client, account, letter, "stamps=[{}]&stamps=[{}]"), 422, "field_invalid")


def test_the_status_page_lists_every_serial(
    client: FlaskClient, account: Account, contract: bytes, db: Database
) -> None:
    job = multipart(client, account, contract, three()).json
    page = client.get(job["links"]["status_page"], headers={"Accept": "text/html"}).text
    places = [page.index(f'href="/v/{stamp["serial"]}"') for stamp in job["stamps"]]
    assert places == sorted(places)
    assert "Nomor seri (3 meterai)" in page
    assert shown(db, UUID(job["id"])).serials == [stamp["serial"] for stamp in job["stamps"]]
    client.post(f"/v1/jobs/{job['id']}/cancel", headers=account.live)


# Last, because from here on workers take up whatever is submitted.
@pytest.mark.usefixtures("workers")
def test_three_stamps_on_three_pages_are_sealed_by_one_signature_and_charged_together(
    server: str,
    client: FlaskClient,
    account: Account,
    contract: bytes,
    root_certificate: bytes,
    db: Database,
) -> None:
    job = submit(server, account.live, contract, **three())
    serials = [stamp["serial"] for stamp in job["stamps"]]
    assert len(set(serials)) == 3
    assert job["serial"] == serials[0]
    assert job["placement"] == ON_EVERY_PAGE[0]
    assert [stamp["placement"] for stamp in job["stamps"]] == ON_EVERY_PAGE

    done = ended(job, account.live)
    assert done["state"] == "stamped", done["problem"]
    assert done["stamps"] == job["stamps"]
    stamped = httpx.get(done["links"]["document"], headers=account.live).content
    assert stamped.startswith(contract)

    (signature,) = check(stamped, trust_roots_pem=root_certificate).signatures
    assert (signature.intact, signature.trusted, signature.whole_file) == (True, True, True)
    assert signature.serial == serials[0]
    (field,) = (PdfReader(io.BytesIO(stamped)).get_fields() or {}).values()
    assert reason_of(field).startswith(f"[{serials[0]}] [{serials[1]}] [{serials[2]}] ")

    pdf = pypdfium2.PdfDocument(stamped)
    pdf.init_forms()
    for page, serial in zip(pdf, serials, strict=True):
        assert serials_on(page, server) == [serial]

    assert states_of(client, done) == ["affixed"] * 3
    facts = {json.dumps(client.get(f"/v1/serials/{s}").json["document_sha256"]) for s in serials}
    assert facts == {json.dumps(done["stamped"]["sha256"])}
    assert ledger_of(db, job["id"]) == [("hold", 3), ("capture", 3)]
    assert quota(client, account) == (97, 0, 3)
    assert_clean(db)


@pytest.mark.usefixtures("workers")
def test_twenty_stamps_are_all_named_by_the_one_signature(
    server: str, account: Account, letter: bytes, root_certificate: bytes
) -> None:
    grid = [
        {"page": 1, "x": 60 + 90 * column, "y": 60 + 90 * row, "width": 80, "height": 80}
        for row in range(4)
        for column in range(5)
    ]
    job = submit(server, account.test, letter, stamps=json.dumps(grid))
    done = ended(job, account.test)
    assert done["state"] == "stamped", done["problem"]
    stamped = httpx.get(done["links"]["document"], headers=account.test).content
    assert [s.intact for s in check(stamped, trust_roots_pem=root_certificate).signatures] == [True]
    (field,) = (PdfReader(io.BytesIO(stamped)).get_fields() or {}).values()
    serials = [stamp["serial"] for stamp in job["stamps"]]
    assert re.findall(r"\[(\w+)\]", reason_of(field)) == serials
    pdf = pypdfium2.PdfDocument(stamped)
    pdf.init_forms()
    assert sorted(serials_on(pdf[0], server)) == sorted(serials)


@pytest.mark.usefixtures("workers")
def test_one_stamp_that_cannot_be_placed_fails_the_job_and_releases_all(
    server: str, client: FlaskClient, account: Account, contract: bytes, db: Database
) -> None:
    job = submit(server, account.live, contract, **three(page=4))
    done = ended(job, account.live)
    assert (done["state"], done["problem"]["code"]) == ("failed", "page_out_of_range")
    assert states_of(client, done) == ["void"] * 3
    assert ledger_of(db, job["id"]) == [("hold", 3), ("release", 3)]
    assert quota(client, account) == (100, 0, 0)
    assert_clean(db)
