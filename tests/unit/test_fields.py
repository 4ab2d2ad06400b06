"""The fields beside a document: as texts, as JSON, and which of them go together."""

import json
from dataclasses import fields as fields_of
from typing import Any

import pytest
from pydantic import ValidationError

from common.placements import MAX_STAMPS, Placement
from common.problems import Code, ProblemError
from web.api.fields import JobFields, StampFields
from workers import sealing
from workers.placing import engine_placement


def refusal(**values: str) -> str:
    """Return all that is said against some fields."""
    with pytest.raises(ValidationError) as refused:
        JobFields.model_validate(values)
    return str(refused.value)


def test_fields_arrive_as_texts_and_become_values() -> None:
    fields = JobFields.model_validate(
        {"page": "2", "x": "10.5", "y": "20", "metadata": '{"a": "b"}'}
    )
    assert (fields.page, fields.x, fields.metadata) == (2, 10.5, {"a": "b"})
    (placement,) = fields.placements()
    assert placement.as_json() == {"page": 2, "x": 10.5, "y": 20.0}


@pytest.mark.parametrize(
    "values",
    [
        {"x": "1"},
        {"x": "1", "y": "1", "corner": "top-left"},
        {"x": "1", "y": "1", "position": "top"},
        {"position": "centre"},
        {"position": "top", "margin": "-1"},
        {"position": "top", "margin": "301"},
        {"anchor": ""},
        {"anchor": "   "},
        {"anchor": "a\nb"},
        {"anchor": "x" * 201},
        {"anchor": "a", "match": "0"},
        {"anchor": "a", "match": "101"},
        {"anchor": "a", "match": "1.5"},
        {"anchor": "a", "offset_x": "inf"},
        {"anchor": "a", "offset_x": "1e300"},
        {"x": "1e10", "y": "1"},
        {"field": ""},
        {"field": "a\x00b"},
        {"field": "x" * 201},
        {"x": "nan", "y": "1"},
        {"x": "inf", "y": "1"},
        {"width": "0"},
        {"width": "-5"},
        {"height": "1e9"},
        {"page": "first"},
        {"page": "1.5"},
        {"corner": "middle"},
        {"metadata": "[1]"},
        {"metadata": "{"},
        {"metadata": '{"a": 1}'},
        {"metadata": '{"a": "\\u0000"}'},
        {"external_reference": "x" * 201},
        {"external_reference": "a\x00b"},
        {"external_reference": ""},
    ],
)
def test_a_field_that_cannot_be_used_is_refused(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        JobFields.model_validate(values)


def test_metadata_is_bounded() -> None:
    with pytest.raises(ValidationError):
        JobFields.model_validate({"metadata": {f"key{n}": "" for n in range(21)}})
    with pytest.raises(ValidationError):
        JobFields.model_validate({"metadata": {"a": "x" * 501}})


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"page": "0"}, Code.PAGE_OUT_OF_RANGE),
        ({"page": "-1"}, Code.PAGE_OUT_OF_RANGE),
        ({"page": "1000001"}, Code.PAGE_OUT_OF_RANGE),
        ({"x": "-1", "y": "0"}, Code.BOX_OFF_PAGE),
    ],
)
def test_what_no_page_could_hold_is_refused_at_once(values: dict[str, str], code: Code) -> None:
    with pytest.raises(ProblemError) as refusal:
        JobFields.model_validate(values)
    assert refusal.value.code is code


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"page": "3"},
        {"x": "1", "y": "1", "origin": "top-left", "page": "2", "width": "54", "height": "54"},
        {"position": "center", "margin": "0", "page": "last", "width": "54"},
        {"corner": "top-left", "margin": "10"},
        {"margin": "40"},
        {"position": "auto"},
        {
            "anchor": "Meterai 10.000",
            "match": "2",
            "offset_x": "-5.5",
            "offset_y": "3",
            "page": "1",
        },
        {"anchor": "Hormat saya,", "height": "60"},
        {"field": "Materai.1"},
    ],
)
def test_each_way_to_say_where_is_taken(values: dict[str, str]) -> None:
    (placement,) = StampFields.model_validate(values).placements()
    assert placement.given() == [name for name in Placement.model_fields if name in values]
    kept = json.loads(json.dumps(placement.as_json()))
    again = Placement.model_validate(kept)
    assert engine_placement(again) == engine_placement(placement)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"x": "1"}, "x and y go together"),
        ({"x": "1", "y": "1", "anchor": "a"}, "not both x and y and anchor"),
        ({"position": "top", "corner": "top-left"}, "not both position and corner"),
        ({"position": "top", "field": "f"}, "not both position and field"),
        ({"anchor": "a", "field": "f"}, "not both anchor and field"),
        ({"origin": "top-left"}, "origin goes only with x and y"),
        ({"origin": "top-left", "position": "top"}, "origin goes only with x and y"),
        ({"margin": "5", "x": "1", "y": "1"}, "margin goes only with position or corner"),
        ({"margin": "5", "anchor": "a"}, "margin goes only with position or corner"),
        ({"match": "2"}, "match goes only with anchor"),
        ({"offset_x": "2", "position": "top"}, "offset_x goes only with anchor"),
        ({"offset_y": "2", "x": "1", "y": "1"}, "offset_y goes only with anchor"),
        ({"page": "1", "field": "f"}, "page goes only with x and y or position"),
        ({"width": "80", "field": "f"}, "width goes only with x and y or position"),
        ({"height": "80", "field": "f"}, "height goes only with x and y or position"),
        ({"margin": "8", "field": "f"}, "margin goes only with position or corner"),
    ],
)
def test_what_makes_no_sense_together_is_refused_by_name(values: dict[str, str], said: str) -> None:
    assert said in refusal(**values)


