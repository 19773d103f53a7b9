"""Which people are refined, and how much that may cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from featherpose.errors import OptionError
from featherpose.option_ranges import check_within

__all__ = ["RefineMode", "RefineOptions", "Suppression"]

RefineMode = Literal["off", "auto", "all"]
Suppression = Literal["oks", "pose"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineOptions:
    """Which people a single-person network looks at again.

    Attributes:
        mode: ``off``; ``auto``: those who gain most, at most ``budget_crops`` an image, and nobody in a crowd of more
            than four times as many; ``all``: everyone.
        budget_crops: Crops an image under ``auto``. Higher refines more people of a crowd and takes longer; people
            beyond the budget keep the pose that the first network gave them.
        budget_ms: Another way to state the budget: milliseconds an image, divided by the milliseconds of a crop that
            the model's card states for its reference machine. The result is the same on every machine.
        model: The single-person network: a name of ``featherpose models list`` or a model file.
        mirror: Whether each person is seen mirrored as well: twice the time, somewhat better keypoints.
        average: Whether places of keypoints that both networks found are averaged. That suits a single-person network
            that is not much more exact than the first one; one that is loses by it. None as the model's card says.
        same_person_oks: Of two refined people at least this similar the better one stays.
        suppression: How those are found: ``oks``, or ``pose`` (`featherpose.topdown.pose_distance`).
        min_keypoint_score: Keypoints of the refined pose below this score give way to those of the first network, if it
            has them.
        weak_keypoint_score: Keypoints below this score that only the refined pose has are missing.
        min_person_score: Refined people of lower score are dropped, and rated people that were not refined. Higher
            removes more false people, and faint ones. None is 0.02 where people are rated, and 0.15 elsewhere.

    Raises:
        OptionError: If a value is outside its range.

    Example:
        >>> RefineOptions(mode="auto", budget_crops=3).budget_crops
        3
    """

    mode: RefineMode = "auto"
    budget_crops: int | None = None
    budget_ms: float | None = None
    model: str | Path = "refiner"
    mirror: bool = False
    average: bool | None = None
    same_person_oks: float = 0.7
    suppression: Suppression = "oks"
    min_keypoint_score: float = 0.1
    weak_keypoint_score: float = 0.03
    min_person_score: float | None = None

    def __post_init__(self) -> None:
        if self.mode not in get_args(RefineMode):
            raise OptionError(f"refinement {self.mode!r}", expected="off, auto or all")
        if self.suppression not in get_args(Suppression):
            raise OptionError(f"suppression {self.suppression!r}", expected="oks or pose")
        if self.budget_crops is not None and not 0 <= self.budget_crops <= 10_000:
            raise OptionError(f"a budget of {self.budget_crops} crops", expected="0 to 10000")
        if self.budget_ms is not None and not 0 <= self.budget_ms <= 1e6:
            raise OptionError(f"a budget of {self.budget_ms} ms", expected="0 to a million")
        if self.budget_crops is not None and self.budget_ms is not None:
            raise OptionError("a budget in crops and one in milliseconds", expected="one of them")
        if self.mode != "auto" and (self.budget_crops is not None or self.budget_ms is not None):
            raise OptionError(f"a budget with refinement {self.mode!r}", expected="refinement auto")
        for name in ("same_person_oks", "min_keypoint_score", "weak_keypoint_score"):
            check_within(name, getattr(self, name), 0, 1)
        if self.min_person_score is not None:
            check_within("min_person_score", self.min_person_score, 0, 1)
