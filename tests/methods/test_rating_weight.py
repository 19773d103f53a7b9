"""People of methods other than fields are scored by their own scores and by the rating of their poses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from featherpose.errors import OptionError
from featherpose.methods.paf.pose_prior import pose_prior
from featherpose.methods.ranking import blended_with_rating
from featherpose.methods.regions.mask import MASK
from featherpose.methods.regions.residual import RESIDUAL
from featherpose.methods.tags.tag_method import TAGS, TagOptions
from featherpose.poses import Poses
from featherpose.rating.rate import rate_people
from featherpose.skeleton import LSP_14, OPENPOSE_18


def _people() -> Poses:
    """Return someone as people are, and keypoints at random places that are a little surer."""
    prior = pose_prior(OPENPOSE_18)
    assert prior is not None
    chaos = np.random.default_rng(0).uniform(0, 300, (18, 2))
    keypoints = np.stack([150 + 45 * prior.mean, chaos]).astype(np.float32)
    scores = np.array([0.6, 0.7], np.float32)
    return Poses(keypoints, np.repeat(scores[:, None], 18, axis=1), scores, OPENPOSE_18, (300, 300))


def test_the_geometric_mean_of_both() -> None:
    people = _people()
    blended = blended_with_rating(people, 0.5, 1.0)
    expected = np.sqrt(rate_people(people, "found") * people.scores)
    order = np.argsort(-expected)
    np.testing.assert_allclose(blended.scores, expected[order], rtol=1e-6)
    assert (blended.keypoints == people.keypoints[order]).all()


def test_nothing_changes_without_a_weight_or_a_rating() -> None:
    people = _people()
    assert blended_with_rating(people, 0.0, 1.0) is people
    other = Poses(people.keypoints[:, :14], people.keypoint_scores[:, :14], people.scores, LSP_14, (300, 300))
    assert blended_with_rating(other, 0.5, 1.0) is other
    assert len(blended_with_rating(people[np.zeros(0, np.int64)], 0.5, 1.0)) == 0


def test_which_methods_rate() -> None:
    assert TAGS.Options().rating_weight == RESIDUAL.Options().rating_weight == 0.5
    assert MASK.Options().rating_weight == 0
    for options in (TagOptions(), RESIDUAL.Options()):
        with pytest.raises(OptionError, match="rating_weight"):
            replace(options, rating_weight=1.5)
