"""What a study file says: its sections, named as in the TOML, and what is wrong with one, in words."""

from paribus.spec.study import Claim, Config, Effect, Quantity, Study

__all__ = ["Claim", "Config", "Effect", "Quantity", "Study"]
