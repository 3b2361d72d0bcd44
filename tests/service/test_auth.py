"""Who is let in: addresses, tokens, hosts and origins, rates."""

import hmac
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upwell.errors import BadRequest
from upwell.service import auth
from upwell.service.auth import CLIENT, OPERATOR, Gate, Rates, check_exposure, loopback
from upwell.service.errors import Refused, body_of
from upwell.service.settings import Settings

THEIRS, OURS = "client-token-123", "operator-token-456"


def gate(**given) -> Gate:
    return Gate(Settings(**given))


def both() -> Gate:
    return gate(client_token=THEIRS, operator_token=OURS)


def refusal(call, *args) -> Refused:
    with pytest.raises(Refused) as refused:
        call(*args)
    for token in (THEIRS, OURS):
        assert token not in refused.value.message
        assert token.encode() not in body_of(refused.value)
    return refused.value


# ---- where it listens


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_loopback_no_token_is_needed(host):
    assert loopback(host)
    check_exposure(Settings(host=host))
    check_exposure(Settings(host=host, operator_token=OURS))


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "10.0.0.1", "192.168.1.5", "example.com", "localhost.example.com"]
)
@pytest.mark.parametrize("tokens", [{}, {"client_token": THEIRS}, {"operator_token": OURS}])
def test_elsewhere_it_is_refused_without_both_tokens(host, tokens):
    assert not loopback(host)
    with pytest.raises(BadRequest) as refused:
        check_exposure(Settings(host=host, **tokens))
    text = str(refused.value)
    assert "UPWELL_CLIENT_TOKEN" in text
    assert "UPWELL_OPERATOR_TOKEN" in text
    assert THEIRS not in text
    assert OURS not in text


def test_elsewhere_it_is_let_with_both_tokens():
    check_exposure(Settings(host="0.0.0.0", client_token=THEIRS, operator_token=OURS))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_one_token_for_both_roles_is_refused(host):
    with pytest.raises(BadRequest) as refused:
        check_exposure(Settings(host=host, client_token=OURS, operator_token=OURS))
    assert OURS not in str(refused.value)


# ---- tokens


def test_without_any_token_everybody_is_an_operator():
    assert gate().role(None) == gate().role(b"Bearer whatever") == OPERATOR


def test_each_token_proves_its_role():
    assert both().role(f"Bearer {OURS}".encode()) == OPERATOR
    assert both().role(f"Bearer {THEIRS}".encode()) == CLIENT
    assert both().role(f"bearer  {THEIRS} ".encode()) == CLIENT  # RFC 9110: the scheme's case is all one
    assert gate(client_token=THEIRS).role(f"Bearer {THEIRS}".encode()) == CLIENT
    assert gate(client_token="tökén").role("Bearer tökén".encode()) == CLIENT


@pytest.mark.parametrize(
    "header",
    [
        None, b"", b" ", b"Bearer", b"Bearer ", b"Bearer  ", OURS.encode(), b"Basic " + OURS.encode(),
        b"Bearer" + OURS.encode(), b"Bearer\t" + OURS.encode(), b"Bearer x" + OURS.encode(),
        b"Bearer " + OURS[:-1].encode(), b"Bearer " + OURS.upper().encode(), b"Bearer " + OURS.encode() + b"x",
        b"Bearer " + OURS.encode() + b"\x00",
        b"Bearer \xff\xfe", b"Bearer " + f"{OURS},{OURS}".encode(), b"Bearer Bearer " + OURS.encode(), b"\x00" * 5_000,
        f"Bearer {OURS} {THEIRS}".encode(),
    ],
)  # fmt: skip
def test_odd_headers_prove_nothing(header):
    for one in (both(), gate(operator_token=OURS)):
        refused = refusal(one.role, header)
        assert (refused.status, refused.code) == (401, "unauthorized")


def test_an_empty_token_lets_nobody_in():
    """Regression: `UPWELL_OPERATOR_TOKEN=` made of everybody who sent `Bearer ` an operator."""
    with pytest.raises(ValueError, match="operator_token"):
        Settings(operator_token="")


@given(st.binary(max_size=60))
def test_no_other_bytes_prove_a_role(data):
    refusal(both().role, data)
    refusal(both().role, b"Bearer " + data)


@pytest.mark.parametrize("given", [OURS, THEIRS, "neither"])
def test_every_token_is_compared_in_constant_time(monkeypatch, given):
    """Whatever matches: the time taken tells nothing of which did."""
    compared = []

    def compare(a, b):
        compared.append((a, b))
        return hmac.compare_digest(a, b)

    monkeypatch.setattr(auth, "hmac", type("hmac", (), {"compare_digest": staticmethod(compare)}))
    try:
        both().role(f"Bearer {given}".encode())
    except Refused:
        assert given == "neither"
    assert sorted(compared) == sorted((given.encode(), token.encode()) for token in (OURS, THEIRS))


