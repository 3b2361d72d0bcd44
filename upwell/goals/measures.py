"""The named measures that goals and reward programs speak of: units, ranges, meanings, and what operators call them.

``PLATFORM`` are metrics of a day (``experiment.metrics.over``, docs/metrics.md), ``CONTENT`` what a platform knows of a
content at a tick. Ranges are what a program is checked against; values are clipped to them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Unit = Literal["share", "yuan", "minutes", "coins", "count", "days", ""]
Level = Literal["platform", "content"]


class Measure(NamedTuple):
    """``low`` to ``high``: the range, in ``unit``. ``words``: lower case, in both languages, of no other measure."""

    name: str
    unit: Unit
    low: float
    high: float
    level: Level
    meaning: str
    meaning_zh: str
    words: tuple[str, ...] = ()
    up_is_good: bool = True


def listed(level: Level, *each: tuple[str, Unit, float, float, bool, str, str, str]) -> dict[str, Measure]:
    """Measures by name, of rows: name, unit, range, whether up is good, meanings, words parted by commas."""
    return {
        name: Measure(name, unit, low, high, level, en, zh, tuple(w.strip() for w in words.split(",") if w.strip()), up)
        for name, unit, low, high, up, en, zh, words in each
    }


PLATFORM: dict[str, Measure] = listed(
    "platform",
    ("ctr", "share", 0, 1, True, "clicks over impressions", "点击率:点击数除以曝光数",
     "ctr, click rate, click-through rate, click through rate, clicks, 点击率, 点击, 整体点击率, 大盘点击率"),
    ("new_content_ctr", "share", 0, 1, True, "click rate of contents under three days old", "新内容(三天内)的点击率",
     "new content ctr, new-content ctr, click rate of new content, new content click rate, new content clicks, "
     "新内容点击率, 新内容的点击率, 新视频点击率, 新内容ctr"),
    ("mid_tail_ctr", "share", 0, 1, True,
     "click rate of contents past their third day outside the day's top tenth", "中长尾内容的点击率",
     "mid tail ctr, mid-tail ctr, long tail ctr, long-tail click rate, mid-tail click rate, "
     "中长尾点击率, 长尾点击率, 中腰部点击率"),
    ("real_engagement", "", 0, 3, True,
     "valid views and twice the shares, over impressions", "真实互动:有效观看加两倍分享,除以曝光数",
     "real engagement, engagement, interaction, engagement rate, 真实互动, 互动, 互动率, 参与度, 有效互动"),
    ("interest_tags", "count", 0, 1_000, True,
     "distinct topics that an active user watched within 7 days", "活跃用户七天内看过的话题数",
     "interest tags, topics per user, number of topics, number of interests, "
     "兴趣标签数, 兴趣数, 话题数, 标签数, 兴趣标签"),
    ("interest_diversity", "share", 0, 1, True,
     "those topics over a healthy platform's", "兴趣多样性:与健康平台相比的话题广度",
     "interest diversity, diversity, variety, breadth of interest, breadth, filter bubble, information cocoon, "
     "多样性, 兴趣多样性, 内容多样性, 多样化, 兴趣广度, 广度, 丰富度, 信息茧房, 茧房"),
    ("cold_start_success", "share", 0, 1, True,
     "of new contents, those seen enough by their fourth day", "冷启动成功率:第四天前获得足够曝光的新内容占比",
     "cold start success, cold-start success, cold start, cold-start, new content success, new creators, "
     "冷启动成功率, 冷启动, 冷启, 新内容成功率, 新内容, 新创作者, 新作者, 新人扶持, 新内容扶持"),
    ("d1_retention", "share", 0, 1, True, "of a day's users, those who come the next day", "次日留存率",
     "d1 retention, d1, next-day retention, next day retention, day-1 retention, day 1 retention, one-day retention, "
     "retention, user retention, 次日留存率, 次日留存, 次留, 一日留存, 1日留存, 留存率, 留存, 用户留存, 用户留存率"),
    ("d7_retention", "share", 0, 1, True, "of a day's users, those who come seven days later", "七日留存率",
     "d7 retention, d7, 7-day retention, seven-day retention, day-7 retention, day 7 retention, weekly retention, "
     "long-term retention, "
     "七日留存率, 七日留存, 7日留存, 7日留存率, 七留, 周留存, 长期留存, 第七天留存, 7天留存, 七天留存"),
    ("heating_cost_per_success", "coins", 0, 1e9, False,
     "coins spent on heating for each successful cold start", "每次冷启动成功花费的加热币",
     "heating cost per success, cost per success, cost per cold start, heating efficiency, "
     "加热成本, 冷启动成本, 单次成功成本, 单个成功成本, 加热效率"),
    ("heating_spend_per_day", "coins", 0, 1e12, False, "coins spent on heating a day", "每天花费的加热币",
     "heating spend per day, heating spend, heating coins, coins spent, 加热币消耗, 加热消耗, 加热币"),
    ("heating_yuan_per_day", "yuan", 0, 1e12, False, "what heating costs a day", "每天的加热费用",
     "heating yuan per day, heating cost, heating budget, cost of heating, 加热费用, 加热花费, 加热预算, 扶持费用"),
    ("gmv_per_day", "yuan", 0, 1e13, True, "purchases of a day", "每天的成交额",
     "gmv per day, gmv, sales, revenue, turnover, income, merchandise volume, daily gmv, "
     "成交额, 成交总额, 交易额, 销售额, 营收, 收入, 营业额, 日成交额, gmv目标"),
    ("gmv_per_dau", "yuan", 0, 1e6, True, "purchases of a day for each active user", "人均成交额",
     "gmv per dau, gmv per user, revenue per user, sales per user, arpu, "
     "人均成交额, 人均gmv, 人均消费, 人均收入, 用户价值"),
    ("net_gmv_per_dau", "yuan", -1e6, 1e6, True,
     "the same less what heating cost", "扣除加热费用后的人均成交额",
     "net gmv per dau, net gmv, net revenue, net sales, profit, 净成交额, 净gmv, 净收入, 利润, 净利润, 人均净成交额"),
    ("watch_minutes_per_dau", "minutes", 0, 1_440, True,
     "minutes watched a day by an active user", "人均观看时长(分钟)",
     "watch minutes per dau, watch minutes, watch time, viewing time, time spent, dwell time, minutes watched, "
     "观看时长, 时长, 使用时长, 人均时长, 人均观看时长, 停留时长, 播放时长, 观看时间"),
    ("impressions_per_dau", "count", 0, 1e5, True,
     "contents shown a day to an active user", "人均曝光数",
     "impressions per dau, impressions per user, views per user, feed depth, "
     "人均曝光, 人均曝光数, 曝光量, 人均浏览, 浏览深度"),
    ("dau", "count", 0, 1e10, True, "users active on a day", "日活跃用户数",
     "dau, daily active users, active users, daily users, "
     "日活, 日活跃用户, 日活跃用户数, 活跃用户, 活跃用户数, 日活用户"),
    ("exposure_gini", "share", 0, 1, False,
     "how unequally a day's impressions are spread over contents: 0 evenly, 1 all on one",
     "曝光基尼系数:0为均匀,1为全部集中于一个内容",
     "exposure gini, gini, gini coefficient, exposure inequality, inequality, concentration of exposure, "
     "基尼系数, 曝光基尼系数, 基尼, 曝光不均, 曝光集中度, 贫富差距, 马太效应"),
    ("top100_share", "share", 0, 1, False,
     "share of a day's impressions that the hundred most shown contents get", "头部100个内容的曝光占比",
     "top100 share, top 100 share, top-100 share, head concentration, head share, share of the top, top contents, "
     "头部集中度, 头部占比, 头部内容占比, 头部流量, 头部曝光, 头部内容, 头部效应, 爆款占比"),
    ("heated_share", "share", 0, 1, False, "share of impressions that are heated", "加热曝光占比",
     "heated share, share heated, heated impressions, heating share, heating traffic, "
     "加热占比, 加热曝光占比, 加热比例, 加热流量, 扶持流量占比"),
    ("explored_share", "share", 0, 1, False,
     "share of impressions at which something new was tried on the user", "探索曝光占比",
     "explored share, exploration share, exploration, exploration rate, 探索占比, 探索比例, 探索流量, 探索率"),
    ("new_content_heated_share", "share", 0, 1, True,
     "of new contents, those that had their heating chance", "获得加热机会的新内容占比",
     "new content heated share, heating coverage, share of new content heated, new content coverage, "
     "新内容加热率, 新内容覆盖率, 加热覆盖率, 新内容加热占比, 新内容曝光机会, 扶持覆盖率"),
    ("creator_churn", "share", 0, 31, False, "creators who leave in a month", "创作者月流失率",
     "creator churn, churn, creators leaving, creator loss, churn of creators, creator attrition, "
     "创作者流失, 创作者流失率, 作者流失, 作者流失率, 流失, 流失率, 达人流失"),
    ("satisfaction_mean", "share", 0, 1, True, "mean satisfaction of active users", "活跃用户的平均满意度",
     "satisfaction mean, satisfaction, user satisfaction, happiness, user experience, "
     "满意度, 用户满意度, 满意, 用户体验, 体验, 口碑"),
)  # fmt: skip
"""By name. Their words tell them apart: none is used twice."""

READABLE = frozenset({
    "ctr", "new_content_ctr", "new_content_heated_share", "heated_share", "d1_retention", "d7_retention",
    "interest_tags", "interest_diversity", "satisfaction_mean", "dau",
})  # fmt: skip
"""Those that a reward program may read at a tick: what a platform knows by then. See ``program_measures``."""

CONTENT: dict[str, Measure] = listed(
    "content",
    ("impressions", "count", 0, 1e12, True, "how often it was shown", "曝光数", "impressions, 曝光数, 曝光"),
    ("clicks", "count", 0, 1e12, True, "how often it was clicked", "点击数", "clicks, 点击数"),
    ("click_rate", "share", 0, 1, True,
     "its clicks over its impressions, 0 before the first", "该内容的点击率", "click rate, 该内容点击率"),
    ("valid_rate", "share", 0, 1, True,
     "of its clicks, those watched at least half or 30 s", "有效观看率:点击中看完一半或30秒的占比",
     "valid rate, valid views, completion, 有效观看率, 完播率"),
    ("heated", "count", 0, 1e12, True, "heated impressions it had", "已获得的加热曝光数",
     "heated impressions, heated, 加热曝光数, 加热曝光"),
    ("age_days", "days", 0, 1e5, True, "days since it was published", "发布天数",
     "age, age in days, 发布天数, 内容年龄"),
    ("followers", "count", 0, 1e12, True, "followers of its creator", "创作者粉丝数", "followers, fans, 粉丝数, 粉丝"),
    ("budget", "coins", 0, 1e9, True, "coins of its own heating budget", "加热预算(币)",
     "budget, coins, 加热预算, 预算, 币"),
    ("price", "yuan", 0, 1e9, True, "what it sells for, 0 where it sells nothing", "商品价格(元),不带货为0",
     "price, 价格, 售价, 单价"),
    ("match", "", -1, 1, True,
     "cosine to the segment of users it suits best", "与最匹配人群的余弦相似度", "match, fit, 匹配度"),
)  # fmt: skip
"""What is known of a content at a tick, by name. ``tag("…")`` asks for its tags and category beside these."""
