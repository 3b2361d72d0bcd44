"""The report on hand-made runs: story, traffic, verdict, protocol, noise; and the disease on a tiny platform."""

import re

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from upwell.cli import experiment as command
from upwell.experiment import disease, narration, noise, protocol, report, runner, story, summary, traffic
from upwell.experiment.story import Birth, Life, Tale
from upwell.world.config import reference_world
from upwell.world.state import CLICKS_TODAY, HEATED, ORGANIC_TODAY, OUTSIDE, OUTSIDE_VALID, STATS, TODAY

TINY = {"sizes.users": 200, "sizes.contents": 300, "sizes.creators": 30, "sizes.segments": 2}


def life(**changed) -> Life:
    """A content that meets the criterion at scale 0.1 (10 organic impressions a day are enough)."""
    told = {
        "seed": 0, "place": 7, "generation": 2, "born": 1, "tags": [3, 9], "log_quality": 1.25, "honest": True,
        "organic": [2, 3, 5, 9, 20, 40], "heated": [5, 5, 5, 0, 0, 0], "outside": [4, 4, 2, 0, 0, 0],
        "outside_valid": [1, 1, 1, 0, 0, 0], "clicks": [1, 2, 2, 3, 6, 12],
    }  # fmt: skip
    return Life(**(told | changed))


def meets(content: Life) -> bool:
    return story.meets(content, median_start=2.0, valid_rate=0.1, scale=0.1)


def test_a_story_needs_every_clause_of_the_criterion():
    assert meets(life())
    assert not meets(life(organic=[3, 3, 5, 9, 30, 40])), "starts better than the median"
    assert not meets(life(outside_valid=[1, 1, 0, 5, 0, 0])), "found outside only later"
    assert not meets(life(outside=[20, 20, 20, 0, 0, 0])), "found, but at a rate below the platform's"
    assert not meets(life(organic=[2, 30, 5, 9, 12, 19])), "no day from the fourth on with ten times the first"
    assert not meets(life(organic=[0, 3, 5, 9, 9, 9])), "ten times nothing is not enough"
    assert not meets(life(organic=[2, 3, 5, 9, 40], heated=[5] * 5)), "lived too short"
    assert not meets(life(honest=False))


def test_the_story_told_is_the_one_that_gained_most_over_the_same_content_under_raw():
    better, worse, other, poor = (life(place=place) for place in (1, 2, 3, 4))
    poor.outside_valid = [0] * 6
    raw = {
        better.key: Birth(1.25, [2, 2, 2, 1, 1, 1], 1),
        worse.key: Birth(1.25, [2, 2, 2, 50, 50, 50], 9),
        other.key: Birth(0.5, [0] * 6, 0),  # its creator was replaced there: not the same content
        poor.key: Birth(1.25, [0] * 6, 0),
    }
    tale = story.tell([worse, better, other, poor], raw, valid_rate=0.1, scale=0.1)
    assert (tale.born, tale.met, tale.better) == (4, 2, 1)
    assert [told.key for told in tale.lives] == [better.key, worse.key]
    assert better.gain == 9 + 20 + 40 - 3
    arm, told = story.choose([("oracle", Tale(lives=[life(raw=[0] * 6)])), ("rules", tale)])
    assert (arm, told.key) == ("rules", better.key)
    assert story.choose([("rules", Tale()), ("raw", Tale())]) is None


def day_report(generation: list[int], ages: list[int], **columns: list[float]) -> dict[str, np.ndarray]:
    """A day's report of the few contents given."""
    stats = np.zeros((len(ages), STATS), np.float32)
    names = {
        "today": TODAY, "organic": ORGANIC_TODAY, "clicks": CLICKS_TODAY, "heated": HEATED, "outside": OUTSIDE,
        "outside_valid": OUTSIDE_VALID,
    }  # fmt: skip
    for name, values in columns.items():
        stats[:, names[name]] = values
    return {
        "stats": stats, "generation": np.array(generation), "age_days": np.array(ages), "today": stats[:, TODAY],
        "log_quality": np.arange(len(ages), dtype=float), "followers": np.arange(len(ages), dtype=float)[::-1],
        "tags_of": np.array([[4, 1, 4]] * len(ages)), "cheats_of": np.zeros(len(ages), bool),
        "heated": np.float32(10), "explored": np.float32(10), "impressions": np.float32(100), "valid": np.float32(5),
    }  # fmt: skip


