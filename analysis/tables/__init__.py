"""Tables as frames of numbers and of words, and as CSV, Markdown and LaTeX.

all                every table of a report
formats            the summary of a study; CSV, Markdown and LaTeX
numbers            the formats of numbers, intervals and p values
ablation           a reference recipe, and each arm that differs from it in one factor
ablation_arms      the reference arm and the rows below it
ablation_numbers   means per arm, effects against the reference
ablation_formats   that table in words and as LaTeX
before_after       the primary metric before and after
classes            precision, recall and F1 of each class
factorial          one row per cell of the crossed techniques
technique_effects  the effect of each technique on the quantity that it is meant for
controls           control comparisons: other explanations of a difference
attribution        analysis of variance, and each technique's share of the gain
techniques         the arms that these tables compare
macros             all numbers of a report as LaTeX macros, for prose
"""
