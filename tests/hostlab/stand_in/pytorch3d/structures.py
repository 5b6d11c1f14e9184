"""What VicaSplat imports for drawing, and never makes."""


class Pointclouds:
    """Only a name."""
