"""What groups of sites would have made of a round."""

from __future__ import annotations

import numpy as np
import pytest

from federation.coalitions import coalition_models
from segfed.errors import PrivacyError
from segfed.rules import PrivacyRules
from tests.federation_samples import arrays


def models(updates, counts, **privacy):
    rules = PrivacyRules(**privacy)
    return dict(coalition_models(updates, model=arrays(1.0), counts=counts, privacy=rules))


def test_every_group_makes_the_mean_of_its_sites_by_their_counts():
    found = models({"a": arrays(2.0), "b": arrays(6.0)}, {"a": 3, "b": 1})

    assert len(found) == 4
    values = {"".join(sorted(group)): float(model["b.scale"]) for group, model in found.items()}
    assert values == {"": 1.0, "a": 2.0, "b": 6.0, "ab": 3.0}  # (3 * 2 + 6) / 4
    assert found[frozenset("ab")]["a.weight"].dtype == np.float32


def test_nobody_has_single_updates_under_secure_aggregation():
    with pytest.raises(PrivacyError, match="nobody has a single site's update there"):
        models({"a": arrays()}, {"a": 1}, secure_aggregation=True, threshold=2, clip_norm=1.0)


def test_too_many_sites_form_too_many_groups():
    updates = {f"site{n}": arrays() for n in range(11)}

    with pytest.raises(PrivacyError, match="11 sites, which form 2048 groups"):
        models(updates, dict.fromkeys(updates, 1))
