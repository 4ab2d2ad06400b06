"""The style sheet: light enough, and every text dark or bright enough (WCAG 2.2, 1.4.3)."""

import re

import pytest

from web.pages.assets import FOLDER

STYLE = (FOLDER / "stampede.css").read_text()
ON_PAPER = ["ink", "soft", "blue", "good", "bad", "warn"]
PAIRS = [
    *((text, "paper") for text in ON_PAPER),
    *(("ink", ground) for ground in ("ground", "waitbg", "goodbg", "badbg", "warnbg")),
    *((("soft", ground)) for ground in ("ground", "waitbg", "goodbg", "badbg", "warnbg")),
    ("blue", "ground"),
    ("good", "goodbg"),
    ("bad", "badbg"),
    ("warn", "warnbg"),
    ("paper", "blue"),
]


def palettes() -> dict[str, dict[str, str]]:
    """Return the colours of the light and of the dark scheme, by name."""
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    return {
        name: dict(re.findall(r"--(\w+): (#\w+)", block))
        for name, block in (("light", light), ("dark", dark))
    }


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(d * 2 for d in digits) if len(digits) == 3 else digits
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("text, ground", PAIRS)
def test_text_stands_out(scheme: str, text: str, ground: str) -> None:
    colours = palettes()[scheme]
    bright, dim = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
    assert (bright + 0.05) / (dim + 0.05) >= 4.5


def test_the_style_sheet_is_small() -> None:
    assert len(STYLE.encode()) < 12_000
