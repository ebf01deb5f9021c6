"""Tables as frames of numbers and of words, and as CSV, Markdown and LaTeX.

all                every table of a report
formats            the summary; CSV, Markdown and LaTeX
numbers            numbers, intervals and p values as text
accuracy           accuracy before and after
factorial          one row per cell of the crossed techniques
technique_effects  what each technique does
controls           controls: what else could explain a difference
attribution        analysis of variance, and each technique's share of the gain
techniques         the arms that these tables compare
"""
