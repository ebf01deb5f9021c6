"""One run and its folder.

job         skip a finished run, else lock its folder, run it and record the outcome
run         build, resume, train, evaluate
records     the tables and run.json
checkpoint  everything that an unfinished run needs to continue
fork        arms with equal first steps train these once
process     what this process keeps from run to run
signals     SIGTERM and Ctrl-C take effect at the end of a step
progress    progress lines and warnings on the console
"""
