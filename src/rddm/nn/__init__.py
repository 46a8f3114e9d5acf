"""Networks: the published UNet and a compact one, both ``net(x, clock) -> outputs``."""
