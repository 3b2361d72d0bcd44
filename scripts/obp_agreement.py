"""Our off-policy estimators beside those of ``obp`` (Saito et al.) on the Open Bandit logs: the largest differences.

PYTHONPATH=. .venv/bin/python scripts/obp_agreement.py ../shared/data/obd

``obp`` stands in an environment of its own, made for this. It needs PyTorch for learners that are not used here: an
empty one stands in its place. Prints one JSON document.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np

MOST = 100.0
NEEDS = ["numpy<2", "scipy", "pandas<2.2", "scikit-learn", "matplotlib", "seaborn", "pyyaml", "tqdm", "mypy-extensions"]


def main(data: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        side, given = Path(folder) / "side", Path(folder) / "given.npz"
        ours, arrays = estimated(data, Path(folder))
        np.savez(given, **arrays)
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(side)], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", str(side / "bin" / "python")]
        subprocess.run([*install, *NEEDS], check=True)
        subprocess.run([*install, "--no-deps", "obp==0.4.1"], check=True)
        command = [str(side / "bin" / "python"), __file__, "--in-side", str(given)]
        theirs = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    differences = {name: abs(ours[name] - theirs[name]) for name in ours}
    print(json.dumps({"ours": ours, "obp": theirs, "largest_difference": max(differences.values())}, indent=1))


def estimated(data: Path, folder: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Ours, and the arrays that both go by."""
    from upwell.cli.evaluate import opened
    from upwell.experiment import ope, ope_slates
    from upwell.logs import choices

    found: dict[str, float] = {}
    arrays: dict[str, Any] = {}
    for campaign in ("men", "women"):
        for mine, other in (("random", "bts"), ("bts", "random")):
            paths = [data / name / campaign / f"{campaign}.csv.gz" for name in (mine, other)]
            logs = choices.read(
                [opened(path, folder / f"{campaign}-{path.parent.parent.name}-{mine}") for path in paths]
            )
            policy, key = choices.counted(logs[1]), f"{campaign} {mine}"
            expects = choices.models(logs[0])
            samples = choices.samples(logs[0], expects, policy)
            for name in ("ips", "snips", "dm", "dr"):
                found[f"{key} {name}"] = float(ope.ESTIMATORS[name](samples, np.inf).mean())
            found[f"{key} switch_dr"] = float(ope.ESTIMATORS["switch_dr"](samples, MOST).mean())
            log = logs[0]
            arrays |= {
                f"{key}/reward": log.reward, f"{key}/action": log.content, f"{key}/position": log.place,
                f"{key}/pscore": log.propensity, f"{key}/chance": policy.chance,
                f"{key}/expects": expects[log.user % 2],
            }  # fmt: skip
    rng = np.random.default_rng(0)
    logged, asked = rng.uniform(0.05, 1.0, (2, 2_000, 3))
    reward = (rng.random((2_000, 3)) < 0.1).astype(float)
    slates = ope_slates.Slates(reward, asked / logged, np.arange(2_000))
    found |= {f"slates {name}": ope_slates.estimate(slates, name, np.inf).mean for name in ope_slates.WEIGHTS}
    return found, arrays | {"slates/logged": logged, "slates/asked": asked, "slates/reward": reward}


def in_side(given: Path) -> None:
    """The same by ``obp``."""
    torch: Any = MagicMock()
    torch.Tensor, torch.nn.Module = type("Tensor", (), {}), object
    torch.utils.data.Dataset = torch.utils.data.DataLoader = object
    parts = {"nn": torch.nn, "optim": torch.optim, "utils": torch.utils, "utils.data": torch.utils.data}
    sys.modules |= {"torch": torch} | {f"torch.{name}": part for name, part in parts.items()}
    from obp import ope  # type: ignore[import-not-found]

    named = {
        "ips": ope.InverseProbabilityWeighting(), "snips": ope.SelfNormalizedInverseProbabilityWeighting(),
        "dm": ope.DirectMethod(), "dr": ope.DoublyRobust(), "switch_dr": ope.SwitchDoublyRobust(tau=MOST),
    }  # fmt: skip
    found: dict[str, float] = {}
    with np.load(given) as arrays:
        for key in sorted({name.partition("/")[0] for name in arrays.files} - {"slates"}):
            of = {name: arrays[f"{key}/{name}"] for name in ("reward", "action", "position", "pscore")}
            many = len(of["reward"])
            dist = np.broadcast_to(arrays[f"{key}/chance"].T, (many, *arrays[f"{key}/chance"].T.shape))
            expects = np.moveaxis(arrays[f"{key}/expects"], 1, 2)  # [N, A, P]
            for name, estimator in named.items():
                found[f"{key} {name}"] = float(estimator.estimate_policy_value(
                    **of, action_dist=dist, estimated_rewards_by_reg_model=expects,
                ))  # fmt: skip
        logged, asked, reward = (arrays[f"slates/{name}"] for name in ("logged", "asked", "reward"))
    many, size = reward.shape
    flat = {
        "reward": reward.ravel(),
        "position": np.tile(np.arange(size), many),
        "slate_id": np.repeat(np.arange(many), size),
    }
    products = {
        "sips": (ope.SlateStandardIPS, "pscore", lambda p: np.repeat(p.prod(1), size)),
        "iips": (ope.SlateIndependentIPS, "pscore_item_position", lambda p: p.ravel()),
        "rips": (ope.SlateRewardInteractionIPS, "pscore_cascade", lambda p: p.cumprod(1).ravel()),
    }  # fmt: skip
    for name, (kind, column, product) in products.items():
        chances = {column: product(logged), f"evaluation_policy_{column}": product(asked)}
        found[f"slates {name}"] = float(kind(len_list=size).estimate_policy_value(**flat, **chances))
    print(json.dumps(found))


if __name__ == "__main__":
    in_side(Path(sys.argv[2])) if sys.argv[1] == "--in-side" else main(Path(sys.argv[1]))
