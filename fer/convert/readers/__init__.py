"""Reads every published form of a face data set: tables, class folders, archives, single images."""
