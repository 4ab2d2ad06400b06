"""The waiting room: a place kept, numbered in order of arrival, that turns into an intake slot."""

import re
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient

from common import database, jobs
from common.admission import OPEN, Kind, Setting, State
from common.room import places
from common.vouchers import spending
from deploy.servers import Postgres, Valkey, free_port
from tests.service.gate_stage import Stage, stage
from tests.service.test_intake_api import assert_problem

__all__ = ["stage"]

CLOSED = Setting(State.CLOSED, reason="Listrik padam")
ROOM = "/v1/waiting-room"


def take(client: FlaskClient, voucher: Mapping[str, str]) -> dict[str, Any]:
    answer = client.post(ROOM, headers=dict(voucher))
    assert answer.status_code == 200, answer.text
    place: dict[str, Any] = answer.json or {}
    return place


def look(client: FlaskClient, place: Mapping[str, Any]) -> dict[str, Any]:
    answer = client.get(place["links"]["self"])
    assert answer.status_code == 200, answer.text
    return dict(answer.json or {})


def page(client: FlaskClient, place: Mapping[str, Any], query: str = "") -> str:
    answer = client.get(urlsplit(place["links"]["page"]).path + query)
    assert answer.status_code == 200
    return answer.text


def pass_time(stage: Stage, seconds: float) -> None:
    """Let the turns of the room be so much longer ago."""
    stage.sql(f"update waiting_turns set at = at - make_interval(secs => {seconds})")


def test_past_the_horizon_an_applicant_gets_a_place_instead_of_a_refusal(stage: Stage) -> None:
    stage.lane(100.0)
    voucher = stage.voucher()
    client = stage.front_end()
    refused = stage.submit(client, voucher)
    place = assert_problem(refused, 429, "waiting_room")["place"]
    assert (place["state"], place["before"]) == ("waiting", 0)
    # 100 s are down to the horizon after 40 s; from then on one comes in every half a second.
    assert place["seconds"] == 41
    assert refused.headers["Connection"] == "close"
    assert 1 <= int(refused.headers["Retry-After"]) <= 46
    assert take(client, voucher)["number"] == place["number"]
    assert look(client, place)["number"] == place["number"]
    assert stage.sql("select * from jobs where lane = 'stamp.applicant' and state = 'queued'") == []


def test_where_no_place_is_needed_none_is_made(stage: Stage) -> None:
    place = take(stage.front_end(), stage.voucher())
    assert (place["state"], place["number"], place["links"]) == ("open", None, None)
    assert stage.sql("select * from waiting_places") == []


def test_a_place_stays_the_same_however_often_and_from_wherever_it_is_asked_for(
    stage: Stage,
) -> None:
    stage.lane(100.0)
    voucher, other = stage.voucher(), stage.voucher()
    number = take(stage.front_end(), voucher)["number"]
    later = take(stage.front_end(), other)["number"]
    assert later > number
    for client in (stage.front_end(), stage.front_end()):
        assert take(client, voucher)["number"] == number
        assert stage.submit(client, voucher).json["place"]["number"] == number
    assert [row.number for row in stage.sql("select number from waiting_places")] == [number, later]


def test_asked_for_at_once_by_many_it_is_one_place(stage: Stage) -> None:
    stage.lane(100.0)
    voucher, numbers, start = stage.voucher(), [], threading.Barrier(8)
    clients = [stage.front_end() for _ in range(8)]

    def ask(client: FlaskClient) -> None:
        start.wait(10)
        numbers.append(take(client, voucher)["number"])

    threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(numbers) == 8
    assert len(set(numbers)) == 1
    assert len(stage.sql("select * from waiting_places")) == 1


