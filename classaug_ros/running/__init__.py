"""Programs around a running node: it as a process, a player of bags, a listener."""
