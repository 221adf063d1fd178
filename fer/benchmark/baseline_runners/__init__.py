"""Programs that train on FER-2013 with other libraries, as the suite `end_to_end` compares them with ours.

Their arguments are those of `runner.run`. The program of PyTorch imports no module of fer, because another Python may
run it.
"""
