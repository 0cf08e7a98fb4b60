"""Statistics on run documents alone: imports neither kubernetes nor torch, prints nothing."""
