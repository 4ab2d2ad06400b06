"""Every word of the pages is translated, and what is compiled is what is written."""

from io import BytesIO
from pathlib import Path

from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

PAGES = Path(__file__).parents[2] / "web" / "pages"
CATALOGUE = PAGES / "translations" / "en" / "LC_MESSAGES"
METHODS = [("**.py", "python"), ("templates/**.html", "jinja2.ext:babel_extract")]


def test_every_message_has_an_english_translation_and_none_is_left_over() -> None:
    used = {message for _, _, message, _, _ in extract_from_dir(str(PAGES), METHODS)}
    with (CATALOGUE / "messages.po").open("rb") as file:
        translated = {message.id for message in read_po(file) if message.id and message.string}
    assert used == translated


def test_the_compiled_catalogue_is_the_written_one() -> None:
    with (CATALOGUE / "messages.po").open("rb") as file:
        compiled = BytesIO()
        write_mo(compiled, read_po(file, locale="en"))
    assert compiled.getvalue() == (CATALOGUE / "messages.mo").read_bytes()
