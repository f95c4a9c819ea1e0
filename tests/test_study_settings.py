"""What a person sees when a study file is wrong."""

from __future__ import annotations

import pytest

from segfed.errors import ConfigError
from segfed.study.settings import Budget, load_study

GOOD = """
name = "kidneys"
task = "kidney_tumor"
sites = ["a", "b"]
external_sites = ["x"]
[budget]
rounds = 4
steps_per_round = 10
"""


@pytest.fixture
def study_file(tmp_path):
    for name in ("a", "b", "x"):
        (tmp_path / name).mkdir()

    def write(text):
        path = tmp_path / "study.toml"
        path.write_text(text)
        return path

    return write


def test_paths_are_taken_from_the_study_file(study_file, tmp_path):
    settings = load_study(study_file(GOOD))

    assert settings.sites == (tmp_path / "a", tmp_path / "b")
    assert settings.external_sites == (tmp_path / "x",)


def test_a_task_file_lies_beside_the_study_file(study_file, tmp_path):
    settings = load_study(study_file(GOOD.replace('"kidney_tumor"', '"spleen.toml"')))

    assert settings.task == str(tmp_path / "spleen.toml")


def test_budgets_that_are_not_stated_follow_from_the_federation():
    # 4 rounds of 10 steps: 40 steps a site, and 3 sites take 120 together.
    budget = Budget(rounds=4, steps_per_round=10)

    assert budget.local() == 40
    assert budget.pooled(n_sites=3) == 120
    assert Budget(rounds=4, steps_per_round=10, local_steps=7).local() == 7


@pytest.mark.parametrize(
    ("wrong", "right", "expected"),
    [
        ("rounds = 4", "round = 4", r"budget.round: unknown key; did you mean 'rounds'"),
        ("name =", "nmae =", r"nmae: unknown key; did you mean 'name'"),
        ('["a", "b"]', '["a", "a"]', r"sites lists something twice: a, a"),
        ('["a", "b"]', '["a"]', r"'federated' needs at least 2 sites, got 1"),
        ('["x"]', '["b"]', r"b cannot be both in sites and in external_sites"),
        ('["x"]', '["y"]', r"names site folders that are not there: y"),
        ("[budget]", 'regimes = ["ensemble"]\n[budget]', r"add 'local' to regimes"),
        ("[budget]", 'arms = ["asisted"]\n[budget]', r"arms.*'manual', 'assisted' or 'mixed'"),
        (
            "[budget]",
            "[federation]\nminimum_sites = 3\n[budget]",
            r"minimum_sites is 3, but the study has 2 sites",
        ),
        (
            "[budget]",
            "[federation]\naggregation = 'krum'\n[budget]",
            r"bears 1 hostile sites among 5 or more, but minimum_sites is 2",
        ),
        (
            "[budget]",
            "[privacy]\nsecure_aggregation = true\nthreshold = 3\nclip_norm = 1\n[budget]",
            r"privacy.threshold is 3, but the study has 2 sites: take 2 to 2",
        ),
        (
            "[budget]",
            "[privacy]\nsecure_aggregation = true\nthreshold = 2\nclip_norm = 1\n"
            "[federation]\naggregation = 'median'\n[budget]",
            r"hides each site's update from the server, which aggregation 'median' would",
        ),
        (
            "[budget]",
            "[federation]\nmax_norm = 3\n[budget]",
            r"federation.max_norm: unknown key; did you mean 'max_norm_ratio'",
        ),
        ("[budget]", "seeds = [-1]\n[budget]", r"seeds.*greater than or equal to 0"),
    ],
)
def test_a_mistake_is_named_with_its_fix(study_file, wrong, right, expected):
    with pytest.raises(ConfigError, match=expected):
        load_study(study_file(GOOD.replace(wrong, right)))


def test_a_privacy_budget_gets_its_noise_and_a_contradiction_is_named(study_file):
    private = 'unit = "patient"\nepsilon = 8.0\ndelta = 1e-3\nclip_norm = 1.0\n'
    text = f"{GOOD}\n[privacy.differential_privacy]\n{private}"

    assert load_study(study_file(text)).privacy.differential_privacy.noise_multiplier > 1
    timed = text.replace("rounds = 4", "rounds = 4\nseconds_per_round = 60")
    with pytest.raises(ConfigError, match="with seconds_per_round the number of steps tells"):
        load_study(study_file(timed))


def test_every_problem_is_listed_at_once(study_file):
    text = GOOD.replace("rounds = 4", "rounds = 0").replace("name =", "nmae =")

    with pytest.raises(ConfigError, match=r"has 3 problems:(.|\n)*nmae(.|\n)*budget.rounds|name"):
        load_study(study_file(text))


def test_the_file_of_a_study_across_hospitals_is_told_apart(study_file):
    with pytest.raises(ConfigError, match=r"study = 'kidney-2026'.*across hospitals.*\[budget\]"):
        load_study(study_file('study = "kidney-2026"\nrounds = 3\n'))
