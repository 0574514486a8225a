"""Figure 5 of the A²MIM paper (arXiv 2205.13943): relative interaction strength against order, SimMIM beside A²MIM."""

from figures.interactions import draw_interactions as draw

__all__ = ["draw"]
