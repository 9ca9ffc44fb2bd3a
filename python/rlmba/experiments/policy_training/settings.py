"""Settings for training a policy over many episodes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rlmba.errors import UsageError

__all__ = ["PolicyTraining"]


class PolicyTraining(BaseModel):
    """Settings of the trainer. Those of the policy, such as Adam's learning rate, are strategy options."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    episodes: int = Field(256, ge=1)
    """Total number of episodes."""
    parallel: int = Field(8, ge=1)
    """Number of episodes that run in parallel, after which the policy is updated once on all their draws."""
    siblings: int = Field(1, ge=1)
    """Number of episodes with the same seed: they share round 0 and differ only in their draws."""
    returns: Literal["immediate", "to-go"] = "immediate"
    """What a draw is credited with: the reward of its round (Eq 13), or the discounted sum from there on."""
    discount: float = Field(0.9, ge=0, le=1)
    """Weight of the next round's reward in "to-go"."""
    baseline: Literal["moving", "siblings"] = "moving"
    """What is subtracted from the return: its moving average for the same round and data set, or the mean
    over the episode's siblings for the same round."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Weight of the past in the moving average."""
    standardize: bool = True
    """Whether to divide the advantages of a data set by their root mean square in each step."""
    entropy: float = Field(0.0, ge=0)
    """Weight of the entropy of each draw's first pick, in nats."""
    max_grad_norm: float = Field(1.0, gt=0)
    """The l2 norm that longer gradients are clipped to."""
    window: int = Field(10, ge=1)
    """Number of steps that the moving return is averaged over."""
    patience: int | None = Field(None, ge=1)
    """Stop after this many steps without a higher moving return, and keep the policy with the highest."""

    @classmethod
    def of(cls, **given: Any) -> PolicyTraining:
        """Make settings from keywords; None means not given.

        Raises
        ------
        UsageError
            With one line per problem.
        """
        try:
            return cls(**{k: v for k, v in given.items() if v is not None})
        except ValidationError as error:
            lines = [
                f"{'.'.join(map(str, e['loc'])) or 'training'}: {e['msg']}, got {e['input']!r}"
                if e["type"] != "value_error"
                else str(e["ctx"]["error"])
                for e in error.errors(include_url=False)
            ]
            raise UsageError("\n".join(lines)) from error

    @model_validator(mode="after")
    def _whole_families(self) -> PolicyTraining:
        if self.parallel % self.siblings:
            raise ValueError(
                f"parallel: expected a multiple of siblings ({self.siblings}), got {self.parallel}"
            )
        if self.baseline == "siblings" and self.siblings < 2:
            raise ValueError(
                f'baseline "siblings" needs siblings of 2 or more, got {self.siblings}'
            )
        return self
