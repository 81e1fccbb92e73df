"""Repeat what trial said at the end of its runs, name the tests that failed, and count them all."""

import re
import sys
from pathlib import Path

RAN = re.compile(r"^Ran (\d+) tests? in ")
CLOSING = re.compile(r"^(PASSED|FAILED)(?: \((.*)\))?$")
TEST_NAME = re.compile(r"^tests(?:\.\w+){2,}$")


def closing_of(path: Path) -> tuple[list[str], list[str], dict[str, int]]:
    """
    The closing lines of one run, the names of the tests that failed, and trial's counts.

    Trial prints the reasons of failures, errors and skips under headings in square brackets, each
    followed by the names of the tests.
    """
    closing: list[str] = []
    failed: list[str] = []
    counts: dict[str, int] = {}
    heading = ""
    for line in path.read_text(errors="replace").splitlines():
        if line in ("[FAIL]", "[ERROR]", "[SKIPPED]", "[TODO]", "[SUCCESS!?!]"):
            heading = line
        elif TEST_NAME.match(line) and heading in ("[FAIL]", "[ERROR]", "[SUCCESS!?!]"):
            failed.append(line)
        elif RAN.match(line):
            closing, counts = [line], {}
        elif closing and (found := CLOSING.match(line)):
            closing.append(line)
            counts = {name: int(n) for name, n in re.findall(r"(\w+)=(\d+)", found[2] or "")}
    return closing, failed, counts


def main(paths: list[str]) -> int:
    passed = failed = skipped = 0
    names: list[str] = []
    closings: list[str] = []
    incomplete = False
    for path in map(Path, paths):
        closing, failed_names, counts = closing_of(path) if path.exists() else ([], [], {})
        names += failed_names
        if len(closing) < 2:
            incomplete = True
            closings.append(f"{path.name}: the run has no closing line")
            continue
        closings += closing
        passed += counts.get("successes", 0) + counts.get("expectedFailures", 0)
        skipped += counts.get("skips", 0)
        failed += sum(counts.get(n, 0) for n in ("failures", "errors", "unexpectedSuccesses"))
        incomplete = incomplete or closing[0].startswith("Ran 0 ")
    if incomplete:
        failed += 1
    print("\n".join(closings))
    for name in dict.fromkeys(names):
        print(f"failed: {name}")
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
