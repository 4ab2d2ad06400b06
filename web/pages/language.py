"""Which language a page is in, and how times and waits are said in it."""

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from flask import request, url_for
from flask_babel import gettext, ngettext

LANGUAGES = ("id", "en")
# Every time is shown in Jakarta's zone, and the zone is named beside it.
WIB = timezone(timedelta(hours=7), "WIB")


def selected() -> str:
    """Return the page's language: Indonesian, unless `?lang=en` asks for English."""
    wanted = request.args.get("lang", "id")
    return wanted if wanted in LANGUAGES else "id"


def clock(at: datetime) -> str:
    """Return a time as people read it, with its zone."""
    return at.astimezone(WIB).strftime("%d-%m-%Y %H:%M:%S WIB")


def wait(seconds: int | None) -> str:
    """Return how long something takes, rounded as a person would."""
    if seconds is None:
        return str(gettext("belum diketahui"))
    if seconds < 60:
        return str(ngettext("sekitar %(num)s detik", "sekitar %(num)s detik", seconds))
    minutes = -(-seconds // 60)
    if minutes < 90:
        return str(ngettext("sekitar %(num)s menit", "sekitar %(num)s menit", minutes))
    hours = -(-minutes // 60)
    return str(ngettext("sekitar %(num)s jam", "sekitar %(num)s jam", hours))


def helpers() -> dict[str, Callable[..., Any] | str]:
    """Return what every template may use."""
    return {"clock": clock, "wait": wait, "here": here, "to": to, "lang": selected()}


def to(endpoint: str, **values: Any) -> str:
    """Return a page's address in the language of this page."""
    if selected() != "id":
        values["lang"] = selected()
    return url_for(endpoint, **values)


def here(lang: str) -> str:
    """Return this page's address in another language."""
    kept = {name: value for name, value in request.args.items() if name != "lang"}
    if request.endpoint is None:
        return f"/?lang={lang}"
    return url_for(request.endpoint, **(request.view_args or {}) | kept, lang=lang)
