"""What Haraka's own tests expect, check by check: which tests of ours show it, or why none does."""
