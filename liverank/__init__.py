"""The command line, the local runner and the benchmarks, composed of the three packages below."""