def test_turns_come_in_order_of_arrival_as_the_lane_has_room(stage: Stage) -> None:
    stage.lane(100.0)
    client = stage.front_end()
    taken = [take(client, stage.voucher()) for _ in range(6)]
    assert [place["before"] for place in taken] == list(range(6))
    doorman = stage.doorman()
    assert doorman.advance() == 0, "the lane is longer than its horizon"
    # Room for two jobs of half a second each before the horizon of 60 s.
    stage.lane(59.0)
    assert doorman.advance() == 2
    assert doorman.advance() == 0, "they have not come yet, but will"
    seen = [look(stage.front_end(), place) for place in taken]
    assert [place["state"] for place in seen] == ["admitted"] * 2 + ["waiting"] * 4
    assert [place["before"] for place in seen] == [0, 0, 0, 1, 2, 3]
    ends = datetime.fromisoformat(seen[0]["submit_before"])
    assert timedelta(seconds=570) < ends - datetime.now(UTC) <= timedelta(seconds=600)


def test_two_doormen_give_a_turn_once(stage: Stage) -> None:
    stage.lane(100.0)
    client = stage.front_end()
    for _ in range(4):
        take(client, stage.voucher())
    stage.lane(59.0)
    doormen, given = [stage.doorman() for _ in range(4)], []
    threads = [threading.Thread(target=lambda d=d: given.append(d.advance())) for d in doormen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(given) == 2
    assert stage.sql("select sum(slots) as slots from waiting_turns")[0].slots == 2


def test_whose_turn_has_come_submits_until_the_stamps_are_spent(stage: Stage) -> None:
    stage.lane(100.0)
    voucher = stage.voucher(stamps=2)
    place = take(stage.front_end(), voucher)
    stage.lane(30.0)
    stage.doorman().advance()
    # Full again: the slot was promised, and holds.
    stage.lane(100.0)
    client = stage.front_end()
    assert stage.submit(client, voucher).status_code == 202
    assert look(stage.front_end(), place)["state"] == "admitted"
    assert stage.submit(client, voucher).status_code == 202
    done = look(stage.front_end(), place)
    assert (done["state"], done["submit_before"]) == ("used", None)
    assert "Retry-After" not in client.get(place["links"]["self"]).headers
    body = assert_problem(stage.submit(client, voucher), 402, "quota_too_small")
    assert body["available"] == 0
    assert_problem(client.post(ROOM, headers=voucher), 402, "quota_too_small")
    assert stage.sql("select jobs from waiting_turns")[0].jobs == 2


def test_what_comes_of_a_slot_is_known_also_when_the_rush_is_over(stage: Stage) -> None:
    stage.lane(100.0)
    voucher = stage.voucher(stamps=1)
    place = take(stage.front_end(), voucher)
    stage.lane(10.0)
    stage.doorman().advance()
    # Nobody waits any more, and the lane has room: a place would not be needed.
    assert stage.submit(stage.front_end(), voucher).status_code == 202
    assert look(stage.front_end(), place)["state"] == "used"
    assert stage.sql("select jobs from waiting_turns")[0].jobs == 1


def test_nobody_overtakes_those_in_the_room(stage: Stage) -> None:
    stage.lane(100.0)
    first = stage.voucher()
    take(stage.front_end(), first)
    # The lane has room again, but the turn has not been given yet.
    stage.lane(10.0)
    newcomer = stage.voucher()
    place = assert_problem(stage.submit(stage.front_end(), newcomer), 429, "waiting_room")["place"]
    assert place["before"] == 1
    assert stage.submit(stage.front_end(), first).status_code == 429
    assert stage.doorman().advance() == 2
    for voucher in (first, newcomer):
        assert stage.submit(stage.front_end(), voucher).status_code == 202
    # The room is empty: whoever comes now needs no place.
    assert stage.submit(stage.front_end(), stage.voucher()).status_code == 202


def test_a_place_that_was_just_taken_is_seen_by_the_same_front_end_at_once(stage: Stage) -> None:
    client = stage.front_end()
    assert take(client, stage.voucher())["state"] == "open"
    stage.set(Kind.APPLICANT, CLOSED)
    # This one has seen the gate open a moment ago; the other has not, and gives a place.
    take(stage.front_end(), stage.voucher())
    keeper = client.application.extensions["stampede"].gatekeeper
    keeper.joined()
    assert take(client, stage.voucher())["state"] == "waiting"


def test_a_slot_that_nobody_uses_is_over_and_the_next_place_is_at_the_end(stage: Stage) -> None:
    stage.lane(100.0)
    late, behind = stage.voucher(), stage.voucher()
    place = take(stage.front_end(), late)
    stage.lane(59.0, each=1.0)
    assert stage.doorman().advance() == 1
    stage.lane(100.0)
    last = take(stage.front_end(), behind)["number"]
    pass_time(stage, 560)
    stage.doorman().advance()
    assert look(stage.front_end(), place)["state"] == "admitted"
    assert stage.submit(stage.front_end(), late).status_code == 202
    pass_time(stage, 50)
    stage.doorman().advance()
    gone = look(stage.front_end(), place)
    assert gone["state"] == "expired"
    assert "nomor baru di belakang" in page(stage.front_end(), place)
    again = assert_problem(stage.submit(stage.front_end(), late), 429, "waiting_room")["place"]
    assert again["number"] > last
    assert again["before"] == 1


def test_the_room_moves_on_by_those_who_come_and_not_by_those_who_left(stage: Stage) -> None:
    """Of a hundred slots nobody used one: the same room in the lane is given to ten times as many."""
    stage.lane(100.0)
    client = stage.front_end()
    vouchers = [stage.voucher() for _ in range(12)]
    for voucher in vouchers:
        take(client, voucher)
    stage.sql(
        "insert into waiting_turns (up_to, at, slots) values (0, now() - interval '1 h', 990)"
    )
    stage.lane(59.0, each=1.0)
    assert stage.doorman().advance() == 10


def test_closed_by_an_operator_the_room_stands_still_and_loses_nothing(stage: Stage) -> None:
    stage.lane(100.0)
    holder, waits = stage.voucher(), stage.voucher()
    mine, theirs = (take(stage.front_end(), voucher) for voucher in (holder, waits))
    stage.lane(59.0, each=1.0)
    stage.doorman().advance()
    stage.lane(0.5)
    stage.set(Kind.APPLICANT, CLOSED)
    body = assert_problem(stage.submit(stage.front_end(), holder), 503, "intake_closed")
    assert body["reason"] == "Listrik padam"
    assert body["waiting_room"] == ROOM
    assert stage.doorman().advance() == 0
    # Half an hour later, as far as the room can tell.
    pass_time(stage, 1800)
    stage.sql("update gates set since = since - interval '30 min' where kind = 'applicant'")
    stage.doorman().advance()
    client = stage.front_end()
    assert look(client, mine) | {"submit_before": None} == look(client, mine)
    assert look(client, mine)["state"] == "admitted"
    assert "Listrik padam" in page(client, mine)
    waiting = look(client, theirs)
    assert (waiting["state"], waiting["before"], waiting["seconds"]) == ("waiting", 0, None)
    assert "belum diketahui" in page(client, theirs)
    # Places are given also now, in order of arrival.
    newcomer = take(client, stage.voucher())
    assert (newcomer["state"], newcomer["before"]) == ("waiting", 1)
    stage.set(Kind.APPLICANT, OPEN)
    stage.doorman().advance()
    ends = datetime.fromisoformat(look(stage.front_end(), mine)["submit_before"])
    assert ends - datetime.now(UTC) > timedelta(seconds=570), "a whole slot again"
    assert stage.submit(stage.front_end(), holder).status_code == 202


def test_a_gate_whose_time_has_come_is_opened_for_good_by_the_doorman(stage: Stage) -> None:
    stage.lane(100.0)
    holder = stage.voucher()
    place = take(stage.front_end(), holder)
    stage.lane(59.0, each=1.0)
    stage.doorman().advance()
    past = datetime.now(UTC) - timedelta(seconds=1)
    stage.set(Kind.APPLICANT, Setting(State.CLOSED, reason="x", reopens_at=past))
    pass_time(stage, 1800)
    stage.sql("update gates set since = since - interval '30 min' where kind = 'applicant'")
    # Before anybody has opened it, the clock of slots still stands.
    assert stage.submit(stage.front_end(), holder).status_code == 202
    stage.doorman().advance()
    [gate] = stage.sql("select state, changed_by from gates where kind = 'applicant'")
    assert (gate.state, gate.changed_by) == ("open", "stampede")
    ends = datetime.fromisoformat(look(stage.front_end(), place)["submit_before"])
    assert ends - datetime.now(UTC) > timedelta(seconds=570)


def test_a_question_about_a_place_costs_no_look_at_the_database(stage: Stage) -> None:
    stage.lane(100.0)
    place = take(stage.front_end(), stage.voucher())
    stage.doorman().advance()
    away = stage.settings.model_copy(
        update={"database_url": f"postgresql://stampede@127.0.0.1:{free_port()}/none"}
    )
    client = Stage(away, stage.database, stage.account, stage.letter).front_end()
    first = client.get(place["links"]["self"])
    assert first.json["number"] == place["number"]
    same = client.get(place["links"]["self"], headers={"If-None-Match": first.headers["ETag"]})
    assert same.status_code in {200, 304}
    assert same.headers["Retry-After"]
    assert "Menunggu giliran masuk" in page(client, place)


def test_an_unchanged_place_is_answered_by_304(stage: Stage) -> None:
    stage.set(Kind.APPLICANT, CLOSED)
    client = stage.front_end()
    place = take(client, stage.voucher())
    for path in (place["links"]["self"], urlsplit(place["links"]["page"]).path + "/live"):
        first = client.get(path)
        again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.data) == (304, b"")
        assert int(again.headers["Retry-After"]) >= 27


