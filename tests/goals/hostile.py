"""Answers that are broken or mean harm: written by hand, and a good one broken in every way that can be listed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

GOOD: dict[str, Any] = {
    "weights": {"user_satisfaction": 0.3, "platform_revenue": 0.5, "long_term": 0.2},
    "program": 'if tag("美食") and followers < 1000 then 0.2 else 0',
    "aims": [{"metric": "gmv_per_day", "direction": "up", "target": 1e8}],
    "bounds": [{"metric": "d1_retention", "low": 0.65, "high": None, "relative": False}],
    "why": "大促 🛒",
}
TEXT = json.dumps(GOOD, ensure_ascii=False)
NUMBERS = (
    "NaN", "Infinity", "-Infinity", "3e63194", "-3e63194", "1e309", "-1e-400", "1e308", "5e-324", "0", "-0", "-0.1",
    "1e400", "9" * 400, "9" * 5_000, "-" + "9" * 400, "0." + "0" * 400 + "1", "0x10", "1_000", "01", "+1", ".5", "1.",
    "1,5", "½", "１", "一", "true", "false", "null", '"0.5"', '"NaN"', '"３"', "[0.5]", '{"value": 0.5}', "[]", "{}",
    "nan", "inf", "1e", "--1", "1e+", "0.5.5", "0.5f", "1/3", "50%", "$0.5", "0b1", "1j", "'0.5'", "`0.5`",
    "undefined", "None", "",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 10**400, 0.5, "", "x", "\x00", "\ud800", "a" * 3_000, [], [[]], [None], {}, {"": {}},
    [{}], {"metric": "ctr"}, [{"metric": "ctr", "direction": "sideways"}], [{"metric": "no_such", "direction": "up"}],
    [{"metric": ["ctr"], "direction": "up"}], [{"metric": "ctr", "direction": "up"}] * 100,
    "__import__('os').system('x')", [{"metric": "d1_retention", "low": "0.6"}],
    [{"metric": "d1_retention", "low": 1e300}], {f"k{i}": i for i in range(1_000)},
)  # fmt: skip
CODE = (
    "__import__('os').system('touch /tmp/upwell-was-here')", "exec('1')", "eval('1')", "(lambda: 1)()", "os.environ",
    "().__class__.__bases__[0].__subclasses__()", "open('/etc/passwd').read()", "{{ 7 * 7 }}", "${7*7}", "$(id)",
    "`id`", "<script>alert(1)</script>", "'; DROP TABLE goals; --", "ctr.__class__", "min.__globals__", "%s%s%s%n",
    "../../etc/passwd", "1e63194", "9 ** 9 ** 9", "0.2 if True else 0", "ctr; 1", "tag(\"" + "x" * 5_000 + "\")",
    "(" * 5_000 + "1" + ")" * 5_000, "-" * 5_000 + "1", "1" + " + 1" * 5_000, "if " * 3_000 + "1",
    "not " * 3_000 + "1", "min(" * 3_000, "1 / 0", "0 / 0 yuan", "gmv_per_day", "followers", "0.2 yuan",
    "ctr + followers", "ｃｔｒ", "ctr\u202e", "标签(美食)", "tag(美食)", "\ud800", "\x00",
)  # fmt: skip
WHOLE: tuple[str | bytes, ...] = (
    "", " ", "\n", "\ufeff", "{", "}", "{}", "[]", "null", "true", "0", '""', "I cannot help with that.",
    "我不能回答这个问题。", "{'weights': {'user_satisfaction': 1}}", "weights: {user_satisfaction: 1}",
    "<weights>1</weights>",
    "{weights: 1}", TEXT + TEXT.replace("0.5", "0.9"), TEXT + "\n\n" + TEXT[:-1] + ', "x": 1}',
    "[" + TEXT + "," + TEXT + "]", '{"weights":' * 50_000, "[" * 100_000, "{" * 100_000,
    '{"a":' * 100_000 + "1" + "}" * 100_000, "}" * 100_000, '{"weights":' + "[" * 50_000 + "]" * 50_000 + "}",
    '"' * 100_000, "\\" * 100_000, '{"why": "' + "\\" * 100_000, "a" * 1_000_000, "x" * 1_000_000 + TEXT,
    TEXT + "x" * 1_000_000, "{}" * 500_000, '{"why": ""}' * 90_000, '{"why": "' + "长" * 500_000 + '"}',
    "\ud800" * 1_000, "\ud800" + TEXT + "\udfff", '{"why": "\\ud800"}', "\x00" + TEXT,
    '{"weights": {"user_satisfaction": 1, "user_satisfaction": 2, "platform_revenue": 1, "long_term": 1}}',
    '{"weights": {}, "weights": ' + json.dumps(GOOD["weights"]) + "}", b"", b"\xff\xfe\xfd", TEXT.encode("utf-16"),
    TEXT.encode("gb18030"), b"\x80" * 1_000, b"\x00" * 1_000, TEXT.encode() + b"\xff",
    b"\xef\xbb\xbf" + TEXT.encode(), TEXT.translate({ord("{"): "｛", ord("}"): "｝", ord('"'): "“"}), "<think>" + TEXT,
    "<think>" + TEXT + "</think>", "</think>" * 1_000, "```json\n" + TEXT[:-1] + "\n```", TEXT.replace(",", ",,"),
    TEXT.replace(":", "="), TEXT[::-1],
)  # fmt: skip


def corpus() -> list[str | bytes]:
    return list(dict.fromkeys(itertools.chain(WHOLE, cut_off(), numbers(), wrong_values(), weights(), code(), noise())))


def cut_off() -> Iterator[bytes]:
    """At every byte, in the middle of characters too."""
    data = TEXT.encode()
    yield from (data[:end] for end in range(len(data)))


def numbers() -> Iterator[str]:
    """Every kind of number where a number belongs, as the text stands."""
    for name, number in itertools.product(("0.3", "0.5", "100000000.0", "0.65"), NUMBERS):
        assert TEXT.count(name) == 1
        yield TEXT.replace(name, number)


def wrong_values() -> Iterator[str]:
    """Every field missing, and every field as something else."""
    for name in GOOD:
        yield json.dumps({key: value for key, value in GOOD.items() if key != name})
        yield from (json.dumps({**GOOD, name: value}) for value in VALUES)


def weights() -> Iterator[str]:
    """Objects of weights that are none."""
    names = list(GOOD["weights"])
    for count in range(3):
        yield from (json.dumps({"weights": dict.fromkeys(some, 1)}) for some in itertools.combinations(names, count))
    for more in (
        {"profit": 1},
        {"": 1},
        {"__class__": 1},
        {f"k{i}": 1 for i in range(1_000)},
        {"User_Satisfaction": 1},
    ):
        yield json.dumps({"weights": {**GOOD["weights"], **more}})
    for three in itertools.product((0, -1, 1e308, 1e-320, "1", True, None, [1], {"a": 1}), repeat=3):
        yield json.dumps({"weights": dict(zip(names, three, strict=True))})


def code() -> Iterator[str]:
    """Code where a program, a reason, a key or a metric belongs."""
    for text in CODE:
        yield json.dumps({**GOOD, "program": text})
        yield json.dumps({**GOOD, "why": text, text: text})
        yield json.dumps({**GOOD, "aims": [{"metric": text, "direction": "up"}], "weights": {text: 1}})
        yield text


def noise() -> Iterator[str]:
    """A character of the good answer become another."""
    for at, letter in itertools.product(range(0, len(TEXT), 9), ("\x00", '"', "{", "}", "9", "\ud800", "é", "\u202e")):
        yield TEXT[:at] + letter + TEXT[at + 1 :]
