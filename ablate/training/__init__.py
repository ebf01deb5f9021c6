"""Training one model.

step         the training step and the loop around it
learner      from a run's options to model, optimizer and order of examples
evaluation   predictions and metrics of a split
norms        exact gradient norms
dropout      dropout masks as a pure function of seed and step
device       device, precision, threads, compilation, matmul backend
environment  hardware and versions, which decide a run's bits besides the config
memory       parameters and bytes, counted
"""
