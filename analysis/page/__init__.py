"""The report as one HTML page.

page        render the page from the parts below
sentences   findings as sentences
tuned_arms  how the arms of a claim were tuned, in words
provenance  how the study was run
pictures    figures inside the page
"""
