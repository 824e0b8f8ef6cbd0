"""Many viewers in one process, and a sender to them in another: what ``bench.fanout`` is of."""
