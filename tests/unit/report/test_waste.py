from __future__ import annotations

import json
import sqlite3

from inline_snapshot import snapshot


def test_waste_by_model(run, db):
    connection = sqlite3.connect(db)
    connection.execute("UPDATE usage SET request_fingerprint = 'same' WHERE id IN (1, 2)")
    connection.commit()
    connection.close()
    assert run("waste", width=110) == snapshot("""\
Paid for and not used

model            requests  aborted  tokens      cost  errors  tokens  repeated     tokens     cost  cache hits
──────────────────────────────────────────────────────────────────────────────────────────────────────────────
gpt-5-mini              6        1    ~490  ~$0.0003       2       –         1  2,065,000  $0.6300          0%
claude-sonnet-5         1        0       0         –       0       0         0          0        –         91%
local-sats              1        0       0         –       0       0         0          0        –           –
qwen3:14b               1        0       0         –       0       0         0          0        –           –
──────────────────────────────────────────────────────────────────────────────────────────────────────────────
total                   9        1    ~490  ~$0.0003       2       –         1  2,065,000  $0.6300          4%

$0.63 of $0.67 (94.6%) bought nothing that was used.
Repeated: the same body to the same host, answered before on the same day (UTC).
Of 1 of these nobody knows the cost: the true sum is larger.
""")


def test_json_is_the_same_for_programs(run):
    found = {row["model"]: row for row in json.loads(run("waste", "--json"))}
    assert found["gpt-5-mini"]["aborted"]["requests"] == 1
    assert found["gpt-5-mini"]["aborted"]["estimated_cost"] == {"USD": "0.00028"}
    assert found["gpt-5-mini"]["errors"]["requests"] == 2
    assert found["claude-sonnet-5"]["cache_hit_rate"] == 80_000 / 88_000
    assert found["qwen3:14b"]["cache_hit_rate"] == 0


def test_nothing_in_the_range_says_so(run):
    assert "Nothing was recorded in this time." in run("waste", "--until", "2001-01-01")
