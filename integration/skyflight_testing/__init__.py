"""What the whole-system tests and benchmarks share: clusters of real processes, real clients, and oracles.

Nothing here knows how Skyflight works inside; answers are checked against DuckDB, numpy and the data's own README.
"""
