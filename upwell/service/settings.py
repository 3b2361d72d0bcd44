"""The service's settings: one frozen object from a TOML file, variables and options, each with its help."""

from __future__ import annotations

import json
import os
import re
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Secret, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from upwell.errors import BadRequest
from upwell.goals.spend import TOKENS_PER_DAY

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=0.0)]

LOGIN = re.compile(r"(?<=://).*:.*@", re.S)
ADDRESS = re.compile(r"(?:[^\s:/\[\]]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})")
SECRET = re.compile(r"([?&][^=&]*(?:password|secret|token|key)[^=&]*=)[^&]*", re.I | re.S)


class Url(Secret[str]):
    """A URL that may hold a password: whatever shows it shows ``***`` instead."""

    def _display(self) -> str:
        return SECRET.sub(r"\1***", LOGIN.sub("***@", self.get_secret_value()))


class Settings(BaseSettings):
    """Everything that a server can be told. ``UPWELL_PORT=9000`` sets ``port``."""

    model_config = SettingsConfigDict(env_prefix="UPWELL_", frozen=True, extra="forbid", allow_inf_nan=False)

    host: str = Field("127.0.0.1", description="address to listen on; any but loopback needs both tokens")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    workers: int = Field(1, ge=1, le=64, description="server processes")
    data: Path = Field(Path("upwell-data"), description="folder of the journal and of the embedded store")
    store: Url = Field(Url(""), description="memory:, sqlite:PATH or redis://HOST:PORT/DB; empty: SQLite in `data`")
    events: Url = Field(Url(""), description="embedded:DIR or kafka://HOST:PORT; empty: a journal in `data`")
    hosts: tuple[str, ...] = Field((), description="names in Host and Origin that are answered, beside loopback's")
    client_token: SecretStr | None = Field(None, min_length=1, description="bearer token of callers")
    operator_token: SecretStr | None = Field(None, min_length=1, description="bearer token of operators: all is theirs")
    second_token: SecretStr | None = Field(
        None, min_length=1, description="another operator's token: large moves of the weights need both"
    )
    clock: Literal["system", "request"] = Field("system", description="`request`: a header says what time it is")

    body_bytes: int = Field(1_000_000, ge=1_000, description="largest request body, bytes")
    candidates: int = Field(2_000, ge=1, le=10_000, description="most candidates in a request")
    events_a_call: int = Field(5_000, ge=1, le=100_000, description="most events in a call")
    rate_per_s: float = Field(0.0, ge=0.0, description="requests a second a caller may make; 0: no limit")
    skew_s: float = Field(300.0, ge=0.0, description="how far ahead of ours a caller's clock may be, seconds")
    late_h: float = Field(24.0, gt=0.0, description="events older than this are refused, hours")
    deadline_ms: float = Field(50.0, gt=0.0, description="after this wait a request gets the ranker's order")
    drain_s: float = Field(10.0, ge=0.0, description="time that running requests have to end at a stop, seconds")

    cap: Share = Field(0.2, description="most heated impressions of all, in any hour")
    pool: Share = Field(0.1, description="share of daily impressions that a full pool can heat")
    protection_days: float = Field(3.0, ge=0.0, description="days in which a new user is not explored on")
    holdout: Share = Field(0.05, description="share of users who are never regulated")
    ctr_loss: Share = Field(0.03, description="click-rate loss against the holdout at which exploration throttles")
    chance: float = Field(50.0, gt=0.0, description="heated impressions that count as one chance, times scale")
    first_ask: float = Field(1_000.0, gt=0.0, description="impressions that a first budget buys, times scale")
    budget: float = Field(100.0, ge=0.0, le=100_000.0, description="a content's own budget at birth, coins")
    no_repeat_h: float = Field(12.0, ge=0.001, description="window in which nothing is shown to a user twice, hours")
    fit_weight: float = Field(16.5, gt=0.0, description="logits of a unit of cosine in the race for heated places")
    daily_impressions: float = Field(100_000.0, gt=0.0, description="impressions a day, until a day has been counted")
    live_contents: float = Field(10_000.0, gt=0.0, description="live contents, by which `scale` is set with the above")
    click_rate: float = Field(0.02, gt=0.0, le=1.0, description="the platform's click rate, until it has been counted")
    weights: tuple[Weight, Weight, Weight] = Field((0.4, 0.3, 0.3), description="user satisfaction, revenue, long term")

    new_user_days: float = Field(7.0, ge=0.0, description="age up to which an account is new in experiments' segments")
    small_creator_followers: int = Field(
        1_000, ge=0, description="followers below which a creator is small in experiments' segments and shares"
    )

    goals_auto: Share = Field(
        0.0, description="most that a weight's share may move with no operator's approval, where simulation proved it"
    )

    goals_world: Path | None = Field(
        None, description="world file: goals are proposed for, and proven, on platforms of it, in a process of its own"
    )
    llm_url: str = Field("", description="a language model that is asked too: http://HOST:PORT/v1, OpenAI's protocol")
    llm_model: str = Field("qwen2-72b-instruct", description="the model's name")
    llm_timeout_s: float = Field(60.0, gt=0.0, le=3_600.0, description="time limit of a question, seconds")
    llm_tokens_per_day: int = Field(
        TOKENS_PER_DAY, ge=0, description="tokens that may be spent a day (UTC); 0: no limit"
    )

    policy: str = Field("marl", description="learned policy: one that is shipped, or a file; empty: the agents' rules")

    dial_noise: Share = Field(
        0.0,
        description="deviation of noise on users' dials, of which 1 is half their span; 0: none, and none learned of",
    )
    learn: bool = Field(False, description="learn from what users do, in a process of its own; needs `dial_noise`")
    learn_steps: int = Field(4_096, ge=64, description="users' six hours that each update of the policy waits for")
    trust: bool = Field(
        False, description="judge who cheats, in a process of its own; who is judged to is heated less, or not"
    )
    policy_backend: Literal["local", "tfserving"] = Field("local", description="who works its networks out")
    tfserving: str = Field("", description="HOST:PORT of TensorFlow Serving's gRPC, for `policy_backend` tfserving")
    tfserving_ms: float = Field(5.0, gt=0.0, le=1_000.0, description="after this wait for it the local policy decides")

    tick_s: float = Field(2.0, gt=0.0, description="time between two slow ticks, seconds")
    flush_s: float = Field(0.25, gt=0.0, description="most that state is behind what was acknowledged, seconds")
    life_days: float = Field(30.0, gt=0.0, description="a content is taken down this long after it was published, days")
    decisions_days: float = Field(7.0, gt=0.0, description="how long decisions are kept, days")
    history: int = Field(1_000, ge=0, le=100_000, description="interactions kept of a user")
    users_in_memory: int = Field(1_000_000, ge=1_000, description="users in memory; the rest are in the store alone")
    slates_in_memory: int = Field(
        100_000, ge=1, description="slates whose events are told without asking the store, a few KB each"
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="of every draw")

    @field_validator("weights")
    @classmethod
    def some_weight(cls, weights: tuple[float, float, float]) -> tuple[float, float, float]:
        """Only their ratios count, so there must be some."""
        if not sum(weights) > 0:
            raise ValueError("one of them must be above 0")
        return weights

    @field_validator("tfserving")
    @classmethod
    def an_address(cls, address: str) -> str:
        """HOST:PORT, with an IPv6 host in brackets."""
        found = ADDRESS.fullmatch(address)
        if address and (found is None or not 0 < int(found[1]) < 65_536):
            raise ValueError("give HOST:PORT, such as 127.0.0.1:8500")
        return address

    @property
    def scale(self) -> float:
        """Impressions per live content per day over the reference platform's 500."""
        return self.daily_impressions / self.live_contents / 500.0

    @property
    def shared(self) -> bool:
        """Whether several processes work together, and a worker folds for the servers."""
        return self.workers > 1 or self.events_url.startswith("kafka:")

    def with_secrets(self) -> bytes:
        """All of it as one line of JSON, for a process of our own and nothing else."""
        values = self.model_dump(mode="json")
        for name, value in self:
            if isinstance(value, Secret | SecretStr):
                values[name] = value.get_secret_value()
        return json.dumps(values).encode()

    @property
    def store_url(self) -> str:
        return self.store.get_secret_value() or f"sqlite:{self.data / 'state.db'}"

    @property
    def events_url(self) -> str:
        return self.events.get_secret_value() or f"embedded:{self.data / 'journal'}"


