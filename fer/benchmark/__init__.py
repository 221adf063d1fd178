"""How fast the parts are, each beside its rival in the same run."""
