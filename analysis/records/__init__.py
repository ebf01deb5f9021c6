"""What runs recorded.

source      where a study's files are: in its folder or its archive
packing     from a study's folder to its archive, and back
run_folder  one run's folder, verified against its own hashes
study       all runs of a study, as tidy frames
arms        when two arms are the same, and short names for them
"""
