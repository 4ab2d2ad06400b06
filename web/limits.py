"""How often somebody may try or submit: limits, and what clients are told of them.

What only guesses or wastes is counted by address: by the last hop before `trusted_proxies` proxies, an
IPv6 address by its /64. Somebody with a right code or link is never counted so. What a partner submits is
counted by partner; an applicant's voucher is a limit by itself.
"""

import random
from collections.abc import Sequence
from typing import NoReturn
from uuid import UUID

from flask import Response, after_this_request, g, request

from common.partners import Caller
from common.problems import Code, ProblemError
from common.rates import Bucket, Limit, Standing, network_of
from common.telemetry import LIMITED, logger
from common.vouchers.spending import Holder
from web import shedding
from web.parts import parts
from web.underway import retry_after

log = logger(__name__)

MINUTE = 60
HOUR = 3600
_PROMPT = "stampede_prompt"


def refuse_guessing() -> None:
    """Refuse a voucher code before it is looked up, where too many from this address were wrong.

    While all addresses together send too many wrong ones, an address is refused after its first: a
    right code from an address that never sent a wrong one is served whatever others do.

    Takes nothing, so that right codes cost nothing; requests of one moment may all pass and be counted
    afterwards, no more than this server's threads.

    Raises:
        ProblemError: `too_many_attempts`.
    """
    own, all_together = parts().rates.look(*_of_wrong_codes())
    if not own.allowed:
        _refuse(own)
    if not all_together.allowed and not own.untouched:
        _refuse(all_together)


def count_wrong_code() -> None:
    """Count a voucher code that was wrong."""
    own, _ = parts().rates.take(*_of_wrong_codes())
    _tell(own, taken=1)


def count_wrong_link() -> None:
    """Count a link that was not made here: a guess.

    Raises:
        ProblemError: `too_many_attempts`.
    """
    _take(Limit("wrong-links", parts().settings.wrong_links_per_hour, HOUR), _address())


def count_check() -> None:
    """Count a file that somebody without a key sends to be checked.

    Raises:
        ProblemError: `too_many_attempts`.
    """
    _take(Limit("checks", parts().settings.checks_per_minute, MINUTE), _address())


def count_check_of(account_id: UUID) -> None:
    """Count a file that is sent to be checked with a key of this account.

    Raises:
        ProblemError: `too_many_attempts`.
    """
    allowed = parts().settings.checks_per_minute_by_key
    _take(Limit("checks-by-key", allowed, MINUTE), str(account_id))


def count_submission(caller: Caller) -> None:
    """Count a submission of a partner, before its body is read: one document, and one under way.

    Raises:
        ProblemError: `rate_limited`.
    """
    if isinstance(caller, Holder):
        return
    allowance = parts().allowances.of(caller.partner_id)
    if not shedding.may_have_another(caller.partner_id, allowance.at_once):
        LIMITED.labels("submissions-at-once").inc()
        raise ProblemError(
            Code.RATE_LIMITED,
            f"the limit is {allowance.at_once} at once",
            {"at_once": allowance.at_once},
            # The document is not read, so the connection cannot be used again.
            {"Retry-After": str(retry_after(0, random.random())), "Connection": "close"},
        )
    _take_submissions(caller, allowance.limit, 1, beside=(allowance.prompt,))


def is_prompt() -> bool:
    """Say whether this submission's partner keeps to its pace, as `count_submission` found."""
    return bool(g.get(_PROMPT, True))


def count_further_documents(caller: Caller, count: int) -> None:
    """Count the documents of a batch but the first, which was counted before the batch was read.

    A batch that is larger than the limit takes all that a full bucket has.

    Raises:
        ProblemError: `rate_limited`.
    """
    limit = parts().allowances.of(caller.partner_id).limit
    if further := min(count, limit.count) - 1:
        _take_submissions(caller, limit, further)


def _take_submissions(
    caller: Caller, limit: Limit, count: int, *, beside: Sequence[Limit] = ()
) -> None:
    buckets = [Bucket(each, str(caller.partner_id)) for each in (limit, *beside)]
    standing, *prompt = parts().rates.take(*buckets, count=count)
    setattr(g, _PROMPT, all(found.allowed for found in prompt))
    if standing.allowed:
        _tell(standing, taken=count)
        return
    LIMITED.labels(limit.name).inc()
    _tell(standing)
    raise ProblemError(
        Code.RATE_LIMITED,
        f"the limit is {limit.count} documents a minute",
        {"per_minute": limit.count},
        {
            "Retry-After": str(retry_after(standing.wait_seconds, random.random())),
            "Connection": "close",
        },
    )


def _of_wrong_codes() -> tuple[Bucket, Bucket]:
    """Return the share of this request's address, and the one of all together."""
    settings = parts().settings
    return (
        Bucket(Limit("wrong-codes", settings.wrong_codes_per_hour, HOUR), _address()),
        Bucket(Limit("wrong-codes-of-all", settings.wrong_codes_of_all, HOUR), ""),
    )


def _address() -> str:
    return network_of(request.remote_addr)


def _take(limit: Limit, whose: str) -> None:
    [standing] = parts().rates.take(Bucket(limit, whose))
    if not standing.allowed:
        _refuse(standing)
    _tell(standing, taken=1)


def _refuse(standing: Standing) -> NoReturn:
    LIMITED.labels(standing.limit.name).inc()
    if "X-Forwarded-For" in request.headers and not parts().settings.trusted_proxies:
        # Behind a proxy that nobody told us of, all clients have its address.
        log.warning(
            "refused by address; X-Forwarded-For is not believed", limit=standing.limit.name
        )
    _tell(standing)
    raise ProblemError(
        Code.TOO_MANY_ATTEMPTS, headers={"Retry-After": str(max(1, standing.wait_seconds))}
    )


def _tell(standing: Standing, *, taken: int = 0) -> None:
    """Put the limit, and where the client stands with it, into this request's answer."""

    @after_this_request
    def add(response: Response) -> Response:
        response.headers["RateLimit-Policy"] = standing.limit.policy
        response.headers["RateLimit"] = standing.field(taken=taken)
        return response
