"""`make golden`: write every `captures/**/expected.json` again. Read the difference before you commit it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.golden.cases import CAPTURES, cases


def main(prefixes: list[str]) -> None:
    """Write them all, or only those whose name begins with one of `prefixes` (`openai_chat`, `gemini/stream`)."""
    for case in cases():
        if prefixes and not case.name.startswith(tuple(prefixes)):
            continue
        path = case.folder / "expected.json"
        told = json.dumps(case.run(), indent=1, ensure_ascii=False) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != told:
            path.write_text(told, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(CAPTURES)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
