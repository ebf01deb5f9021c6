"""One run on several ranks (distributed processes).

ranks      the ranks of a run: rank 0 decides and writes, all compute
parallel   how the ranks share a model: replicated (DDP) or sharded (FSDP)
"""
