"""A mapping guessed from a log's column names and values, for its owner to correct.

Pure: samples in, the text of ``mapping.toml`` out. A name proposes which column of ours one of theirs is; the
importer's own parsers then say how its values are read (unit, format, scale, separator), and whether at all.
"""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl

from upwell.logs.layout import Field
from upwell.logs.mapping import NOT_LEFT_OUT, Entry
from upwell.logs.parse import parse
from upwell.logs.schema import TABLES, Column, Table

NAMES: dict[str, str] = {
    "user_id": "user uid userid member memberid visitor visitorid account accountid customer customerid viewer "
    "viewerid deviceid 用户 用户id 用户编号 用户标识 会员 会员id 会员编号",
    "content_id": "content contentid item itemid iid video videoid vid article articleid post postid note noteid "
    "product productid sku skuid goods goodsid movie movieid song songid news newsid doc docid photo "
    "photoid 内容 内容id 内容编号 视频 视频id 视频编号 作品 作品id 商品 商品id 物品id 文章id 笔记id",
    "ts": "ts time timestamp eventtime datetime date logtime showtime impressiontime exposuretime timems "
    "servertime when 时间 时间戳 曝光时间 展示时间 发生时间 日期",
    "clicked": "clicked click isclick isclicked clk opened isopen 点击 是否点击 点击与否 已点击",
    "exposure": "exposure policy traffic channel 曝光来源 策略 流量来源",
    "position": "position pos rank slot 位置 排位 展示位置",
    "propensity": "propensity propensityscore pscore 倾向分 曝光概率",
    "dwell_s": "dwell dwells dwelltime dwellms playtime plays playms watchtime watchtimes watchtimems watchs "
    "watchms watchseconds viewtime staytime playtimems playtimes 观看时长 播放时长 停留时长 观看秒数 "
    "停留秒数 观看毫秒 播放毫秒",
    "completion": "completion completionrate playratio watchratio finishrate 完播率 完成度 播放比例",
    "shared": "shared share isshare isshared isforward forward 分享 是否分享 转发 是否转发",
    "liked": "liked like islike isliked 点赞 是否点赞 喜欢 赞",
    "followed": "followed follow isfollow isfollowed 关注 是否关注",
    "purchased": "purchased purchase ispurchase bought isbuy buy ordered paid 购买 是否购买 下单 是否下单 成交",
    "value": "value amount gmv revenue orderamount ordervalue payment 金额 成交金额 订单金额 支付金额",
    "creator_id": "creator creatorid author authorid uploader uploaderid seller sellerid artist artistid up主 作者 "
    "作者id 作者编号 创作者 创作者id up主id 商家id",
    "published_at": "publishedat published publishtime publishdate pubdate uploadtime uploaddate uploaddt uploadedat "
    "createdat createtime createdtime releasedate born 发布时间 发布日期 上传时间 上架时间 创建时间",
    "duration_s": "duration durations durationms durationseconds length lengths lengthseconds videoduration 时长 "
    "视频时长 时长秒 时长毫秒",
    "tags": "tag tags topics topic keywords labels 标签 话题 关键词",
    "title": "title name headline caption 标题 名称 题目",
    "category": "category cat categoryname channel genre section 类别 分类 类目 频道",
    "price": "price 价格 单价 售价",
    "creator_followers": "creatorfollowers followers fans followercount fanscount authorfans 粉丝数 粉丝 作者粉丝数",
    "created_at": "createdat created createtime registeredat registertime registerdate registrationdate signupdate "
    "joinedat joindate regtime 注册时间 注册日期 加入时间",
}
"""Ours to what others call it, without case, blanks and signs. Columns and synonyms in order of preference."""
TIMES = (
    *("iso", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%Y%m%d%H%M%S", "%Y%m%d"),
    *("%Y年%m月%d日 %H:%M:%S", "%Y年%m月%d日 %H:%M", "%Y年%m月%d日 %H时%M分", "%Y年%m月%d日"),
    *("%d/%m/%Y %H:%M:%S", "%d/%m/%Y", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y"),
)
SEPARATORS = (",", "|", ";", "、", "，", "；", "#", " ")
MISSING = ("", "NULL", "null", "None", "nan", "NaN", "\\N")
READABLE = 0.95
"""Share of a sample's values that must be readable."""
MILLISECONDS = re.compile(r"(?<=[a-z_])ms$|millis|毫秒", re.IGNORECASE)
LONG_S = 3_600.0
"""A median above this is taken for milliseconds where the name says nothing."""


@dataclass(frozen=True)
class Sample:
    """The first rows of a file."""

    name: str
    frame: pl.DataFrame
    separator: str = ","


@dataclass(frozen=True)
class Guess:
    """The text of the mapping, and what it lacks: (file, column of ours), empty if it can be imported by."""

    text: str
    lacks: tuple[tuple[str, str], ...]


def guess(samples: Iterable[Sample]) -> Guess:
    """A mapping of these files; of a table in several files, the first one's columns count."""
    files: dict[Table, list[Sample]] = {}
    other: list[Sample] = []
    for sample in samples:
        table = table_of(sample)
        if table:
            files.setdefault(table, []).append(sample)
        else:
            other.append(sample)
    if "interactions" not in files and other:  # so that what is missing can be told of something
        files["interactions"] = [max(other, key=lambda s: len(columns_of("interactions", s)))]
    lines = [
        "# Which of your columns are ours (docs/logs.md): guessed from names and values. Correct it, and run",
        "# `upwell init` again with the same words.",
    ]
    chinese = any("\u4e00" <= sign <= "\u9fff" for group in files.values() for s in group for sign in heading(s))
    zone = "Asia/Shanghai" if chinese else "UTC"
    lines += [f"zone = {quoted(zone)}  # of times that name none, and of the hour of day: a guess"]
    lacks: list[tuple[str, str]] = []
    for table, group in files.items():
        found = columns_of(table, group[0])
        missing = [name for name in NOT_LEFT_OUT[table] if name not in found]
        lacks += [(group[0].name, name) for name in missing]
        lines += section(table, group, found, missing)
    return Guess("\n".join(lines) + "\n", tuple(lacks))


def table_of(sample: Sample) -> Table | None:
    """Which table a file holds: who saw what when, what there is, or who there is."""
    found = columns_of("interactions", sample)
    if {"user_id", "content_id"} <= found.keys():
        return "interactions"
    if "content_id" in found and "clicked" not in found:
        return "contents"
    if "user_id" in found and "clicked" not in found:
        return "users"
    return None


def columns_of(table: Table, sample: Sample) -> dict[str, Entry]:
    """Ours to theirs, each of theirs used once."""
    found: dict[str, Entry] = {}
    for column in TABLES[table]:
        taken = {entry.column for entry in found.values()}
        for theirs in named(column.name, (c for c in sample.frame.columns if c not in taken)):
            entry = read_as(sample.frame[theirs], column)
            if entry:
                found[column.name] = entry
                break
    return found


def named(ours: str, columns: Iterable[str]) -> list[str]:
    """Those of ``columns`` whose name means ours, the best first."""
    order = [plain(ours), *NAMES.get(ours, "").split()]
    ranked = [(order.index(plain(name)), name) for name in columns if plain(name) in order]
    return [name for _, name in sorted(ranked)]


def plain(name: str) -> str:
    """Without case, blanks and signs: ``User_ID`` is ``userid``, ``观看时长(秒)`` is ``观看时长``."""
    return re.sub(r"[\W_]+", "", re.sub(r"[(（].*?[)）]", "", name)).lower()


def read_as(values: pl.Series, column: Column) -> Entry | None:
    """How the importer reads these values best; None where it cannot."""
    for entry in readings(values, column):
        read = Field(
            scale=entry.scale or 1.0, unit=entry.unit or "ms", format=entry.format, separator=entry.separator or ","
        )
        parsed, faults = parse(values, column, read, MISSING)
        bad = pl.Series([False]).new_from_index(0, len(values))
        for mask, _ in faults:
            bad = bad | mask.fill_null(False)
        known = parsed.is_not_null().sum()
        if known and (~bad).sum() >= READABLE * len(values):
            return entry
    return None


def readings(values: pl.Series, column: Column) -> Iterator[Entry]:
    """Ways to read a column of theirs as ours, to be tried in this order."""
    theirs = values.name
    if column.kind == "time":
        if values.dtype.is_temporal():
            yield Entry(theirs)
            return
        yield from (Entry(theirs, unit=unit) for unit in ("s", "ms", "us", "ns"))
        yield from (Entry(theirs, format=pattern) for pattern in TIMES)
    elif column.kind == "tags" and values.dtype == pl.String:
        counts = {sign: int(values.str.count_matches(sign, literal=True).sum()) for sign in SEPARATORS}
        yield Entry(theirs, separator=max(SEPARATORS, key=lambda sign: counts[sign]))
    elif column.unit == "s":
        number = values.cast(pl.Float64, strict=False)
        median = number.filter(number > 0).median()
        long = isinstance(median, float) and median > LONG_S
        yield Entry(theirs, scale=0.001) if MILLISECONDS.search(theirs) or long else Entry(theirs)
    else:
        yield Entry(theirs)


def heading(sample: Sample) -> str:
    return " ".join(sample.frame.columns)


def quoted(text: str) -> str:
    """A TOML string."""
    return json.dumps(text, ensure_ascii=False)


def written(entry: Entry) -> str:
    """An entry as TOML."""
    extra = {"scale": entry.scale, "unit": entry.unit, "format": entry.format, "separator": entry.separator}
    told = [f"{k} = {quoted(v) if isinstance(v, str) else v}" for k, v in extra.items() if v is not None]
    column = quoted(entry.column or "")
    return f"{{ {', '.join([f'column = {column}', *told])} }}" if told else column


def section(table: Table, group: list[Sample], found: dict[str, Entry], missing: list[str]) -> list[str]:
    """A table's part of the file; what is missing stands in it, commented out."""
    first = group[0]
    files = [glob.escape(sample.name) for sample in group]
    lines = ["", f"[{table}]", f"files = [{', '.join(map(quoted, files))}]"]
    lines += [f"separator = {quoted(first.separator)}"] if first.separator != "," else []
    lines += [
        f"missing = [{', '.join(map(quoted, MISSING))}]  # texts that mean: not known",
        "",
        f"[{table}.columns]  # ours = yours",
    ]
    lines += [f"{name} = {written(entry)}" for name, entry in found.items()]
    if table == "interactions" and "exposure" not in found:
        lines.append('exposure = { constant = "standard" }  # chosen by your ranker; "random" where nothing chose')
    lines += [f'# {name} = "…"  # NEEDED: name your column that holds it' for name in missing]
    free = [name for name in first.frame.columns if name not in {entry.column for entry in found.values()}]
    lines += [f"# kept under their own name: {', '.join(map(quoted, free))}"] if free else []
    return lines