def test_clients_may_not_do_what_operators_may():
    one = both()
    one.must_be(OPERATOR, OPERATOR)
    one.must_be(OPERATOR, CLIENT)
    one.must_be(CLIENT, CLIENT)
    refused = refusal(one.must_be, CLIENT, OPERATOR)
    assert (refused.status, refused.code) == (403, "forbidden")


def test_a_gate_does_not_show_its_tokens():
    assert OURS not in repr(both())
    assert OURS not in str(both())


# ---- hosts and origins


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8080",
        "localhost",
        "LOCALHOST:1",
        "[::1]:8080",
        "rec.example",
        "Rec.Example:443",
        "up.test",
    ],
)
def test_names_that_are_answered(host):
    one = gate(hosts=("rec.example", "UP.test"))
    one.host({"host": host})
    one.host({"host": host, "origin": f"http://{host}"})


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example:8080", "", " ", "[", "[::1",
        "rec.example.evil", "notrec.example", "127.0.0.1@evil.example", "\x00", "a b", "0.0.0.0", "2130706433", "http://",
    ],
)  # fmt: skip
def test_names_that_are_not(host):
    """A page of evil.example whose name was made to point at this machine sends its own name as Host."""
    refused = refusal(gate(hosts=("rec.example",)).host, {"host": host})
    assert (refused.status, refused.code, refused.field) == (403, "wrong_host", "Host")


def test_no_host_is_no_answer():
    refusal(gate().host, {})
    refusal(gate(host="", client_token=THEIRS, operator_token=OURS).host, {})


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "https://127.0.0.1.evil.example", "null", "", "file://", "evil.example", "http://["],
)
def test_pages_of_other_origins_are_refused(origin):
    for one in (gate(), gate(host="", client_token=THEIRS, operator_token=OURS)):
        refused = refusal(one.host, {"host": "localhost:8080", "origin": origin})
        assert (refused.status, refused.code, refused.field) == (403, "wrong_origin", "Origin")


def test_the_address_that_it_listens_on_is_answered():
    gate(host="10.1.2.3", client_token=THEIRS, operator_token=OURS).host({"host": "10.1.2.3:8080"})


# ---- rates


class Watch:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def allowed(rates: Rates, caller: str = "a") -> bool:
    try:
        rates.take(caller)
    except Refused as error:
        refused = error
    else:
        return True
    assert (refused.status, refused.code) == (429, "too_many")
    assert refused.retry_after_s >= 1
    return False


def test_a_seconds_worth_is_in_stock_and_comes_back_with_time():
    watch = Watch()
    rates = Rates(5.0, watch)
    assert [allowed(rates) for _ in range(7)] == [True] * 5 + [False] * 2
    watch.now += 0.2
    assert [allowed(rates) for _ in range(2)] == [True, False]
    watch.now += 3_600
    assert [allowed(rates) for _ in range(6)] == [True] * 5 + [False]


def test_callers_do_not_share():
    rates = Rates(1.0, Watch())
    assert [allowed(rates, caller) for caller in "aabbc"] == [True, False, True, False, True]


def test_no_rate_is_no_limit():
    rates = Rates(0.0, Watch())
    assert all(allowed(rates) for _ in range(1_000))


@given(
    st.floats(0.01, 50.0),
    st.lists(st.floats(0.0, 5.0), min_size=1, max_size=60),
)
def test_never_more_than_the_rate_and_after_the_wait_one_more(rate, pauses):
    watch = Watch()
    rates = Rates(rate, watch)
    begin, waits = watch.now, []
    for let, pause in enumerate(pauses, 1):
        watch.now += pause
        try:
            rates.take("a")
        except Refused as refused:
            waits.append(refused.retry_after_s)
            watch.now += refused.retry_after_s
            rates.take("a")
        assert let <= max(rate, 1.0) + rate * (watch.now - begin) + 1e-6
    # No longer than it must be, in whole seconds; a clock that rounds up a hair costs one more.
    assert all(1 <= wait <= 1.0 / rate + 1.0 for wait in waits)


def test_of_many_callers_those_longest_silent_are_forgotten(monkeypatch):
    monkeypatch.setattr(auth, "CALLERS", 3)
    rates = Rates(1.0, Watch())
    for caller in "abcd":
        assert allowed(rates, caller)
    assert [allowed(rates, caller) for caller in "dcb"] == [False, False, False]
    assert allowed(rates, "a")  # forgotten, so it starts anew


def test_a_clock_that_runs_back_gives_nothing_away():
    watch = Watch()
    rates = Rates(1.0, watch)
    assert allowed(rates)
    for step, _ in itertools.product((-5.0, 5.0), range(3)):
        watch.now += step / 3
        assert not allowed(rates)


# ---- the shape of errors


def test_every_refusal_has_one_shape():
    assert body_of(Refused(429, "too_many", "slow down", "f", 3)) == (
        b'{"error":{"code":"too_many","message":"slow down","field":"f"}}'
    )
