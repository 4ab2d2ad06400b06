"""What a program asked of the system and in which order, as `strace -f` saw it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_CALLS = (
    "openat,write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,sendto,sendmsg,recvfrom"
)
_LINE = re.compile(r"(?P<pid>\d+) +(?:<\.\.\. (?P<resumed>\w+) resumed>)?(?P<text>.*)")
_UNFINISHED = " <unfinished ...>"


def tracing(output: Path) -> Sequence[str]:
    """Return the program that starts another one and writes down its calls, and its children's.

    The program that is started keeps the process id (-D), so that it is ended like any other.
    """
    return (
        *("strace", "-D", "-f", "-qq", "-yy", "-s", "400", "--seccomp-bpf"),
        *("-e", f"trace={_CALLS}", "-e", "signal=none", "-o", str(output)),
    )


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the system; it began and ended at these lines of the trace."""

    text: str
    began: int
    ended: int

    def is_one(self, name: str, *words: str) -> bool:
        """Say whether it is a call of this name (a regular expression) with these words in it."""
        return re.match(rf"(?:{name})\(", self.text) is not None and all(
            word in self.text for word in words
        )

    def before(self, other: "Call") -> bool:
        """Say whether it had ended when the other one began."""
        return self.ended < other.began


def calls(output: Path) -> Iterator[Call]:
    """Yield the calls that succeeded, in the order of their ends."""
    begun: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(output.read_text(errors="replace").splitlines()):
        found = _LINE.fullmatch(line)
        if found is None:
            continue
        pid, text, began = found["pid"], found["text"], number
        if text.endswith(_UNFINISHED):
            begun[pid] = (text.removesuffix(_UNFINISHED), number)
            continue
        if found["resumed"]:
            start, began = begun.pop(pid, ("", number))
            text = start + text
        if not re.search(r"= -1 E\w+ \(", text):
            yield Call(text, began, number)
