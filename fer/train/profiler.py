"""Trace of chosen steps for TensorBoard's Profile page: a timeline of host and device."""

from __future__ import annotations

import tensorflow as tf

from fer import config
from fer.errors import python_command


class Profiler:
    """Traces the steps that `train.profile_steps` names into a folder.

    A run that is interrupted during these steps does not trace them after it resumes.

    Args:
      folder: the trace is written here.
      steps: "first-last", counted from 1, or "" for no trace.
    """

    def __init__(self, folder: str, steps: str):
        self._folder = folder
        self._first, self._last = config.parse_step_range(steps) or (0, 0)
        self._tracing = False
        self._traced = 0  # last step of the trace so far

    @property
    def boundaries(self) -> tuple[int, int]:
        """The steps after which the trace starts and ends: a call of several steps may not pass one of them."""
        return self._first - 1, self._last

    def start_before(self, done: int) -> None:
        """Starts the trace if the step after `done` is the first to trace."""
        if self._last and not self._tracing and done == self._first - 1:  # a rollback may repeat this step
            tf.profiler.experimental.start(self._folder)
            self._tracing, self._traced = True, done

    def stop_after(self, done: int, step: tf.Variable) -> None:
        """Ends the trace if `done` is the last step to trace; `step` is the device's count of steps."""
        self._traced = done
        if self._tracing and done == self._last:
            int(step)  # waits for the device
            self.close()

    def close(self) -> None:
        """Ends a trace in progress and writes the steps traced so far."""
        if self._tracing:
            self._tracing = False
            tf.profiler.experimental.stop()
            command = python_command("-m", "tensorboard.main", f"--logdir={self._folder}")
            print(f"The steps up to {self._traced} are traced. Their timeline is on the Profile page of:\n  {command}")
