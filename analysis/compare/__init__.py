"""The comparison of two studies.

compare       settings, arms and verdicts side by side
words         the comparison as text and tables
matching      match the arms of two studies
bit_identity  whether two runs agree to the bit
"""
