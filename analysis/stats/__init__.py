"""Statistics over seeds.

interval     an interval of confidence
effects      paired differences with their intervals, tests and power
spending     the level of each look at a growing study
skew         skewed differences: bootstrap-t and trimmed means
scales       raw, points, log and logit scales
variances    ratios of variances across seeds, by the jackknife
factorials   analysis of variance, interactions, Shapley values
predictions  accuracy differences over seeds and test examples; churn
"""
