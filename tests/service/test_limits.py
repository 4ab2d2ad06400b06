"""What guesses or wastes is limited by address, and tells how long to wait."""

import re
from collections.abc import Callable
from random import Random

import pytest
from flask.testing import FlaskClient

from common.settings import WebSettings
from tests.service.test_intake_api import assert_problem
from tests.stack import Account
from web.app import create_app

PDF = {"Content-Type": "application/pdf"}
WRONG_LINK = "/j/" + "A" * 43


@pytest.fixture(scope="module")
def strict(web_settings: WebSettings) -> FlaskClient:
    """An app with limits as they are by default, or smaller."""
    limits = {
        "wrong_links_per_hour": 3,
        "checks_per_minute": 2,
        "checks_per_minute_by_key": 2,
        "wrong_codes_per_hour": 10,
        "wrong_codes_of_all": 1000,
    }
    return create_app(web_settings.model_copy(update=limits)).test_client()


def address() -> dict[str, str]:
    """An address of the documentation's block that no other test has."""
    draw = Random()
    return {"REMOTE_ADDR": f"2001:db8:{draw.getrandbits(16):x}:{draw.getrandbits(16):x}::1"}


def test_links_that_do_not_open_are_refused_after_some_and_those_that_do_never(
    strict: FlaskClient, account: Account, letter: bytes
) -> None:
    here = address()
    for left in (2, 1, 0):
        wrong = strict.get(WRONG_LINK, environ_base=here)
        assert wrong.status_code == 404
        assert wrong.headers["RateLimit"].startswith(f'"wrong-links";r={left};t=')
    refused = strict.get(WRONG_LINK + "/live", environ_base=here)
    assert refused.status_code == 429
    assert 1100 <= int(refused.headers["Retry-After"]) <= 1200
    assert refused.headers["RateLimit-Policy"] == '"wrong-links";q=3;w=3600'
    assert refused.headers["RateLimit"] == f'"wrong-links";r=0;t={refused.headers["Retry-After"]}'
    # A person gets a page, as of any other problem.
    shown = strict.get(WRONG_LINK, environ_base=here, headers={"Accept": "text/html"})
    assert (shown.status_code, shown.mimetype) == (429, "text/html")
    assert "Coba lagi dalam sekitar 20 menit." in shown.text
    job = strict.post("/v1/jobs", data=letter, headers=account.test | PDF).json
    page = job["links"]["status_page"].partition("/j/")[2]
    opened = strict.get(f"/j/{page}", environ_base=here)
    assert opened.status_code == 200
    assert "RateLimit" not in opened.headers
    assert strict.get(WRONG_LINK, environ_base=address()).status_code == 404


def test_codes_of_stamps_that_we_did_not_sign_are_counted_as_such_links(
    strict: FlaskClient, account: Account, letter: bytes
) -> None:
    here = address()
    serial = strict.post("/v1/jobs", data=letter, headers=account.test | PDF).json["serial"]
    for _ in range(3):
        assert strict.get(f"/V/{serial}/FORGED", environ_base=here).status_code == 404
    assert strict.get(f"/V/{serial}/FORGED", environ_base=here).status_code == 429
    # The serial by itself opens for everybody.
    assert strict.get(f"/V/{serial}", environ_base=here).status_code == 200


def test_files_sent_to_pages_are_counted_by_address_before_they_are_read(
    strict: FlaskClient,
) -> None:
    here = address()
    not_a_pdf = {"data": b"no document", "headers": PDF, "environ_base": here}
    for _ in range(2):
        assert strict.post("/verify", **not_a_pdf).status_code == 422
    refused = strict.post("/verify", **not_a_pdf)
    assert refused.status_code == 429
    assert 25 <= int(refused.headers["Retry-After"]) <= 30
    assert b"too_many_attempts" in refused.data
    assert strict.post("/verify", **not_a_pdf | {"environ_base": address()}).status_code == 422


def test_files_sent_with_a_key_are_counted_by_account(
    strict: FlaskClient, make_account: Callable[..., Account]
) -> None:
    one, other = make_account(), make_account()
    for headers in (one.test, one.test, one.live, other.test):
        answer = strict.post(
            "/v1/verifications", data=b"x", headers=headers | PDF, environ_base=address()
        )
        assert_problem(answer, 422, "document_not_pdf")
        assert answer.headers["RateLimit-Policy"] == '"checks-by-key";q=2;w=60'
    refused = strict.post("/v1/verifications", data=b"x", headers=one.test | PDF)
    assert_problem(refused, 429, "too_many_attempts")


@pytest.mark.parametrize(
    ("proxies", "forwarded", "counted_together"),
    [
        # Nobody stands before us: the header is a stranger's word.
        (0, ("198.51.100.1", "198.51.100.2"), True),
        # One does: what it adds is last, and what the client wrote before it is a stranger's word.
        (1, ("203.0.113.9, 198.51.100.1", "203.0.113.9, 198.51.100.2"), False),
        (1, ("203.0.113.8, 198.51.100.3", "203.0.113.9, 198.51.100.3"), True),
        # Two do: each adds the address it was called from.
        (2, ("198.51.100.4, 10.0.0.1", "198.51.100.5, 10.0.0.1"), False),
        (2, ("9.9.9.9, 198.51.100.6, 10.0.0.1", "8.8.8.8, 198.51.100.6, 10.0.0.2"), True),
    ],
)
def test_a_client_is_whom_the_proxies_that_we_know_of_say(
    web_settings: WebSettings, proxies: int, forwarded: tuple[str, str], counted_together: bool
) -> None:
    client = create_app(
        web_settings.model_copy(update={"trusted_proxies": proxies, "wrong_links_per_hour": 1})
    ).test_client()
    here = address()
    # Addresses of this run only.
    mark = f"{Random().getrandbits(32):x}"
    spoken = [re.sub(r"198\.51\.100\.", f"{mark}-", one) for one in forwarded]
    first, second = (
        client.get(WRONG_LINK, headers={"X-Forwarded-For": one}, environ_base=here).status_code
        for one in spoken
    )
    assert (first, second) == (404, 429 if counted_together else 404)
