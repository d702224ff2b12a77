"""How many images a paired comparison needs, and what can be decided with those there are.

`discordance` is the fraction of images on which exactly one of both is right. All are fractions: 0.01 is one point.
"""

from __future__ import annotations

import math

from scipy.special import ndtri

from rexnet_export.pipeline.core.errors import UsageError

ALPHA, POWER = 0.05, 0.8
LEAST_MARGIN = 1e-6  # below it the images needed are beyond all counting


def require_margin(margin: float) -> None:
    """`UsageError` unless the margin is one under which neither nothing nor everything passes."""
    if not LEAST_MARGIN <= margin < 1:
        raise UsageError(f"margin {100 * margin:g}: must be points between {100 * LEAST_MARGIN:g} and 100, such as 0.5")


def images_to_detect(discordance: float, drop: float, power: float = POWER, alpha: float = ALPHA) -> int:
    """Images for a one-sided McNemar test to find a true `drop` (Connor, Biometrics 43 (1987) 207-211)."""
    return math.ceil(_to_detect(discordance, drop, power, alpha))


def images_to_prove(
    discordance: float, margin: float, true_drop: float = 0.0, power: float = POWER, alpha: float = ALPHA
) -> int:
    """Images to show that the drop is below `margin` where it really is `true_drop` (Wald's form)."""
    quantiles = _quantile(1 - alpha) + _quantile(power)
    return math.ceil(quantiles**2 * (discordance - true_drop**2) / (margin - true_drop) ** 2)


def images_without_discordance(margin: float, alpha: float = ALPHA) -> int:
    """Images without a single difference from which the exact limit of the drop is below `margin`."""
    return math.floor(math.log(alpha) / math.log1p(-margin)) + 1


def smallest_detectable(discordance: float, images: int, power: float = POWER, alpha: float = ALPHA) -> float | None:
    """The smallest true drop that `images` find; none where even a drop of the whole discordance is too small."""
    if _to_detect(discordance, discordance, power, alpha) > images:
        return None
    # `_to_detect` of the drop is `images`: a quadratic equation in it.
    error, found = _quantile(1 - alpha), _quantile(power)
    spread = error * math.sqrt(images) + found * math.sqrt(images + found**2 - error**2)
    return math.sqrt(discordance) * spread / (images + found**2)


def provable_margin(discordance: float, images: int, power: float = POWER, alpha: float = ALPHA) -> float:
    """The smallest margin that a candidate without any true drop is shown to keep: `images_to_prove` turned round."""
    wald = (_quantile(1 - alpha) + _quantile(power)) * math.sqrt(discordance / images)
    return max(wald, -math.expm1(math.log(alpha) / images))


def _to_detect(discordance: float, drop: float, power: float, alpha: float) -> float:
    spread = math.sqrt(max(discordance - drop**2, 0.0))
    return float((_quantile(1 - alpha) * math.sqrt(discordance) + _quantile(power) * spread) / drop) ** 2


def _quantile(probability: float) -> float:
    return float(ndtri(probability))