def test_lives_are_read_off_the_daily_reports():
    # Place 0 is born on day 1 and lives on; place 1 is born on day 0 and replaced on day 4: too short.
    reports = [
        day_report(
            [int(d >= 1), 5 + int(d >= 4)], [d - 1, d % 4], today=[10 + d, 1], organic=[8, 1], outside=[d, 0],
            clicks=[d, 0],
        )
        for d in range(8)
    ]  # fmt: skip
    (found,) = [told for told in story.lives(3, reports) if told.place == 0]
    assert (found.seed, found.generation, found.born, found.tags) == (3, 1, 1, [1, 4])
    assert found.organic == [8] * 7
    assert found.heated == [3, 4, 5, 6, 7, 8, 9]
    assert found.outside == [1] * 7  # a running count: the new content's first day starts at 0
    assert found.clicks == [1, 2, 3, 4, 5, 6, 7]


def test_counts_start_anew_with_a_new_content():
    first = day_report([0, 0], [3, 3], outside=[4.0, 2.0])
    second = day_report([0, 1], [4, 0], outside=[9.0, 3.0])
    days = [list(day) for day in traffic.added([first, second], OUTSIDE)]
    assert days == [[4.0, 2.0], [5.0, 3.0]]
    assert traffic.outside([first, second]) == pytest.approx(
        {"share": 14 / 40, "valid_rate": 0.0, "valid_rate_everywhere": 10 / 200}
    )


def test_heated_traffic_by_age_quality_and_creator():
    ages = [0, 0, 1, 2, 3, 4, 7, 8, 9, 30]
    groups = traffic.groups([day_report([0] * 10, ages, today=[10] * 10, organic=[4, 10, 8] + [10] * 7)])
    assert groups["age"]["heated"] == [0.75, 0.25, 0, 0, 0, 0]
    assert groups["age"]["all"] == [0.2, 0.1, 0.1, 0.1, 0.2, 0.3]
    assert groups["quality"]["heated"] == [0.75, 0, 0.25] + [0.0] * 7
    assert groups["followers"]["heated"] == [0.0] * 7 + [0.25, 0, 0.75]
    assert list(traffic.tenth(np.zeros(20))) == [0] * 20


def made_up(arm: str, seed: int, **metrics: float) -> runner.Run:
    names = [*report.HIGHER, *report.LOWER, *report.figures.CURVES, "interest_diversity", "heated_share"]
    values = {name: 0.5 + 0.01 * seed for name in names if name != "objective"} | metrics
    return runner.Run(
        arm=arm, seed=seed, stamp="", member=f"{arm}:one", seconds=10.0 + seed, burn_in_seconds=5.0 * (arm == "raw"),
        metrics=values, daily={name: [value] * 8 for name, value in values.items()},
        lorenz_before=[i / 100 for i in range(101)], lorenz_after=[(i / 100) ** 2 for i in range(101)],
        tags=[0.25, 0.5, 0.25], life={q: [1.0, 2.0, 3.0] for q in ("10", "25", "50", "75", "90", "99")},
        traffic={
            name: {"heated": [0.1 * (arm != "raw")] * many, "all": [0.1] * many}
            for name, many in (("age", 6), ("quality", 10), ("followers", 10))
        },
        outside={"share": 0.2 * (arm != "raw"), "valid_rate": 0.04, "valid_rate_everywhere": 0.03},
        tale=Tale(9, 1, 1, [life(raw=[1] * 6, raw_clicks=2)]) if arm == "rules" else Tale(), births={},
    )  # fmt: skip


