"""From a claims file to verdicts.

estimand        quantity, scale and arms that a question compares, and the sample of its runs
pairing         which runs may be compared
contrast        base class: how the runs of a seed become one number
example_scores  scores per test example, for effects over seeds and examples
grid_contrasts  contrasts over a grid: tuned arms, several data sets
contrasts       all contrasts by their names
values          checks of single values in a claims file
reading         the claims file, checked
samples         the runs that a question compares, as arrays
verdict_rule    the rule that turns an interval into a verdict
more_seeds      the command that runs more seeds
finding         the result of judging a claim, as in verdicts.json
answer          one question: its effect and its verdict
looks           the log of every time a claim was judged
judge           all claims of a file
"""
