"""Statistics over seeds.

interval     an interval of confidence
effects      paired differences with their intervals, tests and power
spending     the level of each look at a growing study
skew         skewed differences: bootstrap-t and trimmed means
scales       raw, points, log and logit scales
variances    ratios of variances across seeds, by the jackknife
factorials   repeated-measures analysis of variance, interactions, Shapley values
predictions  effects over seeds and test examples, or over seeds and data sets; churn
rates        differences of rates of runs that learn (McNemar); probability of improvement
tuning       cross-fitted choice of a grid point, expected best of k trials
"""
