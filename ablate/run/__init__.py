"""One run and its folder.

job         skip what is done, lock the folder, run, record the outcome
run         build, resume, train, evaluate
records     the tables and run.json
checkpoint  everything that an unfinished run needs to go on
fork        arms that agree up to a step train it once
signals     SIGTERM and Ctrl-C take effect at the end of a step
progress    what a person sees while a sweep runs
"""
