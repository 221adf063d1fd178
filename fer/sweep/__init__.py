"""Many runs of one experiment: which fields differ, who trains which, and what came of it."""
