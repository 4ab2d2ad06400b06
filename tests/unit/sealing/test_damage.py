"""Damaged documents under every kind of placement: sealed or refused, never a surprise."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.sealing.conftest import Seal
from tests.unit.sealing.documents import classic, streamed
from tests.unit.sealing.test_fields import merged, separate
from tests.unit.sealing.test_structure import BUILDS, tagged
from tests.unit.sealing.test_text import LETTER, document
from workers.sealing import SealingError

FIELDS = {
    "Sign here": merged(b"/Lock<</Action/All>>/SV<</Ff 1>>/MK<</R 90>>"),
    "letter.stamp": separate(),
}
PLACEMENTS: list[tuple[bytes, dict[str, Any]]] = [
    (document(LETTER), {"anchor": "Hormat"}),
    (document(LETTER), {"position": "auto"}),
    *((classic(made), {"field": name}) for name, made in FIELDS.items()),
    *((streamed(made, packed=(1, 2, 10, 30)), {"field": name}) for name, made in FIELDS.items()),
    (classic(tagged()), {}),
    (streamed(tagged(), packed=(50, 51, 52, 53)), {}),
    (classic(BUILDS["a parent tree with kids"]), {}),
]


@settings(max_examples=400, deadline=2000, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(range(len(PLACEMENTS))), st.data())
def test_a_damaged_document_is_sealed_or_refused(
    sealed: Seal, kind: int, data: st.DataObject
) -> None:
    source, placement = PLACEMENTS[kind]
    damaged = bytearray(source)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    try:
        result = sealed(bytes(damaged), **placement)
    except SealingError:
        return
    assert result.bytes.startswith(bytes(damaged))
