"""What training through test-time optimization gains, with seeds and fresh rooms: ``python -m benchmarks.study``."""
