"""The API's description is valid, true of every route, and holds against made-up requests."""

import io
from typing import Any

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from jsonschema_rs import validator_for
from schemathesis import checks

from common import partners
from common.database import Database
from common.partners import Mode
from common.problems import JOB_FAILURES, Code
from common.vouchers import code as voucher_code
from common.vouchers import issuing
from common.vouchers.issuing import NewBatch
from tests.stack import Account

OPERATORS = ("/v1/top-ups", "/v1/adjustments")


@pytest.fixture
def operator(db: Database) -> dict[str, str]:
    with db.transaction() as connection:
        key = partners.issue_operator_key(connection, label="tests")
    return {"Authorization": f"Bearer {key.secret}"}


@pytest.fixture(scope="session")
def description(app: Flask) -> dict[str, Any]:
    return dict(app.test_client().get("/openapi.json").json or {})


def test_it_is_openapi_3_1(description: dict[str, Any]) -> None:
    assert description["openapi"].startswith("3.1")
    schemathesis.openapi.from_dict(description)


def test_every_route_of_the_api_is_described(app: Flask, description: dict[str, Any]) -> None:
    routes = {
        (rule.rule.replace("<", "{").replace(">", "}"), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith(("/v1/", "/.well-known/"))
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {(path, method) for path, ways in description["paths"].items() for method in ways}
    assert described == routes


def test_every_operation_has_a_name_a_summary_and_its_problems(
    description: dict[str, Any],
) -> None:
    names = []
    for ways in description["paths"].values():
        for operation in ways.values():
            names.append(operation["operationId"])
            assert operation["summary"]
            assert "503" in operation["responses"]
            assert ("401" in operation["responses"]) == bool(operation.get("security"))
    assert len(names) == len(set(names))


def test_what_a_voucher_opens_and_what_it_does_not_is_described(
    description: dict[str, Any],
) -> None:
    for path, ways in description["paths"].items():
        for operation in ways.values():
            names = [name for way in operation.get("security", ()) for name in way]
            opens = path.startswith(("/v1/jobs", "/v1/quota", "/v1/placements")) or (
                path == "/v1/waiting-room"
            )
            assert ("voucher" in names) == opens
            # Wherever a key is asked for, one of another kind opens nothing.
            assert ("403" in operation["responses"]) == bool(names)
            if opens:
                assert "`voucher_invalid`" in operation["responses"]["401"]["description"]
                refused = operation["responses"]["429"]
                assert set(refused["headers"]) == {"Retry-After", "RateLimit-Policy", "RateLimit"}


def test_every_schema_is_a_valid_one(description: dict[str, Any]) -> None:
    for name in description["components"]["schemas"]:
        validator_for(
            {"$ref": f"#/components/schemas/{name}"} | {"components": description["components"]}
        )


def test_every_way_to_say_where_is_described_as_a_part_as_a_parameter_and_inside_stamps(
    description: dict[str, Any],
) -> None:
    submit = description["paths"]["/v1/jobs"]["post"]
    form = submit["requestBody"]["content"]["multipart/form-data"]
    parameters = {p["name"]: p for p in submit["parameters"] if p["in"] == "query"}
    inside = description["components"]["schemas"]["Placement"]["properties"]
    assert {"page", "x", "origin", "position", "margin", "anchor", "match", "field"} < set(inside)
    for name, described in inside.items():
        assert described["description"]
        assert parameters[name]["description"] == described["description"]
        assert form["schema"]["properties"][name]["description"] == described["description"]
    assert form["encoding"]["stamps"] == {"contentType": "application/json"}
    stamps = parameters["stamps"]["content"]["application/json"]["schema"]
    assert (stamps["type"], stamps["minItems"], stamps["maxItems"]) == ("array", 1, 20)
    assert stamps["items"] == {"$ref": "#/components/schemas/Placement"}


def test_every_code_that_a_job_may_fail_with_is_described(description: dict[str, Any]) -> None:
    refused = description["paths"]["/v1/jobs"]["post"]["responses"]["422"]["description"]
    for code in JOB_FAILURES:
        assert f"`{code}`" in refused


def test_every_problem_code_is_in_the_description(description: dict[str, Any]) -> None:
    assert set(description["components"]["schemas"]["Code"]["enum"]) == set(Code)


def test_answers_have_the_shape_that_is_described(
    client: FlaskClient,
    account: Account,
    operator: dict[str, str],
    letter: bytes,
    description: dict[str, Any],
    db: Database,
) -> None:
    def fits(name: str, value: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": description["components"]}
        validator_for(schema).validate(value)

    accepted = client.post(
        "/v1/jobs", data=letter, content_type="application/pdf", headers=account.live
    ).json
    fits("AcceptedJob", accepted)
    url = accepted["links"]["self"]
    fits("Job", client.get(url, headers=account.live).json)
    fits("JobPage", client.get("/v1/jobs", headers=account.live).json)
    fits("Job", client.post(f"{url}/cancel", headers=account.live).json)
    fits("QuotaState", client.get("/v1/quota", headers=account.live).json)
    fits("LedgerPage", client.get("/v1/quota/ledger", headers=account.live).json)
    form = {"jobs": '[{"document": "a"}]', "a": (io.BytesIO(letter), "a.pdf")}
    batch = client.post("/v1/batches", data=form, headers=account.live).json
    fits("AcceptedBatch", batch)
    fits("BatchState", client.get(batch["links"]["self"], headers=account.live).json)
    fits("BatchPage", client.get("/v1/batches", headers=account.live).json)
    fits("JobPage", client.get(batch["links"]["jobs"], headers=account.live).json)
    posted = {"partner": str(account.partner_id), "reference": "r", "amount": 1}
    fits("Posted", client.post("/v1/top-ups", json=posted, headers=operator).json)
    fits("PaceState", client.get("/v1/pace").json)
    fits("JsonWebKeySet", client.get("/.well-known/jwks.json").json)
    fits("SerialFacts", client.get(f"/v1/serials/{accepted['serial']}").json)
    made_code = voucher_code.generate()
    batch_of_vouchers = NewBatch(
        reference=f"openapi {made_code}",
        partner_id=account.partner_id,
        mode=Mode.LIVE,
        stamps=1,
        expires_at=None,
        by="tests",
    )
    with db.transaction() as connection:
        issuing.issue(connection, batch_of_vouchers, [made_code])
    holder = {"Authorization": f"Bearer {made_code}"}
    fits("RoomPlace", client.post("/v1/waiting-room", headers=holder).json)
    fits("ProblemDocument", client.get("/v1/jobs/x", headers=account.live).json)
    hook = {"url": "https://93.184.216.34/hook"}
    made = client.post("/v1/webhook-endpoints", json=hook, headers=account.live).json
    fits("NewWebhookEndpoint", made)
    fits("WebhookEndpointList", client.get("/v1/webhook-endpoints", headers=account.live).json)


def test_the_parts_of_a_batch_are_described(description: dict[str, Any]) -> None:
    submit = description["paths"]["/v1/batches"]["post"]
    form = submit["requestBody"]["content"]["multipart/form-data"]
    assert form["schema"] == {"$ref": "#/components/schemas/BatchForm"}
    assert form["encoding"] == {"jobs": {"contentType": "application/json"}}
    parts = description["components"]["schemas"]["BatchForm"]
    assert parts["required"] == ["jobs"]
    assert parts["additionalProperties"]["contentMediaType"] == "application/pdf"
    one = description["components"]["schemas"]["BatchJob"]
    assert set(description["components"]["schemas"]["Placement"]["properties"]) < set(
        one["properties"]
    )
    assert one["required"] == ["document"]


def test_made_up_requests_never_break_a_promise(
    app: Flask, account: Account, operator: dict[str, str], description: dict[str, Any]
) -> None:
    """No 5xx, and only the statuses, content types and bodies that are described."""
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)

    def holds(case: Any) -> None:
        case.call_and_validate(
            headers=operator if case.path in OPERATORS else account.test,
            checks=[
                checks.not_a_server_error,
                checks.status_code_conformance,
                checks.content_type_conformance,
                checks.response_schema_conformance,
            ],
        )

    bounded = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    tried = 0
    for operation in schema.get_all_operations():
        described: Any = operation
        bounded(given(case=described.ok().as_strategy())(holds))()
        tried += 1
    assert tried == sum(len(ways) for ways in description["paths"].values())
