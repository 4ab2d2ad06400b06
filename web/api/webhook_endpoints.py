"""`/v1/webhook-endpoints`: where a partner is told how its jobs ended."""

from typing import Any, Literal
from uuid import UUID

import orjson
from flask import Blueprint, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from common import webhook_endpoints, webhook_targets
from common.idempotency import Answer
from common.problems import Code, ProblemError
from common.webhook_endpoints import Endpoint
from web import once
from web.answers import JSON, json_answer
from web.api import bodies, queries
from web.api.fields import Line
from web.api.representations import rfc3339
from web.callers import caller
from web.openapi import Answers, Operation, described
from web.parts import parts

blueprint = Blueprint("webhook_endpoints", __name__, url_prefix="/v1/webhook-endpoints")
TAG = "Webhooks"


class NewEndpoint(BaseModel):
    """An endpoint to be told."""

    model_config = ConfigDict(extra="forbid")

    url: Line = Field(min_length=1, max_length=2000, description="A public https:// address.")
    description: Line = Field("", max_length=200)


class WebhookEndpoint(BaseModel):
    """An endpoint that is told how jobs and batches ended, and what became of them afterwards."""

    id: UUID
    url: str
    description: str
    created_at: AwareDatetime


class NewWebhookEndpoint(WebhookEndpoint):
    """A new endpoint, with the secret that its webhooks are signed with, shown this once."""

    secret: str = Field(description="`whsec_…`, for any Standard Webhooks library.")


class WebhookEndpointList(BaseModel):
    """All endpoints of the caller."""

    object: Literal["list"]
    data: list[WebhookEndpoint]


@blueprint.post("")
@described(
    Operation(
        tag=TAG,
        summary="Register an endpoint",
        description="Webhooks are signed as Standard Webhooks says (symmetric, `v1`) and sent at "
        "least once: answer 2xx, and treat the same `webhook-id` as the same message. Test keys "
        "and live keys have endpoints of their own.",
        body={JSON: NewEndpoint},
        headers=once.DESCRIBED,
        answers={
            201: Answers(
                description="Registered.", model=NewWebhookEndpoint, headers=(once.REPLAYED,)
            )
        },
        problems=(
            *once.PROBLEMS,
            *bodies.PROBLEMS,
            Code.WEBHOOK_URL_REFUSED,
        ),
    )
)
def create() -> Response:
    """Register an endpoint and show its secret."""
    asking = caller()
    wanted = bodies.read(NewEndpoint)
    keyed = once.keyed(asking.account_id, once.fingerprint(bodies.asked_for(wanted)))
    # Before the address is looked up again, which may answer otherwise by now.
    earlier = once.earlier(keyed)
    if earlier is not None:
        return once.response(earlier, replay=True)
    try:
        webhook_targets.check(wanted.url, allow_private=parts().settings.webhook_allow_private)
    except webhook_targets.RefusedTargetError as error:
        raise ProblemError(Code.WEBHOOK_URL_REFUSED, f"the address {error}") from error

    def work(connection: Connection) -> Answer:
        endpoint, secret = webhook_endpoints.register(
            connection, asking, url=wanted.url, description=wanted.description
        )
        return Answer(201, {}, orjson.dumps(_json(endpoint) | {"secret": secret}))

    answer, replay = once.do(keyed, work)
    return once.response(answer, replay=replay)


@blueprint.get("")
@described(
    Operation(
        tag=TAG,
        summary="List endpoints",
        answers={200: Answers(description="All endpoints.", model=WebhookEndpointList)},
    )
)
def list_endpoints() -> Response:
    """Return the caller's endpoints, without their secrets."""
    asking = caller()
    with parts().database.transaction() as connection:
        found = webhook_endpoints.of(connection, asking)
    return json_answer({"object": "list", "data": [_json(endpoint) for endpoint in found]})


@blueprint.delete("/<endpoint_id>")
@described(
    Operation(
        tag=TAG,
        summary="Delete an endpoint",
        description="What was not delivered to it yet is not delivered any more.",
        answers={204: Answers(description="Deleted.")},
        problems=(Code.NOT_FOUND,),
    )
)
def delete(endpoint_id: str) -> Response:
    """Delete one of the caller's endpoints."""
    asking = caller()
    wanted = queries.id_of(endpoint_id)
    with parts().database.transaction() as connection:
        if not webhook_endpoints.delete(connection, asking, wanted):
            raise ProblemError(Code.NOT_FOUND)
    return Response(status=204)


def _json(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": str(endpoint.id),
        "url": endpoint.url,
        "description": endpoint.description,
        "created_at": rfc3339(endpoint.created_at),
    }
