"""Training one model.

step         the training step and the loop around it
learner      model, optimizer and order of examples, built from a run's options
optimizers   AdamW without bias correction, Lion, Muon with AdamW
evaluation   predictions and metrics of a split
frozen_prefix  hidden states of frozen layers, computed once
norms        exact gradient norms
dropout      dropout masks as a pure function of seed and step
device       device, precision, threads, compilation, matmul backend
waiting      threads that spin or sleep while they wait for each other
environment  hardware and versions, which decide a run's bits together with the config
memory       number of parameters, bytes of weights, gradients and optimizer states
"""
