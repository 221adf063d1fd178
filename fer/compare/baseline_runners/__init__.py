"""Programs that other people's packages are run by, each with the Python of an environment that holds that package.

None of them imports ours: `fer.compare.baselines` starts them and reads what they leave behind.
"""
