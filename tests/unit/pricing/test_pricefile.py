from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from usagetap.pricing.pricefile import PriceFileError, read_prices

NOW = datetime(2026, 6, 1, tzinfo=UTC).timestamp()


def read(tmp_path, text):
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    return read_prices(path)


def test_the_first_entry_that_matches_wins_whatever_the_case(tmp_path):
    prices = read(
        tmp_path,
        """
prices:
  - model: ["Qwen3*", llama-*]
    provider: "localhost*"
    input: 0.2
    output: 0.6
  - input: 1
""",
    )
    first, second = prices.entries
    assert prices.find(["localhost:8000"], ["qwen3:14B"], NOW) is first
    assert prices.find(["elsewhere"], ["qwen3:14b"], NOW) is second
    assert first.rates.rate == {"input": Decimal("0.2"), "output": Decimal("0.6")}
    assert first.version.startswith("prices.yaml@")
    assert first.version.endswith(":3")


def test_rates_per_token_are_made_per_million_but_fees_are_not(tmp_path):
    prices = read(
        tmp_path,
        "- {model: a, per: token, input: 0.000001, cache_read: 1e-7, request: 0.01, web_search: 0.02, currency: sats}",
    )
    (entry,) = prices.entries
    assert entry.rates.rate == {
        "input": Decimal(1),
        "cache_read": Decimal("0.1"),
        "request": Decimal("0.01"),
        "web_search": Decimal("0.02"),
    }
    assert entry.rates.currency == "sats"


def test_an_entry_holds_from_its_first_moment_to_before_its_last(tmp_path):
    prices = read(tmp_path, "- {valid_from: 2026-01-01, valid_until: 2026-07-01, input: 1}")
    start, end = datetime(2026, 1, 1, tzinfo=UTC).timestamp(), datetime(2026, 7, 1, tzinfo=UTC).timestamp()
    assert prices.find(["x"], ["y"], start)
    assert prices.find(["x"], ["y"], end - 1)
    assert not prices.find(["x"], ["y"], start - 1)
    assert not prices.find(["x"], ["y"], end)


def test_the_files_currency_is_every_entrys_that_names_none(tmp_path):
    prices = read(
        tmp_path, "currency: EUR\nprices:\n  - {model: a, input: 1}\n  - {model: b, input: 1, currency: GBP}\n"
    )
    assert [entry.rates.currency for entry in prices.entries] == ["EUR", "GBP"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- model: a\n  ouput: 1\n", ":2: entry 1: unknown key `ouput`; did you mean `output`?"),
        ("- model: a\n  zzzzzz: 1\n", ":2: entry 1: unknown key `zzzzzz`; known: provider, model"),
        (
            "- input: 1\n- input: minus\n",
            ":2: entry 2: `input` must be a number from 0 to a million billions, not `minus`",
        ),
        ("- input: -0.5\n", ":1: entry 1: `input` must be a number from 0 to a million billions, not `-0.5`"),
        ("- input: true\n", ":1: entry 1: `input` must be a number from 0 to a million billions, not `True`"),
        ("- input: .inf\n", ":1: entry 1: `input` must be a number from 0 to a million billions, not `.inf`"),
        ("- per: kilo\n  input: 1\n", ":1: entry 1: `per` is `million` or `token`, not `kilo`"),
        ("- valid_from: soon\n  input: 1\n", ":1: entry 1: `valid_from` is not a date: `soon`; write 2026-01-31"),
        (
            "- input: 1\n  valid_from: 2026-13-01\n",
            ":2: entry 1: `valid_from` is not a date: `2026-13-01`; write 2026-",
        ),
        ("- input: 1\n  valid_until: [1]\n", ":2: entry 1: `valid_until` is not a date: `[1]`; write 2026-01-31"),
        (
            "- valid_from: 2026-07-01\n  valid_until: 2026-07-01\n  input: 1\n",
            ":2: entry 1: `valid_until` is not after `valid_from`",
        ),
        ("- input: 1e16\n", ":1: entry 1: `input` must be a number from 0 to a million billions, not `1e16`"),
        ("- currency: 5\n  input: 1\n", ":1: entry 1: `currency` must be a name such as USD or sats, not `5`"),
        ("currency: [USD]\nprices: []\n", ":1: `currency` must be a name such as USD or sats, not `['USD']`"),
        ("- model: a\n", ":1: entry 1: give rates (`input: …`, `output: …`) or `like: PROVIDER`, one of the two"),
        ("- like: openai\n  input: 1\n", "or `like: PROVIDER`, one of the two"),
        ("- model: a\n  lke: openai\n", ":2: entry 1: unknown key `lke`; did you mean `like`?"),
        ("- like: openia\n", ":1: entry 1: `like` names `openia`, which is no provider of the bundled table; did you"),
        ("- provider: x\n  like: gpt-4o\n", ":2: entry 1: `like` names `gpt-4o`, which is no provider of the bundled"),
        ("- like: [openai]\n", ":1: entry 1: `like` names"),
        ("- model: a\n  input: 1\n  input: 2\n", ":3: not YAML: found duplicate key"),
        ("- model: *x\n  input: 1\n", ":1: not YAML: found undefined alias"),
        ("- model: a\n\tinput: 1\n", "not YAML: "),
        ("- model: 3\n  input: 1\n", ":1: entry 1: `model` must be a name or glob"),
        ("- just text\n", ":1: entry 1 is not a mapping; write `- model: …` with rates below it"),
        ("prices:\n  model: a\n", ": no list of prices; write `prices:`"),
        ("hello\n", ": no list of prices"),
        ("price: []\n", ":1: unknown key `price`; the file has `currency` and `prices`"),
        ("- input: [1\n", "not YAML"),
        ("", ": no list of prices"),
    ],
)
def test_a_bad_file_gets_one_line_that_names_the_place_and_the_remedy(tmp_path, text, message):
    with pytest.raises(PriceFileError) as caught:
        read(tmp_path, text)
    said = str(caught.value)
    assert message in said
    assert str(tmp_path / "prices.yaml") in said
    assert "\n" not in said


@pytest.mark.parametrize("like", ["openai", "google", "gcp.gemini", "aws", "aws.bedrock", "mistral_ai"])
def test_like_takes_the_tables_words_and_ours(tmp_path, like):
    assert read(tmp_path, f"- {{provider: gateway.example, like: {like}}}\n").entries[0].like == like


def test_without_the_table_like_cannot_be_checked_and_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr("usagetap.pricing.pricefile.sellers", list)
    assert read(tmp_path, "- like: anybody\n").entries[0].like == "anybody"


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"- model: \x07\n", b"!!python/object:os.system x\n", b"- input: !!set x\n"]
)
def test_bytes_that_are_no_text_get_one_line_too(tmp_path, content):
    (tmp_path / "prices.yaml").write_bytes(content)
    with pytest.raises(PriceFileError) as caught:
        read_prices(tmp_path / "prices.yaml")
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_price_file(tmp_path):
    with pytest.raises(PriceFileError, match="cannot read the price file: Is a directory"):
        read_prices(tmp_path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PriceFileError, match=r"none\.yaml: cannot read the price file: No such file"):
        read_prices(tmp_path / "none.yaml")