def test_several_stamps_are_read_in_their_order() -> None:
    sent = [{"page": 1, "x": 10, "y": 20.5}, {}, {"anchor": "Hormat saya", "match": 2}]
    fields = JobFields.model_validate({"stamps": json.dumps(sent)})
    assert [placement.as_json() for placement in fields.placements()] == [
        {"page": 1, "x": 10.0, "y": 20.5},
        {"page": "last"},
        {"anchor": "Hormat saya", "match": 2},
    ]


@pytest.mark.parametrize(
    ("stamps", "said"),
    [
        ("", "must be a JSON array of placements"),
        ("[", "must be a JSON array of placements"),
        ("[" * 5000, "must be a JSON array of placements"),
        ('[{"anchor": "\\ud800"}]', "must be a JSON array of placements"),
        ("{}", "valid list"),
        ("null", "valid list"),
        ('"last"', "valid list"),
        ("[]", "at least 1"),
        ("[1]", "stamps.0"),
        ("[[]]", "stamps.0"),
        ('[{}, {"page": true}]', "stamps.1.page"),
        ('[{"page": "1"}]', "stamps.0.page"),
        ('[{"page": 1.5}]', "stamps.0.page"),
        ('[{"x": "1", "y": 1}]', "stamps.0.x"),
        ('[{"x": 1}]', "x and y go together"),
        ('[{"colour": "red"}]', "stamps.0.colour"),
        ('[{"stamps": []}]', "stamps.0.stamps"),
        ('[{"external_reference": "a"}]', "stamps.0.external_reference"),
    ],
)
def test_stamps_that_cannot_be_used_are_refused(stamps: str, said: str) -> None:
    assert said in refusal(stamps=stamps)


def test_there_are_at_most_twenty_stamps() -> None:
    assert MAX_STAMPS == 20
    assert len(StampFields.model_validate({"stamps": json.dumps([{}] * 20)}).placements()) == 20
    assert "at most 20" in refusal(stamps=json.dumps([{}] * 21))


def test_stamps_and_a_placement_beside_them_are_refused() -> None:
    assert "leave out page, position beside it" in refusal(stamps="[{}]", page="1", position="top")


@pytest.mark.parametrize(
    ("stamps", "facts"),
    [
        ([{}, {"page": 0}], {"stamp": 2, "page": 0}),
        ([{"page": 2_000_000}], {"stamp": 1, "page": 2_000_000}),
        ([{"page": 2**62}], {"stamp": 1}),
        ([{}, {}, {"x": -1, "y": 2}], {"stamp": 3, "x": -1.0, "y": 2.0}),
    ],
)
def test_a_stamp_that_no_page_could_hold_is_named_by_its_number(
    stamps: list[dict[str, Any]], facts: dict[str, Any]
) -> None:
    with pytest.raises(ProblemError) as refused:
        JobFields.model_validate({"stamps": json.dumps(stamps)})
    assert refused.value.facts == facts


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {},
            '{"page":"last","x":null,"y":null,"corner":null,"width":null,"height":null,'
            '"external_reference":null,"metadata":{},"document_name":null}',
        ),
        (
            {"page": "2", "x": "400", "y": "0.1", "width": "54", "metadata": '{"nama": "é"}'},
            '{"page":2,"x":400.0,"y":0.1,"corner":null,"width":54.0,"height":null,'
            '"external_reference":null,"metadata":{"nama":"é"},"document_name":null}',
        ),
    ],
)
def test_a_request_of_the_first_version_keeps_its_fingerprint(
    values: dict[str, str], text: str
) -> None:
    """As pydantic wrote the fields then: a replay across the upgrade finds its answer."""
    assert JobFields.model_validate(values).asked_for() == text.encode()


def test_every_field_of_a_placement_is_part_of_what_is_asked_for() -> None:
    """Two requests that differ in one field are two requests."""
    texts = [
        {},
        {"page": "1"},
        {"x": "1", "y": "2"},
        {"x": "2", "y": "2"},
        {"x": "1", "y": "2", "origin": "top-left"},
        {"x": "1", "y": "2", "width": "54"},
        {"x": "1", "y": "2", "height": "54"},
        {"corner": "top-left"},
        {"position": "top-left"},
        {"position": "top-left", "margin": "0"},
        {"anchor": "a"},
        {"anchor": "a", "page": "last"},
        {"anchor": "a", "match": "2"},
        {"anchor": "a", "offset_x": "2"},
        {"anchor": "a", "offset_y": "2"},
        {"field": "a"},
        {"stamps": "[{}]"},
        {"stamps": "[{},{}]"},
        {"stamps": '[{},{"page":1}]'},
        {"stamps": '[{"page":1},{}]'},
    ]
    used = {name for values in texts for name in values}
    assert used == set(StampFields.model_fields)
    asked = {JobFields.model_validate(values).asked_for() for values in texts}
    assert len(asked) == len(texts)


def test_every_field_of_a_placement_is_one_of_the_engines() -> None:
    engine = {field.name for field in fields_of(sealing.Placement)}
    assert set(Placement.model_fields) - {"corner"} == engine


def test_what_is_not_said_is_left_to_the_engine() -> None:
    assert engine_placement(Placement()) == sealing.Placement(page="last", position="bottom-right")
    assert engine_placement(Placement(page=1, corner="top-left")) == sealing.Placement(
        page=1, position="top-left"
    )
    assert engine_placement(Placement(x=1, y=2)) == sealing.Placement(page="last", x=1, y=2)
    assert engine_placement(Placement(anchor="a", offset_y=-4)) == sealing.Placement(
        anchor="a", offset_y=-4
    )
    assert engine_placement(Placement(field="f")) == sealing.Placement(field="f")
