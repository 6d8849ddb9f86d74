"""What `make bench` measures, one module a part (docs/performance.md)."""
