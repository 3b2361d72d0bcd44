"""What a server is told: from a file, from variables, from options; and what is said when that is wrong."""

import os
import re

import pytest
from pydantic import SecretStr, ValidationError

from upwell.errors import BadRequest
from upwell.service.settings import Settings, as_toml, load

SECRET = "hunter2-and-more"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in [name for name in os.environ if name.upper().startswith("UPWELL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path):
    def write(text: str):
        path = tmp_path / "upwell.toml"
        path.write_text(text, "utf-8")
        return path

    return write


def test_defaults_without_anything():
    settings = load()
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.store_url == "sqlite:upwell-data/state.db"
    assert settings.events_url == "embedded:upwell-data/journal"
    assert settings.scale == pytest.approx(100_000 / 10_000 / 500)


def test_options_win_over_variables_and_these_over_the_file(file, monkeypatch):
    path = file("port = 1\nworkers = 2\ntick_s = 3.5\nseed = 4\n")
    monkeypatch.setenv("UPWELL_WORKERS", "20")
    monkeypatch.setenv("upwell_seed", "40")
    monkeypatch.setenv("UPWELL_PORT", "10")
    settings = load(path, port=100, host=None)
    assert (settings.port, settings.workers, settings.seed, settings.tick_s) == (100, 20, 40, 3.5)
    assert settings.host == "127.0.0.1"  # None is no option


def test_variables_of_every_kind(monkeypatch):
    monkeypatch.setenv("UPWELL_HOSTS", '["a.example", "b.example"]')
    monkeypatch.setenv("UPWELL_WEIGHTS", "[1, 0, 2.5]")
    monkeypatch.setenv("UPWELL_CLIENT_TOKEN", SECRET)
    monkeypatch.setenv("UPWELL_DATA", "/some/where")
    settings = load()
    assert settings.hosts == ("a.example", "b.example")
    assert settings.weights == (1.0, 0.0, 2.5)
    assert settings.client_token == SecretStr(SECRET)
    assert settings.store_url == "sqlite:/some/where/state.db"


def test_other_programs_variables_are_none_of_ours(monkeypatch):
    monkeypatch.setenv("UPWELL_SOMETHING_ELSE", "1")
    assert load().port == 8080


# ---- what is wrong


def complaint(*args, **given) -> str:
    """What is said, one line that a person can act on."""
    with pytest.raises(BadRequest) as refused:
        load(*args, **given)
    text = str(refused.value)
    assert "\n" not in text
    assert SECRET not in text
    assert refused.value.__cause__ is None
    return text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prot = 1", "prot: Extra inputs are not permitted"),
        ("port = 'eighty'", "port: Input should be a valid integer"),
        ("port = 70000", "port: Input should be less than or equal to 65535"),
        ("port = 1.5", "port: Input should be a valid integer"),
        ("cap = 1.1", "cap: Input should be less than or equal to 1"),
        ("cap = nan", "cap: Input should be a finite number"),
        ("drain_s = inf", "drain_s: Input should be a finite number"),
        ("tick_s = 0", "tick_s: Input should be greater than 0"),
        ("hosts = 'a.example'", "hosts: Input should be a valid tuple"),
        ("hosts = ['a', 5]", "hosts.1: Input should be a valid string"),
        ("weights = [1, 1]", "weights.2: Field required"),
        ("weights = [1, 1, -1]", "weights.2: Input should be greater than or equal to 0"),
        ("weights = [0, 0, 0]", "weights: Value error, one of them must be above 0"),
        ("clock = 'sundial'", "clock: Input should be 'system' or 'request'"),
        (f"clock = '{SECRET}'", "clock: Input should be 'system' or 'request'"),
        (f"client_token = ['{SECRET}']", "client_token: Input should be a valid string"),
        (f"[operator_token]\nvalue = '{SECRET}'", "operator_token: Input should be a valid string"),
        ("client_token = ''", "client_token: "),
        (f"client_tokn = '{SECRET}'", "client_tokn: Extra inputs are not permitted"),
        ("budget = 1e9", "budget: Input should be less than or equal to 100000"),
        ("[server]\nport = 1", "server: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_file_is_named_with_the_key(file, text, told):
    path = file(text)
    assert complaint(path).startswith(f"{path}: {told}")


@pytest.mark.parametrize(
    "text",
    [
        "port = ",
        "port 1",
        "= 1",
        f"client_token = '{SECRET}",
        "port = 1\nport = 2",
        f"x = {SECRET}",
        f"{SECRET} x",
        "[a",
    ],
)
def test_what_is_no_toml_is_named_with_its_line(file, text):
    path = file(text)
    told = complaint(path)
    assert told.startswith(f"{path}: not TOML: ")
    assert re.search(r"at line \d+, column \d+|at end of document", told)


def test_files_that_cannot_be_read(tmp_path):
    assert (
        complaint(tmp_path / "nowhere.toml") == f"{tmp_path}/nowhere.toml: cannot be read (No such file or directory)"
    )
    assert "cannot be read" in complaint(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"host = '\xe9'")
    assert "not TOML" in complaint(tmp_path / "latin.toml")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("UPWELL_PORT", SECRET, "UPWELL_PORT: port: Input should be a valid integer"),
        ("upwell_cap", "2", "upwell_cap: cap: Input should be less than or equal to 1"),
        ("UPWELL_HOSTS", SECRET, "UPWELL_HOSTS: not a JSON list"),
        ("UPWELL_WEIGHTS", "1,2,3", "UPWELL_WEIGHTS: not a JSON list"),
        ("UPWELL_WEIGHTS", '{"a": 1}', "UPWELL_WEIGHTS: weights: Input should be a valid tuple"),
        ("UPWELL_CLIENT_TOKEN", "", "UPWELL_CLIENT_TOKEN: client_token: "),
    ],
)
def test_a_wrong_variable_is_named(file, monkeypatch, name, value, told):
    monkeypatch.setenv(name, value)
    assert complaint().startswith(told)
    assert complaint(file("port = 5")).startswith(told)


def test_a_wrong_option_is_named(file):
    assert complaint(port=-1).startswith("options: port: ")
    assert complaint(file("port = 1"), port=-1).startswith("options: port: ")
    assert complaint(nonsense=1).startswith("options: nonsense: ")


def test_a_simulated_clock_needs_one_server():
    assert complaint(clock="request", workers=2).startswith("clock: ")


# ---- secrets and help


def test_secrets_are_told_nowhere():
    settings = load(client_token=SECRET, operator_token=f"{SECRET}2")
    for text in (
        repr(settings),
        str(settings),
        settings.model_dump_json(),
        str(settings.model_dump()),
        as_toml(settings),
    ):
        assert SECRET not in text
    assert settings.client_token.get_secret_value() == SECRET


def test_settings_cannot_be_changed():
    settings = load()
    with pytest.raises(ValidationError):
        settings.port = 9


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_has_its_help(name):
    description = Settings.model_fields[name].description
    assert description
    assert len(description) < 120
    assert f"{name} = " in as_toml(load())


def test_what_is_printed_is_what_can_be_read(file):
    settings = load(
        hosts=["a.example", "ü.example"], weights=[1, 2, 3], data='odd "name"', port=77, store="sqlite:x\\y", cap=0.125
    )
    text = as_toml(settings)
    assert all(" # " in line or line.startswith("#") for line in text.splitlines())
    assert load(file(text)) == settings
