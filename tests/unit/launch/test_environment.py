import shlex
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from usagetap.launch.environment import (
    CA_VARIABLES,
    LOOPBACK_NAMES,
    OWN_PROXY,
    PROXY_VARIABLES,
    ca_variables,
    no_proxy,
    node_variables,
    proxy_variables,
    variables,
)

URL = "http://127.0.0.1:4711"
NAMES = st.one_of(
    st.sampled_from([*sorted(LOOPBACK_NAMES), "*", " ", ""]), st.from_regex(r"[a-z.]{1,12}", fullmatch=True)
)


@given(st.lists(NAMES, max_size=8))
def test_loopback_goes_through_the_proxy_and_every_other_exception_stays(names):
    kept = no_proxy({"NO_PROXY": ",".join(names)}).split(",")
    assert not LOOPBACK_NAMES & set(kept)
    assert [name for name in kept if name] == [n.strip() for n in names if n.strip() not in {*LOOPBACK_NAMES, "*", ""}]


def test_loopback_is_direct_behind_another_proxy():
    assert (
        no_proxy({"no_proxy": "corp.example,LOCALHOST"}, loopback_direct=True) == "corp.example,localhost,127.0.0.1,::1"
    )


def test_a_star_would_send_everything_past_the_proxy():
    assert no_proxy({"NO_PROXY": "*"}) == ""


def test_both_cases_of_every_proxy_variable_name_the_proxy():
    made = proxy_variables(URL, {"https_proxy": "http://old:1"})
    assert {made[name] for name in PROXY_VARIABLES} == {URL}
    assert {name.lower() for name in PROXY_VARIABLES} | {name.upper() for name in PROXY_VARIABLES} == set(
        PROXY_VARIABLES
    )


def test_a_proxy_of_ours_says_so_unless_it_is_chained():
    assert proxy_variables(URL, {})[OWN_PROXY] == URL
    assert OWN_PROXY not in proxy_variables(URL, {}, loopback_direct=True)


def test_a_certificate_variable_of_the_user_is_replaced_and_no_exotic_one_made_up():
    bundle = Path("/x/bundle.pem")
    assert set(ca_variables(bundle, {})) == set(CA_VARIABLES)
    assert ca_variables(bundle, {"PIP_CERT": "/corp.pem"})["PIP_CERT"] == "/x/bundle.pem"


def test_node_options_are_kept_and_the_script_added_once():
    first = node_variables({"NODE_OPTIONS": "--max-old-space-size=99"})["NODE_OPTIONS"]
    assert shlex.split(first)[0] == "--max-old-space-size=99"
    assert Path(shlex.split(first)[2]).name == "node_proxy.cjs"
    assert Path(shlex.split(first)[2]).is_file()
    assert node_variables({"NODE_OPTIONS": first})["NODE_OPTIONS"] == first


def test_everything_together():
    made = variables(URL, Path("/x/bundle.pem"), {})
    assert made["HTTPS_PROXY"] == URL
    assert made["SSL_CERT_FILE"] == "/x/bundle.pem"
