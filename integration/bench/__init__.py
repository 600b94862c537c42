"""Benchmarks of a whole cluster. Each prints a table: ours, a peer or a limit measured in the same run, the ratio."""
