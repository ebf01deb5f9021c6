"""From a claims file to verdicts.

estimand         quantity, scale and arms that a question compares, and the sample of its runs
pairing          which runs may be compared
contrast         base class: how the runs of a seed become one number
example_scores   scores per test example, for effects over seeds and examples
grid_contrasts   contrasts over a grid, and over several data sets
tuned_contrasts  contrasts of arms that are each tuned
contrasts        all contrasts by their names
values           checks of single values in a claims file
comparison       claims for every arm against a reference arm
reading          the claims file, checked
schema           its JSON Schema, for editors
samples          the runs that a question compares, as arrays
looks            when a claim is judged, at which level, and the log of every time it was
verdict_rule     the rule that turns an effect and its intervals into a verdict
multiplicity     the level of each claim among all claims of a file
power            the power at a claim's smallest effect, and how many seeds a decision needs
more_seeds       the command that runs more seeds
finding          the result of judging a claim, as in verdicts.json
evidence         the effects of one question, and what is shown beside them
answer           one question: its verdict, and the seeds that a decision needs
judge            all claims of a file
specifications   a claim's effect and word under other choices
planned_power    the power of each claim of a planned study
"""
