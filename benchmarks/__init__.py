"""How fast the project is, always as a ratio to something else that ran in the same process, call by call in turn.

Run `python -m benchmarks` in a checkout; `--help` lists the suites. The numbers are compared with
`straightforward`, an implementation that follows the paper without looking at the cost.
"""