def test_an_empty_valkey_loses_no_place(stage: Stage, tmp_path: Path) -> None:
    server = Valkey(tmp_path / "valkey")
    server.start()
    own = Stage(
        stage.settings.model_copy(update={"broker_url": server.url}),
        stage.database,
        stage.account,
        stage.letter,
    )
    try:
        own.lane(100.0)
        vouchers = [own.voucher() for _ in range(3)]
        client = own.front_end()
        taken = [take(client, voucher) for voucher in vouchers]
        own.lane(59.0, each=1.0)
        own.doorman().advance()
        own.lane(100.0)
        own.doorman().advance()
        before = [look(own.front_end(), place) for place in taken]
        assert [place["state"] for place in before] == ["admitted", "waiting", "waiting"]
        server.kill()
        # Away: the board is made from the database.
        after = [look(own.front_end(), place) for place in taken]
        assert [place["number"] for place in after] == [place["number"] for place in before]
        assert [place["state"] for place in after] == ["admitted", "waiting", "waiting"]
        assert [place["before"] for place in after] == [0, 0, 1]
        server.start()
        own.valkey.flushall()
        own.lane(100.0)
        after = [look(own.front_end(), place) for place in taken]
        assert [place["before"] for place in after] == [0, 0, 1]
        assert [take(own.front_end(), v)["number"] for v in vouchers] == [
            place["number"] for place in taken
        ]
    finally:
        server.stop()


