"""From text to a checked tree: a tokenizer and a precedence-climbing parser (Pratt 1973), bounded before it recurses.

expression := "if" expression "then" expression "else" expression
            | expression ("or" | "and" | ">" | ">=" | "<" | "<=" | "+" | "-" | "*" | "/") expression
            | ("not" | "-") expression
            | number [unit | "%"] | measure | "tag" "(" string ")"
            | ("min" | "max" | "clip") "(" expression {"," expression} ")" | "(" expression ")"
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Literal, NamedTuple, NoReturn, cast

from upwell.errors import BadRequest
from upwell.goals.measures import PLATFORM, Unit
from upwell.goals.program_tree import (
    COMPARED,
    MEASURES,
    OPS,
    UNITS,
    Call,
    Named,
    Node,
    Number,
    Sort,
    Tag,
    Wrong,
    sort_of,
    sort_of_call,
    spelled,
)

LETTERS = 2_000
NODES = 128
DEPTH = 12
NESTED = 2 * DEPTH
"""Brackets, and whatever else makes the parser call itself."""
SMALLEST, LARGEST = 1e-9, 1e12
"""Of a number other than 0."""
TAG_LETTERS = 128

SYMBOLS = ("<=", ">=", "<", ">", "+", "-", "*", "/", "(", ")", ",", "%")
FUNCTIONS = ("min", "max", "clip")
WORDS = ("if", "then", "else", "and", "or", "not", "tag", *FUNCTIONS)
PREFIX_MINUS = 7


class Token(NamedTuple):
    kind: Literal["number", "name", "string", "symbol", "end"]
    text: str
    at: int  # column, from 1


class Found(NamedTuple):
    """A node, what it is, how deep, and at which column it begins."""

    node: Node
    sort: Sort
    depth: int
    at: int

    @property
    def unit(self) -> str:
        return spelled(self.sort.unit)


def wrong(at: int, why: str) -> NoReturn:
    raise BadRequest(f"program, column {at}: {why}")


def read(text: str) -> Found:
    """The checked tree of a text. Raises BadRequest."""
    if len(text) > LETTERS:
        raise BadRequest(f"program: {len(text):,} letters; write at most {LETTERS:,}")
    return Reader(list(tokens(text))).all()


def tokens(text: str) -> Iterator[Token]:
    """What the text is made of, and its end. Raises BadRequest at a letter that has no place outside a tag."""
    at = 0
    while at < len(text):
        letter, begin = text[at], at
        if letter in " \t\r\n":
            at += 1
        elif letter == '"':
            end = text.find('"', at + 1)
            name = text[at + 1 : end]
            if end < 0:
                wrong(at + 1, 'this tag never ends: close it with "')
            if not name.strip() or len(name) > TAG_LETTERS or not name.isprintable():
                wrong(at + 1, f"a tag has 1 to {TAG_LETTERS} printable letters")
            at = end + 1
            yield Token("string", name, begin + 1)
        elif is_digit(letter) or (letter == "." and at + 1 < len(text) and is_digit(text[at + 1])):
            at = end_of_number(text, at)
            yield Token("number", text[begin:at], begin + 1)
        elif is_letter(letter):
            while at < len(text) and (is_letter(text[at]) or is_digit(text[at])):
                at += 1
            yield Token("name", text[begin:at], begin + 1)
        else:
            symbol = next((s for s in SYMBOLS if text.startswith(s, at)), None)
            if symbol is None:
                wrong(at + 1, f"{letter!a} has no meaning here: tags go in double quotes, all else is plain ASCII")
            at += len(symbol)
            yield Token("symbol", symbol, begin + 1)
    yield Token("end", "", len(text) + 1)


def is_digit(letter: str) -> bool:
    return "0" <= letter <= "9"


def is_letter(letter: str) -> bool:
    return "a" <= letter <= "z" or "A" <= letter <= "Z" or letter == "_"


def end_of_number(text: str, at: int) -> int:
    """Past digits, a point with digits, an exponent."""

    def digits(at: int) -> int:
        while at < len(text) and is_digit(text[at]):
            at += 1
        return at

    at = digits(at)
    if text[at : at + 1] == ".":
        at = digits(at + 1)
    if text[at : at + 1] in ("e", "E"):
        sign = at + 2 if text[at + 1 : at + 2] in ("+", "-") else at + 1
        at = digits(sign) if digits(sign) > sign else at
    return at


class Reader:
    """One pass over the tokens."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.at, self.nested, self.nodes = tokens, 0, 0, 0

    @property
    def next(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.next
        self.at += token.kind != "end"
        return token

    def taken(self, text: str) -> bool:
        """Whether the next token is this word or symbol, which is then past."""
        here = self.next.text == text and self.next.kind in ("name", "symbol")
        self.at += here
        return here

    def need(self, text: str) -> None:
        if not self.taken(text):
            wrong(self.next.at, f"'{text}' must stand here, not {self.shown()}")

    def shown(self) -> str:
        return f"'{self.next.text[:64]}'" if self.next.text else "the end"

    def all(self) -> Found:
        if self.next.kind == "end":
            wrong(1, 'empty: write an expression, such as if tag("food") then 0.2 else 0')
        found = self.expression(0)
        if self.next.text:
            wrong(self.next.at, f"{self.shown()} cannot follow here")
        return found

    def leaf(self, node: Number | Named | Tag, at: int) -> Found:
        return self.grown(Found(node, sort_of(node), 1, at))

    def call(self, op: str, args: list[Found], at: int) -> Found:
        """An operation, checked."""
        try:
            sort = sort_of_call(op, [arg.sort for arg in args])
        except Wrong as error:
            wrong(at if error.where is None else args[error.where].at, str(error))
        node = Call(op, tuple(arg.node for arg in args))
        return self.grown(Found(node, sort, 1 + max(arg.depth for arg in args), at))

    def grown(self, found: Found) -> Found:
        self.nodes += 1
        if self.nodes > NODES:
            wrong(found.at, f"more than {NODES} parts: write a shorter program")
        if found.depth > DEPTH:
            wrong(found.at, f"nested deeper than {DEPTH}: write a flatter program")
        return found

    def expression(self, binding: int) -> Found:
        """What stands here, up to an operator that binds less tightly than ``binding``."""
        self.nested += 1
        if self.nested > NESTED:
            wrong(self.next.at, f"nested deeper than {NESTED}: use fewer brackets")
        left = self.operand(binding)
        chain: tuple[str, list[Found]] = "", []  # a run of one operator, its arguments so far
        while True:
            token = self.next
            op = token.text
            if token.kind not in ("name", "symbol") or op not in OPS or not OPS[op].binds or op == "not":
                break
            binds = OPS[op].binds
            if binds < binding:
                break
            self.take()
            right = self.expression(binds + 1)
            if chain[0] == op and OPS[op].most > 2:
                args = [*chain[1], right]
                self.nodes -= 1  # the same node, longer
            else:
                args = [left, right]
            left = self.call(op, args, left.at)
            chain = op, args
            if op in COMPARED and self.next.text in COMPARED:
                wrong(self.next.at, "tests are not chained: join them with 'and'")
        self.nested -= 1
        return left

    def operand(self, binding: int) -> Found:
        token = self.take()
        if token.kind == "number":
            return self.number(token, 1.0)
        if token.kind == "symbol" and token.text == "(":
            inner = self.expression(0)
            self.need(")")
            return inner._replace(at=token.at)
        if token.kind == "symbol" and token.text == "-":
            if self.next.kind == "number":
                return self.number(self.take(), -1.0)._replace(at=token.at)
            minus_one = self.leaf(Number(-1.0), token.at)
            return self.call("*", [minus_one, self.expression(PREFIX_MINUS)], token.at)
        if token.kind == "name":
            return self.word(token, binding)
        self.at -= token.kind != "end"
        wrong(token.at, f"a number, a measure or a bracket must stand here, not {self.shown()}")

    def word(self, token: Token, binding: int) -> Found:
        name = token.text
        if name in ("not", "if") and binding > OPS[name].binds:
            wrong(token.at, f"put '{name} …' in brackets here")
        if name == "not":
            return self.call("not", [self.expression(OPS["not"].binds)], token.at)
        if name == "if":
            test = self.expression(0)
            self.need("then")
            then = self.expression(0)
            self.need("else")
            return self.call("if", [test, then, self.expression(0)], token.at)
        if name == "tag":
            self.need("(")
            tag = self.take()
            if tag.kind != "string":
                wrong(tag.at, 'the name of a tag must stand here in double quotes, such as tag("food")')
            self.need(")")
            return self.leaf(Tag(tag.text), token.at)
        if name in FUNCTIONS:
            self.need("(")
            args = [self.expression(0)]
            while self.taken(","):
                args.append(self.expression(0))
            self.need(")")
            return self.call(name, args, token.at)
        if name in MEASURES:
            return self.leaf(Named(name), token.at)
        if name in PLATFORM:
            wrong(token.at, f"nobody knows {name} at a tick; what is known of the platform: {readable()}")
        close = get_close_matches(name[:64].lower(), (*MEASURES, *WORDS), 1)
        wrong(token.at, f"unknown name '{name[:64]}'; " + (f"did you mean {close[0]}?" if close else known()))

    def number(self, token: Token, sign: float) -> Found:
        if len(token.text) > 32:
            wrong(token.at, "a number has at most 32 letters")
        size = float(token.text)
        unit: Unit | None = None
        if self.taken("%"):
            size, unit = size / 100.0, "share"
        elif self.next.kind == "name" and self.next.text in UNITS:
            unit = cast(Unit, self.take().text)
        if size and not SMALLEST <= size <= LARGEST:
            wrong(token.at, f"{token.text} is out of range: 0, or {SMALLEST:g} to {LARGEST:g}")
        return self.leaf(Number(sign * size if size else 0.0, unit), token.at)


def readable() -> str:
    return ", ".join(name for name in MEASURES if name in PLATFORM)


def known() -> str:
    return f"measures are {', '.join(MEASURES)}"
