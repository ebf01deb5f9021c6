"""The report as one HTML page.

page        render the page from the parts below
sentences   findings as sentences
provenance  how the study was run
pictures    figures inside the page
"""
