"""A trace of chosen steps, which TensorBoard's profile page shows: what host and device did when."""

from __future__ import annotations

import shlex

import tensorflow as tf

from fer import config


class Profiler:
    """Traces the steps that `train.profile_steps` names into a folder.

    A run that was stopped within them does not trace them again.
    """

    def __init__(self, folder: str, steps: str):
        self._folder = folder
        self._first, self._last = config.parse_step_range(steps) or (0, 0)
        self._tracing = False

    @property
    def edges(self) -> tuple[int, int]:
        """The steps after which a trace begins and ends: no call of several steps may go beyond one."""
        return self._first - 1, self._last

    def before(self, done: int) -> None:
        """The next step will be the one after `done`."""
        if self._last and not self._tracing and done == self._first - 1:  # a rollback may come here again
            tf.profiler.experimental.start(self._folder)
            self._tracing = True

    def after(self, done: int, step: tf.Variable) -> None:
        """Step `done` has been asked for; `step` counts on the device, and is waited for."""
        if self._tracing and done == self._last:
            int(step)
            self.close()

    def close(self) -> None:
        """Ends a trace that is under way, with what it has."""
        if self._tracing:
            self._tracing = False
            tf.profiler.experimental.stop()
            print(
                f"The steps up to {self._last} are traced: see the page Profile of tensorboard "
                f"--logdir={shlex.quote(self._folder)}."
            )
