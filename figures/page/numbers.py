"""Numbers as a reader wants them: as many digits as the interval warrants."""

import math


def decimals(low: float, high: float) -> int:
    """Decimals that show two digits of the interval's width."""
    width = high - low
    if not math.isfinite(width) or width <= 0:
        return 3
    return min(max(1 - math.floor(math.log10(width)), 0), 6)


def short(value: float) -> str:
    """Four digits; whole numbers whole, with commas."""
    if not math.isfinite(value):
        return "–"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace("-", "−")
    return f"{value:.4g}".replace("-", "−")


def with_interval(value: float, low: float, high: float) -> tuple[str, str]:
    """The value and its interval, which is empty where there is none, and open at an end that is infinite."""
    if not math.isfinite(value):
        return "–", ""
    if math.isnan(low) or math.isnan(high):
        return short(value), ""
    if math.isinf(low) or math.isinf(high):
        left = "(−∞" if math.isinf(low) else f"[{short(low)}"
        return short(value), f"{left}, ∞)" if math.isinf(high) else f"{left}, {short(high)}]"
    digits = decimals(low, high)
    if abs(value) >= 1e5 or (max(abs(low), abs(high)) < 1e-3 and value):
        return short(value), f"[{short(low)}, {short(high)}]"
    shown = [f"{number:.{digits}f}".replace("-", "−") for number in (value, low, high)]
    return shown[0], f"[{shown[1]}, {shown[2]}]"