def test_a_killed_database_loses_no_place_and_gives_no_number_twice(
    stage: Stage, tmp_path: Path
) -> None:
    server = Postgres(tmp_path / "postgres")
    server.start()
    database.migrate(server.url)
    opened = database.Database(server.url)
    try:
        with opened.transaction() as connection:
            partner = connection.exec_driver_sql(
                "insert into partners (id, name) values (uuidv7(), 'p') returning id"
            ).scalar_one()
            ids = [
                connection.exec_driver_sql(
                    "insert into accounts (id, kind, partner_id, mode) values"
                    f" (uuidv7(), 'voucher', '{partner}', 'live') returning id"
                ).scalar_one()
                for _ in range(3)
            ]
        with opened.transaction() as connection:
            first = places.join(connection, ids[0], slot_seconds=600)
        with opened.transaction() as connection:
            second = places.join(connection, ids[1], slot_seconds=600)
        server.kill()
        server.start()
        opened.close()
        with opened.transaction() as connection:
            assert places.join(connection, ids[0], slot_seconds=600) == first
            assert places.join(connection, ids[1], slot_seconds=600) == second
            assert places.join(connection, ids[2], slot_seconds=600).number > second.number
    finally:
        opened.close()
        server.stop()


def test_only_a_voucher_that_can_be_spent_takes_a_place(stage: Stage) -> None:
    stage.lane(100.0)
    client = stage.front_end()
    refused = client.post(ROOM, headers=stage.account.live)
    assert_problem(refused, 403, "forbidden")
    assert_problem(client.post(ROOM), 401, "key_missing")
    voucher = stage.voucher()
    with stage.database.transaction() as connection:
        holder = spending.authenticate(connection, voucher["Authorization"].split()[1])
    stage.sql(f"update vouchers set voided_at = now() where account_id = '{holder.account_id}'")
    assert_problem(client.post(ROOM, headers=voucher), 403, "voucher_void")
    refused = stage.submit(client, voucher)
    assert_problem(refused, 403, "voucher_void")
    assert refused.headers["Connection"] == "close"
    assert stage.sql("select * from waiting_places") == []


