"""What changed between two studies.

compare       settings, arms and verdicts side by side
words         the comparison as text and tables
matching      which arms of two studies are the same
bit_identity  whether two runs agree to the bit
"""
