"""Figure A2 of the A²MIM paper (arXiv 2205.13943): as figure 5, with more methods (A1 and A2 share them out)."""

from figures.interactions import draw_interactions as draw

__all__ = ["draw"]
