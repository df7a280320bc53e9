from __future__ import annotations

from dataclasses import fields

from mitmproxy.test import tflow

from usagetap.mitm.told import KEY, of, told
from usagetap.model import Record


def test_no_secret_and_no_address_is_left_on_a_flow() -> None:
    record = Record(uid="u", flow_id="f", started_at=0.0)
    kept_off = {"key_fingerprint", "request_fingerprint", "client_address", "uid"}
    assert kept_off <= {each.name for each in fields(Record)}
    assert not kept_off & set(told(record))


def test_only_a_dict_counts() -> None:
    flow = tflow.tflow()
    assert of(None) == of(flow) == {}
    flow.metadata[KEY] = "something that a file brought"
    assert of(flow) == {}
    flow.metadata[KEY] = {"headline": "x"}
    assert of(flow) == {"headline": "x"}
