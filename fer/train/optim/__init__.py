"""Optimizers, learning rate schedules, losses, SAM, parameter groups and class weights."""
