"""Statistics over seeds.

interval     an interval of confidence
effects      paired differences with their intervals, tests and power
scales       raw, points, log and logit scales
variances    ratios of variances across seeds
factorials   analysis of variance, interactions, Shapley values
predictions  accuracy differences over seeds and test examples; churn
"""
