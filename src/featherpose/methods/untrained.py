"""What methods share whose networks people bring along: nothing is trained here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featherpose.errors import ConfigError
from featherpose.methods.declared import DeclaredMethod
from featherpose.skeleton import Skeleton

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NoTargets", "UntrainedMethod"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoTargets:
    """Form of the training targets: there are none."""


class UntrainedMethod(DeclaredMethod):
    """A base class for methods whose networks come from elsewhere."""

    Targets = NoTargets

    def loss(
        self,
        stages: Sequence[Mapping[str, Tensor]],
        values: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        config: Any,
        skeleton: Skeleton,
        *,
        probabilities: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Refuse: such networks are brought, not trained.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(f"training for method {self.name}", expected="a method that is trained here")
