"""Runs scripts/train.py with small images in place of the plots after each epoch."""

import sys

from fer import cli
from scripts import train
from tests.train import factories

factories.replace_plots(setattr)
sys.argv[0] = train.__file__
cli.run(train.main)