def load(path: Path | None = None, **given: Any) -> Settings:
    """Settings from a TOML file, overridden by ``given``. Raises BadRequest for what is wrong in either."""
    values: dict[str, Any] = {}
    if path is not None:
        try:
            written = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise BadRequest(f"{path}: cannot be read ({error.strerror})") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadRequest(f"{path}: not TOML: {error}") from None
        # Variables win over the file, options over both.
        values = {name: value for name, value in written.items() if not _variables(name)}
    options = {name: value for name, value in given.items() if value is not None}
    # Values are left out of what is said: they may be secrets.
    try:
        made = Settings(**values | options)
    except SettingsError as error:
        broken = next((name for name in Settings.model_fields if f'"{name}"' in str(error)), "")
        variable = " ".join(_variables(broken))
        raise BadRequest(f"{variable}: not a JSON list; see `upwell serve --print-config`") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where, name = ".".join(map(str, first["loc"])), str(first["loc"][0])
        source = "options" if name in options else path if name in values else next(iter(_variables(name)), "options")
        raise BadRequest(f"{source}: {where}: {first['msg']}; see `upwell serve --print-config`") from None
    if made.clock == "request" and made.shared:
        raise BadRequest("clock: a simulation runs on one server with the embedded log; give workers = 1")
    if made.policy_backend == "tfserving":
        _check_served(made)
    if made.learn:
        _check_learning(made)
    if made.trust and made.store_url.startswith("memory:"):
        raise BadRequest("trust: the judge is a process of its own and needs a store that both can open")
    _check_proposing(made)
    return made


