"""The report as one HTML page.

page              render the page from the parts below
headline          the answer: which technique changes the metric, by how much, how sure, what to do next
metric_effects    what each technique adds to the metric, from verdicts or the ablation table
effect_sentences  these effects in sentences
what_next         the seeds that are still due, with the command that runs them
effect_pictures   small pictures of effects
claim_pictures    those of claims, for the cards and the first screen
ablation_view     the ablation table in a reader's words
sentences         findings as sentences
tuned_arms        how the arms of a claim were tuned, in words
provenance        how the study was run
pictures          figures inside the page
"""
