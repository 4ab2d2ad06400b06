"""Which language a page is in, and how times, waits, numbers and sizes are said in it."""

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from babel.dates import get_month_names
from babel.numbers import format_decimal
from flask import request, url_for
from flask_babel import gettext, ngettext
from markupsafe import Markup

LANGUAGES = ("id", "en")
# Every time is shown in Jakarta's zone, and the zone is named beside it.
WIB = timezone(timedelta(hours=7), "WIB")
_CLOCK = {"id": "%H.%M.%S WIB", "en": "%H:%M:%S WIB"}
_MONTHS = {language: get_month_names("wide", locale=language) for language in LANGUAGES}


def selected() -> str:
    """Return the page's language: Indonesian, unless `?lang=en` asks for English."""
    wanted = request.args.get("lang", "id")
    return wanted if wanted in LANGUAGES else "id"


def clock(at: datetime, lang: str | None = None) -> str:
    """Return a time as people read it, with its zone."""
    lang = lang or selected()
    there = at.astimezone(WIB)
    return f"{there.day} {_MONTHS[lang][there.month]} {there.year}, {there:{_CLOCK[lang]}}"


def moment(at: datetime, lang: str | None = None) -> Markup:
    """Return a time for people and programs: an element of HTML."""
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(), clock(at, lang))


def wait(seconds: int | None) -> str:
    """Return how long something takes, rounded as a person would: up, and to what matters."""
    if seconds is None:
        return str(gettext("belum diketahui"))
    if seconds < 10:
        return str(gettext("beberapa detik"))
    tens = -(-seconds // 10) * 10
    if tens < 60:
        return str(ngettext("sekitar %(num)s detik", "sekitar %(num)s detik", tens))
    minutes = -(-seconds // 60)
    if minutes < 90:
        return str(ngettext("sekitar %(num)s menit", "sekitar %(num)s menit", minutes))
    hours = -(-minutes // 60)
    return str(ngettext("sekitar %(num)s jam", "sekitar %(num)s jam", hours))


def number(value: int, lang: str | None = None) -> str:
    """Return a whole number with the language's separators."""
    return str(format_decimal(value, locale=lang or selected()))


def size(length: int) -> str:
    """Return a length in bytes as kilobytes or megabytes (powers of 1000), as phones show it."""
    if length < 999_500:
        return f"{number(max(1, round(length / 1000)))} KB"
    return f"{format_decimal(length / 1_000_000, format='0.0', locale=selected())} MB"


def helpers() -> dict[str, Callable[..., Any] | str]:
    """Return what every template may use."""
    return {
        "clock": clock,
        "moment": moment,
        "wait": wait,
        "number": number,
        "size": size,
        "to": to,
        "lang": selected(),
    }


def to(endpoint: str, **values: Any) -> str:
    """Return a page's address in the language of this page."""
    if selected() != "id":
        values["lang"] = selected()
    return url_for(endpoint, **values)
