"""Programs that run the packages of baselines, each with the Python of the environment of its package.

They do not import this package: `fer.compare.baselines` starts them and reads the files that they write.
"""
