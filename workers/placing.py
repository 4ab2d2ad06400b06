"""A stamp's place as the API takes it, as the sealing library takes it; and whose date is its date."""

from datetime import timedelta, timezone

from common.placements import Placement
from workers import sealing

# The date on a stamp is the date in Jakarta, where the duty is owed.
WIB = timezone(timedelta(hours=7), "WIB")


def engine_placement(wanted: Placement) -> sealing.Placement:
    """Return where the library is to put a stamp; what was not said is left to its defaults."""
    said = wanted.as_json()
    position = said.pop("corner", None)
    if position is not None or not said.keys() & {"x", "position", "anchor", "field"}:
        said["position"] = position or "bottom-right"
    return sealing.Placement(**said)
