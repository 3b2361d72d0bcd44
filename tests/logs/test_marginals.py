"""Marginals of a log, by hand, and the published ones."""

import pytest
from log_samples import bring_in, log_file

from upwell.errors import BadRequest
from upwell.logs import marginals
from upwell.logs.generate import write_log


def test_marginals_by_hand(tmp_path):
    day = 86_400_000
    rows = [
        # user, video, ts, click, play, duration, random
        (1, 1, 1649347200000, 1, 5_000, 10_000, 0),  # 8 April 00:00 in Shanghai
        (1, 1, 1649347200000 + 1, 0, 0, 10_000, 0),
        (1, 2, 1649347200000 + 3_600_000, 1, 10_000, 10_000, 0),
        (2, 1, 1649347200000 + day, 0, 0, 10_000, 0),
        (2, 3, 1649347200000 + day + 1, 1, 1_000, 4_000, 1),
    ]
    text = [f"{u},{v},20220408,0,{t},{c},0,0,0,0,0,0,{p},{d},0,0,0,{r},1" for u, v, t, c, p, d, r in rows]
    (tmp_path / "video_features_basic.csv").write_text(
        'video_id,author_id,upload_dt,video_duration,tag\n1,1,2022-04-08,10000,"1,2"\n2,1,2022-04-08,,\n3,1,2022-04-08,4000,1\n'
    )
    bring_in([log_file(tmp_path, *text), tmp_path / "video_features_basic.csv"], tmp_path / "out")
    found = marginals.measure(tmp_path / "out")
    assert found["ctr_standard"] == 0.5
    assert found["ctr_random"] == 1.0
    assert (found["impressions_standard"], found["days_standard"], found["days_random"]) == (4, 2, 1)
    assert found["impressions_per_user_day_standard_p50"] == 1.0  # users: 3/2 and 1/2 a day
    assert found["user_ctr_standard_p50"] == pytest.approx(1 / 3)  # 2/3 and 0
    assert found["content_impressions_standard_p50"] == 2.0  # 3 and 1
    assert found["top1pct_exposure_share_standard"] == 0.75
    assert found["gini_standard"] == pytest.approx(0.25)  # (−1·1 + 1·3) / (2·4)
    assert (found["hour_share_standard_00"], found["hour_share_standard_01"]) == (0.75, 0.25)
    assert sum(found[f"hour_share_standard_{h:02}"] for h in range(24)) == 1.0
    assert found["completion_p50"] == 0.5  # .25, .5, 1 of clicked ones
    assert found["dwell_s_p50"] == 5.0
    assert found["duration_s_p50"] == 7.0
    assert [found[f"tags_per_content_{n}"] for n in range(3)] == pytest.approx([1 / 3] * 3)
    assert (found["tags"], found["contents"], found["tags_per_content_mean"]) == (2, 3, 1)


def test_published_marginals_have_the_same_names(tmp_path, real):
    found = marginals.published(real("kuairand27k") / "facts.json")
    assert found["ctr_standard"] == pytest.approx(0.3787, abs=1e-4)
    assert found["ctr_random"] == pytest.approx(0.1762, abs=1e-4)
    assert found["impressions_per_user_day_standard_p50"] == pytest.approx(8_594 / 31)
    assert found["gini_random"] == pytest.approx(0.0808, abs=1e-4)
    assert sum(found[f"hour_share_standard_{h:02}"] for h in range(24)) == pytest.approx(1)
    assert found["tags_per_content_1"] == pytest.approx(23_394_771 / 32_038_725)
    write_log(tmp_path / "log.csv", 0.5)
    (tmp_path / "videos.csv").write_text("video_id,author_id,upload_dt,tag\n1,1,2022-04-08,3\n")
    bring_in([tmp_path], tmp_path / "out")
    assert set(found) <= set(marginals.measure(tmp_path / "out"))


def test_marginals_of_what_is_no_data_set(tmp_path):
    with pytest.raises(BadRequest, match="make one with `upwell import"):
        marginals.measure(tmp_path)
    with pytest.raises(BadRequest, match="no such file"):
        marginals.published(tmp_path / "facts.json")
