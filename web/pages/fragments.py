"""The moving part of a waiting job's page, rendered once for all jobs that look alike.

Jobs in a lane differ in their place and in two times. Where these stand the fragment is drawn with
marks, and each answer puts its own there: numbers and times that are formatted here, and nothing that
anybody sent.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from common.jobs import State
from web.pages import language
from web.seeing import Seen

# Of a private range: in no translation, and in nothing that is formatted.
_POSITION, _ACCEPTED, _STARTED = "\ue000", "\ue001", "\ue002"
_MARKS = {datetime(1, 1, 1, tzinfo=UTC): _ACCEPTED, datetime(2, 1, 1, tzinfo=UTC): _STARTED}
_ACCEPTED_AT, _STARTED_AT = _MARKS
# A hundred waits in seconds and ninety for each power of ten, in two languages, come to a fifth of it.
_MOST = 4000

Draw = Callable[..., str]
_Key = tuple[str, State, bool, str | None, bool, bool, int | None]
_drawn: dict[_Key, str] = {}


def find(seen: Seen, lang: str) -> str | None:
    """Return the fragment of a job, or None when none of its look is drawn, or each has its own look."""
    key = _key(seen, lang)
    drawn = None if key is None else _drawn.get(key)
    return None if drawn is None else _filled(drawn, seen, lang)


def find_or_draw(seen: Seen, lang: str, draw: Draw) -> str:
    """Return the fragment of a job.

    Args:
        seen: the job.
        lang: the page's language, which is this request's.
        draw: renders a job; what else it is given takes the place of the template's helpers.
    """
    key = _key(seen, lang)
    if key is None:
        return draw(seen.job)
    if key not in _drawn:
        if len(_drawn) >= _MOST:
            _drawn.clear()
        job = seen.job
        alike = replace(
            job,
            accepted_at=_ACCEPTED_AT,
            started_at=None if job.started_at is None else _STARTED_AT,
        )
        _drawn[key] = draw(alike, number=lambda _: _POSITION, moment=_MARKS.__getitem__)
    return _filled(_drawn[key], seen, lang)


def _key(seen: Seen, lang: str) -> _Key | None:
    """Return all that the fragment shows beside the marks; None: it shows more."""
    job = seen.job
    if job.state not in (State.QUEUED, State.STAMPING):
        return None
    return (
        lang,
        job.state,
        job.attempt > 0,
        job.waiting_for,
        job.started_at is None,
        seen.wait.position is None,
        seen.wait.seconds_left,
    )


def _filled(drawn: str, seen: Seen, lang: str) -> str:
    if seen.wait.position is not None:
        drawn = drawn.replace(_POSITION, language.number(seen.wait.position, lang))
    if seen.job.started_at is not None:
        drawn = drawn.replace(_STARTED, language.moment(seen.job.started_at, lang))
    return drawn.replace(_ACCEPTED, language.moment(seen.job.accepted_at, lang))
