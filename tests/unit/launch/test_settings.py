import pytest

from usagetap.launch.settings import confdir_of, database, read_config, setting, settings_in


def test_every_way_to_write_an_option():
    words = ["--set", "a=1=2", "--set=b=3", "-p", "81", "--listen-port=82", "-m", "socks5", "-w", "out", "~u x"]
    assert list(settings_in(words)) == [
        ("a", "1=2"),
        ("b", "3"),
        ("listen_port", "81"),
        ("listen_port", "82"),
        ("mode", "socks5"),
    ]


@pytest.mark.parametrize("words", [["--set"], ["-p"], ["--set", "name"], ["--set="]])
def test_a_broken_command_line_is_mitmproxys_to_report(words):
    list(settings_in(words))


@pytest.fixture
def configured(tmp_path):
    (tmp_path / "config.yaml").write_text("usage_db: /from/config.db\nmode: [socks5, regular]\nlisten_port: 90\n")
    return ["--set", f"confdir={tmp_path}"]


def test_the_command_line_wins_over_the_file(configured):
    assert setting("usage_db", configured) == "/from/config.db"
    assert setting("usage_db", [*configured, "--set", "usage_db=x", "--set", "usage_db=y"]) == "y"
    assert setting("listen_port", configured) == "90"
    assert setting("mode", configured) == "socks5,regular"
    assert setting("nothing", configured) is None


@pytest.mark.parametrize("content", ["", "- a list\n", "a: [", "just text"])
def test_a_file_that_is_no_mapping_says_nothing(tmp_path, content):
    (tmp_path / "config.yml").write_text(content)
    assert read_config(["--set", f"confdir={tmp_path}"]) == {}


def test_the_database_is_the_one_that_the_addon_will_use(configured, tmp_path):
    here = ["--set", f"confdir={tmp_path}/else"]
    assert database(configured, {"USAGETAP_DB": "env.db"}) == "/from/config.db"
    assert database(here, {"USAGETAP_DB": "env.db"}) == "env.db"
    assert database(here, {}) == f"{tmp_path}/else/usage.db"


def test_the_folder_is_mitmproxys_own(monkeypatch):
    monkeypatch.setenv("HOME", "/home/nobody")
    assert str(confdir_of(())) == "/home/nobody/.mitmproxy"
    assert str(confdir_of(["--set", "confdir=~/x"])) == "/home/nobody/x"
