"""What runs recorded.

run_folder  one run's folder, verified against its own hashes
study       all runs of a study, as tidy frames
arms        when two arms are the same, and short names for them
"""
