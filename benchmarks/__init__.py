"""What `make bench` runs: Outcry beside its peers, measured in the same run.

python -m benchmarks.engine        # the matching engine alone
"""
