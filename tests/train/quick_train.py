"""scripts/train.py, but for the pictures that it draws after each epoch: those are small."""

import sys

from fer import cli
from scripts import train
from tests.train import factories

factories.small_pictures(setattr)
sys.argv[0] = train.__file__
cli.run(train.main)
