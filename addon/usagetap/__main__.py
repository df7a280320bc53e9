"""`python -m usagetap`: the same command line as `usagetap`."""

from __future__ import annotations

from usagetap.cli import main

if __name__ == "__main__":
    main()
