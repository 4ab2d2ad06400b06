"""The moving part of the page: drawn once for all that look alike, and each with its own place and times."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from common.database import Database
from common.identifiers import new_id
from common.jobs import State
from common.links import StatusLinks
from common.settings import WebSettings
from tests.service.test_job_states import accept, claim, new_job
from tests.stack import Account
from web.pages import fragments

Live = Callable[..., str]


@pytest.fixture
def live(client: FlaskClient, web_settings: WebSettings) -> Live:
    """Fetch a job's moving part."""

    def fetch(job_id: UUID, query: str = "") -> str:
        answer = client.get(f"/j/{StatusLinks(web_settings).token(job_id)}/live{query}")
        assert answer.status_code == 200
        return answer.text

    return fetch


@pytest.mark.parametrize("query", ["", "?lang=en"])
def test_jobs_that_look_alike_are_drawn_once_and_keep_their_own_facts(
    query: str, live: Live, db: Database, account: Account, web_settings: WebSettings
) -> None:
    valkey = redis.Redis.from_url(web_settings.broker_url)
    lane = f"tests.{new_id()}"
    valkey.hset(
        f"pace:{lane}",
        mapping={"accepted": 9000, "served": 1},
    )
    valkey.close()
    fragments._drawn.clear()
    made = []
    for ticket, minute in ((3, 5), (1236, 6), (1236, 7)):
        at = datetime(2026, 3, 1, 20, minute, 7, tzinfo=UTC)
        made.append(accept(db, replace(new_job(account), lane=lane, ticket=ticket, accepted_at=at)))
    # The second time it comes from the snapshot, before Flask.
    shown = [(live(job_id, query), live(job_id, query)) for job_id in made]
    # Those at one place have as long to wait; how long, depends on what other tests did a moment ago.
    assert len(fragments._drawn) < len(made) * 2
    places = ("2", "1.300", "1.300") if not query else ("2", "1,300", "1,300")
    facts = [each for pair in zip(places, (5, 6, 7), strict=True) for each in [pair] * 2]
    for text, (place, minute) in zip(sum(shown, ()), facts, strict=True):
        assert f"<dd>{place}</dd>" in text
        clock = f"2 Maret 2026, 03.0{minute}.07 WIB"
        english = f"2 March 2026, 03:0{minute}:07 WIB"
        assert (english if query else clock) in text
        assert f'datetime="2026-03-01T20:0{minute}:07+00:00"' in text
        assert not any("\ue000" <= character <= "\uf8ff" for character in text)


def test_a_job_that_is_being_stamped_shows_since_when(
    live: Live, db: Database, account: Account
) -> None:
    job_id = accept(db, new_job(account))
    assert claim(db, job_id) is not None
    first, again = live(job_id), live(job_id)
    assert first == again
    assert first.count("<time ") == 2
    assert State.STAMPING in first


def test_a_quick_page_has_the_headers_of_every_page(
    client: FlaskClient, app: Flask, db: Database, account: Account, web_settings: WebSettings
) -> None:
    job_id = accept(db, new_job(account))
    path = f"/j/{StatusLinks(web_settings).token(job_id)}/live"
    slow, quick = client.get(path), client.get(path)
    assert quick.data == slow.data
    volatile = {"Retry-After", "Date"}
    assert {k: v for k, v in quick.headers if k not in volatile} == {
        k: v for k, v in slow.headers if k not in volatile
    }
    unchanged = client.get(path, headers={"If-None-Match": quick.headers["ETag"]})
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    assert unchanged.headers["Cache-Control"] == "private, no-store"
