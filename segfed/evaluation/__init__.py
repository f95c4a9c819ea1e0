"""How good a label is, and whether one way of making models is as good as another."""

from segfed.evaluation.anchoring import ProposalError, anchoring_gap, proposal_errors
from segfed.evaluation.convergence import convergence_score
from segfed.evaluation.difference import (
    MINIMUM_PAIRED,
    difference_for_these_sites,
    new_models,
)
from segfed.evaluation.effort import Effort, added_path_length, measure_effort
from segfed.evaluation.federated import (
    Cell,
    Gain,
    GapShare,
    gain,
    gap_share,
    generalizability,
    local_performance,
    site_means,
    train_test_matrix,
    worst_site,
)
from segfed.evaluation.folders import Evaluation, evaluate_folders, write_evaluation
from segfed.evaluation.forgetting import Forgetting, forgetting
from segfed.evaluation.lesions import LesionRule, LesionScores, score_lesions
from segfed.evaluation.masks import structure_mask
from segfed.evaluation.overlap import dice, sensitivity, volume_difference_mm3
from segfed.evaluation.paired import (
    NonInferiority,
    judge_non_inferiority,
    paired_differences,
    wilcoxon_holm,
)
from segfed.evaluation.profiles import DEFINITIONS, PROFILES, Profile, find_profile
from segfed.evaluation.ranking import KitsScore, kits_score, rank_models
from segfed.evaluation.scorecard import Score, score_case, score_labels
from segfed.evaluation.statistics import (
    MINIMUM_SCORED,
    MINIMUM_SEEDS,
    Estimate,
    SiteValues,
    average_models,
    new_sites,
    seed_spread,
    these_sites,
)
from segfed.evaluation.summary import describe, summarize, write_scores
from segfed.evaluation.surface import SurfaceDistances, hd95_mm, surface_dice, surface_distances
from segfed.evaluation.timing import TimeRatio, Timing, time_ratio

__all__ = [
    "DEFINITIONS",
    "MINIMUM_PAIRED",
    "MINIMUM_SCORED",
    "MINIMUM_SEEDS",
    "PROFILES",
    "Cell",
    "Effort",
    "Estimate",
    "Evaluation",
    "Forgetting",
    "Gain",
    "GapShare",
    "KitsScore",
    "LesionRule",
    "LesionScores",
    "NonInferiority",
    "Profile",
    "ProposalError",
    "Score",
    "SiteValues",
    "SurfaceDistances",
    "TimeRatio",
    "Timing",
    "added_path_length",
    "anchoring_gap",
    "average_models",
    "convergence_score",
    "describe",
    "dice",
    "difference_for_these_sites",
    "evaluate_folders",
    "find_profile",
    "forgetting",
    "gain",
    "gap_share",
    "generalizability",
    "hd95_mm",
    "judge_non_inferiority",
    "kits_score",
    "local_performance",
    "measure_effort",
    "new_models",
    "new_sites",
    "paired_differences",
    "proposal_errors",
    "rank_models",
    "score_case",
    "score_labels",
    "score_lesions",
    "seed_spread",
    "sensitivity",
    "site_means",
    "structure_mask",
    "summarize",
    "surface_dice",
    "surface_distances",
    "these_sites",
    "time_ratio",
    "train_test_matrix",
    "volume_difference_mm3",
    "wilcoxon_holm",
    "worst_site",
    "write_evaluation",
    "write_scores",
]
