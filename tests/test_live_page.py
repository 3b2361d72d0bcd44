"""The page of a live experiment and its table: self-contained, whatever names hold, and the same figures."""

import re

import polars as pl
from plotly.offline import get_plotlyjs

from upwell.experiment import live_page


def made_up() -> dict:
    def look(at_ms: int, lift: float | None, stage: int = 1) -> dict:
        effect = {"lift": lift, "low": lift and lift - 0.1, "high": lift and lift + 0.1, "p": 0.5}
        arms = [{"arm": arm, "users": 10, "slates": 20, "metrics": {"ctr": 0.1, "gmv_per_user": None}}
                for arm in ("control", "<b>处理</b>")]  # fmt: skip
        return {"at_ms": at_ms, "stage": stage, "arms": arms,
                "effects": {"<b>处理</b>": {"ctr": effect, "gmv_per_user": effect}}}  # fmt: skip

    last = look(3_000, 0.2)
    return {
        "name": "<script>alert(1)</script>", "running": True, "since_ms": 0, "stage": 1, "sample_ratio_p": 0.4,
        "plan": {"experiment": {"name": "x"}, "guardrails": [{"metric": "gmv_per_user"}]},
        "history": [{"at_ms": 0, "what": "running", "who": "operator", "why": "<i>why</i>"}],
        "arms": last["arms"], "effects": last["effects"],
        "verdicts": {"<b>处理</b>": {"decision": "keep going", "why": "Go on: <b>.", "why_zh": "继续：尚不能判断。"}},
        "segments": {"<b>处理</b>": [{"segment": "new users", "metric": "ctr", "lift": -0.3, "low": -0.4, "high": None,
                                    "beyond_rest": -0.25, "p": 0.0123}]},
        "checks": {"aa": [{"arm": "<b>处理</b>", "when": "warm-up", "metric": "ctr", "p": 0.77}],
                   "overlap": [{"experiment": "<i>heat", "arm": "b", "users": 8, "share": 0.4, "p": None}]},
        "looks": [look(500, 0.9, stage=0), look(1_000, None), look(2_000, 0.1), last],
    }  # fmt: skip


def test_the_page_is_self_contained_and_runs_nothing(tmp_path):
    live_page.write_page(made_up(), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8").replace(get_plotlyjs(), "")
    assert "<script>alert" not in page
    assert "<b>处理" not in page
    assert "<i>why" not in page
    assert "继续：尚不能判断。" in page
    assert "+20.00%" in page
    assert (
        "<td>new users</td><td>ctr</td><td>-30.00%</td><td>-40.00%</td><td>?</td><td>-25.00%</td><td>0.0123</td>"
        in page
    )
    assert "A/A, warm-up: &lt;b&gt;处理&lt;/b&gt;, most of ctr</td><td>0.77" in page
    assert "overlap: 40% of users are in &lt;i&gt;heat, b, too</td><td></td>" in page
    assert not re.search(r"(src|href)\s*=|@import|url\(", page)


def test_curves_are_of_the_present_stage_where_something_is_known():
    figure = live_page.curves(made_up())
    lines = [trace for trace in figure.data if trace.name]
    assert [trace.name for trace in lines] == ["<b>处理</b>"] * 2
    assert list(lines[0].y) == [10.0, 20.0]


def test_the_table_has_all_looks(tmp_path):
    live_page.write_data(made_up(), tmp_path / "looks.parquet")
    table = pl.read_parquet(tmp_path / "looks.parquet")
    assert len(table) == 4 * 2 * 2
    treated = table.filter((pl.col("arm") != "control") & (pl.col("metric") == "ctr")).sort("at_ms")
    assert treated["lift"].to_list() == [0.9, None, 0.1, 0.2]
    assert table.filter(pl.col("arm") == "control")["lift"].null_count() == 8
