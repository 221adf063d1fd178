"""Reads and writes files so that each is whole or absent, on local disks and in object stores."""