def _check_served(settings: Settings) -> None:
    """Raises BadRequest where TensorFlow Serving cannot be asked, whatever it would answer."""
    if not settings.tfserving:
        raise BadRequest("policy_backend: tfserving needs `tfserving`, the HOST:PORT of TensorFlow Serving")
    if not settings.policy:
        raise BadRequest("policy_backend: tfserving works out a learned policy, and `policy` is empty")
    if find_spec("tensorflow_serving") is None:
        raise BadRequest("policy_backend: tfserving needs tensorflow-serving-api: pip install 'upwell[export]'")


def _check_learning(settings: Settings) -> None:
    """Raises BadRequest where nothing could be learned."""
    if not settings.policy:
        raise BadRequest("learn: what learns is a policy, and `policy` is empty")
    if not settings.dial_noise:
        raise BadRequest("learn: nothing can be learned while all dials stand still; give dial_noise = 0.1, say")
    if settings.store_url.startswith("memory:"):
        raise BadRequest("learn: the learner is a process of its own and needs a store that both can open")
    if find_spec("optax") is None:
        raise BadRequest("learn: needs the extra 'learn': pip install 'upwell[learn]'")


def _check_proposing(settings: Settings) -> None:
    """Raises BadRequest where nothing could be proposed."""
    world = settings.goals_world
    if world is None:
        if settings.llm_url:
            raise BadRequest("llm_url: what a model says is proven before it is proposed; give goals_world")
        return
    if not world.is_file():
        raise BadRequest(f"goals_world: {world}: no such file; `upwell simulate --print-world` prints one")
    if settings.store_url.startswith("memory:"):
        raise BadRequest("goals_world: the proposer is a process of its own and needs a store that both can open")
    if settings.llm_url and find_spec("openai") is None:
        raise BadRequest("llm_url: needs the openai client: pip install 'upwell[llm]'")
    if settings.llm_url and not settings.llm_url.startswith(("http://", "https://")):
        raise BadRequest("llm_url: give http://HOST:PORT/v1 or https://…")


def _variables(name: str) -> list[str]:
    """Variables that set this: their case is all one."""
    return [variable for variable in os.environ if variable.upper() == f"UPWELL_{name.upper()}"]


def as_toml(settings: Settings) -> str:
    """Every setting with its value and meaning; secrets are left out."""
    lines = [
        "# Settings of `upwell serve`, for --config; UPWELL_<NAME> variables win over this file, options over both."
    ]
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        told = str(value) if isinstance(value, Path | Url) else value
        if isinstance(value, Url) and told != value.get_secret_value():
            # Commented out: with *** for a password it leads nowhere.
            lines.append(f"# {name} = {json.dumps(told, ensure_ascii=False)}  # {field.description}")
        elif value is None or isinstance(value, SecretStr):
            lines.append(f'# {name} = "…"  # {field.description}')
        else:
            lines.append(f"{name} = {json.dumps(told, ensure_ascii=False)}  # {field.description}")
    return "\n".join(lines)