def test_a_link_that_we_never_made_opens_no_place(stage: Stage) -> None:
    client = stage.front_end()
    token = client.application.extensions["stampede"].place_links.token(7)
    assert len(token) == 32
    for wrong in ("unknown", "A" * 32, token[:-1], token[:-4] + "AAAA", "%00"):
        assert_problem(client.get(f"{ROOM}/{wrong}"), 404, "not_found")
        answer = client.get(f"/antre/{wrong}", headers={"Accept": "text/html"})
        assert answer.status_code == 404


def test_the_page_says_what_to_do_without_a_script_and_in_both_languages(stage: Stage) -> None:
    stage.lane(100.0)
    client = stage.front_end()
    take(client, stage.voucher())
    place = take(client, stage.voucher())
    said = page(client, place)
    assert "Menunggu giliran masuk" in said
    assert f"Nomor Anda</dt><dd>{place['number']}</dd>" in said.replace(".", "")
    assert "Di depan Anda</dt><dd>1</dd>" in said
    refresh = re.search(r'<noscript><meta http-equiv="refresh" content="(\d+)"></noscript>', said)
    assert refresh
    assert "selama sekitar 10 menit" in said, "told beforehand that a slot ends"
    english = page(client, place, "?lang=en")
    assert "Waiting for your turn to come in" in english
    assert "Before you</dt><dd>1</dd>" in english
    headers = client.get(urlsplit(place["links"]["page"]).path).headers
    assert headers["Cache-Control"] == "private, no-store"
    assert headers["X-Robots-Tag"] == "noindex"
    stage.lane(30.0)
    stage.doorman().advance()
    said = page(stage.front_end(), place)
    assert "Giliran Anda: kirim dokumen sekarang" in said
    assert "Kirim paling lambat:" in said


def test_old_places_go_after_a_day_and_numbers_go_on(stage: Stage) -> None:
    stage.lane(100.0)
    client = stage.front_end()
    numbers = [take(client, stage.voucher())["number"] for _ in range(3)]
    stage.lane(59.0)
    doorman = stage.doorman()
    assert doorman.advance() == 2
    assert doorman.purge() == 0
    pass_time(stage, 24 * 3600 + 601)
    assert doorman.purge() == 2
    assert [row.number for row in stage.sql("select number from waiting_places")] == numbers[2:]
    assert len(stage.sql("select * from waiting_turns")) == 1, "how far the room has come"
    assert doorman.advance() == 1
    assert take(stage.front_end(), stage.voucher()) is not None


@pytest.fixture(autouse=True)
def _cancel_what_was_accepted(stage: Stage) -> Iterator[None]:
    """Other tests count what waits in the applicants' lane."""
    yield
    for job in stage.sql(
        "select id, account_id from jobs where lane = 'stamp.applicant' and state = 'queued'"
    ):
        with stage.database.transaction() as connection:
            jobs.cancel(connection, account_id=job.account_id, job_id=job.id)
