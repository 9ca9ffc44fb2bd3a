"""How a policy is trained over many episodes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rlmba.errors import UsageError

__all__ = ["PolicyTraining"]


class PolicyTraining(BaseModel):
    """Settings of the trainer; the policy's own, such as Adam's rate, are options of the strategy."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    episodes: int = Field(256, ge=1)
    """Episodes in all."""
    parallel: int = Field(8, ge=1)
    """Episodes that run side by side, after which the policy takes one step on all their draws."""
    siblings: int = Field(1, ge=1)
    """Episodes of one seed: they start from the same round 0 and differ in their draws alone."""
    returns: Literal["immediate", "to-go"] = "immediate"
    """What a draw is credited with: its own round's reward (Eq 13), or the discounted sum from there on."""
    discount: float = Field(0.9, ge=0, le=1)
    """Weight of the next round's reward in "to-go"."""
    baseline: Literal["moving", "siblings"] = "moving"
    """What the return is measured from: its moving average in the same round on the same data set, or the
    mean of the episode's siblings in the same round."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Weight of the past in the moving average."""
    standardize: bool = True
    """Divide the advantages of a data set by their root mean square over the episodes of a step."""
    entropy: float = Field(0.0, ge=0)
    """Weight of the entropy of each draw's first pick, in nats."""
    max_grad_norm: float = Field(1.0, gt=0)
    """The l2 norm that a longer gradient is cut to."""
    window: int = Field(10, ge=1)
    """Steps that the moving return is the mean over."""
    patience: int | None = Field(None, ge=1)
    """Stop after so many steps without a higher moving return, and keep the policy that had the highest."""

    @classmethod
    def of(cls, **given: Any) -> PolicyTraining:
        """Settings from keywords; None means: not given.

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