def experiment(name: str = "small") -> tuple[runner.Plan, list[runner.Run]]:
    config = reference_world().override(TINY)
    plan = runner.Plan(type(config)(**{**vars(config), "name": name}), ("raw", "rules", "oracle"), (0, 1, 2), 8, 2)
    runs = [
        run
        for seed in plan.seeds
        for run in (
            made_up("raw", seed),
            made_up("rules", seed, satisfaction_mean=0.6 + 0.011 * seed, ctr=0.3 + 0.012 * seed),
            made_up("oracle", seed, satisfaction_mean=0.9 + 0.01 * seed),
        )
    ]
    return plan, runs


def test_the_page_is_self_contained_and_shows_names_as_they_are(tmp_path):
    plan, runs = experiment("<script>alert('世界')</script>")
    report.write_report(plan, runs, summary.summarise(plan, runs), tmp_path / "new" / "report.html")
    page = (tmp_path / "new" / "report.html").read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(&#x27;世界&#x27;)&lt;/script&gt;" in page
    assert not re.search(r"(src|href)\s*=|@import|url\(", page)
    assert "内容 7.2（标签 3, 9；种子 0）在 8 天实验的第 2 天发布" in page
    assert "of 27 contents born under rules, 3 meet the rule" in page
    assert "the world&#x27;s truth" in page or "the world's truth" in page or r"the world\u0027s truth" in page


def test_without_a_story_the_page_says_so():
    plan, runs = experiment()
    for run in runs:
        run.tale = Tale()
    section = report.story_section(plan, runs)
    assert "No content of this experiment meets it." in section
    assert "没有内容符合" in section


def test_the_verdict_says_what_an_arm_wins_and_what_it_loses():
    plan, runs = experiment()
    result = summary.summarise(plan, runs)
    rules, worse, *_, few = report.verdict(plan, result)
    assert few.startswith("3 seeds are few")
    # Satisfaction weighs 0.4 and moves by 0.1 of 0.4 on seed 0; the other terms are the same.
    assert result["oracle_gap_closed"]["rules"]["mean"] == pytest.approx(0.1 / 0.4, abs=0.01)
    assert rules.startswith("rules closes 25% of the gap from raw to oracle (95% interval ")
    assert rules.endswith("it is better than raw ranking by the objective.")
    assert worse == "rules does worse than raw on ctr (-0.198 ± 0.005)."
    assert result["members"]["rules"] == {"0": "rules:one", "1": "rules:one", "2": "rules:one"}
    assert report.warnings(result) == []


def test_a_beaten_oracle_is_reported():
    plan, runs = experiment()
    next(run for run in runs if run.arm == "rules" and run.seed == 1).metrics["satisfaction_mean"] = 0.96
    result = summary.summarise(plan, runs)
    # 0.4 x (0.96 - 0.91)
    assert result["oracle_beaten"] == ["rules on seed 1 by 0.0200"]
    assert "no upper bound" in report.warnings(result)[0]


def test_the_protocol_fills_in_what_is_not_asked_for(monkeypatch, tmp_path):
    seen: list[runner.Plan] = []

    class Stop(Exception):
        pass

    def days_to_run(plan: runner.Plan, out: object) -> int:
        seen.append(plan)
        raise Stop

    monkeypatch.setattr(runner, "days_to_run", days_to_run)
    fixed = protocol.fixed()
    with pytest.raises(Stop):
        command.experiment(out=tmp_path)
    sizes = seen[0].config.sizes
    assert (sizes.users, sizes.contents) == (fixed.users, fixed.contents)
    assert (seen[0].days, seen[0].burn_in, len(seen[0].seeds)) == (fixed.days, fixed.burn_in, fixed.seeds)
    with pytest.raises(Stop):
        command.experiment(
            arms="rules,raw,rules", out=tmp_path, users=123, burn_in=0, seeds=2,
            set=["sizes.contents=77", "sizes.users=99"],
        )  # fmt: skip
    sizes = seen[1].config.sizes
    assert (sizes.users, sizes.contents, seen[1].burn_in, seen[1].seeds) == (123, 77, 0, (0, 1))
    assert seen[1].arms == ("raw", "rules")


def test_seeds_needed_by_hand():
    # Twice as wide as wanted takes four times the seeds, and 4/3 of that for the bootstrap's bias with four.
    assert noise.seeds_needed(0.10, 4) == 22  # 21.33
    assert noise.seeds_needed(0.05, 101) == 103  # 102.01
    assert noise.seeds_needed(0.06, 8) == 14  # 13.17
    assert noise.seeds_needed(0.001, 8) == 2


def test_figures_for_people_have_no_exponents():
    assert [report.figure(v, 2) for v in (0.0123, 9.87, 230.4, 18357.2)] == ["0.012", "9.9", "230", "18,357"]
    assert report.figure(1338.2) == "1338"


def test_noise_of_made_up_runs():
    plan, runs = experiment()
    measured = noise.measure(plan, runs)
    # Seeds 0, 1, 2 take 10, 11, 12 s an arm and 5 s of burn-in; ctr is .3, .312, .324: t(.975, 2) x .012/sqrt(3).
    assert measured["seconds_per_seed"] == pytest.approx(3 * 11 + 5)
    assert measured["half_width"]["ctr"] == pytest.approx(4.3027 * 0.012 / np.sqrt(3), rel=1e-4)
    assert measured["half_width_versus_raw"]["ctr"] == pytest.approx(4.3027 * 0.002 / np.sqrt(3), rel=1e-3)
    assert measured["seconds_needed"] == measured["seeds_needed"] * measured["seconds_per_seed"]


def test_narration_keeps_to_the_record():
    english, chinese = narration.words(life(raw=[1] * 6, raw_clicks=2), "rules", [Tale(9, 1, 1)], 8)
    assert "shows it 10 times" in english
    assert "3 of these become valid views" in english
    assert "94 impressions, 15 of them heated, and 26 clicks" in english
    assert "6 impressions and 2 clicks" in english
    assert "合计曝光 94 次（其中加热 15 次），点击 26 次" in chinese


def test_an_effect_that_is_not_there_is_not_claimed():
    said = disease.effect("tags", {"mean": -0.1, "low": -0.5, "high": 0.3})
    assert said == (
        "Feedback changes tags by -0.1, last 7 days (95% interval -0.5 to +0.3): not to be told from no effect."
    )
    assert "no interval" in disease.effect("tags", {"mean": -0.1, "low": -np.inf, "high": np.inf})
    assert "told" not in disease.effect("tags", {"mean": -2.0, "low": -3.0, "high": -1.0})


@pytest.mark.slow
def test_the_platform_falls_ill_by_feedback_alone(tmp_path):
    config = reference_world().override(TINY | {"ranker.learns_from_day": 2.0})
    result = disease.run(config, 1, 14, lambda: None)
    ill, well = (result[name]["daily"] for name in ("feedback", "no_feedback"))
    for key in ("interest_tags", "top100_share"):
        assert ill[key][:2] == pytest.approx(well[key][:2]), "the same platform until the ranker learns"
    assert ill["top100_share"][-1] > well["top100_share"][-1] + 0.1
    assert result["feedback"]["lorenz_last"][50] < result["no_feedback"]["lorenz_last"][50]
    assert result["difference"]["top100_share"]["mean"] == pytest.approx(
        np.mean(ill["top100_share"][-7:]) - np.mean(well["top100_share"][-7:])
    )
    disease.write_page(config, result, tmp_path / "disease.html")
    page = (tmp_path / "disease.html").read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    assert not re.search(r"(src|href)\s*=|@import|url\(", page)
