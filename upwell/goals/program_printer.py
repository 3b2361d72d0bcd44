"""From a tree to text that reads back to it, and to words, in English and Chinese."""

from __future__ import annotations

from upwell.goals.program_tree import COMPARED, MEASURES, OPS, TRUTHS, Call, Named, Node, Number, Tag


def written(node: Node, binding: int = 0) -> str:
    """``binding``: how tightly what stands around it binds; what binds less goes in brackets."""
    if isinstance(node, Number):
        return literal(node)
    if isinstance(node, Named):
        return node.name
    if isinstance(node, Tag):
        return f'tag("{node.name}")'
    op, args, binds = node.op, node.args, OPS[node.op].binds
    if op == "if":
        test, then, other = map(written, args)
        text = f"if {test} then {then} else {other}"
    elif not binds:
        return f"{op}({', '.join(map(written, args))})"
    elif op == "not":
        text = f"not {written(args[0], binds)}"
    else:
        text = f" {op} ".join([written(args[0], of_first(node)), *(written(arg, binds + 1) for arg in args[1:])])
    return f"({text})" if binds < binding else text


def of_first(node: Call) -> int:
    """How tightly the first argument must bind. Operators go from left to right, so that what begins with one like
    them needs no brackets; but tests are not chained, and a sum within a sum is not the longer sum."""
    first, own = node.args[0], OPS[node.op]
    alike = own.most > 2 and isinstance(first, Call) and first.op == node.op
    return own.binds + (alike or node.op in COMPARED)


def literal(number: Number) -> str:
    """A number as it is read again, to the last bit."""
    if number.unit != "share":
        return f"{decimal(number.value)} {number.unit or ''}".rstrip()
    text = decimal(round(100.0 * number.value, 9))
    return f"{text}%" if float(text) / 100.0 == number.value else f"{decimal(number.value)} share"


def decimal(value: float) -> str:
    text = f"{value:.12g}"
    return text if float(text) == value else repr(value)


UNIT_ZH = {"yuan": "元", "minutes": "分钟", "coins": "币", "days": "天"}


def said(node: Node, zh: bool, binding: int = 0) -> str:
    """As ``written``, in words."""
    if isinstance(node, Number):
        return amount(node, zh)
    if isinstance(node, Named):
        return label(node.name, zh)
    if isinstance(node, Tag):
        return f"标签或类目含“{node.name}”" if zh else f'its tags or category include "{node.name}"'
    op = OPS[node.op]
    word, gap = (op.zh, "") if zh else (op.en, " ")

    def of(arg: Node, binding: int = 0) -> str:
        return said(arg, zh, binding) if node.op in ("or", "and", "not") else counted(arg, zh, binding)

    if node.op == "if":
        text = word.format(said(node.args[0], zh, 1), of(node.args[1], 1), of(node.args[2]))
    elif node.op == "clip":
        text = word.format(*(of(arg, 1) for arg in node.args))
    elif not op.binds:
        each = [of(arg) for arg in node.args]
        return f"({'、'.join(each)})的{word}" if zh else f"{word} ({'; '.join(each)})"
    elif node.op == "not":
        text = f"{word}{gap}{of(node.args[0], op.binds + 1)}"
    else:
        first, *rest = node.args
        text = f"{gap}{word}{gap}".join([of(first, of_first(node)), *(of(arg, op.binds + 1) for arg in rest)])
    if op.binds >= binding:
        return text
    return f"({text})"


def counted(node: Node, zh: bool, binding: int) -> str:
    """An expression where a number stands: a test is 1 or 0 there."""
    if isinstance(node, Tag) or (isinstance(node, Call) and node.op in TRUTHS):
        return f"(若{said(node, zh)}则1,否则0)" if zh else f"(1 if {said(node, zh)}, else 0)"
    return said(node, zh, binding)


def label(name: str, zh: bool) -> str:
    """What a measure is called: its first word of the language."""
    measure = MEASURES[name]
    word = next((word for word in measure.words if word.isascii() != zh), name)
    whose = {"platform": ("the platform's ", "平台"), "content": ("its ", "")}[measure.level][zh]
    return whose + word


def amount(number: Number, zh: bool) -> str:
    if number.unit == "share":
        return f"{100.0 * number.value:,.6g}%"
    text, unit = f"{number.value:,.9g}", "" if number.unit == "count" else number.unit or ""
    return text + UNIT_ZH.get(unit, "") if zh else f"{text} {unit}".rstrip()
