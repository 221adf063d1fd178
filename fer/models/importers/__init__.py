"""Importers of published networks from the files of their authors, in trainable form."""
