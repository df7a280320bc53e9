"""What pricing costs the writer thread: microseconds a row, the first included and not.

PYTHONPATH=addon python bench/prices.py
"""

from __future__ import annotations

import time

from usagetap.model import Record, Usage
from usagetap.pricing import price

MODELS = (("openai", "gpt-5-mini"), ("anthropic", "claude-sonnet-5"), ("gcp.gemini", "gemini-2.5-flash"))
ROWS = 20_000


def main() -> None:
    """Print the figures."""
    usage = Usage(input_tokens=12_345, output_tokens=678, cache_read_input_tokens=10_000, reasoning_output_tokens=500)
    rows = [
        Record(
            uid=str(number),
            flow_id="f",
            started_at=1_790_000_000.0 + number,
            status="ok",
            end_reason="complete",
            usage_quality="exact",
            server_address="api.example:443",
            provider=MODELS[number % 3][0],
            response_model=MODELS[number % 3][1],
            usage=usage,
            usage_raw={
                "prompt_tokens": 12_345,
                "completion_tokens": 678,
                "prompt_tokens_details": {"cached_tokens": 1},
            },
        )
        for number in range(ROWS)
    ]
    started = time.perf_counter()
    price(rows[0])
    print(f"first price, table loaded: {time.perf_counter() - started:.2f} s")
    started = time.perf_counter()
    for row in rows:
        price(row)
    print(f"then {(time.perf_counter() - started) / ROWS * 1e6:.1f} µs a row")


if __name__ == "__main__":
    main()
