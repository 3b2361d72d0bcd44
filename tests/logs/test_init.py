"""From log files to a ready folder."""

import json
import random
import tomllib
from contextlib import contextmanager

import pytest

from upwell.cli import init
from upwell.logs import calibrate
from upwell.logs.targets import Target, ranked
from upwell.world.config import flatten, load_world, reference_world

HEADER = "用户ID,视频编号,曝光时间,是否点击,观看时长(毫秒),城市"


def own_log(folder, header=HEADER):
    """Impressions of six days and the videos, named in Chinese."""
    draw = random.Random(1)
    rows = [header]
    for i in range(3_000):
        hour, clicked = draw.randrange(24), draw.random() < 0.12
        watched = draw.randrange(1_000, 90_000) if clicked else ""
        when = f"2026/05/{1 + i // 500:02} {hour:02}:{draw.randrange(60):02}:00"
        rows.append(f"用户{draw.randrange(200)},v{draw.randrange(300)},{when},{int(clicked)},{watched},上海")
    (folder / "曝光.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    videos = ["视频编号\t作者ID\t标题\t标签\t发布时间"]
    videos += [f"v{i}\t作者{i % 20}\t猫,第{i}集\t美食、旅行\t2026-04-{1 + i % 28:02}" for i in range(300)]
    (folder / "视频.tsv").write_text("\n".join(videos) + "\n", encoding="utf-8")
    return folder / "曝光.csv", folder / "视频.tsv"


@pytest.fixture
def fits(monkeypatch):
    """The fit without living a world; how often it was asked for, and for what."""
    asked = []

    def approach(start, targets, **_):
        asked.append(sorted(targets))
        return start.override({"response.attention": 2.0}), {name: t.value for name, t in targets.items()}

    monkeypatch.setattr(calibrate, "approach", approach)
    return asked


def test_own_columns_with_chinese_names(tmp_path, upwell, fits):
    out = tmp_path / "我的 平台"
    code, told, err = upwell("init", *own_log(tmp_path), "--out", out, "--json")
    assert code == 0, err
    result = json.loads(told)
    assert (result["format"], result["rows_kept"], result["rows_rejected"]) == ("columns", 3_300, 0)
    assert result["policy"] == "rules"
    assert fits == [["ctr"]]
    settings = result["settings"]
    assert settings["daily_impressions"] == 500.0
    assert settings["click_rate"] == pytest.approx(0.12, abs=0.02)
    assert 200 < settings["live_contents"] <= 300
    assert settings["life_days"] >= 30.0
    code, told, err = upwell("serve", "--config", out / "upwell.toml", "--print-config")
    assert code == 0, err
    assert tomllib.loads(told)["click_rate"] == settings["click_rate"]
    assert tomllib.loads(told)["data"] == str((out / "state").resolve())
    code, told, err = upwell("simulate", "--world", out / "world.toml", "--print-world")
    assert code == 0, err
    assert tomllib.loads(told)["response"]["attention"] == 2.0
    assert "token =" not in (out / "upwell.toml").read_text(encoding="utf-8")


def test_a_second_run_does_nothing_again_and_leaves_what_was_edited(tmp_path, upwell, fits):
    logs, out = own_log(tmp_path), tmp_path / "out"
    assert upwell("init", *logs, "--out", out)[0] == 0
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.parquet")}
    with (out / "upwell.toml").open("a", encoding="utf-8") as file:
        file.write("port = 9000\n")
    settings = (out / "upwell.toml").read_text(encoding="utf-8")
    result = json.loads(upwell("init", *logs, "--out", out, "--json")[1])
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.parquet")} == before
    assert (len(fits), result["kept"]) == (1, ["upwell.toml"])
    mapping = (out / "mapping.toml").read_text(encoding="utf-8")
    (out / "mapping.toml").write_text(mapping.replace("Asia/Shanghai", "UTC"), encoding="utf-8")
    result = json.loads(upwell("init", *logs, "--out", out, "--json")[1])
    assert result["kept"] == ["mapping.toml", "upwell.toml"]
    assert json.loads((out / "dataset" / "dataset.json").read_bytes())["zone"] == "UTC"
    assert (out / "upwell.toml").read_text(encoding="utf-8") == settings
    assert (out / "mapping.toml").read_text(encoding="utf-8") == mapping.replace("Asia/Shanghai", "UTC")
    assert len(fits) == 1  # the hours of the day are as they were
    logs[0].write_text(logs[0].read_text(encoding="utf-8").replace(",0,", ",1,", 300), encoding="utf-8")
    assert upwell("init", *logs, "--out", out)[0] == 0
    assert len(fits) == 2
    world = (out / "world.toml").read_text(encoding="utf-8").replace("attention = 2.0", "attention = 1.5")
    (out / "world.toml").write_text(world, encoding="utf-8")
    assert upwell("init", *logs, "--out", out, "--seed", 7)[0] == 0
    assert (out / "world.toml").read_text(encoding="utf-8") == world


def test_what_cannot_be_guessed_is_asked_for_and_taken_from_the_mapping(tmp_path, upwell, fits):
    logs, out = own_log(tmp_path, HEADER.replace("是否点击", "有效")), tmp_path / "out"
    code, told, err = upwell("init", *logs, "--out", out)
    assert (code, told) == (2, "")
    assert "no column could be guessed for clicked (it has 用户ID, 视频编号" in err
    assert str(out / "mapping.toml") in err
    assert not (out / "dataset").exists()
    mapping = (out / "mapping.toml").read_text(encoding="utf-8")
    assert '# clicked = "…"' in mapping
    (out / "mapping.toml").write_text(mapping.replace('# clicked = "…"', 'clicked = "有效"'), encoding="utf-8")
    assert upwell("init", *logs, "--out", out)[0] == 0
    assert (out / "upwell.toml").exists()


def test_open_bandit_logs_need_no_mapping(tmp_path, upwell, real, fits):
    result = json.loads(upwell("init", real("obd"), "--out", tmp_path / "out", "--json")[1])
    assert (result["format"], result["mapping"]) == ("obd", None)
    assert fits == [["ctr", "random_ctr"]]  # 80 items: their top 1% says nothing
    assert result["settings"]["live_contents"] == pytest.approx(80, abs=1)
    assert 0.002 < result["settings"]["click_rate"] < 0.01
    assert not (tmp_path / "out" / "mapping.toml").exists()


def test_a_log_without_impressions_gives_what_it_tells(tmp_path, upwell, real):
    code, told, err = upwell("init", real("kuairand_pure"), "--out", tmp_path / "out", "--json")
    assert code == 0, err
    result = json.loads(told)
    assert (result["targets"], list(result["settings"])) == ({}, ["data"])
    assert load_world(tmp_path / "out" / "world.toml").content.one_tag != reference_world().content.one_tag


def test_a_folder_with_something_else_is_left_alone(tmp_path, upwell, fits):
    (tmp_path / "out" / "dataset").mkdir(parents=True)
    (tmp_path / "out" / "dataset" / "mine").write_text("x", encoding="utf-8")
    code, _, err = upwell("init", *own_log(tmp_path), "--out", tmp_path / "out")
    assert code == 2
    assert "holds other files" in err


def test_where_nothing_is_called_standard_the_platforms_own_ranking_is():
    told = {"ctr_random": 0.1, "impressions_random": 9.0, "ctr_bts": 0.2, "impressions_bts": 5.0, "gini_bts": 0.3,
            "hour_share_bts_05": 0.4, "user_ctr_bts_p50": 0.5}  # fmt: skip
    made = ranked(told)
    assert (made["ctr_standard"], made["gini_standard"], made["hour_share_standard_05"]) == (0.2, 0.3, 0.4)
    assert made["user_ctr_standard_p50"] == 0.5
    assert ranked(made) == made
    assert ranked({"ctr_random": 0.1, "impressions_random": 9.0}) == {"ctr_random": 0.1, "impressions_random": 9.0}


def test_the_quick_fit_finds_a_world_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """Against smooth figures of the parameters instead of worlds that are lived."""
    lived = []

    def evaluate(job):
        flat = flatten(job[0])
        lived.append(job[1])
        rate = 0.05 * flat["response.attention"] ** 0.8
        return {"ctr": rate, "random_ctr": rate * (0.7 - 0.1 * flat["response.base"]),
                "top100_share": 0.6 * flat["ranker.popularity"] ** 0.2}  # fmt: skip

    class Here:
        map = staticmethod(map)

    @contextmanager
    def workers(count):
        yield Here()

    monkeypatch.setattr(calibrate, "evaluate", evaluate)
    monkeypatch.setattr(calibrate, "workers", workers)
    wanted = {"ctr": Target(0.2), "random_ctr": Target(0.15), "top100_share": Target(0.5)}
    steps = []
    given = {"rounds": 5, "seeds": 2, "days": 28, "journal": tmp_path / "j.jsonl", "step": lambda: steps.append(1)}
    config, fitted = calibrate.approach(reference_world(), wanted, **given)
    for name, target in wanted.items():
        assert fitted[name] == pytest.approx(target.value, rel=0.05), name
    assert len(lived) == len(steps) <= calibrate.lives(wanted, 5, 2)
    assert len(set(lived)) == 3  # one to search on, two to judge on
    changed = {k for k, v in flatten(config).items() if v != flatten(reference_world())[k]}
    assert changed == {key for key, _ in calibrate.IDENTIFIED.values()}
    count = len(lived)
    assert calibrate.approach(reference_world(), wanted, **given) == (config, fitted)
    assert len(lived) == count


@pytest.mark.slow
def test_a_real_fit_lives_its_worlds_and_tidies_up(tmp_path, upwell, monkeypatch):
    for name, value in {"USERS": 64, "FEW": 300, "TICKS": 24, "DAYS": 12, "ROUNDS": 1, "SEEDS": 1}.items():
        monkeypatch.setattr(init, name, value)
    code, told, err = upwell("init", *own_log(tmp_path), "--out", tmp_path / "out", "--json")
    assert code == 0, err
    assert json.loads(told)["targets"]["ctr"]["fitted"] > 0.0
    assert not (tmp_path / "out" / "world.journal.jsonl").exists()
    assert load_world(tmp_path / "out" / "world.toml").response.attention != reference_world().response.attention
