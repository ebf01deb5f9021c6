"""From a claims file to verdicts.

reading       the claims file, checked
values        checks of single values in it
contrasts     how the runs of a seed become one number
pairing       which runs may be compared
samples       the runs that a question compares, as arrays
answer        one question: its effect and its verdict
judge         all claims of a file
verdict_rule  the rule that turns an interval into a verdict
finding       what came of a claim, as in verdicts.json
looks         the log of every time a claim was judged
more_seeds    how many more seeds a decision needs, and the command that runs them
"""
