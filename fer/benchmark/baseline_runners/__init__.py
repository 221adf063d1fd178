"""Programs that do with other libraries what ours do, for comparison.

`pandas_records` converts, for the suite `convert`. The others train, for `end_to_end`; their arguments are those of
`runner.run`. The program of PyTorch imports no module of fer, because another Python may run it.
"""
